"""From the rows of a data set to features and labels, ready for training and evaluation.

Background-only clips that lie beside an AVE data set are in no split; they serve weakly supervised training.
"""

import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ccln.cache import (
    DamagedFileError,
    FeatureCache,
    Features,
    RemoteCache,
    clip_digest,
    feature_key,
    source_digest,
    specification_digest,
)
from ccln.extractors import arithmetic_of, pick_device, pick_precision, without_arithmetic
from ccln.extractors.contract import DECODING_RULES
from ccln.pipeline.data.ave import listed_background_ids, videos_by_id
from ccln.pipeline.data.clips import (
    SPLITS,
    AnnotatedClip,
    Dataset,
    DatasetError,
    Split,
    class_labels,
    segment_labels,
    videos_of,
)
from ccln.pipeline.data.published import published_background_name, published_name
from ccln.pipeline.data.report import Digests, report_on, without_leaks

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """Clips of one split that have features; `load_features` gives views of their memory-mapped files."""

    clips: tuple[AnnotatedClip, ...]
    visual: tuple[Tensor, ...]
    """Of each clip (segment, height, width, channel): float16 as in the cache, float32 if averaged to 1 x 1."""
    audio: tuple[Tensor, ...]
    """Of each clip float32 (segment, channel)."""
    segment_labels: np.ndarray
    """int64 (clip, segment); background is the number of classes."""
    class_labels: np.ndarray
    """int64 (clip,): the row's class; the number of classes if it has none."""
    class_count: int
    keys: tuple[str, ...]
    """Of each clip the key of its features in the preferred arithmetic, whichever they were made in: equal for equal
    videos."""
    missing: tuple[AnnotatedClip, ...]
    """Rows of the split without features; they are in none of the other fields."""
    durations_seconds: tuple[float, ...]
    """How much of each clip its video covers; the rest is padding."""

    def __len__(self) -> int:
        return len(self.clips)

    def subset(self, positions: Sequence[int]) -> "LabelledClips":
        """The clips at some positions, in that order; none is missing."""
        chosen = list(positions)
        return replace(
            self,
            clips=tuple(self.clips[i] for i in chosen),
            visual=tuple(self.visual[i] for i in chosen),
            audio=tuple(self.audio[i] for i in chosen),
            segment_labels=self.segment_labels[chosen],
            class_labels=self.class_labels[chosen],
            keys=tuple(self.keys[i] for i in chosen),
            missing=(),
            durations_seconds=tuple(self.durations_seconds[i] for i in chosen),
        )

    @property
    def event(self) -> Tensor:
        """float32 (clip, segment): 1 in event segments."""
        return torch.from_numpy((self.segment_labels != self.class_count).astype(np.float32))

    @property
    def labels(self) -> Tensor:
        """int64 (clip,): class of each clip's event, -1 if no segment is event."""
        classes = torch.from_numpy(self.class_labels)
        return torch.where(self.event.any(1), classes, -1)

    @property
    def classes(self) -> Tensor:
        """int64 (clip, segment): class of each event segment, that of the clip but for clips with several; else 0."""
        return torch.from_numpy(np.where(self.segment_labels == self.class_count, 0, self.segment_labels))


@dataclass(frozen=True)
class DatasetFeatures:
    """A data set's splits, and the specification that all their features share except for the arithmetic."""

    splits: Mapping[Split, LabelledClips]
    specification: dict[str, Any]
    """In the preferred arithmetic, if any row has that."""
    class_names: tuple[str, ...]
    dropped: Mapping[Split, int]
    """Number of rows of each split that were left out because a later split has their video."""
    alike: tuple[str, ...] = ()
    """Digests of the cache's specifications that agree with it except for the arithmetic, its own included, in the
    order in which features are taken from them."""
    background: tuple[Features, ...] = ()
    """Of background-only clips beside the splits, where the task trains on them."""


