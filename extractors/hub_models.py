"""Models of the Hugging Face Hub that `transformers` runs, as `hf:OWNER/NAME`: CLIP, SigLIP, DINO, CLAP, AST and PE-AV.

A model comes from a local folder, the hub's cache or the hub, always as safetensors, and no code of its is run. The
folder's own configuration decides everything but the arithmetic; the completed choice says what that is.

A visual feature holds, at each position, what the patches there are described by, and after it the vector of the whole
picture, which zero-shot localization compares with texts.
"""

import contextlib
import importlib.util
import io
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.extractors.contract import HUB_PREFIX, AudioChoice, ExtractorError, VisualChoice, WeightsError
from ccln.extractors.weights import AUDIO_FLAG, VISUAL_FLAG, fetch_snapshot

CELLS = 7
"""Finer grids of patches are averaged into so many cells in height and width, as many as the other backbones have: at
each position there is a whole vector, and features of 27 x 27 would take 15 times the room."""

_VISUAL_TYPES = ("clip", "siglip", "dinov2", "dinov2_with_registers", "dinov3_vit", "pe_video", "pe_audio_video")
_AUDIO_TYPES = ("clap", "audio-spectrogram-transformer", "pe_audio", "pe_audio_video")
_AUDIO_OUTPUTS = {"clap": "audio_projection", "audio-spectrogram-transformer": "pooler_output"}
UNITS = ("clip", "siglip", "clap")
"""Types of models whose contract is that vectors are of length 1."""
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # by the numbers that PIL gives them
_FILES = ["*.json", "*.txt", "*.model", "model.safetensors", "model-*.safetensors"]

_Choice = TypeVar("_Choice", VisualChoice, AudioChoice)
_LOADED: ContextVar[dict[Path, Any] | None] = ContextVar("_LOADED", default=None)


@contextlib.contextmanager
def loaded_once() -> Iterator[None]:
    """Within it each model is loaded once: the towers and the text side of a preset are parts of the same."""
    outer = _LOADED.get()
    token = _LOADED.set({} if outer is None else outer)
    try:
        yield
    finally:
        _LOADED.reset(token)


