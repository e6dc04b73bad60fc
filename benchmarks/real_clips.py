"""How well the product does on labelled real clips of any kind of event, beside baselines that learn nothing.

    uv run python benchmarks/real_clips.py --videos DIR --labels FILE.csv [--checkpoint RUN] [--each] [--negatives]

The labels are a CSV file `path,start,end,label,also`, one row an event: the path below --videos, seconds, the event's
name, and other names that are right for it, separated by " | " (that column may be missing). A row with a path alone is
a clip without events. Names count whatever their case.

What is scored of the network and of each baseline:

- AUC: area under the ROC curve of the probability of an event, over all seconds. A second is event where annotated
  events cover at least half of it.
- balanced: mean of the shares of event seconds that are called event and of other seconds that are not. A second is
  called event where events that were found cover at least half of it.
- event F1: of whole events, whatever their names, right where the intersection is at least half of the union. Events
  that overlap or touch are one here.
- localized: of the annotated ones among these, how many have a found one of their own, both ends at most a second off.
- named: of the clips with events, how many have a found event with a name that is right for one of them.

The network is taken as it comes, with the events that it finds. The baselines have no threshold that was chosen on
labels: an event is what lasts at a score of the median of all seconds or more, so that half of the seconds are called
event. "loudness" is the RMS level of the second in dB; "best specific YAMNet class" the highest logit, in the second,
of a class that the open vocabulary calls specific, and the event bears the name of the class with the highest mean.

--each lists what was found in every clip beside what was annotated. --negatives makes videos without events of those
with some, and shows how many of the seconds that were event are called so: with the sound of another clip, all of whose
names are others, repeated where it is shorter; with silence; and with the first frame of such a clip, frozen.
"""

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mismatched import Content, read_content, with_picture, with_sound
from scipy.stats import rankdata

import ccln
from ccln.extractors.presets import AUDIO_CHOICES
from ccln.extractors.yamnet import build, load_yamnet
from ccln.pipeline.commands.console import ProgressBar, keep_freed_memory
from ccln.pipeline.data.clips import LEAST_COVERED_SECONDS, covered_seconds
from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.defaults import PRETRAINED
from ccln.pipeline.localize.vocabulary import load_vocabulary
from ccln.pipeline.metrics.evaluation import NO_VALUE, aligned, percent, ratio
from ccln.pipeline.metrics.segments import count_overlapping, count_within_tolerance
from ccln.pipeline.segments import equal_runs

SILENCE = 1e-6  # of full scale, -120 dB

Span = tuple[float, float]


@dataclass(frozen=True)
class Event:
    """From `start` up to but not including `end`, in seconds."""

    start: float
    end: float
    names: tuple[str, ...]
    """Right ones of an annotated event, its label first; of a found event the one it bears, or none."""


@dataclass(frozen=True)
class LabelledClip:
    path: Path
    events: tuple[Event, ...]

    @property
    def names(self) -> frozenset[str]:
        """All names that are right for one of the events, in lower case."""
        return frozenset(name.lower() for event in self.events for name in event.names)


@dataclass(frozen=True, eq=False)
class Found:
    """What the network or a baseline says of a clip."""

    scores: np.ndarray
    """(segment,): the higher, the more it is an event."""
    events: tuple[Event, ...]

    @property
    def called(self) -> np.ndarray:
        """bool (segment,): whether the second is called event."""
        return is_event(self.events, len(self.scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=PRETRAINED, help="if not given, the packaged network")
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--negatives", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the clips that lend sounds and frames to others")
    options = parser.parse_args()
    keep_freed_memory()
    contents = readable(read_labels(options.labels, options.videos))
    clips = list(contents)

    def locate(paths: Sequence[Path]) -> list[Found]:
        return located(paths, options.checkpoint)

    network = locate([clip.path for clip in clips])
    lengths = [len(found.scores) for found in network]
    methods = {"CCLN": network, **baselines([content.waveform for content in contents.values()], lengths)}
    truth = [is_event(clip.events, length) for clip, length in zip(clips, lengths, strict=True)]
    with_events = sum(bool(clip.events) for clip in clips)
    print(f"{len(clips)} clips, {with_events} of them with events; {sum(lengths)} seconds, ", end="")
    print(f"{percent(np.concatenate(truth).mean())} of them event\n")
    print(aligned([HEADINGS, *([name, *scored(clips, truth, found)] for name, found in methods.items())]))
    if options.negatives:
        print(f"\n{aligned(negatives(clips, list(contents.values()), network, locate, options.seed))}")
    if options.each:
        print(f"\n{listed(clips, network)}")