def load_features(
    dataset: Dataset,
    cache: FeatureCache,
    specification: str | Mapping[str, Any] | None = None,
    *,
    drop_leaks: bool = False,
    needed: Collection[Split] = SPLITS,
) -> DatasetFeatures:
    """Find the features of every row of a data set in a cache.

    A row's video is identified by its content. If that has no features, those are taken that were imported for this row
    from the published AVE files; failing these, and only if the video itself is absent, those of the file that had its
    name when they were made, as those imported of UnAV-100 have. A report on the data set and on what was found goes to
    the log.

    Specifications that differ only in their arithmetic count as one: a row's features are taken in the requested
    arithmetic, else in the one native on this machine, else in the other.

    Args:
        dataset: Rows and splits.
        cache: The cache that holds the features.
        specification: First digits of the digest of the extractor specification, needed only if the cache holds
            features of this data set under several; or a checkpoint's whole specification.
        drop_leaks: Leave out the training rows whose video is in validation or test, and the validation rows whose
            video is in test, by id or by content.
        needed: The splits that must have rows and features; the others may be empty.

    Raises:
        DatasetError: A split that is needed has no rows; no specification, or more than one, has features of this data
            set; such a split has none at all; a row may stand for several files; or entries of the cache are damaged.
        CacheError: A video cannot be read.
    """
    videos = videos_of(dataset)
    with ThreadPoolExecutor() as threads:  # hashing lets other threads run
        digests = dict(zip(videos, threads.map(source_digest, videos), strict=True))
    dataset, dropped = _checked(dataset, digests, drop_leaks, needed)
    specifications = cache.specifications()
    own = specification_digest(specification) if isinstance(specification, Mapping) else None
    asked_for = own or specification or ""
    candidates = {}
    for alike, named in _alike(specifications, specification):
        found, damaged = _found(dataset, digests, _Lookup(cache, alike))
        if damaged or any(entry.specification_sha256 in named for entry in found.values()):
            candidates[alike] = found, damaged
    if not candidates:
        wanted = f" with a specification {asked_for}..." if asked_for else ""
        raise DatasetError(
            f"{dataset.source}: the cache {cache} has no features of this data set{wanted}. "
            f"Make them first: ccln-extract {dataset.source} --cache {cache}"
        )
    if len(candidates) > 1:
        listed = ", ".join(f"{alike[0][:12]} ({len(found)} clips)" for alike, (found, _) in sorted(candidates.items()))
        raise DatasetError(
            f"{dataset.source}: the cache {cache} has its features under several specifications: {listed}. "
            "Choose one with --specification."
        )
    ((alike, (found, damaged)),) = candidates.items()
    features = _read(found, damaged, cache, _command(dataset, cache, specifications[alike[0]]))
    counts = Counter(entry.specification_sha256 for entry in found.values())
    if len(counts) > 1:
        mixture = (f"{counts[one]} in {arithmetic_of(specifications[one])}" for one in alike if one in counts)
        log.warning("%s: the features are a mixture, of rows: %s", dataset.source, ", ".join(mixture))
    used = next(digest for digest in alike if digest in counts)
    decoded = "decoding_revision" in specifications[used]
    splits: dict[Split, LabelledClips] = {
        split: _labelled(dataset, split, found, features, cache, own or used, decoded=decoded, needed=split in needed)
        for split in SPLITS
    }
    return DatasetFeatures(splits, dict(specifications[used]), dataset.class_names, dropped, alike)


def _alike(
    specifications: Mapping[str, Mapping[str, Any]], wanted: str | Mapping[str, Any] | None
) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Digests of specifications that agree except for the arithmetic, the preferred first; and which are wanted.

    Args:
        specifications: The cache's, by digest.
        wanted: As for `load_features`.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for digest, specification in specifications.items():
        groups[specification_digest(without_arithmetic(specification))].append(digest)
    if isinstance(wanted, Mapping):
        named = set(groups[specification_digest(without_arithmetic(wanted))])
        first = {specification_digest(wanted)}
    else:
        named = first = {digest for digest in specifications if digest.startswith(wanted or "")}
    native = pick_precision("auto", pick_device("auto"))
    for group in groups.values():
        if not named.isdisjoint(group):
            group.sort(key=lambda digest: (digest not in first, arithmetic_of(specifications[digest]) != native))
            yield tuple(group), named


def _checked(
    dataset: Dataset, digests: Digests, drop_leaks: bool, needed: Collection[Split]
) -> tuple[Dataset, dict[Split, int]]:
    """The data set to use, and how many rows of each split were dropped from it; with a report to the log."""
    kept = without_leaks(dataset, digests) if drop_leaks else dataset
    dropped: dict[Split, int] = {split: len(dataset.clips_of(split)) - len(kept.clips_of(split)) for split in SPLITS}
    report = report_on(kept, digests)
    log.info("%s: %s", dataset.source, report.summary())
    for split, count in dropped.items():
        if count:
            text = "%s: %d rows of the %s split dropped: a later split has their videos"
            log.info(text, dataset.source, count, split)
    for split, count in report.clips.items():
        if not count and split in needed:
            raise DatasetError(
                f"{dataset.source}: the {split} split has no clip. Put some into it: in AVE's layout in its file, "
                "in a CSV with a column split"
            )
    for warning in report.warnings():
        log.warning("%s: %s", dataset.source, warning)
    return kept, dropped


