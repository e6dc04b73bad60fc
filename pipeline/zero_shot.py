"""Networks for classes that are asked for by name: of encoders alone, and trained ones with an open head."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ccln.cache import FeatureCache
from ccln.extractors import ExtractorError, Extractors, Preset, load_extractors, loaded_once, pick_device
from ccln.model import Checkpoint, LocalizationNetwork, ModelConfig, ZeroShot, save_checkpoint
from ccln.pipeline.data.clips import Dataset
from ccln.pipeline.data.features import LabelledClips, load_features
from ccln.pipeline.metrics.calibration import choose_decoding, choose_event_shift
from ccln.pipeline.metrics.localization import predict
from ccln.pipeline.segments import SEGMENT_COUNT, SEGMENT_SECONDS
from ccln.pipeline.texts import OTHERS, PROMPTS, NamesError, TextSide, text_side

_SPREADS = (0.02, 50.0)  # standard deviation of logits, about 2 with the scales of CLIP and CLAP


def zero_shot(
    specification: Mapping[str, Any], names: Sequence[str], side: TextSide, shape: Sequence[int], **training: Any
) -> Checkpoint:
    """Make a checkpoint of zero-shot localization, with the models' own scales and an event threshold of one half.

    Args:
        specification: of the extractors.
        names: of the classes.
        side: the vectors of their names and of the others.
        shape: of a segment's features: height, width, visual channels, audio channels.
        training: what else its account is to say.

    Raises:
        ExtractorError: the extractors' features and their texts are of different spaces.
    """
    height, width, visual_channels, audio_channels = shape
    text_channels = side.classes.visual.shape[1]
    if side.classes.audio.shape[1] != audio_channels or text_channels > visual_channels:
        raise ExtractorError(
            f"texts of {text_channels} and {side.classes.audio.shape[1]} channels cannot be compared with features of "
            f"{visual_channels} and {audio_channels}: extract the features again with this version"
        )
    config = ModelConfig(
        height,
        width,
        visual_channels,
        audio_channels,
        class_count=len(names),
        segment_count=SEGMENT_COUNT,
        text_channels=text_channels,
        other_texts=len(side.others.visual),
    )
    network = ZeroShot(config).eval()
    state = {
        "others.visual": side.others.visual,
        "others.audio": side.others.audio,
        "visual_scale": torch.tensor(side.visual_scale),
        "audio_scale": torch.tensor(side.audio_scale),
    }
    network.load_state_dict(network.state_dict() | state)
    account = {"task": "zero-shot", "prompts": _lists(PROMPTS), "others": _lists(OTHERS), **training}
    account["versions"] = {name: version(name) for name in ("ccln", "torch")}
    return Checkpoint(network.with_classes(*side.classes), tuple(names), dict(specification), account)


def zero_shot_on(preset: Preset, names: Sequence[str], **where: Any) -> tuple[Checkpoint, Extractors]:
    """Zero-shot localization with a preset, and its extractors.

    Args:
        preset: with a text side.
        names: of the classes.
        where: `device`, `visual_weights` and `audio_weights`, as of `load_extractors`.

    Raises:
        ExtractorError: the preset has no text side.
        WeightsError: its models cannot be had.
    """
    where["device"] = pick_device(where["device"])
    with loaded_once():
        side = text_side(preset, names, **where)  # first, for it says at once if there is none
        extractors = load_extractors(preset, **where)
    choice, rate_hz = extractors.preset.visual, extractors.preset.audio.sample_rate_hz
    frames = np.zeros((1, preset.frames_per_segment, choice.frame_height, choice.frame_width, 3), np.uint8)
    visual, audio = extractors(frames, np.zeros(rate_hz * SEGMENT_SECONDS, np.float32))
    return zero_shot(extractors.specification, names, side, (*visual.shape[1:], audio.shape[1])), extractors


def asked_for(checkpoint: Checkpoint, names: Sequence[str], **where: Any) -> Checkpoint:
    """The checkpoint for other classes.

    Args:
        checkpoint: of a network whose classes are given by texts.
        names: of the classes to ask for.
        where: `device`, `visual_weights` and `audio_weights`, as of `text_side`.

    Raises:
        NamesError: the network's classes are learnt.
        ExtractorError: its extractors have no text side.
        WeightsError: their models cannot be had.
    """
    network = checkpoint.model
    if not isinstance(network, LocalizationNetwork) or network.texts is None:
        raise NamesError(
            f"the checkpoint has learnt its {len(checkpoint.class_names)} classes, and cannot be asked for others. "
            "Leave --checkpoint out for zero-shot localization, or train with ccln-train --open"
        )
    side = text_side(checkpoint.specification, names, **where)
    return replace(checkpoint, model=network.with_classes(*side.classes), class_names=tuple(names))


def asked_for_all(checkpoint: Checkpoint, names: Sequence[str], **where: Any) -> tuple[Checkpoint, tuple[str, ...]]:
    """The checkpoint for its own classes and those of a data set, and which of these are new to it.

    Where its classes are learnt, it is the checkpoint as it is. Arguments and errors are as of `asked_for`.
    """
    new = tuple(name for name in names if name not in checkpoint.class_names)
    if not new or getattr(checkpoint.model, "texts", None) is None:
        return checkpoint, ()
    return asked_for(checkpoint, (*checkpoint.class_names, *new), **where), new


def choose_zero_shot(
    out: Path,
    dataset: Dataset,
    cache: FeatureCache,
    names: Sequence[str] | None = None,
    *,
    specification: str | None = None,
    **where: Any,
) -> Checkpoint:
    """Choose scales, event threshold and decoding on the validation split of a data set, and save the checkpoint.

    Args:
        out: folder of the checkpoint.
        dataset: with clips in validation and test.
        cache: that holds their features.
        names: of the classes to ask for, those of the data set among them; if None, these alone.
        specification: first digits of the extractor specification, where the cache holds several for this data.
        where: `device`, `visual_weights` and `audio_weights`, as of `text_side`.

    Raises:
        NamesError: a class of the data set is not among the names.
        DatasetError, CacheError: the cache lacks the features.
        ExtractorError: their extractors have no text side.
        WeightsError: their models cannot be had.
    """
    names = dataset.class_names if names is None else tuple(names)
    if lacking := [name for name in dataset.class_names if name not in names]:
        raise NamesError(f"{dataset.source} has classes that --classes lacks: {'; '.join(lacking)}. Name them, too")
    named = replace(dataset, class_names=tuple(names))
    features = load_features(named, cache, specification, needed=("validation", "test"))
    clips = features.splits["validation"]
    shape = (*clips.visual[0].shape[1:], clips.audio[0].shape[1])
    side = text_side(features.specification, names, **where)
    checkpoint = zero_shot(features.specification, names, side, shape, data=str(dataset.source.resolve()))
    network = checkpoint.model.to(where["device"])
    assert isinstance(network, ZeroShot)
    choose_scales(network, clips)
    choose_event_shift(network, clips)
    decoding = choose_decoding(predict(network, clips), clips.segment_labels)
    checkpoint = replace(checkpoint, decoding=decoding)
    checkpoint.training["validation"] = {**asdict(decoding), "clips": len(clips)}
    save_checkpoint(out, checkpoint)
    return network.checkpoint


@torch.inference_mode()
def choose_scales(network: ZeroShot, clips: LabelledClips) -> None:
    """Set the scales of both modalities so that in event segments the right class is likeliest (Guo et al. 2017).

    Args:
        network: its scales are set; where no segment is event they stay.
        clips: of the validation split.
    """
    is_event, classes = clips.event.bool(), clips.classes
    if not is_event.any():
        return
    device = network.audio_scale.device
    products = [  # clip by clip, for features may be large
        network.products(visual[None].to(device).float(), audio[None].to(device))
        for visual, audio in zip(clips.visual, clips.audio, strict=True)
    ]
    scales = network.audio_scale, network.visual_scale
    for scale, of_modality in zip(scales, zip(*products, strict=True), strict=True):
        scale.fill_(_best_scale(torch.cat(of_modality).cpu()[is_event].double(), classes[is_event]))


def _best_scale(products: Tensor, labels: Tensor) -> float:
    """The positive scale with the lowest cross-entropy of labels (segment,) under dot products (segment, text).

    It is sought within what makes the logits of a segment neither all alike nor certain, whatever the model's own is.
    """
    spread = float(products.std(1, correction=0).mean().clamp_min(1e-9))

    def loss(log_spread: float) -> float:
        return float(torch.nn.functional.cross_entropy(np.exp(log_spread) / spread * products, labels))

    found = minimize_scalar(loss, bounds=np.log(_SPREADS), method="bounded")
    return float(np.exp(found.x)) / spread


def _lists(texts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {name: list(of) for name, of in texts.items()}
