"""A report on a data set before it is used, and the data set without videos that are in two splits."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, compress
from pathlib import Path

from ccln.pipeline.data.clips import SPLITS, AnnotatedClip, Dataset, Split, segment_labels

_SHOWN = 3

Digests = Mapping[Path, str]
"""sha256 of the content of videos, by path."""


@dataclass(frozen=True)
class DatasetReport:
    """What a person should know about a data set before training on it."""

    rows: int
    """Number of clips in the splits; an AVE folder has one for each row."""
    clips: Mapping[Split, int]
    """Number of clips in each split."""
    class_count: int
    background: int
    """Number of clips without any event, and without a class."""
    duplicate_ids: tuple[str, ...]
    """Video ids that several rows have, in order of their first."""
    leaks: Mapping[tuple[Split, Split], tuple[str, ...]]
    """For two splits that share videos, the ids of those videos in the first of the two."""
    empty_events: tuple[AnnotatedClip, ...]
    """Rows whose event covers half of no second: they have a class, but are background throughout."""
    missing_videos: tuple[AnnotatedClip, ...]
    """Rows whose video does not exist."""
    unlisted: tuple[AnnotatedClip, ...]
    """Rows of a split file that Annotations.txt does not have."""
    untrained: tuple[str, ...]
    """Classes without a clip in the training split, if that has clips at all."""
    copies: tuple[tuple[Path, ...], ...]
    """Videos of one split that are equal but have different paths, as far as their content was compared."""
    silent: tuple[Path, ...]
    """Videos whose audio was listened to, and is silent."""
    unheard: tuple[str, ...]
    """Of each video that cannot be read, or ended the process that listened, its name, why, and what to do."""

    def summary(self) -> str:
        """One line of counts."""
        counted = {
            "background throughout": self.background,
            "ids with several rows": len(self.duplicate_ids),
            "events that fill no segment": len(self.empty_events),
        }
        parts = [f"{what}: {count}" for what, count in counted.items() if count]
        if self.rows == len(self.missing_videos):
            parts.append("no videos")
        splits = ", ".join(f"{count} {split}" for split, count in self.clips.items())
        return "; ".join([f"{self.rows} clips of {self.class_count} classes ({splits})", *parts])

    def warnings(self) -> list[str]:
        """A line for each thing that may make a result wrong."""
        lines = [
            f"videos in {first} and in {second}: {len(ids)} ({_some(ids)}); --drop-leaks leaves them out of {first}"
            for (first, second), ids in self.leaks.items()
        ]
        if 0 < len(self.missing_videos) < self.rows:
            names = list(dict.fromkeys(str(clip.path or clip.video_id) for clip in self.missing_videos))
            count = f"{len(self.missing_videos)} of {self.rows}"
            lines.append(f"videos that are missing: {count} ({_some(names)})")
        if self.untrained:
            remedy = "add some, or say with a column split which clips are to train on"
            lines.append(f"classes without training clips: {len(self.untrained)} ({_some(self.untrained)}); {remedy}")
        if self.clips["train"] and not self.clips["validation"]:
            lines.append("no validation clips: training chooses the epoch on them; put some into that split")
        if self.clips["train"] and not self.clips["test"]:
            lines.append("no test clips: training ends with a score of them; put some into that split")
        if self.copies:
            pairs = [" = ".join(map(str, files)) for files in self.copies]
            lines.append(f"videos that are there more than once: {len(pairs)} ({_some(pairs)})")
        if self.silent:
            lines.append(f"videos with silent audio: {len(self.silent)} ({_some([str(file) for file in self.silent])})")
        lines.extend(self.unheard)
        if self.unlisted:
            names = [clip.video_id for clip in self.unlisted]
            lines.append(f"rows of the split files that Annotations.txt has not: {len(names)} ({_some(names)})")
        return lines


def report_on(
    dataset: Dataset, digests: Digests | None = None, silent: Sequence[Path] = (), unheard: Sequence[str] = ()
) -> DatasetReport:
    """Count what a data set holds and what is wrong with it.

    Args:
        dataset: As it was read.
        digests: With them, videos of equal content count as one.
        silent: The videos that are known to be silent.
        unheard: Why others could not be listened to.
    """
    ids = Counter((clip.video_id, clip.start_seconds) for clip in dataset.clips)
    clips_of: dict[Split, tuple[AnnotatedClip, ...]] = {split: dataset.clips_of(split) for split in SPLITS}
    identities = {split: {_identity(clip, digests) for clip in clips} for split, clips in clips_of.items()}
    leaks = {}
    for first, second in combinations(SPLITS, 2):
        if shared := identities[first] & identities[second]:
            found = (clip.video_id for clip in clips_of[first] if _identity(clip, digests) in shared)
            leaks[first, second] = tuple(dict.fromkeys(found))
    trained = {clip.label for clip in clips_of["train"]}
    files_of: defaultdict[tuple[Split, str], dict[Path, None]] = defaultdict(dict)
    for clip in dataset.clips:
        if clip.path is not None and (digest := (digests or {}).get(clip.path)) is not None:
            files_of[clip.split, digest][clip.path] = None
    has_event = (segment_labels(dataset.clips, dataset.class_names) != len(dataset.class_names)).any(axis=1)
    return DatasetReport(
        rows=len(dataset.clips),
        clips={split: len(clips) for split, clips in clips_of.items()},
        class_count=len(dataset.class_names),
        background=sum(clip.label is None for clip in dataset.clips),
        duplicate_ids=tuple(dict.fromkeys(video_id for (video_id, _), count in ids.items() if count > 1)),
        leaks=leaks,
        empty_events=tuple(clip for clip in compress(dataset.clips, ~has_event) if clip.label is not None),
        missing_videos=tuple(clip for clip in dataset.clips if dataset.video_of(clip) is None),
        unlisted=tuple(clip for clip in dataset.clips if clip.row is None),
        untrained=tuple(name for name in dataset.class_names if trained and name not in trained),
        copies=tuple(tuple(files) for files in files_of.values() if len(files) > 1),
        silent=tuple(silent),
        unheard=tuple(unheard),
    )


def without_leaks(dataset: Dataset, digests: Digests | None = None) -> Dataset:
    """The data set without training clips whose video is in validation or test, and validation clips of test videos.

    With `digests`, videos of equal content count as one.
    """
    later: defaultdict[Split, set[str]] = defaultdict(set)  # by split, the videos of the splits after it
    for clip in dataset.clips:
        for split in SPLITS[: SPLITS.index(clip.split)]:
            later[split].add(_identity(clip, digests))
    kept = tuple(clip for clip in dataset.clips if _identity(clip, digests) not in later[clip.split])
    return replace(dataset, clips=kept)


def _identity(clip: AnnotatedClip, digests: Digests | None) -> str:
    """Equal for clips of the same video. Ids are not enough: in a CSV two folders may hold videos of one name."""
    if clip.path is None:
        return clip.video_id
    return (digests or {}).get(clip.path, str(clip.path))


def _some(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, ..." if len(names) > _SHOWN else shown