class _Entry(NamedTuple):
    """Where features lie in the cache."""

    source_sha256: str
    specification_sha256: str

    @property
    def key(self) -> str:
        return feature_key(self.source_sha256, self.specification_sha256)


class _Lookup(NamedTuple):
    """Finds entries of a cache under any of several specifications; the first that has one is taken."""

    cache: FeatureCache
    specifications: Sequence[str]

    def by_content(self, source_sha256: str) -> _Entry | None:
        entries = (_Entry(source_sha256, specification) for specification in self.specifications)
        return next((entry for entry in entries if self.cache.contains(entry.key)), None)

    def by_name(self, name: str) -> list[_Entry]:
        """One entry for each of the files that had this name."""
        entries: dict[str, _Entry] = {}
        for specification in self.specifications:
            for source in map(self.cache.source_of, self.cache.find(specification, name)):
                entries.setdefault(source, _Entry(source, specification))
        return list(entries.values())


def _found(
    dataset: Dataset, digests: Digests, lookup: _Lookup
) -> tuple[dict[AnnotatedClip, _Entry], list[AnnotatedClip]]:
    """The entries of all rows that have features, and the rows whose entries are damaged as far as that shows yet."""
    files_of: defaultdict[str, set[Path | None]] = defaultdict(set)
    for row in dataset.clips:
        files_of[row.video_id].add(row.path)

    def named(row: AnnotatedClip, name: str) -> _Entry | None:
        entries = lookup.by_name(name)
        if len(entries) > 1:
            raise DatasetError(
                f"{dataset.source}: the video of {row.video_id} is absent or has no features of its own, and "
                f"{lookup.cache} holds features of {len(entries)} different files named {name}. Put the video "
                "back and extract its features, or use a cache of its own."
            )
        return entries[0] if entries else None

    def entry_of(row: AnnotatedClip) -> _Entry | None:
        source = None if row.path is None else digests.get(row.path)
        content = None if source is None else clip_digest(source, row.start_seconds)
        if content is not None and (entry := lookup.by_content(content)) is not None:
            return entry
        if row.row is not None and (entry := named(row, published_name(row.row, row.name))) is not None:
            return entry
        # A name is no evidence if the video exists, or if the data set itself has two files of that name.
        return named(row, row.name) if source is None and len(files_of[row.video_id]) == 1 else None

    found, damaged = {}, []
    for row in dataset.clips:
        try:
            if (entry := entry_of(row)) is not None:
                found[row] = entry
        except DamagedFileError:
            damaged.append(row)
    return found, damaged


def _read(
    found: Mapping[AnnotatedClip, _Entry], damaged: Sequence[AnnotatedClip], cache: FeatureCache, command: str
) -> dict[AnnotatedClip, Features]:
    """The features of all rows.

    Raises:
        DatasetError: Entries are damaged; it names the clips of all, those known to be `damaged` among them, and the
            command that makes them.
    """
    features, damaged = {}, list(damaged)
    cache.fetch(entry.key for entry in found.values())
    for row, entry in found.items():
        try:
            features[row] = cache.read(entry.key)
        except DamagedFileError:
            damaged.append(row)
    if damaged:
        raise _damaged_error(cache, [row.name for row in damaged], command)
    return features


def _damaged_error(cache: FeatureCache, names: Sequence[str], command: str) -> DatasetError:
    # What is remote is taken for whole by who does not fetch it, and so would not be made again.
    first = f"Move them out of the way: ccln-cache repair --cache {cache}. " if isinstance(cache, RemoteCache) else ""
    return DatasetError(
        f"{cache}: features are damaged, of {len(names)} clips: {', '.join(names)}. "
        f"{first}Make them again, with the options that they were made with: {command}"
    )


def _command(dataset: Dataset, cache: FeatureCache, specification: Mapping[str, Any]) -> str:
    """What makes the features of a data set."""
    command = "ccln-cache import-ave" if "imported" in specification else "ccln-extract"
    return f"{command} {dataset.source} --cache {cache}"