def read_labels(file: Path, folder: Path) -> list[LabelledClip]:
    """The clips of a CSV file in the order of their first rows."""
    events: dict[Path, list[Event]] = {}
    with file.open(encoding="utf-8-sig", newline="") as text:
        for row in (reader := csv.DictReader(text)):
            try:
                path, start, end, label = (row[name].strip() for name in ("path", "start", "end", "label"))
                of_clip = events.setdefault(folder / path, [])
                if start or end or label:
                    names = [label, *(name.strip() for name in (row.get("also") or "").split("|"))]
                    of_clip.append(Event(float(start), float(end), tuple(filter(None, names))))
                    if not (label and 0 <= float(start) < float(end)):
                        raise ValueError("an event has a label, and a start before its end")
            except (KeyError, AttributeError, ValueError) as error:
                problem = f"expected path,start,end,label and perhaps also ({error!r})"
                raise SystemExit(f"{file}, line {reader.line_num}: {problem}") from error
    absent = [str(path) for path in events if not path.is_file()]
    if absent or not events:
        raise SystemExit(f"{file}: {len(absent)} of its {len(events)} clips are not there: {', '.join(absent[:3])}")
    return [LabelledClip(path, tuple(of_clip)) for path, of_clip in events.items()]


def readable(clips: Iterable[LabelledClip]) -> dict[LabelledClip, Content]:
    """The clips that can be decoded, with what is in them; the others are named."""
    contents = {}
    for clip in clips:
        try:
            contents[clip] = read_content(clip.path)
        except DecodeError as error:
            print(f"left out: {error}")
    return contents


def located(paths: Sequence[Path], checkpoint: Path) -> list[Found]:
    """What the product finds."""
    with ProgressBar("localize", "video") as bar:
        result = ccln.localize(paths, checkpoint=checkpoint, progress=bar)
    if result.failed:
        raise SystemExit("\n".join(failure.reason for failure in result.failed))
    return [
        Found(
            video.event_probability,
            tuple(Event(event.start_seconds, event.end_seconds, (event.label,)) for event in video.events),
        )
        for video in result.videos
    ]


# Baselines


def baselines(waveforms: Sequence[np.ndarray], lengths: Sequence[int]) -> dict[str, list[Found]]:
    """What each baseline says of the clips.

    Args:
        waveforms: of each clip, (sample,).
        lengths: number of seconds of each.
    """
    seconds = [in_seconds(waveform, length) for waveform, length in zip(waveforms, lengths, strict=True)]
    network = build(AUDIO_CHOICES["yamnet"], None)
    classifier = load_yamnet().classifier
    with torch.inference_mode():
        logits = [classifier(network(torch.from_numpy(clip))).numpy() for clip in seconds]
    vocabulary = load_vocabulary()
    names, specific = vocabulary.heard_names, np.flatnonzero(vocabulary.specific)
    logits = [clip[:, specific] for clip in logits]

    def name(clip: int, start: int, end: int) -> tuple[str]:
        return (names[specific[logits[clip][start:end].mean(0).argmax()]],)

    levels = [20 * np.log10(np.sqrt((clip**2).mean(1)) + SILENCE) for clip in seconds]
    return {
        "always event": from_median([np.zeros(length) for length in lengths]),
        "loudness": from_median(levels),
        "best specific YAMNet class": from_median([clip.max(1) for clip in logits], name),
    }


def from_median(
    scores: Sequence[np.ndarray], name: Callable[[int, int, int], tuple[str, ...]] = lambda *_: ()
) -> list[Found]:
    """Events are what lasts at the median of all seconds or more; `name` is of a clip's event from start to end."""
    threshold = np.median(np.concatenate(scores))
    return [
        Found(
            of_clip,
            tuple(
                Event(start, end, name(number, start, end))
                for start, end in equal_runs(of_clip >= threshold)
                if of_clip[start] >= threshold
            ),
        )
        for number, of_clip in enumerate(scores)
    ]


def in_seconds(waveform: np.ndarray, count: int) -> np.ndarray:
    """float32 (segment, sample): the waveform's seconds, with silence after its end."""
    samples = np.zeros(count * SAMPLE_RATE_HZ, np.float32)
    kept = waveform[: len(samples)]
    samples[: len(kept)] = kept
    return samples.reshape(count, SAMPLE_RATE_HZ)


# Scores

HEADINGS = ["", "AUC", "balanced", "event F1", "localized", "named"]


def scored(clips: Sequence[LabelledClip], truth: Sequence[np.ndarray], found: Sequence[Found]) -> list[str]:
    """The cells of a method's row."""
    event, scores, called = (
        np.concatenate(parts) for parts in (truth, [of.scores for of in found], [of.called for of in found])
    )
    right = within = annotated = predicted = 0
    for clip, of_clip in zip(clips, found, strict=True):
        wanted, spans = merged(clip.events), merged(of_clip.events)
        right += count_overlapping(spans, wanted)
        within += count_within_tolerance(spans, wanted)
        annotated, predicted = annotated + len(wanted), predicted + len(spans)
    named = [is_named(clip, of_clip) for clip, of_clip in zip(clips, found, strict=True) if clip.events]
    balanced = (ratio(called[event].sum(), event.sum()) + ratio((~called[~event]).sum(), (~event).sum())) / 2
    nameless = not any(event.names for of_clip in found for event in of_clip.events)
    return [
        percent(area_under_curve(scores, event)),
        percent(balanced),
        percent(ratio(2 * right, annotated + predicted)),
        f"{within} of {annotated}",
        NO_VALUE if nameless else f"{sum(named)} of {len(named)}",
    ]