class HubModel:
    """A model's folder: what is known of it without its weights.

    Attributes:
        name: "hf:OWNER/NAME".
        folder: Its files.
        revision: The hub's commit, None for a local folder.
        config: Of transformers.
    """

    def __init__(self, name: str, local: Path | None, flag: str, revision: str | None = None) -> None:
        """Find the folder and read the configuration.

        Args:
            name: "hf:OWNER/NAME".
            local: The folder to take instead of the hub's.
            flag: The command flag that gives it, for errors.
            revision: The commit to take; if None, the one that is cached as the newest, or else the newest.

        Raises:
            ExtractorError: transformers is missing, or the name is none of a model.
            WeightsError: The model cannot be had.
        """
        if not _NAME.fullmatch(name.removeprefix(HUB_PREFIX)):
            raise ExtractorError(f"{name!r} has to be {HUB_PREFIX}OWNER/NAME, of a model on the Hugging Face Hub")
        require_transformers(name)
        from transformers import AutoConfig

        self.name, self.revision = name, revision
        if local is None:
            self.folder = fetch_snapshot(name.removeprefix(HUB_PREFIX), revision, _FILES, name, flag)
            self.revision = self.folder.name
        elif local.is_dir():
            self.folder = local
        else:
            raise WeightsError(
                f"{local} is no folder: give {name} as a folder with config.json, its preprocessor's configuration "
                f"and model.safetensors, as transformers saves it, with {flag} FOLDER"
            )
        with self._reading():
            self.config: Any = AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)

    @property
    def kind(self) -> str:
        """The type of the model, as "clip"."""
        return self.config.model_type

    def part(self, loader: str) -> Any:
        """What one of transformers' Auto classes makes of the folder: a preprocessor or a tokenizer."""
        import transformers

        with self._reading():
            auto = getattr(transformers, loader)
            return auto.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)

    def model(self) -> Any:
        """The whole model with its weights, in float32; within `loaded_once` the same each time."""
        loaded = _LOADED.get()
        if loaded is None:
            return self._load()
        if self.folder not in loaded:
            loaded[self.folder] = self._load()
        return loaded[self.folder]

    def _load(self) -> Any:
        import transformers

        with self._reading(), _quiet():
            model, info = transformers.AutoModel.from_pretrained(
                self.folder,
                config=self.config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        missing = sorted(info["missing_keys"]) + sorted(str(key) for key, *_ in info["mismatched_keys"])
        if missing:
            raise WeightsError(
                f"{self.folder} does not hold the weights of {self.name}: {', '.join(missing[:3])} "
                f"{'is' if len(missing) == 1 else 'are'} missing or of another shape; fetch it again"
            )
        return model.eval()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Name the model where transformers cannot read its folder."""
        try:
            yield
        except Exception as error:  # whatever its many readers raise
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise WeightsError(
                f"{self.name} in {self.folder} cannot be read ({reason}): it has to be a folder as transformers saves "
                "it, weights as safetensors, of a model that needs no code of its own"
            ) from error


def visual_choice(name: str, local: Path | None, revision: str | None = None) -> VisualChoice:
    """Return the choice for "hf:OWNER/NAME": size, interpolation, mean and std as in its preprocessor's configuration.

    Args:
        name: Of the model.
        local: Its folder, if it is not to be the hub's.
        revision: The commit on the hub, if it is not to be the newest.

    Raises:
        ExtractorError: It is no model with a vision tower that is known here.
        WeightsError: It cannot be had.
    """
    return _visual_choice(HubModel(name, local, VISUAL_FLAG, revision))


def audio_choice(name: str, local: Path | None, revision: str | None = None) -> AudioChoice:
    """Return the choice for "hf:OWNER/NAME", with its front end's settings; see `visual_choice`.

    Raises:
        ExtractorError: It is no model with an audio tower that is known here.
        WeightsError: It cannot be had.
    """
    return _audio_choice(HubModel(name, local, AUDIO_FLAG, revision))


def build_visual(choice: VisualChoice, weights: Path | None) -> nn.Module:
    """Return the vision tower; its attribute `choice` is the choice as the model's configuration completes it.

    Raises:
        ExtractorError, WeightsError: As `visual_choice`, or the weights do not fit.
    """
    source = HubModel(choice.name, weights, VISUAL_FLAG, choice.revision)
    choice = replace(_visual_choice(source), precision=choice.precision)
    model = source.model()
    if choice.pooling == "joint":
        return PEVideoTower(getattr(model, "video_model", model), choice)
    return VisionTower(model, choice)


def build_audio(choice: AudioChoice, weights: Path | None) -> "AudioTower":
    """Return the audio tower; its attribute `choice` is the choice as the model's configuration completes it.

    Raises:
        ExtractorError, WeightsError: As `audio_choice`, or the weights do not fit.
    """
    source = HubModel(choice.name, weights, AUDIO_FLAG, choice.revision)
    return AudioTower(source.model(), source.part("AutoFeatureExtractor"), _audio_choice(source))


class VisionTower(nn.Module):
    """The vision tower of CLIP, SigLIP or DINO; the state dict is its and its projection's alone."""

    def __init__(self, model: Any, choice: VisualChoice) -> None:
        super().__init__()
        self.choice = choice
        self.tower = getattr(model, "vision_model", model)
        self.projection = getattr(model, "visual_projection", nn.Identity())
        config = self.tower.config
        self._patch = config.patch_size
        self._first = 0 if config.model_type.startswith("siglip") else 1 + (getattr(config, "num_register_tokens", 0))

    def forward(self, frames: Tensor) -> Tensor:
        """Return maps (frame, channel, height, width) of normalised frames (frame, 3, height, width)."""
        found = self.tower(pixel_values=frames)
        pooled = self.projection(found.pooler_output)
        if self.choice.pooled_norm == "l2":
            pooled = F.normalize(pooled, dim=-1)
        grid = frames.shape[2] // self._patch, frames.shape[3] // self._patch
        return beside(in_cells(found.last_hidden_state[:, self._first :], grid), pooled)


class PEVideoTower(nn.Module):
    """The video side of PE-AV: all frames of a segment become one vector, and the mean of their patch maps."""

    def __init__(self, model: Any, choice: VisualChoice) -> None:
        super().__init__()
        self.choice = choice
        self.encoder, self.head = model.video_encoder, model.video_head
        # The frames go through the image encoder here, which gives the patches, too, and their vectors into the rest.
        self.images = self.encoder.embedder.vision_model.timm_model
        self.encoder.embedder.vision_model = _AsLogits()

    def forward(self, frames: Tensor) -> Tensor:
        """Return maps (segment, channel, height, width) of frames (segment, frame, 3, height, width)."""
        tokens = self.images.forward_features(frames.flatten(0, 1))
        vectors = self.images.forward_head(tokens).unflatten(0, frames.shape[:2])
        pooled = self.head(self.encoder(pixel_values_videos=vectors).pooler_output)
        patches = tokens[:, self.images.num_prefix_tokens :].unflatten(0, frames.shape[:2]).mean(1)
        return beside(in_cells(patches, self.images.patch_embed.grid_size), pooled)


class _AsLogits(nn.Module):
    """Stands in PE-AV's embedder for the image encoder, whose output it is given."""

    def forward(self, vectors: Tensor) -> Any:
        from transformers.modeling_outputs import ImageClassifierOutput

        return ImageClassifierOutput(logits=vectors)  # pyright: ignore[reportArgumentType]


class AudioTower(nn.Module):
    """The audio tower of CLAP, AST or PE-A, and the model's own front end, which runs on the processor."""

    def __init__(self, model: Any, extractor: Any, choice: AudioChoice) -> None:
        super().__init__()
        self.choice = choice
        self._extractor = extractor
        model = getattr(model, "audio_model", model) if model.config.model_type == "pe_audio_video" else model
        self._kind = model.config.model_type
        self._input = "input_features" if self._kind == "clap" else "input_values"
        if self._kind == "clap":
            self.tower, self.projection = model.audio_model, model.audio_projection
        elif self._kind == "pe_audio":
            self.tower, self.projection = model.audio_encoder, model.audio_head
        else:
            self.tower, self.projection = model, nn.Identity()

    def front_end(self, waveform: Tensor) -> Tensor:
        """Return what the tower reads (segment, ...) of waveform (segment, sample)."""
        given = self._extractor(list(waveform.numpy()), sampling_rate=self.choice.sample_rate_hz, return_tensors="pt")
        # What else the front ends give is of other lengths, or drawn: CLAP's calls one clip of a batch longer.
        return given[self._input].to(waveform.dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (segment, channel) of what `front_end` gives."""
        given = {self._input: inputs}
        if self._kind == "clap":
            given["is_longer"] = torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device)
        pooled = self.projection(self.tower(**given).pooler_output)
        return F.normalize(pooled, dim=-1) if self._kind in UNITS else pooled


def in_cells(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return a map (item, channel, height, width), at most `CELLS` high and wide, of patches (item, patch, channel)."""
    height, width = grid
    return F.adaptive_avg_pool2d(
        patches.transpose(1, 2).unflatten(2, (height, width)).contiguous(), (min(height, CELLS), min(width, CELLS))
    )


def beside(maps: Tensor, pooled: Tensor) -> Tensor:
    """Return maps (item, channel, height, width) with vectors (item, channel) after them at every position."""
    return torch.cat([maps, pooled[:, :, None, None].expand(-1, -1, *maps.shape[2:])], 1)


def _visual_choice(source: HubModel) -> VisualChoice:
    config, kind = source.config, source.kind
    if kind not in _VISUAL_TYPES:
        raise ExtractorError(
            f"{source.name} is of the type {kind}, but a visual extractor has to be one of {', '.join(_VISUAL_TYPES)}"
        )
    joint = kind in ("pe_video", "pe_audio_video")
    settings = source.part("AutoVideoProcessor" if joint else "AutoImageProcessor").to_dict()
    size = settings["crop_size"] if settings.get("do_center_crop") else settings["size"]
    if settings["resample"] not in _INTERPOLATIONS:
        raise ExtractorError(
            f"{source.name} resizes images with PIL's filter {settings['resample']}, but only "
            f"{' and '.join(_INTERPOLATIONS.values())} are known here: choose another model"
        )
    normalised = settings.get("do_normalize", True)
    if joint:
        vector, channels = "video_head", config.text_config.hidden_size
    elif kind == "clip":
        vector, channels = "visual_projection", config.projection_dim
    else:
        vector, channels = "pooler_output", getattr(config, "vision_config", config).hidden_size
    choice = VisualChoice(
        name=source.name,
        layer=f"last_hidden_state, patches in at most {CELLS} x {CELLS} means, then {vector}",
        frame_height=size.get("height") or size["shortest_edge"],
        frame_width=size.get("width") or size["shortest_edge"],
        resize="stretch",
        interpolation=_INTERPOLATIONS[settings["resample"]],
        mean=tuple(settings["image_mean"]) if normalised else (0, 0, 0),
        std=tuple(settings["image_std"]) if normalised else (1, 1, 1),
        channel_order="rgb",
        pooling="joint" if joint else "mean",
        precision="float32",
        pooled_channels=channels,
        pooled_norm="l2" if kind in UNITS else None,
        revision=source.revision,
    )
    return _checked(choice)


def _audio_choice(source: HubModel) -> AudioChoice:
    kind = source.kind
    if kind not in _AUDIO_TYPES:
        raise ExtractorError(
            f"{source.name} is of the type {kind}, but an audio extractor has to be one of {', '.join(_AUDIO_TYPES)}"
        )
    settings = source.part("AutoFeatureExtractor").to_dict()
    choice = AudioChoice(
        name=source.name,
        sample_rate_hz=settings["sampling_rate"],
        mel=None,
        output=_AUDIO_OUTPUTS.get(kind, "audio_head"),
        front_end={
            key: value
            for key, value in sorted(settings.items())
            if isinstance(value, str | int | float | None) and key != "processor_class"
        },
        revision=source.revision,
    )
    return _checked(choice)


def _checked(choice: _Choice) -> _Choice:
    """The choice, whose numbers are anybody's, if each is within its range."""
    try:
        return msgspec.convert(msgspec.to_builtins(choice), type(choice))
    except msgspec.ValidationError as error:
        raise ExtractorError(f"the configuration of {choice.name} cannot be used: {error}") from error


def require_transformers(name: str) -> None:
    """Check that transformers is there.

    Raises:
        ExtractorError: It is not.
    """
    if not importlib.util.find_spec("transformers"):
        raise ExtractorError(f"{name} needs the package transformers: pip install 'ccln[hub]'")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no reports: what is wrong with the weights is an error here.

    As of 5.24 transformers prints to standard output, too, when it makes a PE-AV model.
    """
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
