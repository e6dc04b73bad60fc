"""Names of classes as texts: how they are asked for, the prompts that they are put into, and the texts' vectors."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ccln.extractors import Preset, preset_from_specification, text_vectors
from ccln.pipeline.data.ave import UNSEEN
from ccln.pipeline.data.clips import Dataset, read_annotation_text

PROMPTS: Mapping[str, tuple[str, ...]] = {
    "visual": ("a photo of {}.", "a video of {}.", "{}"),
    "audio": ("this is a sound of {}.", "the sound of {}.", "{}"),
}
"""Of each modality; a class's vector has the mean direction and the mean length of those of its prompts. After the
texts that CLIP and CLAP are usually asked with; none was tried out on data."""

OTHERS: Mapping[str, tuple[str, ...]] = {
    "visual": ("other", "something else", "a black screen", "a blurred picture", "an empty room", "a landscape"),
    "audio": ("other", "something else", "silence", "background noise", "a quiet room", "static"),
}
"""What stands for the background, put into the same prompts; as many in each modality. The first is OV-AVEL's."""


MOST_NAMES = 10_000


class NamesError(Exception):
    """Names of classes that cannot be used; the message says which, why and what to give."""


class NamedVectors(NamedTuple):
    """The vectors of the names of some classes."""

    visual: Tensor
    """float32 (name, channel), of length 1 where the model's contract says so, see `ccln.extractors.TextVectors`."""
    audio: Tensor
    """float32 (name, channel), likewise."""


class TextSide(NamedTuple):
    """What the text side of a pair of extractors makes of classes and of the background."""

    classes: NamedVectors
    others: NamedVectors
    visual_scale: float
    """What the model multiplies dot products with, here before a softmax over texts."""
    audio_scale: float


def text_side(specification: Preset | Mapping[str, Any], names: Sequence[str], **where: Any) -> TextSide:
    """Make the vectors of classes and of the background.

    Args:
        specification: of the extractors, or their preset.
        names: of the classes.
        where: `device`, `visual_weights` and `audio_weights` of `ccln.extractors.text_vectors`.

    Raises:
        ExtractorError: the extractors have no text side.
        WeightsError: their models cannot be had.
    """
    preset = specification if isinstance(specification, Preset) else preset_from_specification(dict(specification))
    prompts = {
        name: [prompt.format(text) for text in [*map(spoken, names), *OTHERS[name]] for prompt in PROMPTS[name]]
        for name in PROMPTS
    }
    found, classes, others = text_vectors(preset, **prompts, **where), {}, {}
    for name, of in found.items():
        of_prompts = torch.from_numpy(of.vectors).unflatten(0, (-1, len(PROMPTS[name])))  # (text, prompt, channel)
        # The mean of unit vectors is shorter, the less they agree.
        lengths = of_prompts.norm(dim=-1).mean(1, keepdim=True)
        vectors = lengths * F.normalize(of_prompts.mean(1), dim=-1)
        classes[name], others[name] = vectors[: len(names)], vectors[len(names) :]
    return TextSide(
        NamedVectors(**classes), NamedVectors(**others), found["visual"].logit_scale, found["audio"].logit_scale
    )


def spoken(name: str) -> str:
    """A class's name as it stands in a sentence: `Church_bell` as `church bell`; other capitals are kept."""
    words = name.replace("_", " ").strip()
    return words[:1].lower() + words[1:] if words[1:2].islower() else words


def read_names(given: str) -> tuple[str, ...]:
    """Read names of classes.

    Args:
        given: a file with one name a line, or the names themselves, separated by commas.

    Raises:
        NamesError: there are none, or too many.
        DatasetError: the file is no text.
    """
    layout = "a file of class names has one a line"
    parts = read_annotation_text(Path(given), layout).splitlines() if os.path.isfile(given) else given.split(",")
    names = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not 1 <= len(names) <= MOST_NAMES:
        raise NamesError(
            f"{given[:100]!r} holds {len(names)} names of classes, expected 1 to {MOST_NAMES}: give names separated by "
            "commas, or a file with one a line"
        )
    return names


def unseen_names(given: str, dataset: Dataset) -> tuple[str, ...]:
    """Read names of classes of a data set that are, or were, not trained.

    Args:
        given: as of `read_names`, or "ave" for our own eight of AVE's classes.
        dataset: has these classes.

    Raises:
        NamesError: it lacks one of them.
        DatasetError: the file is no text.
    """
    names = UNSEEN if given == "ave" else read_names(given)
    if unknown := [name for name in names if name not in dataset.class_names]:
        raise NamesError(
            f"{dataset.source} has no class {'; '.join(unknown)}. Its classes are {'; '.join(dataset.class_names)}; "
            "names with commas have to be given as a file with one a line"
        )
    return names


def untrained_names(dataset: Dataset) -> tuple[str, ...]:
    """The classes of a data set that no training row has."""
    trained = {name for clip in dataset.clips_of("train") for name in (clip.label, *clip.labels)}
    return tuple(name for name in dataset.class_names if name not in trained)


def without_classes(dataset: Dataset, names: Collection[str]) -> Dataset:
    """The data set without some of its classes, and without the rows of which an event is of one."""
    return replace(
        dataset,
        class_names=tuple(name for name in dataset.class_names if name not in names),
        clips=tuple(clip for clip in dataset.clips if {clip.label, *clip.labels}.isdisjoint(names)),
    )
