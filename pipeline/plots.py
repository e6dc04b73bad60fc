"""Pictures: a run's curves, and a clip's timeline."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ccln.pipeline.decoding.clip import DecodedClip
from ccln.pipeline.decoding.sound import SAMPLE_RATE_HZ
from ccln.pipeline.scoring.assessment import Column
from ccln.pipeline.segments import CLIP_SECONDS, SEGMENT_COUNT

if TYPE_CHECKING:
    from ccln.pipeline.fitting.loop import Epoch
    from ccln.pipeline.localization import LocatedClip

_INK, _BLUE, _ORANGE, _GREEN = "#222222", "#0072b2", "#d55e00", "#009e73"  # told apart by the colour-blind, too
_LETTERS_PER_SECOND = 11  # of bold text, at this width


def plot_curves(history: Sequence["Epoch"], best_epoch: int, columns: Sequence[Column], path: Path) -> None:
    """Losses and validation scores over the epochs, the selected epoch marked; written atomically as PNG.

    Args:
        history: of the run.
        best_epoch: from 1.
        columns: of the task's scores.
        path: of the picture.
    """
    epochs = np.arange(1, len(history) + 1)
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in history[-1].losses:
        values = [epoch.losses[name] for epoch in history]
        losses.plot(epochs, values, label=name, lw=2.2 if name == "total" else 1.2)
    losses.set(title="Training losses", xlabel="epoch", yscale="log")
    shares = [column for column in columns if column.over_seeds and column.unit == "%"]
    for column, (color, dash) in zip(shares, ((_BLUE, "-"), (_ORANGE, "--"), (_GREEN, "-.")), strict=False):
        found = [epoch.validation[column.name] for epoch in history]
        values = [math.nan if value is None else 100 * value for value in found]
        scores.plot(epochs, values, label=column.heading, color=color, ls=dash)
    scores.set(title="Validation", xlabel="epoch", ylabel="%", ylim=(0, 101))
    for axes in (losses, scores):
        axes.axvline(best_epoch, color="#999999", lw=1, ls=":", label=f"selected: epoch {best_epoch}")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    _save(figure, path)


def plot_timeline(located: "LocatedClip", decoded: DecodedClip, path: Path) -> None:
    """One picture of a clip, one time axis: frames with attention, mel spectrogram, tracks, events; a PNG.

    Reads at 1200 pixels and without colour.
    """
    figure = Figure(figsize=(12, 5.6), dpi=100, layout="constrained")
    # The first row's height gives its ten pictures about the 4:3 that cameras have.
    rows = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": [1.0, 1.4, 1.6, 0.8]})
    figure.suptitle(_title(located), x=0.01, ha="left", fontsize=13, fontweight="bold")
    _draw_frames(rows[0], located, decoded)
    _draw_spectrogram(rows[1], located, decoded)
    _draw_tracks(rows[2], located)
    _draw_events(rows[3], located)
    for axes in rows:
        axes.set_xlim(0, CLIP_SECONDS)
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(False)
    rows[3].set_xlabel("seconds")
    rows[3].set_xticks(range(CLIP_SECONDS + 1))
    _save(figure, path)


def _title(located: "LocatedClip") -> str:
    found = ", ".join(f"{e.label} {e.start_seconds:.1f} – {e.end_seconds:.1f} s" for e in located.events)
    # Names are shown as they are: matplotlib would read a pair of dollar signs as mathematics.
    return f"{located.path.name}:  {found or 'no event both seen and heard'}".replace("$", r"\$")


def _draw_frames(axes: Axes, located: "LocatedClip", decoded: DecodedClip) -> None:
    """The middle frame of each segment; the attention lights up what it looks at and dims the rest."""
    middle = decoded.frames.shape[1] // 2
    for segment in range(SEGMENT_COUNT):
        picture = decoded.frames[segment, middle].astype(np.float32) / 255
        if segment < len(located.attention):
            picture = picture * _light(located.attention[segment], picture.shape[:2])
        else:
            picture = np.full_like(picture, 0.9)  # behind the end of the file
        axes.imshow(picture, extent=(segment + 0.02, segment + 0.98, 0, 1), aspect="auto", interpolation="bilinear")
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("picture,\nattention")
    axes.spines["left"].set_visible(False)


def _light(attention: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Brightness (height, width, 1) from 0.5 to 1.0: full at the most attended region, from a map (height, width)."""
    from PIL import Image

    relative = Image.fromarray((attention / attention.max()).astype(np.float32))
    smooth = np.asarray(relative.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    return (0.5 + 0.5 * smooth.clip(0, 1))[..., None]


def _draw_spectrogram(axes: Axes, located: "LocatedClip", decoded: DecodedClip) -> None:
    import librosa

    power = librosa.feature.melspectrogram(
        y=decoded.waveform, sr=SAMPLE_RATE_HZ, n_fft=1024, hop_length=160, n_mels=64, fmax=SAMPLE_RATE_HZ / 2
    )
    power = power[:, : round(located.duration_seconds * SAMPLE_RATE_HZ / 160)]
    decibels = librosa.power_to_db(power, ref=np.max, top_db=70)
    axes.imshow(decibels, extent=(0, located.duration_seconds, 0, 64), aspect="auto", origin="lower", cmap="magma")
    ticks_hz = (200, 1000, 4000)
    mel = librosa.hz_to_mel(np.array([*ticks_hz, SAMPLE_RATE_HZ / 2]))
    axes.set_yticks(64 * mel[:-1] / mel[-1], [f"{hz / 1000:g}k" for hz in ticks_hz])
    axes.set_ylabel("sound,\nmel, Hz")


def _draw_tracks(axes: Axes, located: "LocatedClip") -> None:
    styles = {"seen": (_BLUE, ":", 2.2), "heard": (_ORANGE, "--", 1.8), "both": (_INK, "-", 2.6)}
    for name, (color, dash, width) in styles.items():
        values = getattr(located, name)
        edges = np.minimum(np.arange(len(values) + 1), located.duration_seconds)
        axes.stairs(values, edges, baseline=None, color=color, ls=dash, lw=width, label=name)
    axes.axhline(0.5, color="#bbbbbb", lw=0.8)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel(f"evidence for\n{_short(located.label)}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _draw_events(axes: Axes, located: "LocatedClip") -> None:
    for event in located.events:
        length = event.end_seconds - event.start_seconds
        axes.barh(0.5, length, left=event.start_seconds, height=0.7, color=_GREEN, edgecolor=_INK, lw=1.2)
        text = f"{_short(event.label)}  {event.confidence:.2f}"
        if len(text) > _LETTERS_PER_SECOND * length:
            text = f"{event.confidence:.2f}"  # the class stands in the title, too
        axes.text(event.start_seconds + length / 2, 0.5, text, ha="center", va="center", color="white", weight="bold")
    if not located.events:
        axes.text(CLIP_SECONDS / 2, 0.5, "no event is both seen and heard", ha="center", va="center", color="#777777")
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("event")


def _short(label: str) -> str:
    return label.split(",")[0].replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    FigureCanvasAgg(figure).print_png(str(partial))
    partial.replace(path)