def _labelled(
    dataset: Dataset,
    split: Split,
    found: Mapping[AnnotatedClip, _Entry],
    features_of: Mapping[AnnotatedClip, Features],
    cache: FeatureCache,
    identity: str,
    *,
    decoded: bool,
    needed: bool,
) -> LabelledClips:
    """A split's clips that have features, with keys under the specification `identity`; gaps go to the log.

    `decoded` says whether they were made from videos, and not imported.
    """
    rows = dataset.clips_of(split)
    present = tuple(row for row in rows if row in found)
    missing = tuple(row for row in rows if row not in found)
    if not present and needed:
        raise DatasetError(f"{dataset.source}: not one clip of the {split} split has features in {cache}")
    if missing:
        log.warning(
            "%d of %d rows of the %s split have no features and are left out (%s, ...): run ccln-extract %s to see why",
            *(len(missing), len(rows), split, ", ".join(row.video_id for row in missing[:3]), dataset.source),
        )
    features = [features_of[row] for row in present]
    shapes = Counter((tuple(entry.visual.shape), tuple(entry.audio.shape)) for entry in features)
    if len(shapes) > 1:
        raise DatasetError(f"features of the {split} split differ in shape: {dict(shapes)}. Extract them again.")
    lacking = Counter(stream for entry in features for stream in entry.missing)
    for stream, count in sorted(lacking.items()):
        log.info("%d of %d clips of the %s split have no %s: zeros stand for it", count, len(present), split, stream)
    if decoded and (earlier := sum(entry.decoding_rules != DECODING_RULES for entry in features)):
        text = (
            "%d of %d clips of the %s split were decoded by rules of an earlier release, which have changed for a few "
        )
        text += "kinds of files: run ccln-extract %s, which makes those again"
        log.warning(text, earlier, len(present), split, dataset.source)
    if damaged := sum(bool(entry.lost_seconds) for entry in features):
        log.info("%d of %d clips of the %s split have damage that is concealed", damaged, len(present), split)
    return LabelledClips(
        clips=present,
        visual=tuple(entry.visual for entry in features),
        audio=tuple(entry.audio for entry in features),
        segment_labels=segment_labels(present, dataset.class_names),
        class_labels=class_labels(present, dataset.class_names),
        class_count=len(dataset.class_names),
        keys=tuple(feature_key(found[row].source_sha256, identity) for row in present),
        missing=missing,
        durations_seconds=tuple(entry.duration_seconds for entry in features),
    )


def background_features(
    dataset: Dataset, cache: FeatureCache, specifications: Sequence[str]
) -> tuple[list[Features], list[str]]:
    """Find the features of the background-only clips that lie beside a data set.

    An AVE folder lists them in backgroundSet.txt, in the format of its split files; each is found by the content of
    its video in AVE/, else as what was imported from the published files for its place in the list, else, if its video
    is absent, by its name. Without that file they are what was imported. A CSV has its own as rows, and no others.

    Args:
        dataset: An AVE folder's or a CSV's.
        cache: The cache that holds the features.
        specifications: Digests of the specifications wanted, the preferred one first: `DatasetFeatures.alike`.

    Returns:
        Memory-mapped features in the order of the list, and the video ids that have none.

    Raises:
        DatasetError: backgroundSet.txt cannot be read, or entries are damaged; it names the clips of all.
    """
    if not dataset.source.is_dir():
        return [], []
    lookup = _Lookup(cache, specifications)
    ids = listed_background_ids(dataset.source)
    videos = videos_by_id(dataset.source)
    if ids is None:
        names = map(published_background_name, itertools.count())
        ids = list(itertools.takewhile(lambda name: any(cache.find(each, name) for each in specifications), names))
        videos = {}

    def entry_of(index: int, video_id: str) -> _Entry | None:
        video = videos.get(video_id)
        if video is not None and (entry := lookup.by_content(source_digest(video))) is not None:
            return entry
        named = lookup.by_name(published_background_name(index))
        if not named and video is None:  # a name is no evidence if the video exists
            named = lookup.by_name(video_id)
        return named[0] if len(named) == 1 else None

    present, missing, damaged = [], [], []
    for video_id, index in {video_id: index for index, video_id in enumerate(ids)}.items():
        try:
            if (entry := entry_of(index, video_id)) is None:
                missing.append(video_id)
            else:
                present.append(cache.read(entry.key))
        except DamagedFileError:
            damaged.append(video_id)
    if damaged:
        specification = cache.specifications().get(specifications[0], {})
        raise _damaged_error(cache, damaged, _command(dataset, cache, specification))
    return present, missing
