"""Presets: named pairs of extractors with every choice written out.

Importing this module imports no network, no torch: a command can list the presets before anything heavy is loaded.
"""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from ccln.extractors.contract import (
    DECODING_REVISION,
    AudioChoice,
    ExtractorError,
    MelChoice,
    Preset,
    VisualChoice,
    unknown_name,
)

VISUAL_CHOICES = {
    choice.name: choice
    for choice in (
        VisualChoice(
            name="efficientnet-lite0",
            layer="blocks",  # before the head convolution: 7 x 7 x 320
            frame_height=224,
            frame_width=224,
            resize="stretch",
            interpolation="bicubic",
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
            channel_order="rgb",
            pooling="mean",
            precision="float32",
        ),
        VisualChoice(
            name="vgg19",
            layer="pool5",  # after ReLU and max-pool: 7 x 7 x 512
            frame_height=224,
            frame_width=224,
            resize="stretch",
            interpolation="bilinear",
            mean=(0.485, 0.456, 0.406),  # ImageNet's
            std=(0.229, 0.224, 0.225),
            channel_order="rgb",
            pooling="mean",
            precision="float32",
        ),
        VisualChoice(
            name="vgg19-keras",
            layer="block5_pool",  # the same place under Keras's name
            frame_height=224,
            frame_width=224,
            resize="stretch",
            interpolation="opencv-linear",
            mean=(123.68 / 255, 116.779 / 255, 103.939 / 255),
            std=(1 / 255, 1 / 255, 1 / 255),  # none, on the scale 0..255
            channel_order="bgr",
            pooling="mean",
            precision="float32",
        ),
    )
}

_LOG_MEL = MelChoice(
    seconds_used=1.0,
    window_seconds=0.025,
    hop_seconds=0.010,
    bands=64,
    low_hz=125.0,
    high_hz=7500.0,
    log_offset=0.01,
)

AUDIO_CHOICES = {
    choice.name: choice
    for choice in (
        AudioChoice(name="log-mel", sample_rate_hz=16_000, mel=_LOG_MEL, output="mean-and-std"),
        AudioChoice(
            name="vggish",
            sample_rate_hz=16_000,
            mel=replace(_LOG_MEL, seconds_used=0.96),  # one patch from each segment's start
            output="embedding",  # after the last ReLU; no PCA, no quantisation
        ),
        AudioChoice(
            name="yamnet",
            sample_rate_hz=16_000,
            mel=replace(_LOG_MEL, seconds_used=0.96, log_offset=0.001),  # the patch lies within the segment
            output="embedding",  # the mean of the last maps, 1024 numbers
        ),
        AudioChoice(
            name="cnn14",
            sample_rate_hz=32_000,
            mel=None,  # its own: Slaney's bands, decibels
            output="embedding",  # after the ReLU of fc1, 2048 numbers
        ),
    )
}

_AVE = Preset(
    frames_per_segment=16,
    frame_at=0.5,
    decoder="pyav",
    decoding_revision=DECODING_REVISION,
    visual=VISUAL_CHOICES["vgg19"],
    audio=AUDIO_CHOICES["vggish"],
)

_LIGHT = Preset(
    frames_per_segment=4,
    frame_at=0.5,
    decoder="pyav",
    decoding_revision=DECODING_REVISION,
    visual=VISUAL_CHOICES["efficientnet-lite0"],
    audio=AUDIO_CHOICES["yamnet"],
)

_CLIP_CLAP = replace(
    _LIGHT,
    visual=VisualChoice(
        name="hf:laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        layer="last_hidden_state, patches in at most 7 x 7 means, then visual_projection",
        frame_height=224,
        frame_width=224,
        resize="stretch",
        interpolation="bicubic",
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        channel_order="rgb",
        pooling="mean",
        precision="float32",
        pooled_channels=512,
        pooled_norm="l2",
    ),
    audio=AudioChoice(
        name="hf:laion/clap-htsat-unfused",
        sample_rate_hz=48_000,
        mel=None,  # of its own, see front_end when it is loaded
        output="audio_projection",
    ),
)

_PE_AV = replace(
    _LIGHT,
    visual=VisualChoice(
        name="hf:facebook/pe-av-large",
        layer="last_hidden_state, patches in at most 7 x 7 means, then video_head",
        frame_height=336,
        frame_width=336,
        resize="stretch",
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        channel_order="rgb",
        pooling="joint",
        precision="float32",
        pooled_channels=1024,
    ),
    audio=AudioChoice(name="hf:facebook/pe-av-large", sample_rate_hz=48_000, mel=None, output="audio_head"),
)

PRESETS = {
    "light": _LIGHT,
    "light-log-mel": replace(_LIGHT, audio=AUDIO_CHOICES["log-mel"]),
    "ave": _AVE,
    # How the published AVE features were made:
    "ave-legacy": replace(_AVE, frame_at=0.0, visual=VISUAL_CHOICES["vgg19-keras"]),
    # With a text side. What the models' own configurations say is completed, and corrected, when they are loaded.
    "clip-clap": _CLIP_CLAP,
    "pe-av": _PE_AV,
}


def preset_named(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        ExtractorError: There is none.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


def preset_from_specification(specification: Any) -> Preset:
    """Return the preset that a specification was made from.

    Args:
        specification: `Extractors.specification`, perhaps read back from JSON.

    Raises:
        ExtractorError: It is not a specification.
    """
    if not isinstance(specification, dict) or "weights_sha256" not in specification:
        raise ExtractorError("this is not an extractor specification: extract the features again with this version")
    choices = {name: value for name, value in specification.items() if name != "weights_sha256"}
    return Preset.from_json(choices)


def arithmetic_of(specification: Mapping[str, Any]) -> str | None:
    """Return the arithmetic that the visual features of a cached specification were made in, None if it names none."""
    visual = specification.get("visual")
    return visual.get("precision") if isinstance(visual, Mapping) else None


def without_arithmetic(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cached specification less its arithmetic: where two agree in this, a network reads either's features.

    The commits of models of the hub are left out, too: the same weights may come from the hub or from a folder.
    """
    left_out = {"visual": ("precision", "revision"), "audio": ("revision",)}
    return {
        part: {name: chosen for name, chosen in choice.items() if name not in left_out.get(part, ())}
        if isinstance(choice, Mapping)
        else choice
        for part, choice in specification.items()
    }
