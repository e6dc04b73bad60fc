"""CCLN: the network, its losses and its checkpoint. Knows tensors, nothing of files of videos or of the cache."""

from ccln.model.checkpoint import Checkpoint, CheckpointError, Network, load_checkpoint, save_checkpoint
from ccln.model.config import PARTS, EventDecoding, LossConfig, ModelConfig, Part
from ccln.model.hub import load_pretrained
from ccln.model.losses import supervised_loss, weak_loss
from ccln.model.matching import MatchingNetwork, matching_loss
from ccln.model.network import CCLN, LocalizationNetwork, Output
from ccln.model.zero_shot import ZeroShot

NetworkType = type[CCLN] | type[MatchingNetwork]

__all__ = [
    "CCLN",
    "PARTS",
    "Checkpoint",
    "CheckpointError",
    "EventDecoding",
    "LocalizationNetwork",
    "LossConfig",
    "MatchingNetwork",
    "ModelConfig",
    "Network",
    "NetworkType",
    "Output",
    "Part",
    "ZeroShot",
    "load_checkpoint",
    "load_pretrained",
    "matching_loss",
    "save_checkpoint",
    "supervised_loss",
    "weak_loss",
]
