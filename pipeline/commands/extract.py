"""The ccln-extract command: turn videos into cached features, or only look at them."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import ProgressBar, Videos, report, run_single


def extract_command() -> None:
    """Entry point of ccln-extract."""
    about = "Turn videos into cached features; what is cached already is not done again."
    kept = "Finished clips are kept: the same command goes on from there."
    run_single("ccln-extract", about, _extract, kept)


def _extract(
    videos: Videos,
    /,
    *,
    cache: Path = defaults.CACHE,
    preset: str = "light",
    visual: str | None = None,
    audio: str | None = None,
    visual_weights: Path | None = None,
    audio_weights: Path | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    decoder: Literal["pyav", "decord"] = "pyav",
    on_missing: Literal["error", "zeros", "skip"] = "error",
    check: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    workers: int | None = None,
) -> int:
    """Run ccln-extract.

    Parameters
    ----------
    videos
        Video files, folders that are searched through and through (an AVE folder is one), and data sets as CSV files.
    cache
        Folder where the features go.
    preset
        Pair of extractors: light (EfficientNet-Lite0 at 4 frames a second, log-mel; needs no download), ave (VGG-19
        at 16 frames a second, VGGish) or ave-legacy (the recipe of AVE's published features: Keras's VGG-19).
    visual
        Another visual extractor than the preset's: efficientnet-lite0, vgg19, vgg19-keras, or timm:NAME for any timm
        model.
    audio
        Another audio extractor than the preset's: log-mel, vggish, or torchaudio:NAME for any speech representation
        model of torchaudio.pipelines.
    visual_weights
        Local file with the visual network's weights.
    audio_weights
        Local file with the audio network's weights.
    precision
        Arithmetic of the visual network. auto is bfloat16 where the processor or GPU has it (up to twice as fast), else
        float32. Features of the two are kept apart: name one where machines of both kinds share a cache.
    decoder
        What decodes the frames; decord is an extra, for comparison with features that it made.
    on_missing
        A file without picture, or without sound: error makes it a failure, zeros puts black frames or silence in its
        place (which the cache remembers), skip leaves it out.
    check
        Only look: one line a file on its streams, rates, rotation, silence, and what would fail. No network runs.
    device
        auto, cpu, cuda, cuda:1, ...
    workers
        Clips in work at the same time. As many as there are processors if not given.
    """
    if check:
        return _check(videos, on_missing)
    from ccln.pipeline.extract import extract

    with ProgressBar("extract", "clip") as bar:
        summary = extract(
            videos,
            cache=cache,
            preset=preset,
            visual=visual,
            audio=audio,
            visual_weights=visual_weights,
            audio_weights=audio_weights,
            precision=precision,
            decoder=decoder,
            on_missing=on_missing,
            device=device,
            workers=workers,
            progress=bar,
        )
    rate = f", {summary.done / summary.seconds:.2g} clips/s" if summary.done else ""
    skipped = f"{len(summary.skipped)} skipped, " if summary.skipped else ""
    counts = f"{summary.done} done, {summary.cached} cached, {skipped}{len(summary.failed)} failed"
    print(f"{counts} in {summary.seconds:.1f} s{rate}")
    if summary.done:
        decoding = summary.decode_seconds / (summary.decode_seconds + summary.network_seconds)
        print(f"a clip's time: {100 * decoding:.0f} % decoding and scaling, {100 * (1 - decoding):.0f} % networks")
    print(f"features in {cache}, specification {summary.specification[:12]} ({summary.precision})")
    for left_out in summary.skipped:
        print(f"skipped: {left_out.reason}", file=sys.stderr)
    return report(summary.failed)


def _check(videos: list[Path], on_missing: str) -> int:
    from ccln.pipeline.data.videos import find_videos
    from ccln.pipeline.decode.inspect import inspect_clip, report_table

    files = find_videos(videos)
    reports = []
    with ProgressBar("check", "clip") as bar:
        for file in files:
            reports.append(inspect_clip(file, missing_fails=on_missing == "error"))
            bar(len(reports), len(files))
    print(report_table(reports))
    return 1 if any(report.problems for report in reports) else 0