def is_event(events: Iterable[Event], seconds: int) -> np.ndarray:
    """bool (segment,): whether events cover at least half of each second."""
    return covered_seconds(merged(events), seconds) >= LEAST_COVERED_SECONDS


def merged(events: Iterable[Event]) -> list[Span]:
    """When there is any event, in order; those that overlap or touch are one."""
    spans: list[Span] = []
    for event in sorted(events, key=lambda event: event.start):
        if spans and event.start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(event.end, spans[-1][1])
        else:
            spans.append((event.start, event.end))
    return spans


def is_named(clip: LabelledClip, found: Found) -> bool:
    """Whether an event was found that bears a name of one of the annotated ones."""
    return any(name.lower() in clip.names for event in found.events for name in event.names)


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """How often a positive has a higher score than a negative, ties counting half; NaN if there is none of either."""
    positives, negatives = positive.sum(), (~positive).sum()
    return ratio(rankdata(scores)[positive].sum() - positives * (positives + 1) / 2, positives * negatives)


# Negatives


def negatives(
    clips: Sequence[LabelledClip],
    contents: Sequence[Content],
    network: Sequence[Found],
    locate: Callable[[Sequence[Path]], list[Found]],
    seed: int,
) -> list[list[str]]:
    """How many of the event seconds are called event as they are, and where the sound or the picture is another."""
    chosen = [number for number, clip in enumerate(clips) if clip.events]
    lenders = list(foreign(clips, chosen, np.random.default_rng(seed)))
    kinds: dict[str, Callable[[int, int, Path], Path]] = {
        "with another clip's sound": lambda own, other, target: with_sound(
            clips[own].path, fitted(contents[other].waveform, contents[own].waveform), target
        ),
        "with silence": lambda own, _, target: with_sound(
            clips[own].path, np.zeros_like(contents[own].waveform), target
        ),
        "with another clip's frozen frame": lambda own, other, target: with_picture(
            contents[other].first_frame, contents[own].waveform, target
        ),
    }
    results = {"as they are": [network[number] for number in chosen]}
    for kind, make in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            pairs = enumerate(zip(chosen, lenders, strict=True))
            results[kind] = locate([make(own, other, Path(folder, f"{n}.mkv")) for n, (own, other) in pairs])
    rows = [["event seconds", "seconds", "called event", "mean probability"]]
    for kind, found in results.items():
        # A second that was half covered may have gone with the padding of the audio.
        event = [is_event(clips[own].events, len(of.scores)) for own, of in zip(chosen, found, strict=True)]
        of_event = np.concatenate([of.called[where] for of, where in zip(found, event, strict=True)])
        scores = np.concatenate([of.scores[where] for of, where in zip(found, event, strict=True)])
        rows.append([kind, str(of_event.size), percent(of_event.mean()), percent(scores.mean())])
    return rows


def foreign(clips: Sequence[LabelledClip], chosen: Sequence[int], random: np.random.Generator) -> Iterator[int]:
    """For each of the clips chosen another of them with which it shares no name."""
    for own in chosen:
        others = [other for other in chosen if clips[own].names.isdisjoint(clips[other].names)]
        if not others:
            raise SystemExit(f"{clips[own].path}: there is no clip with other names, as --negatives needs")
        yield int(random.choice(others))


def fitted(waveform: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A waveform as long as another, repeated where it is shorter."""
    return np.resize(waveform, like.shape)


# Clip by clip


def listed(clips: Sequence[LabelledClip], found: Sequence[Found]) -> str:
    """Four lines a clip; the last has the event probability of each second in tenths, rounded down."""
    return "\n".join(
        f"{clip.path.name}{'' if not clip.events else ', named' if is_named(clip, of_clip) else ', not named'}\n"
        f"  annotated    {shown(clip.events)}\n"
        f"  found        {shown(of_clip.events)}\n"
        f"  probability  {''.join(str(min(9, int(10 * score))) for score in of_clip.scores)}"
        for clip, of_clip in zip(clips, found, strict=True)
    )


def shown(events: Sequence[Event]) -> str:
    return "; ".join(f"{event.names[0]} {event.start:g} to {event.end:g} s" for event in events) or "nothing"


if __name__ == "__main__":
    main()
