"""How well the events of whole videos are found: windows of ten seconds merged as `ccln-localize` merges them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from ccln.model import EventDecoding, LocalizationNetwork
from ccln.pipeline.data.features import LabelledClips
from ccln.pipeline.localize.events import decode_events, decode_tracks, long_enough, segments_of
from ccln.pipeline.localize.windows import WindowedNetwork
from ccln.pipeline.metrics.segments import score
from ccln.pipeline.segments import CLIP_SECONDS, SEGMENT_SECONDS

_SLIVER = 0.1  # of a segment: less is no other segment


@dataclass(frozen=True)
class VideoScores:
    """The scores of the merged timelines of videos. A score whose denominator is empty is NaN."""

    videos: int
    """With more than one window."""
    seconds: int
    """Of all of them, as far as they are annotated."""
    event_f1: float
    """Of the events of every class (`Scores.event_f1`)."""
    segment_accuracy: float
    """Share of the seconds whose label, of the classes and the background, is right."""


def score_videos(
    network: object, clips: LabelledClips, class_names: Sequence[str], decoding: EventDecoding
) -> VideoScores | None:
    """Score a network on the videos of a split that are longer than a clip; None if there are none.

    The windows of a video that follow on one another are one timeline; where one lacks, another begins.

    Args:
        network: In evaluation mode; one that does not find events, of another task, has no such scores.
        clips: Of the split.
        class_names: In label order.
        decoding: How its predictions become events.
    """
    timelines = list(_timelines(clips))
    if not timelines or not isinstance(network, LocalizationNetwork):
        return None
    background = clips.class_count
    longest = max(map(len, timelines)) * CLIP_SECONDS
    predicted, truth = (np.full((len(timelines), longest), background) for _ in range(2))
    right = seconds = 0
    for row, timeline in enumerate(timelines):
        labels = np.concatenate([clips.segment_labels[position] for position in timeline])
        duration = CLIP_SECONDS * (len(timeline) - 1) + clips.durations_seconds[timeline[-1]]
        count = max(1, ceil(duration / SEGMENT_SECONDS - _SLIVER))
        truth[row, :count] = labels[:count]
        predicted[row, :count] = _predicted(network, clips, timeline, class_names, decoding, duration)[:count]
        right += int((predicted[row, :count] == truth[row, :count]).sum())
        seconds += count
    videos = {clips.clips[timeline[0]].path or clips.clips[timeline[0]].video_id for timeline in timelines}
    return VideoScores(len(videos), seconds, score(predicted, truth, background).event_f1, right / seconds)


def _timelines(clips: LabelledClips) -> Iterator[list[int]]:
    """Positions of the windows of each video, in order, as far as none lacks; not those of videos of one window."""
    windows: dict[object, list[int]] = {}
    for position, clip in enumerate(clips.clips):
        windows.setdefault(clip.path or clip.video_id, []).append(position)
    for positions in windows.values():
        positions.sort(key=lambda position: clips.clips[position].start_seconds)
        if clips.clips[positions[-1]].start_seconds == 0:  # of AVE, several rows of one clip
            continue
        timeline: list[int] = []
        for position in positions:
            start = clips.clips[position].start_seconds
            if timeline and start != clips.clips[timeline[-1]].start_seconds + CLIP_SECONDS:
                yield timeline
                timeline = []
            timeline.append(position)
        yield timeline


def _predicted(
    network: LocalizationNetwork,
    clips: LabelledClips,
    timeline: Sequence[int],
    class_names: Sequence[str],
    decoding: EventDecoding,
    duration_seconds: float,
) -> np.ndarray:
    """The label of each second of a timeline, int64 (second,), of which the last may be padding."""
    windows = WindowedNetwork(network)
    count = 0
    for position in timeline:
        covered = max(1, ceil(clips.durations_seconds[position] / SEGMENT_SECONDS - _SLIVER))
        windows.add(clips.visual[position], clips.audio[position], covered)
        count += covered
    predictions = windows.predictions()
    tracks = decode_tracks(predictions, decoding)
    events = decode_events(predictions, tracks, decoding, class_names, duration_seconds)
    labels = np.full(CLIP_SECONDS * len(timeline), len(class_names))
    for event in long_enough(events, decoding, count):
        labels[segments_of(event)] = class_names.index(event.label)
    return labels
