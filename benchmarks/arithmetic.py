"""What changes where a checkpoint reads features made in the other arithmetic: scores, events, confidences.

uv run python benchmarks/arithmetic.py --checkpoint RUN --data FOLDER --caches OWN OTHER [--split test]

The caches hold features of the same clips by the checkpoint's extractors, one cache for each arithmetic, as
`ccln-extract --precision float32` and `--precision bfloat16` make them.
"""

import argparse
from pathlib import Path

import numpy as np

from ccln.cache import FeatureCache
from ccln.extractors import arithmetic_of
from ccln.model import CCLN, Checkpoint, load_checkpoint
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.features import LabelledClips, load_features
from ccln.pipeline.localize.events import Tracks, decode_events, decode_tracks, long_enough
from ccln.pipeline.localize.result import Event
from ccln.pipeline.localize.windows import WindowedNetwork
from ccln.pipeline.metrics.localization import evaluate
from ccln.pipeline.segments import SEGMENT_COUNT


def located(checkpoint: Checkpoint, clips: LabelledClips) -> dict[str, tuple[Tracks, tuple[Event, ...]]]:
    """By key of the clip: what `ccln-localize` finds in these features."""
    assert isinstance(checkpoint.model, CCLN)
    found = {}
    for key, visual, audio in zip(clips.keys, clips.visual, clips.audio, strict=True):
        windows = WindowedNetwork(checkpoint.model)
        windows.add(visual, audio, SEGMENT_COUNT)
        predictions = windows.predictions()
        tracks = decode_tracks(predictions, checkpoint.decoding)
        events = decode_events(predictions, tracks, checkpoint.decoding, checkpoint.class_names, SEGMENT_COUNT)
        found[key] = tracks, long_enough(events, checkpoint.decoding, SEGMENT_COUNT)
    return found


def spans(events: tuple[Event, ...]) -> list[tuple[str, float, float]]:
    """Label, start and end of each."""
    return [(event.label, event.start_seconds, event.end_seconds) for event in events]


def main() -> None:
    """Print the scores on the features of either cache, and how far what is located differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--caches", type=Path, nargs=2, required=True)
    parser.add_argument("--split", choices=["train", "validation", "test"], default="test")
    arguments = parser.parse_args()
    checkpoint, dataset = load_checkpoint(arguments.checkpoint), read_dataset(arguments.data)
    print(f"checkpoint trained on features in {arithmetic_of(checkpoint.specification)}")
    both = []
    for cache in arguments.caches:
        features = load_features(dataset, FeatureCache(cache), checkpoint.specification)
        clips = features.splits[arguments.split]
        scores = evaluate(checkpoint.model, clips)
        shares = scores.segment_accuracy, scores.background_recall, scores.event_f1
        percent = [f"{100 * share:.1f}" for share in shares]
        print(f"{arithmetic_of(features.specification)}: {len(clips)} clips, ", end="")
        print("accuracy {}, background recall {}, event F1 {}".format(*percent))
        both.append(located(checkpoint, clips))
    one, other = both
    if one.keys() != other.keys():
        raise SystemExit("the caches hold features of different clips: extract them all with either precision")
    pairs = [(one[key], other[key]) for key in one]
    same = [(a, b) for (_, a), (_, b) in pairs if spans(a) == spans(b)]
    confidences = np.array([abs(x.confidence - y.confidence) for a, b in same for x, y in zip(a, b, strict=True)])
    tracks = np.array([abs(a.event_probability - b.event_probability) for (a, _), (b, _) in pairs])
    print(f"the same events (label, start, end) in {len(same)} of {len(pairs)} clips")
    for what, apart in (("confidence of these events", confidences), ("event probability of every second", tracks)):
        print(f"{what}: differs by {apart.mean():.4f} in the mean, {apart.max():.4f} at most")


if __name__ == "__main__":
    main()
