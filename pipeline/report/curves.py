"""Pictures of a training run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ccln.pipeline.metrics.evaluation import Column

if TYPE_CHECKING:
    from ccln.pipeline.train.loop import Epoch

_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"  # told apart by the colour-blind, too


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


def _save(figure: Figure, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    FigureCanvasAgg(figure).print_png(str(partial))
    partial.replace(path)
