"""The ccln-extract command: turn videos into cached features, or only look at them."""

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import OnePath, Paths, ProgressBar, imported_for_good, report, run_function
from ccln.pipeline.data.shards import Shard
from ccln.pipeline.visible import visible

if TYPE_CHECKING:
    from ccln.pipeline.extract.run import ExtractionSummary


def _shard(named: str | None) -> Shard | None:
    return None if named is None else Shard.named(named)


def _check_shard(_: object, named: str | None) -> None:
    _shard(named)


def extract(
    videos: Paths,
    *,
    media_root: OnePath | None = None,
    cache: OnePath = defaults.CACHE,
    preset: str = "light",
    visual: str | None = None,
    audio: str | None = None,
    visual_weights: OnePath | None = None,
    audio_weights: OnePath | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    decoder: Literal["pyav", "decord"] = "pyav",
    audio_track: str | int | None = None,
    on_missing: Literal["error", "zeros", "skip"] = "error",
    on_damage: Literal["error", "conceal"] = "error",
    device: str = "auto",
    shard: Annotated[str | None, Parameter(validator=_check_shard)] = None,
    workers: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    timeout: Annotated[float, Parameter(validator=validators.Number(gt=0))] = defaults.TIMEOUT_SECONDS,
    engine: Literal["local", "ray"] = "local",
    address: str = "local",
    progress: Annotated[Callable[[int, int], None] | None, Parameter(parse=False)] = None,
) -> "ExtractionSummary":
    """Turn videos into cached features; what is cached already is not done again.

    Args:
        videos: Video files, and folders and URLs (s3://bucket/videos) that are searched recursively (an AVE folder is
            one), of which the first ten seconds are extracted, and data sets as CSV files, of which all that they use
            are.
        media_root: Folder that holds the videos of CSV data sets, if they are not beside them.
        cache: Folder where the features go; made if it does not exist. Or a URL, such as s3://bucket/features: they go
            there a thousand clips at a time, and what was killed goes on on the same machine.
        preset: Pair of extractors: light (EfficientNet-Lite0 at 4 frames a second, YAMNet; needs no download),
            light-log-mel (with log-mel in YAMNet's place), ave (VGG-19 at 16 frames a second, VGGish), ave-legacy
            (the recipe of AVE's published features: Keras's VGG-19), clip-clap (CLIP ViT-B/32 at 4 frames a second,
            CLAP) or pe-av (PE-AV large for both; these two need pip install 'ccln[hub]').
        visual: Another visual extractor than the preset's: efficientnet-lite0, vgg19, vgg19-keras, timm:NAME for any
            timm model, hf:OWNER/NAME for a CLIP, SigLIP or DINO model of the Hugging Face Hub, or PACKAGE:NAME for one
            of an installed package.
        audio: Another audio extractor than the preset's: yamnet, log-mel, vggish, cnn14 (of PANNs), torchaudio:NAME for
            any speech representation model of torchaudio.pipelines, hf:OWNER/NAME for a CLAP, AST or PE-A model of the
            Hugging Face Hub, or PACKAGE:NAME for one of an installed package.
        visual_weights: Local file with the visual network's weights; of hf:OWNER/NAME, the model's folder.
        audio_weights: Local file with the audio network's weights; of hf:OWNER/NAME, the model's folder.
        precision: Arithmetic of the visual network. auto is bfloat16 where the processor or GPU has it (up to twice as
            fast), else float32; bfloat16 on a processor without it is emulated, which takes about 20 times as long.
            Features of the two are kept apart, but networks read either.
        decoder: What decodes the frames; decord is there for comparison with features that it made.
        audio_track: Which audio track of files that have several: its number, counted from 1 as --check lists them; its
            language as the file states it, such as eng; or mix, the mean of all that belong to the video. If not given,
            the one that a player would take. Features of different tracks are kept apart; networks are trained on those
            of one, and localize in the same.
        on_missing: A file without video, or without audio: error makes it a failure, zeros puts black frames or silence
            in its place (which the cache records), skip leaves it out.
        on_damage: A file of which a decoder refuses parts: error makes it a failure, conceal keeps the frame before and
            is silent in their place (the cache records how much), up to 2 seconds of a stream in a clip of ten.
        shard: Which share of the files to take, I/N: of N processes with the same arguments, on any machines, number I,
            from 1 to N. A file belongs to one by the hash of its path relative to the folder given; a scheduler's N
            tasks share the work so, and may share the cache.
        device: auto, cpu, cuda, cuda:1, ...
        workers: Clips in work at the same time. As many as there are processors if not given.
        timeout: Seconds that ten seconds of video may take to decode; a file that takes longer fails, after a second
            try.
        engine: local for this machine, ray for all machines of a Ray cluster (pip install 'ccln[ray]'), which must see
            videos, cache and weights under the same paths or URLs; a worker takes a GPU, or a processor where there are
            none.
        address: Of the Ray cluster: auto on one of its machines, or such as 10.0.0.1:6379; local is one here.
        progress: Called with files done and files in all, before the first and after each.

    Raises:
        ExtractorError, WeightsError: The extractors cannot be had.
        FileNotFoundError: A path does not exist, or no video is there.
        DatasetError: A CSV file is no data set.
        CacheError: The cache cannot be written.
        StorageError: A URL cannot be reached.
        ClusterError: There is no Ray cluster.
        ValueError: `workers` is less than 1, or there is no such shard.
    """
    from ccln.pipeline.data import find_clips

    files = find_clips(videos, media_root, _shard(shard))  # before seconds of imports
    with imported_for_good():
        from ccln.cache import open_cache
        from ccln.extractors import load_extractors, pick_device, pick_precision, preset_named, preset_with
        from ccln.pipeline.extract.run import extract_features, extract_on_cluster

    precision_made = pick_precision(precision, pick_device(device))
    choices = preset_with(
        preset_named(preset),
        visual=visual,
        audio=audio,
        precision=precision_made,
        decoder=decoder,
        audio_track=audio_track,
        visual_weights=visual_weights,
        audio_weights=audio_weights,
    )
    load = partial(load_extractors, choices, device=device, visual_weights=visual_weights, audio_weights=audio_weights)
    store = open_cache(cache)
    if engine == "ray":
        return extract_on_cluster(
            files,
            load,
            store,
            address=address,
            on_missing=on_missing,
            on_damage=on_damage,
            timeout_seconds=timeout,
            progress=progress,
        )
    return extract_features(
        files,
        load(),
        store,
        on_missing=on_missing,
        on_damage=on_damage,
        workers=workers,
        timeout_seconds=timeout,
        progress=progress,
    )


