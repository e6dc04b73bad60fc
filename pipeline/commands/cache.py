"""The ccln-cache command: look after cached features, and exchange them with the files that data sets publish.

Functions that return a number return the exit code.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ccln.pipeline import defaults
from ccln.pipeline.commands.console import OnePath, ProgressBar, command_of, counted, new_app, run
from ccln.pipeline.visible import visible

if TYPE_CHECKING:
    from ccln.cache import FeatureCache, SpecificationSummary
    from ccln.cache.keys import DamagedFileError
    from ccln.pipeline.exchange import ExportSummary, ImportSummary
    from ccln.pipeline.webdataset import WebDatasetSummary

_SHOWN_DIGITS = 12
_SEVERAL = Parameter(consume_multiple=True, show_default=False)

Progress = Annotated[Callable[[int, int], None] | None, Parameter(parse=False)]
"""Called with the number of clips done and of all clips."""


def cache_command() -> None:
    """Entry point of ccln-cache."""
    about = "Look after cached features, and exchange them with the files that AVE and UnAV-100 publish."
    app = new_app("ccln-cache", about)
    for command in (info, verify, repair, prune, pack):
        app.command(command)
    app.command(command_of(import_ave, _imported), name="import-ave")
    app.command(command_of(import_unav, _imported), name="import-unav")
    app.command(command_of(export_ave, _export_ave), name="export-ave")
    app.command(command_of(export_webdataset, _export_webdataset), name="export-webdataset")
    run(app, "Nothing is half done: the same command can be given again.")


def info(*, cache: OnePath = defaults.CACHE) -> int:
    """Show what a cache holds, and what made it.

    Args:
        cache: Folder or URL of the cache.
    """
    from ccln.cache import describe, open_cache

    with ProgressBar("read", "file") as bar:
        summaries = describe(open_cache(cache), progress=bar)
    if not summaries:
        print(f"{cache} holds no features")
    for number, summary in enumerate(summaries):
        print(*([""] if number else []), *_described(summary), sep="\n")
    return 0


def verify(*, cache: OnePath = defaults.CACHE, sample: str = "100%") -> int:
    """Read every byte and compare its checksum, and the index with the files; exit with 1 if something is damaged.

    Args:
        cache: Folder of the cache, or its URL: all is fetched then, and deleted again.
        sample: Look at a part of the clips only, such as 1%, drawn anew each time.
    """
    from ccln.cache import RemoteCache, maintenance, open_cache

    part, store = _part(sample), open_cache(cache)
    check = store.verify if isinstance(store, RemoteCache) else partial(maintenance.verify, store)
    with ProgressBar("verify", "file") as bar:
        found = check(progress=bar, sample=part)
    of = f" of a sample of {sample}" if part < 1 else ""
    print(f"{counted(found.intact, 'clip')}{of} whole, {len(found.damaged)} damaged")
    return _report(found.damaged, f"ccln-cache repair --cache {cache} moves what is damaged out of the way.")


def repair(*, cache: OnePath = defaults.CACHE) -> int:
    """Move damaged files out of the way, keep what is whole in them, and make the index anew from the files.

    Damaged files go to the folder quarantine in the cache; from packed ones, clips that are whole are kept. Files that
    runs left half written are deleted.

    Args:
        cache: Folder or URL of the cache. No other run should be writing to it.
    """
    from ccln.cache import RemoteCache, maintenance, open_cache

    store = open_cache(cache)
    mend = store.repair if isinstance(store, RemoteCache) else partial(maintenance.repair, store)
    with ProgressBar("repair", "file") as bar:
        done = mend(progress=bar)
    print(f"{counted(done.indexed, 'clip')} in the new index, {counted(done.swept, 'half-written file')} deleted")
    moved = f"They are in {cache}/quarantine. To make them again, run ccln-extract or the import again."
    return _report(done.damaged, moved)


def prune(
    *,
    cache: OnePath = defaults.CACHE,
    keep: Annotated[tuple[str, ...], _SEVERAL] = (),
    runs: Annotated[tuple[Path, ...], _SEVERAL] = (),
    delete: bool = False,
) -> int:
    """Drop the features of all specifications but those named; without --delete, only list what would go.

    Args:
        cache: Folder of the cache.
        keep: First digits of the specifications to keep, as ccln-cache info shows them.
        runs: Folders of runs, or single runs: keep what their checkpoints can read, too, in whichever arithmetic.
        delete: Really delete.
    """
    from ccln.cache import maintenance, open_cache, require_folder

    store = open_cache(cache)
    require_folder(store)
    digests = _kept(store, keep, runs)
    with ProgressBar("prune", "file") as bar:
        gone = maintenance.prune(store, digests, delete=delete, progress=bar)
    for digest, clips in sorted(gone.by_specification.items()):
        print(f"{digest[:_SHOWN_DIGITS]}  {counted(clips, 'clip')}")
    if delete:
        print(f"deleted: {counted(gone.clips, 'clip')}, {_size(gone.bytes)}")
    else:
        print(
            f"would go: {counted(gone.clips, 'clip')}, {_size(gone.bytes)}"
            + ("; --delete does it" if gone.clips else "")
        )
    return 0


def pack(*, cache: OnePath = defaults.CACHE, specification: str = "", clips_per_shard: int = 1000) -> int:
    """Move clips into shards, which are read the same way, so that millions are not as many files.

    Args:
        cache: Folder of the cache.
        specification: First digits of the specification whose clips to pack; all if not given.
        clips_per_shard: The most clips in one file.
    """
    from ccln.cache import maintenance, open_cache, require_folder

    store = open_cache(cache)
    require_folder(store)
    with ProgressBar("pack", "clip") as bar:
        packed = maintenance.pack(store, specification, clips_per_shard=clips_per_shard, progress=bar)
    print(f"{counted(packed.clips, 'clip')} packed into {counted(packed.shards, 'new shard')}")
    for path in packed.left:
        print(visible(f"left as it is: {path}: damaged, or a shard has it with other content"), file=sys.stderr)
    return 1 if packed.left else 0


def import_ave(folder: OnePath, /, *, cache: OnePath = defaults.CACHE, progress: Progress = None) -> "ImportSummary":
    """Take published AVE features into a cache; ccln-train then needs no video.

    What is there already is not done again: an import that was stopped goes on. Label and order files in the folder
    are compared with the annotations.

    Args:
        folder: Annotations.txt, trainSet.txt, valSet.txt, testSet.txt, visual_feature.h5 and audio_feature.h5; with
            them, if there, visual_feature_noisy.h5 and audio_feature_noisy.h5, and labels and orders to compare.
        cache: Folder where the features go, made if it does not exist; or a URL.
        progress: Called before the first clip, and after each.

    Returns:
        Counts of clips, the digest of the features' specification, and notes on what was not imported.

    Raises:
        DatasetError: If a file is missing, has not a row for each row of Annotations.txt, or contradicts it.
        CacheError: If a file is malformed, holds a number that is none or too large for half precision; or if the
            cache cannot be written, or holds other features of these rows.
    """
    from ccln.cache import open_cache
    from ccln.pipeline.exchange import import_features

    return import_features(Path(folder), open_cache(cache), progress)


def import_unav(
    annotations: OnePath,
    features: OnePath,
    /,
    *,
    cache: OnePath = defaults.CACHE,
    out: OnePath | None = None,
    overwrite: bool = False,
    progress: Progress = None,
) -> "ImportSummary":
    """Take UnAV-100's published features into a cache, and write its annotations as a CSV file; no video is needed.

    A second's features are the mean of the rows whose centres lie in it: row i is of 0.96 s from i · 0.32 s on. A video
    ends where its shortest file does, and videos without all three files are left out. What is in the cache already is
    not done again: an import that was stopped goes on.

    Args:
        annotations: unav100_annotations.json.
        features: Folder of ID_rgb.npy, ID_flow.npy and ID_vggish.npy, as published in av_features.
        cache: Folder where the features go, made if it does not exist; or a URL.
        out: The CSV file; that of the annotations' name beside them if it is not given.
        overwrite: Replace the CSV file if it is there.
        progress: Called with the number of videos done and of all, before the first and after each.

    Returns:
        Counts of clips, the digest of the features' specification, notes on what was not imported, and the CSV file.

    Raises:
        DatasetError: If the annotations are not as published, an id is no name of a file, no video has its features, or
            the CSV file is there.
        CacheError: If a feature file is malformed, has other channels, or holds a number that is none or too large for
            half precision; or if the cache cannot be written, or holds other features of these videos.
    """
    from ccln.cache import open_cache
    from ccln.pipeline.unav import import_features

    annotations = Path(annotations)
    out = annotations.with_suffix(".csv") if out is None else Path(out)
    store = open_cache(cache)
    return import_features(annotations, Path(features), store, out, overwrite=overwrite, progress=progress)


def export_ave(
    folder: OnePath,
    /,
    *,
    data: OnePath | None = None,
    cache: OnePath = defaults.CACHE,
    specification: str | None = None,
    pad: bool = False,
    progress: Progress = None,
) -> "ExportSummary":
    """Write features, labels and splits of a data set as AVE publishes its own, for the peers' code.

    Row i of every file is row i of the annotations (of a CSV: the i-th clip). Feature files hold float64, label files
    float32, order files int64. visual_feature_vec.h5 is the mean over height and width. The splits for cross-modality
    localization (*_order_match.h5) are the data set's own where its folder has all three, else its other splits
    without the validation and test rows whose event fills the clip. Annotations.txt and the split files are copied; a
    CSV has none. The background-only clips that backgroundSet.txt names, or that were imported, become the *_noisy.h5
    files. The layout has no place for the length of padded clips and for missing streams.

    Args:
        folder: Where they go; must be empty or not exist yet.
        data: Data set: AVE folder or CSV file. If not given, the AVE folder here.
        cache: Folder or URL of the features.
        specification: First digits of the specification to export, where the cache holds several for this data.
        pad: Fill up with zeros to the shapes that are built into the peers' code: 512 visual channels, 128 audio
            channels, 28 classes.
        progress: Called before the first clip, and after each.

    Returns:
        Counts of clips, the digest of the features' specification, and notes on what is lacking.

    Raises:
        DatasetError: If `folder` holds something, a row has no features or no place, or `pad` cannot make it fit.
        CacheError: If the cache is damaged, or a file cannot be written.
    """
    from ccln.cache import open_cache
    from ccln.pipeline.data import read_dataset
    from ccln.pipeline.exchange import export_features

    dataset = read_dataset(defaults.find_data() if data is None else data)
    return export_features(Path(folder), dataset, open_cache(cache), specification, pad=pad, progress=progress)


def export_webdataset(
    folder: OnePath,
    /,
    *,
    cache: OnePath = defaults.CACHE,
    specification: str | None = None,
    clips_per_tar: int = 1000,
    progress: Progress = None,
) -> "WebDatasetSummary":
    """Write cached features as tar files that the webdataset package reads, for other trainers.

    Of each clip the tar files features-000000.tar, ... hold KEY.visual.npy, float16 (segment, height, width, channel),
    KEY.audio.npy, float32 (segment, channel), and KEY.json: path and SHA-256 of the source, duration in seconds, what
    is missing and lost. The same features make the same files.

    Args:
        folder: Where they go; must be empty or not exist yet.
        cache: Folder or URL of the features.
        specification: First digits of the specification to export, where the cache holds several.
        clips_per_tar: The most clips in one file.
        progress: Called before each clip, and after the last.

    Returns:
        Counts, and the digest of the features' specification.

    Raises:
        CacheError: If `folder` holds something, the cache is damaged, or not one specification begins so.
        StorageError: If the cache is at a URL that cannot be reached.
    """
    from ccln.cache import open_cache
    from ccln.pipeline.webdataset import export_features

    return export_features(
        Path(folder), open_cache(cache), specification, clips_per_tar=clips_per_tar, progress=progress
    )


def _export_webdataset(call: "partial[WebDatasetSummary]") -> int:
    with ProgressBar("export", "clip") as bar:
        summary = call(progress=bar)
    digest = summary.specification[:_SHOWN_DIGITS]
    held = f"{counted(summary.clips, 'clip')} of specification {digest}"
    print(f"{held} in {counted(summary.tars, 'file')} in {summary.folder}")
    return 0


def _imported(call: "partial[ImportSummary]") -> int:
    with ProgressBar("import", "item") as bar:
        summary = call(progress=bar)
    background = f", {summary.background} of them background only" if summary.background else ""
    print(f"{counted(summary.done, 'clip')} imported, {summary.cached} there already{background}")
    if summary.compared:
        print(f"agree with the text files: {', '.join(summary.compared)}")
    for note in summary.notes:
        print(visible(f"note: {note}"))
    print(f"features in {summary.cache}, specification {summary.specification[:_SHOWN_DIGITS]}")
    print(f"data set {summary.data}")
    return 0


def _export_ave(call: "partial[ExportSummary]") -> int:
    with ProgressBar("export", "clip") as bar:
        summary = call(progress=bar)
    background = f" and {counted(summary.background, 'background-only clip')}" if summary.background else ""
    digest = summary.specification[:_SHOWN_DIGITS]
    print(f"{counted(summary.clips, 'clip')}{background} of specification {digest} in {summary.folder}")
    for note in summary.notes:
        print(visible(f"note: {note}"))
    return 0


def _kept(cache: "FeatureCache", keep: Collection[str], runs: Collection[Path]) -> set[str]:
    """Digests of the specifications to keep."""
    from ccln.cache import CacheError
    from ccln.extractors import without_arithmetic
    from ccln.model import load_checkpoint

    if not keep and not runs:
        raise CacheError("nothing is named that should be kept. Name it: --keep DIGEST, or --runs FOLDER")
    specifications = cache.specifications()
    known, digests = sorted(specifications), set()
    for start in keep:
        named = [digest for digest in known if digest.startswith(start)]
        if len(named) != 1:
            listed = ", ".join(digest[:_SHOWN_DIGITS] for digest in known)
            raise CacheError(
                f"--keep {start}: {len(named) or 'none'} of the cache's specifications begin so; they are {listed}"
            )
        digests.update(named)
    for folder in runs:
        found = defaults.finished_runs(folder)
        if (folder / "config.json").exists():  # a run itself
            found.append(folder)
        if not found:
            raise CacheError(f"--runs {folder}: no run in it. Name the folder that ccln-train writes to")
        trained_on = [without_arithmetic(load_checkpoint(run).specification) for run in found]
        digests.update(
            digest for digest, made_with in specifications.items() if without_arithmetic(made_with) in trained_on
        )
    return digests


def _described(summary: "SpecificationSummary") -> Iterator[str]:
    from ccln.extractors.contract import DECODING_RULES

    yield f"specification {summary.digest[:_SHOWN_DIGITS]}: {counted(summary.clips, 'clip')}, {_size(summary.bytes)}"
    specification: Mapping[str, Any] = summary.specification
    if "imported" in specification:
        yield f"  imported  {_plain(specification['imported'])}"
    made_with = specification.get("made_with", specification)
    for name in ("visual", "audio"):
        yield f"  {name:8}  {_choice(made_with, name)}"
    for visual, audio in sorted(summary.shapes):
        yield f"  shapes    visual {_shape(visual)}, audio {_shape(audio)}"
    counts = {
        "shorter than the clip": summary.padded,
        "without audio": summary.missing_audio,
        "without video": summary.missing_video,
        "with damage concealed": summary.damaged,
    }
    if any(counts.values()):
        yield "  of them   " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    earlier = summary.clips - summary.decoding_rules[DECODING_RULES]
    if earlier and "decoding_revision" in specification:
        yield f"  earlier   {earlier} clips were decoded by earlier rules: ccln-extract makes again those that change"
    if summary.packed:
        yield f"  packed    {counted(summary.packed, 'clip')} in {counted(summary.shards, 'shard')}"


def _choice(specification: Mapping[str, Any], name: str) -> str:
    """What made one kind of features, in a line."""
    choice = specification.get(name)
    if not isinstance(choice, Mapping):
        return "not known"
    if "made_with" in choice:
        return _plain(choice["made_with"])
    frames = specification.get("frames_per_segment") if name == "visual" else None
    track = specification.get("audio_track") if name == "audio" else None
    weights = specification.get("weights_sha256")
    parts = [choice.get("name"), choice.get("layer"), choice.get("output")]
    parts += [f"{frames} frames a second" if frames else None, choice.get("precision")]
    parts += [f"audio track {track}" if track else None]
    if isinstance(weights, Mapping) and weights.get(name):
        parts.append(f"weights {str(weights[name])[:8]}...")
    return ", ".join(_plain(part) for part in parts if part) or "not known"


def _plain(text: object) -> str:
    """A text of unknown origin, on one line that is not too long."""
    return visible(str(text)[:80])


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _size(size_bytes: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes / 2**10:.1f} KiB"


def _part(text: str) -> float:
    """What 1% stands for."""
    from ccln.cache import CacheError

    with suppress(ValueError):
        if 0 < (part := float(text.removesuffix("%")) / 100) <= 1:
            return part
    raise CacheError(f"--sample {text}: is no part of the clips. Write it as 1%, above 0 % and at most 100 %")


def _report(damaged: "Collection[DamagedFileError]", remedy: str) -> int:
    """Name each damaged file on stderr."""
    for error in damaged:
        print(visible(f"damaged: {error.path}: {error.reason}"), file=sys.stderr)
    if damaged:
        print(remedy, file=sys.stderr)
    return 1 if damaged else 0
