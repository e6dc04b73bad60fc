"""Both extractors of a preset at work: frames and waveform of one clip in, its features out."""

import contextlib
import copy
import logging
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ccln.extractors.contract import SEGMENT_SECONDS, ExtractorError, Preset
from ccln.extractors.hub_models import AudioTower, loaded_once
from ccln.extractors.registry import audio_extractor, visual_extractor
from ccln.extractors.weights import weights_sha256

log = logging.getLogger(__name__)

# Chunks are cut from one clip at fixed places: its features cannot depend on other clips. On a processor few frames at
# once are up to three times as fast as many: their activations stay in the caches, and the allocator reuses the pages.
_FRAMES_PER_CHUNK = {"cpu": 4, "cuda": 160}
_SEGMENTS_PER_CHUNK = 32
_FOLDING_TOLERANCE = 1e-3  # relative; folding moves float32 results by about 1e-6, a wrong pairing by about 1


class Extractors:
    """The visual and the audio network of a preset, on one device, for any number of threads.

    A GPU is fast and its memory small: it computes for one thread at a time, while others decode and run front ends.

    Attributes:
        preset: Every choice.
        specification: Plain JSON dict of all that decides a feature's value: the preset's choices, and
            `weights_sha256` of each network (None where there are no weights).
        device: Where the networks are.
        audio_network: Takes waveforms (segment, sample) to features (segment, channel); an `AudioTower` takes what its
            front end makes of them.
    """

    def __init__(self, preset: Preset, visual: nn.Module, audio: nn.Module, device: torch.device) -> None:
        self.preset = preset
        self.specification: dict[str, Any] = {
            **preset.to_json(),
            "weights_sha256": {"visual": weights_sha256(visual), "audio": weights_sha256(audio)},
        }
        self.device = device
        self._bfloat16 = preset.visual.precision == "bfloat16"
        self._visual = self._prepared(visual)
        self.audio_network = audio.eval().to(device)
        self._mean = torch.tensor(preset.visual.mean, device=device)[:, None, None]
        self._std = torch.tensor(preset.visual.std, device=device)[:, None, None]
        self._turn = Lock() if device.type == "cuda" else contextlib.nullcontext()

    def __call__(self, frames: np.ndarray | Tensor, waveform: np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return (visual, audio) of one clip; see `visual` and `audio`.

        Raises:
            ExtractorError: one of them does not fit the preset, or they differ in their number of segments.
        """
        seen, heard = self._checked_frames(frames), self._checked_waveform(waveform)
        if seen != heard:
            raise ExtractorError(f"frames have {seen} segments, the waveform has {heard}: cut both from one clip")
        return self.visual(frames), self.audio(waveform)

    def visual(self, frames: np.ndarray | Tensor) -> np.ndarray:
        """Return each segment's map: the mean of its frames' maps, or what the network makes of them together.

        Args:
            frames: uint8 RGB (segment, frame, height, width, 3).

        Returns:
            float32 (segment, height, width, channel).

        Raises:
            ExtractorError: the frames do not fit the preset, or a feature is infinite or not a number.
        """
        self._checked_frames(frames)
        frames, choice = _tensor(frames), self.preset.visual
        joint, step = choice.pooling == "joint", _FRAMES_PER_CHUNK.get(self.device.type, 32)
        parts = frames.split(max(1, step // frames.shape[1])) if joint else frames.flatten(0, 1).split(step)
        chunks = []
        autocast = torch.autocast(self.device.type, torch.bfloat16, self._bfloat16)
        with self._turn, _exact_inference(self.device), autocast:
            for chunk in parts:
                # Bytes in the order height, width, channel are already what channels_last asks for.
                maps = self._visual(self._normalised(chunk.to(self.device).movedim(-1, -3)))
                chunks.append(maps.permute(0, 2, 3, 1).float())
            maps = torch.cat(chunks)
            if not joint:
                maps = maps.unflatten(0, frames.shape[:2]).mean(1)
            if choice.pooled_norm == "l2":
                maps[..., -choice.pooled_channels :] = F.normalize(maps[..., -choice.pooled_channels :], dim=-1)
            return _finite(choice.name, maps)

    def audio(self, waveform: np.ndarray | Tensor) -> np.ndarray:
        """Return the features of each segment of a waveform.

        Args:
            waveform: float32 mono (sample,), a whole number of seconds at the preset's sample rate.

        Returns:
            float32 (segment, channel).

        Raises:
            ExtractorError: the waveform does not fit the preset, or it or a feature holds numbers that are not finite.
        """
        self._checked_waveform(waveform)
        samples = _tensor(waveform)
        if not samples.isfinite().all():
            raise ExtractorError("the waveform holds numbers that are not finite: decode the clip again")
        segments = samples.view(-1, self.preset.audio.sample_rate_hz * SEGMENT_SECONDS)
        chunks = segments.split(_SEGMENTS_PER_CHUNK)
        if isinstance(self.audio_network, AudioTower):
            chunks = [self.audio_network.front_end(chunk) for chunk in chunks]
        with self._turn, _exact_inference(self.device):
            features = torch.cat([self.audio_network(chunk.to(self.device)) for chunk in chunks])
            return _finite(self.preset.audio.name, features)

    def _checked_frames(self, frames: np.ndarray | Tensor) -> int:
        """The number of segments in frames that are of the type and shape that the preset asks for."""
        preset = self.preset
        wanted = (preset.frames_per_segment, preset.visual.frame_height, preset.visual.frame_width, 3)
        if _dtype_name(frames) != "uint8" or frames.ndim != 5 or tuple(frames.shape[1:]) != wanted or not len(frames):
            raise ExtractorError(
                f"frames are {_dtype_name(frames)} {tuple(frames.shape)}, but {preset.visual.name} wants uint8 RGB "
                f"(segment, {', '.join(map(str, wanted))}): decode them as the preset says"
            )
        return len(frames)

    def _checked_waveform(self, waveform: np.ndarray | Tensor) -> int:
        """The number of segments in a waveform that is mono float32 of whole segments."""
        audio = self.preset.audio
        segments, rest = divmod(len(waveform) if waveform.ndim == 1 else 0, audio.sample_rate_hz * SEGMENT_SECONDS)
        if _dtype_name(waveform) != "float32" or not segments or rest:
            raise ExtractorError(
                f"waveform is {_dtype_name(waveform)} {tuple(waveform.shape)}, but {audio.name} wants mono float32 "
                f"(segments x {audio.sample_rate_hz * SEGMENT_SECONDS},): resample it to {audio.sample_rate_hz} Hz and "
                "pad it to whole segments"
            )
        return segments

    def _normalised(self, frames: Tensor) -> Tensor:
        """(..., 3, height, width), RGB, to the same in the network's scale and order."""
        frames = (frames.float() / 255 - self._mean) / self._std
        return frames.flip(-3) if self.preset.visual.channel_order == "bgr" else frames

    def _prepared(self, network: nn.Module) -> nn.Module:
        """The visual network as it runs fastest: batch norms folded, channels last, if asked for in bfloat16."""
        choice = self.preset.visual
        if choice.pooling == "mean":
            noise = torch.rand(
                1, 3, choice.frame_height, choice.frame_width, generator=torch.Generator().manual_seed(0)
            )
            network = fold_batch_norms(network, noise)
        if self._bfloat16:
            # The weights of what autocast runs in half precision; it would convert them again for every few frames.
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.to(torch.bfloat16)
        return network.to(self.device).to(memory_format=torch.channels_last)


def load_extractors(
    preset: Preset,
    *,
    device: str = "cpu",
    visual_weights: Path | str | None = None,
    audio_weights: Path | str | None = None,
) -> Extractors:
    """Build both networks of a preset and load their weights.

    Args:
        preset: Every choice.
        device: A torch device such as "cpu" or "cuda:0", or "auto".
        visual_weights: A local .pth or .safetensors file instead of the published weights; of a model of the hub, its
            folder.
        audio_weights: Likewise.

    Raises:
        ExtractorError: The preset names no extractor there is, or there is no such device.
        WeightsError: Weights cannot be had or do not fit.
    """
    where = torch.device(pick_device(device))
    seen, heard = (Path(weights) if weights else None for weights in (visual_weights, audio_weights))
    with loaded_once():
        audio = audio_extractor(preset.audio.name, heard, preset.audio.revision).build(preset.audio, heard)
        visual = visual_extractor(preset.visual.name, seen, preset.visual.revision).build(preset.visual, seen)
    # Models of the hub bring their choices, complete with commit and front end.
    preset = replace(
        preset,
        visual=getattr(visual, "choice", preset.visual),
        audio=getattr(audio, "choice", preset.audio),
    )
    return Extractors(preset, visual, audio, where)


def pick_device(name: str) -> str:
    """Return `name`, or for "auto" "cuda" where there is a GPU and else "cpu".

    Raises:
        ExtractorError: Torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ExtractorError(f"device {name!r} cannot be used ({reason}): choose auto, cpu or cuda") from error
    return name


def pick_precision(name: str, device: str) -> str:
    """Return `name`, or for "auto" "bfloat16" where the device computes it natively and else "float32".

    That an explicit "bfloat16" will be emulated, and what that costs, goes to the log.

    Args:
        name: "auto", "float32" or "bfloat16".
        device: As `pick_device` returns it.
    """
    native = _computes_bfloat16(torch.device(device))
    if name == "auto":
        return "bfloat16" if native else "float32"
    if name == "bfloat16" and not native:
        log.warning(
            "%s has no bfloat16 arithmetic and emulates it: on a processor that takes about 20 times as long as "
            "float32. Networks read features of either: leave out --precision to get what is native",
            device,
        )
    return name


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # only oneDNN's convolutions make use of it
        return False
    has = getattr(torch.cpu, "get_capabilities", dict)()  # older torch cannot say
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's


def fold_batch_norms(network: nn.Module, example: Tensor) -> nn.Module:
    """Return the network, in evaluation mode, with each batch norm folded into the convolution registered before it.

    With the same result, it is a fifth faster.
    That they also run one after the other is tested, not assumed: where the folded network gives another result for
    the example, the network itself is returned.

    Args:
        network: Any network; it is not changed.
        example: An input of it.
    """
    network = network.eval()
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    folded = copy.deepcopy(network)
    for module in list(folded.modules()):
        for (name, child), (next_name, next_child) in pairwise(list(module.named_children())):
            if isinstance(child, nn.Conv2d) and isinstance(next_child, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(child, next_child))
                setattr(module, next_name, getattr(next_child, "act", nn.Identity()))  # timm's hold their activation
    with torch.inference_mode():
        wanted, found = network(example), folded(example)
    return folded if torch.dist(wanted, found) <= _FOLDING_TOLERANCE * wanted.norm() else network


@contextlib.contextmanager
def _exact_inference(device: torch.device) -> Iterator[None]:
    """No gradients; on a GPU, float32 that is float32: cuDNN would shorten convolutions to TF32 and vary its order."""
    with torch.inference_mode():
        if device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield


def _finite(name: str, features: Tensor) -> np.ndarray:
    if not features.isfinite().all():
        raise ExtractorError(f"{name} gives a feature that is infinite or not a number. Check its weights.")
    return features.cpu().numpy()


def _dtype_name(array: np.ndarray | Tensor) -> str:
    return str(array.dtype).removeprefix("torch.")


def _tensor(array: np.ndarray | Tensor) -> Tensor:
    # A copy, for arrays may be read-only views of a file, which torch does not take.
    return torch.from_numpy(np.array(array, order="C")) if isinstance(array, np.ndarray) else array.contiguous()
