"""From predictions to events, and how a decoding is chosen on validation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ccln.model import EventDecoding
from ccln.pipeline.localize.events import class_path, decode_events, decode_tracks, long_enough
from ccln.pipeline.localize.result import Event
from ccln.pipeline.localize.windows import SegmentPredictions
from ccln.pipeline.metrics.calibration import (
    choose_decoding,
    decode_labels,
    expected_calibration_error,
    score_decoding,
)
from ccln.pipeline.metrics.localization import Predictions

NAMES = ("Bark", "Cat", "Bell")
AS_IS = EventDecoding()
SEEN = np.zeros((1, 10, len(NAMES)), np.float32)
"""Visual logits of a clip: every class is as likely as not in every second."""
PROBABILITIES = arrays(np.float32, st.integers(1, 12), elements=st.floats(0.015625, 0.984375, width=32))


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability))


def predicted(
    both: list[float] | np.ndarray, classes: list[int] | None = None, sure: float = 0.9
) -> SegmentPredictions:
    """Of seconds with these event probabilities and classes, each class named with the probability `sure`."""
    count = len(both)
    labels = np.zeros(count, int) if classes is None else np.array(classes)
    share = np.full((count, len(NAMES)), (1 - sure) / (len(NAMES) - 1))
    share[np.arange(count), labels] = sure
    evidence = np.linspace(-1, 1, count * len(NAMES)).reshape(count, -1).astype(np.float32)
    event_logits = logit(np.array(both, np.float64)).astype(np.float32)
    return SegmentPredictions(event_logits, np.log(share), evidence, -evidence, np.ones((count, 1, 1), np.float32))


def events(
    given: SegmentPredictions, decoding: EventDecoding = AS_IS, duration_seconds: float | None = None
) -> tuple[Event, ...]:
    seconds = float(len(given.event_logits)) if duration_seconds is None else duration_seconds
    found = decode_events(given, decode_tracks(given, decoding), decoding, NAMES, seconds)
    return long_enough(found, decoding, len(given.event_logits))


def test_runs_at_or_above_the_threshold_are_events():
    found = events(predicted([0.9, 0.7, 0.1, 0.49, 0.51, 0.2, 0.01, 0.01, 0.6, 0.98]))
    assert [(event.start_seconds, event.end_seconds) for event in found] == [(0, 2), (4, 5), (8, 10)]
    assert [event.confidence for event in found] == pytest.approx([0.72, 0.459, 0.711], abs=1e-6)
    assert {event.label for event in found} == {"Bark"}


def test_an_event_of_one_class_follows_another_without_a_pause():
    found = events(predicted([0.98] * 20, [1] * 12 + [2] * 8, sure=0.999))
    assert [(event.label, event.start_seconds, event.end_seconds) for event in found] == [
        ("Cat", 0, 12),
        ("Bell", 12, 20),
    ]


def test_a_single_second_does_not_change_the_class():
    found = events(predicted([0.98] * 15, [1] * 7 + [2] + [1] * 7))
    assert [(event.label, event.start_seconds, event.end_seconds) for event in found] == [("Cat", 0, 15)]


def test_events_end_with_their_video_and_short_ones_are_dropped():
    found = events(predicted([0.1, 0.9, 0.1, 0.9, 0.9]), duration_seconds=4.25)
    assert [(event.start_seconds, event.end_seconds) for event in found] == [(1, 2), (3, 4.25)]
    longer = events(predicted([0.1, 0.9, 0.1, 0.9, 0.9]), EventDecoding(minimum_duration_seconds=2), 4.25)
    assert [(event.start_seconds, event.end_seconds) for event in longer] == [(3, 4.25)]
    assert len(events(predicted([0.9]), EventDecoding(minimum_duration_seconds=3), 0.8)) == 1  # the whole video


@given(PROBABILITIES, st.floats(0.05, 0.95), st.floats(0.25, 4))
def test_events_are_seconds_whose_calibrated_probability_reaches_the_threshold(both, threshold, temperature):
    decoding = EventDecoding(event_threshold=threshold, event_temperature=temperature)
    given_predictions = predicted(both)
    tracks = decode_tracks(given_predictions, decoding)
    calibrated = 1 / (1 + np.exp(-given_predictions.event_logits.astype(np.float64) / temperature))
    np.testing.assert_allclose(tracks.event_probability, calibrated, rtol=1e-5)
    found = events(given_predictions, decoding)
    inside = [any(event.start_seconds <= second < event.end_seconds for event in found) for second in range(len(both))]
    assert inside == (tracks.event_probability >= threshold).tolist()
    for event in found:
        assert 0 < event.confidence <= 1


@given(PROBABILITIES, st.integers(0, 11), st.integers(0, 11))
def test_beside_other_evidence_a_network_counts_where_it_knows_what_is_seen_and_heard(both, seen_at, heard_at):
    seconds = 30
    network = predicted(np.resize(both, seconds))
    network.event_logits[:] *= 3
    for logits, at in ((network.visual_logits, seen_at), (network.audio_logits, heard_at)):
        logits[:] = -30
        logits[at] = 30
    others = np.linspace(-1, 1, seconds)
    added = logit(decode_tracks(network, AS_IS, others).event_probability.astype(np.float64)) - others
    bounded = np.clip(network.event_logits, -3, 3)
    second = np.arange(seconds)
    known = (abs(second - seen_at) < 10) & (abs(second - heard_at) < 10)
    np.testing.assert_allclose(added, np.where(known, bounded, 0), atol=1e-3)


def test_tracks_show_the_evidence_for_the_class_of_the_second():
    given_predictions = predicted([0.98] * 8, [0] * 4 + [2] * 4, sure=0.9999)
    tracks = decode_tracks(given_predictions, EventDecoding())
    assert tracks.classes.tolist() == [0] * 4 + [2] * 4
    for second, label in enumerate(tracks.classes):
        for track, logits in (
            (tracks.seen, given_predictions.visual_logits),
            (tracks.heard, given_predictions.audio_logits),
        ):
            assert track[second] == pytest.approx(1 / (1 + math.exp(-logits[second, label])))


@given(
    arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 3)), elements=st.floats(-5, 5)),
    st.floats(0, 6),
    st.integers(0, 2**31),
)
def test_the_class_path_is_the_best_of_all_paths(class_logits, switch_cost, seed):
    weights = np.random.default_rng(seed).random(len(class_logits))
    log_share = class_logits - np.logaddexp.reduce(class_logits, axis=1, keepdims=True)

    def gain(path: tuple[int, ...]) -> float:
        switches = sum(one != other for one, other in itertools.pairwise(path))
        return (
            sum(w * log_share[t, c] for t, (w, c) in enumerate(zip(weights, path, strict=True)))
            - switch_cost * switches
        )

    best = max(map(gain, itertools.product(range(class_logits.shape[1]), repeat=len(class_logits))))
    assert gain(tuple(class_path(class_logits, weights, switch_cost).tolist())) == pytest.approx(best)


def drawn(clips: int, temperature: float, seed: int = 0) -> tuple[Predictions, np.ndarray]:
    """Clips whose truth is drawn with the probabilities of the logits; these are then multiplied."""
    random = np.random.default_rng(seed)
    event_logits = random.normal(0, 2, (clips, 10))
    class_logits = random.normal(0, 2, (clips, len(NAMES)))
    share = np.exp(class_logits - np.logaddexp.reduce(class_logits, axis=1, keepdims=True))
    labels = np.array([random.choice(len(NAMES), p=p) for p in share])
    is_event = random.random(event_logits.shape) < 1 / (1 + np.exp(-event_logits))
    truth = np.where(is_event, labels[:, None], len(NAMES))
    events, classes = ((temperature * logits).astype(np.float32) for logits in (event_logits, class_logits))
    return Predictions(events, classes, SEEN.repeat(clips, axis=0)), truth


def test_temperatures_undo_overconfidence():
    predictions, truth = drawn(1000, temperature=2.5)
    decoding = choose_decoding(predictions, truth)
    assert decoding.event_temperature == pytest.approx(2.5, rel=0.1)
    assert decoding.class_temperature == pytest.approx(2.5, rel=0.1)
    fresh = drawn(3000, temperature=2.5, seed=1)
    scores = score_decoding(*fresh, decoding)
    assert scores.calibration_error < 0.02 < 0.05 < scores.uncalibrated_error


@given(st.integers(0, 99), st.integers(1, 300))
def test_the_class_threshold_loses_at_most_one_clip_in_a_hundred(seed: int, clips: int):
    random = np.random.default_rng(seed)
    truth = np.full((clips, 10), len(NAMES))
    truth[:, 2:5] = 1
    seen = np.full((clips, 10, len(NAMES)), 0.01)
    seen[:, 3, 1] = random.uniform(0.02, 0.98, clips)  # the second of the event that shows it best
    seen[:, 8] = 0.99  # no part of the event
    class_logits = np.tile(np.log([0.1, 0.8, 0.1]), (clips, 1))
    right = random.random(clips) < 0.9  # the others say nothing of how well a class is seen that is named rightly
    class_logits[~right] = np.log([0.8, 0.1, 0.1])
    given_arrays = (np.where(truth == 1, 3, -3), class_logits, logit(seen))
    predictions = Predictions(*(array.astype(np.float32) for array in given_arrays))
    decoding = choose_decoding(predictions, truth)
    lost = right & (decode_labels(predictions, decoding) == len(NAMES)).all(axis=1)
    assert lost.sum() <= right.sum() / 100
    if right.any():  # and no more are kept than need be
        assert decoding.class_threshold == pytest.approx(np.sort(seen[right, 3, 1])[lost.sum()], abs=1e-3)


def test_an_event_may_last_a_second_and_begins_at_one_half():
    decoding = choose_decoding(*drawn(100, temperature=1))
    assert (decoding.event_threshold, decoding.minimum_duration_seconds) == (0.5, 1)


def test_a_split_without_events_still_gives_a_decoding():
    clips = np.full((3, 10), -2, np.float32), np.zeros((3, len(NAMES)), np.float32), SEEN.repeat(3, axis=0)
    decoding = choose_decoding(Predictions(*clips), np.full((3, 10), len(NAMES)))
    assert (decoding.class_temperature, decoding.class_threshold) == (1, 0)


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1)), st.integers(0, 99))
def test_calibration_error_against_a_loop(confidence, seed):
    right = np.random.default_rng(seed).random(len(confidence)) < 0.5
    total = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [i for i, c in enumerate(confidence) if (low < c <= high) or (number == 0 and c == 0)]
        if inside:
            total += abs(np.mean(right[inside]) - np.mean(confidence[inside])) * len(inside) / len(confidence)
    assert expected_calibration_error(confidence, right) == pytest.approx(total, abs=1e-9)
