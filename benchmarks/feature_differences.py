"""How far features move when one step of their recipe is done another way: the figures of docs/which-vgg.md.

VGG-19 has random weights here (one set for all rows): its figures show which steps matter and how much beside the
distance between two clips, not what the published weights would give.

uv run python benchmarks/feature_differences.py [--clips FOLDER_OF_VIDEOS]
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import librosa
import numpy as np
import torch
import torchaudio
from msgspec.structs import replace
from safetensors.torch import save_file
from torch import Tensor

from ccln.extractors import PRESETS, Preset, load_extractors, preset_with
from ccln.extractors.log_mel import LogMelFrontEnd
from ccln.extractors.vgg19 import bare_vgg19
from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.demo import make_demo_dataset

RATE_HZ, SECONDS, PATCH = 16_000, 10, 96
SEGMENTS = [2, 6]
VISUAL_ROWS = {
    "channels swapped": {"channel_order": "bgr"},
    "opencv-linear resize, not FFmpeg's bilinear": {"interpolation": "opencv-linear"},
    "frames at the start of each 1/16 s, not its middle": {"frame_at": 0.0},
    "bfloat16, not float32": {"precision": "bfloat16"},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, help="a folder of videos; without it, demo clips are rendered")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        clips: Path | None = parser.parse_args().clips
        if clips is None:
            make_demo_dataset(Path(folder) / "demo", seed=1, train=4, validation=1, test=1)
        files = sorted((clips or Path(folder) / "demo").rglob("*.mp4"))[:6]
        print("| log-mel, against ours | largest difference | median difference |\n|---|---|---|")
        waves = [decode_clip(file, FrameRequest(8, 8, 1)).waveform for file in files]
        compare_front_ends("synthetic", np.stack(list(waveforms())))
        compare_front_ends("clips", np.stack(waves))
        show_inputs(files[0])
        compare_maps(files, random_vgg19(Path(folder) / "vgg19.safetensors"))


def waveforms() -> Iterator[np.ndarray]:
    """Tone, chirp, a gliding voice-like tone in syllables, noise, faint noise, clicks: ten seconds each, float32."""
    random = np.random.default_rng(0)
    seconds = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    phase = 2 * np.pi * np.cumsum(140 + 60 * np.sin(2 * np.pi * 0.7 * seconds)) / RATE_HZ
    voice = np.clip(np.sin(2 * np.pi * 3.3 * seconds), 0, None) * sum(np.sin(n * phase) / n for n in range(1, 30))
    for waveform in (
        np.sin(2 * np.pi * 440 * seconds),
        np.sin(2 * np.pi * (50 + 350 * seconds) * seconds),
        voice / np.abs(voice).max(),
        random.uniform(-1, 1, seconds.size),
        1e-3 * random.standard_normal(seconds.size),
        (np.arange(seconds.size) % 5003 == 0).astype(float),
    ):
        yield waveform.astype(np.float32)


def compare_front_ends(name: str, waves: np.ndarray) -> None:
    front_end = LogMelFrontEnd(PRESETS["ave"].audio)
    segments = torch.tensor(waves).view(-1, RATE_HZ)
    ours = front_end(segments)
    rows: dict[str, Callable[[], Tensor]] = {
        "the definition in float64 numpy": lambda: torch.tensor(np.stack([definition(part) for part in segments])),
        "librosa's mel filter (htk=True, norm=None)": lambda: log_mel(segments, mel=librosa_filter()),
        "torchaudio's mel filter (htk, no norm)": lambda: log_mel(segments, mel=torchaudio_filter()),
        "window centred in the FFT (torch.stft, win_length=400)": lambda: log_mel(segments, centred=True),
        "float32 FFT": lambda: log_mel(segments, precision=torch.float32),
        "one 0.96 s patch after another, not one a second": lambda: continuous(torch.tensor(waves)),
    }
    for row, compute in rows.items():
        difference = (compute().double() - ours.double()).abs()
        print(f"| {name}: {row} | {difference.max():.1e} | {difference.median():.1e} |")


def definition(segment: Tensor) -> np.ndarray:
    starts = np.arange(PATCH)[:, None] * 160
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitude = np.abs(np.fft.rfft(segment.double().numpy()[starts + np.arange(400)] * window, 512))
    return np.log(magnitude @ our_filter().numpy() + 0.01)


def our_filter() -> Tensor:
    return LogMelFrontEnd(PRESETS["ave"].audio).mel_matrix


def librosa_filter() -> Tensor:
    bank = librosa.filters.mel(sr=RATE_HZ, n_fft=512, n_mels=64, fmin=125, fmax=7500, htk=True, norm=None)
    return torch.tensor(bank.T).double()


def torchaudio_filter() -> Tensor:
    return torchaudio.functional.melscale_fbanks(257, 125, 7500, 64, RATE_HZ, norm=None, mel_scale="htk").double()


def log_mel(
    waves: Tensor,
    mel: Tensor | None = None,
    centred: bool = False,
    precision: torch.dtype = torch.float64,
    frames: int = PATCH,
) -> Tensor:
    """Return (wave, frame, band) as our front end does it, but for what is asked for."""
    window = torch.hann_window(400, dtype=precision)
    if not centred:
        window = torch.nn.functional.pad(window, (0, 112))
    padded = torch.nn.functional.pad(waves.to(precision), (0, 112))
    spectrum = torch.stft(padded, 512, 160, len(window), window, center=False, return_complex=True)
    magnitude = spectrum.abs().transpose(1, 2)[:, :frames]
    return torch.log(magnitude @ (our_filter() if mel is None else mel).to(precision) + 0.01)


def continuous(waves: Tensor) -> Tensor:
    return log_mel(waves, frames=SECONDS * PATCH).unflatten(1, (SECONDS, PATCH)).flatten(0, 1)


def show_inputs(file: Path) -> None:
    print("\n| the same frame as the network gets it | first channel | least | mean | most | deviation |")
    print("|---|---|---|---|---|---|")
    pixels = decode_clip(file, FrameRequest(224, 224, 1)).frames[SEGMENTS[0], 0] / 255
    for name in ("ave", "ave-legacy"):
        choice = PRESETS[name].visual
        values = (pixels - choice.mean) / choice.std
        least, mean, most, deviation = (
            f"{part:.2f}" for part in (values.min(), values.mean(), values.max(), values.std())
        )
        print(f"| `{name}` | {choice.channel_order[0]} | {least} | {mean} | {most} | {deviation} |")


def random_vgg19(file: Path) -> Path:
    network = bare_vgg19()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        else:
            torch.nn.init.normal_(parameter, std=0.1)
    save_file(network.state_dict(), file)
    return file


def compare_maps(files: list[Path], weights: Path) -> None:
    base = preset_with(PRESETS["ave"], audio="log-mel")
    expected = maps(base, files, weights)
    print("\n| pool5 maps, against preset `ave` | median relative distance | largest |\n|---|---|---|")
    for row, change in VISUAL_ROWS.items():
        on_preset = {name: value for name, value in change.items() if name == "frame_at"}
        on_visual = {name: value for name, value in change.items() if name != "frame_at"}
        other = maps(replace(base, visual=replace(base.visual, **on_visual), **on_preset), files, weights)
        show(row, [distance(a, b) for a, b in zip(other, expected, strict=True)])
    show("another second of the same clip", [distance(*pair) for pair in expected.reshape(-1, 2, *expected.shape[1:])])
    show("another clip", [distance(a, b) for a, b in combinations(expected[:: len(SEGMENTS)], 2)])


def maps(preset: Preset, files: list[Path], weights: Path) -> np.ndarray:
    """Return (clip x segment, height, width, channel)."""
    choice = preset.visual
    request = FrameRequest(
        choice.frame_height, choice.frame_width, preset.frames_per_segment, choice.interpolation, preset.frame_at
    )
    extractors = load_extractors(preset, visual_weights=weights)
    return np.concatenate([extractors.visual(decode_clip(file, request).frames[SEGMENTS]) for file in files])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def show(row: str, distances: list[float]) -> None:
    print(f"| {row} | {np.median(distances):.1%} | {max(distances):.1%} |", flush=True)


if __name__ == "__main__":
    main()
