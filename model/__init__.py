"""CCLN: the network, its losses and its checkpoint. Knows tensors, nothing of files of videos or of the cache."""

from ccln.model.checkpoint import Checkpoint, CheckpointError, Network, NetworkType, load_checkpoint, save_checkpoint
from ccln.model.config import PARTS, ModelConfig, Part
from ccln.model.event_decoding import EventDecoding
from ccln.model.hub import load_pretrained
from ccln.model.losses import LossConfig, supervised_loss
from ccln.model.matching import MatchingNetwork, matching_loss
from ccln.model.network import CCLN, Output
from ccln.model.weak import weak_loss

__all__ = [
    "CCLN",
    "PARTS",
    "Checkpoint",
    "CheckpointError",
    "EventDecoding",
    "LossConfig",
    "MatchingNetwork",
    "ModelConfig",
    "Network",
    "NetworkType",
    "Output",
    "Part",
    "load_checkpoint",
    "load_pretrained",
    "matching_loss",
    "save_checkpoint",
    "supervised_loss",
    "weak_loss",
]