def extract_command() -> None:
    """Entry point of ccln-extract."""
    run_function(
        "ccln-extract", extract, _extract, stopped="Finished clips are kept: the same command goes on from there."
    )


def _extract(
    call: "partial[ExtractionSummary]",
    *,
    check: Annotated[
        bool,
        Parameter(
            help="Only look: one line a file on its streams, rates, rotation, silence, and what would fail; all tracks "
            "where there are several, and which are taken. No network runs."
        ),
    ] = False,
) -> int:
    if check:
        names = ("videos", "media_root", "on_missing", "on_damage", "audio_track", "shard", "timeout")
        return _check(**{name: call.keywords[name] for name in names})
    from ccln.pipeline.decode.damage import lost_text

    with ProgressBar("extract", "clip") as bar:
        summary = call(progress=bar)
    rate = f", {summary.done / summary.seconds:.2g} clips/s" if summary.done else ""
    skipped = f"{len(summary.skipped)} skipped, " if summary.skipped else ""
    counts = f"{summary.done} done, {summary.cached} cached, {skipped}{len(summary.failed)} failed"
    print(f"{counts} in {summary.seconds:.1f} s{rate}")
    if summary.done:
        decoding = summary.decode_seconds / (summary.decode_seconds + summary.network_seconds)
        print(f"a clip's time: {100 * decoding:.0f} % decoding and scaling, {100 * (1 - decoding):.0f} % networks")
    print(f"features in {call.keywords['cache']}, specification {summary.specification[:12]} ({summary.precision})")
    if summary.checked:
        print(
            f"{summary.checked} cached clips were decoded by rules of an earlier release: {summary.redone} made again, "
            f"{summary.checked - summary.redone} as before"
        )
    for damaged in summary.damaged:
        print(visible(f"damaged: {damaged.path}: {lost_text(damaged.lost_seconds)}"), file=sys.stderr)
    for left_out in summary.skipped:
        print(visible(f"skipped: {left_out.reason}"), file=sys.stderr)
    return report(summary.failed)


def _check(
    videos: Paths,
    media_root: OnePath | None,
    on_missing: str,
    on_damage: str,
    audio_track: str | None,
    shard: str | None,
    timeout: float,
) -> int:
    from ccln.pipeline.data import all_here, find_clips
    from ccln.pipeline.decode.inspect import ClipReport, inspect_clip, report_table
    from ccln.pipeline.decode.processes import DecoderDiedError, Decoders
    from ccln.pipeline.segments import CLIP_SECONDS

    files = all_here(find_clips(videos, media_root, _shard(shard)))
    track = None
    if audio_track is not None:
        from ccln.extractors import preset_named, preset_with  # imports torch, which no other check needs

        track = preset_with(preset_named("light"), audio_track=audio_track).audio_track  # checks how it is written
    reports = []
    # Of which a report is one answer.
    most_clips = max((max(starts) // CLIP_SECONDS + 1 for starts in files.values()), default=1)
    with ProgressBar("check", "clip") as bar, Decoders(timeout * most_clips) as decoders:
        for file, starts in files.items():
            try:
                looked_at = decoders.once(
                    inspect_clip,
                    file,
                    starts,
                    missing_fails=on_missing == "error",
                    damage_fails=on_damage == "error",
                    audio_track=track,
                )
            except DecoderDiedError as error:
                looked_at = ClipReport(file, problems=(str(error),))
            reports.append(looked_at)
            bar(len(reports), len(files))
    print(report_table(reports))
    return 1 if any(report.problems for report in reports) else 0
