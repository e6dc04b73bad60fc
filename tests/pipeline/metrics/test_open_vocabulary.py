"""OV-AVEL's scores, against a plain computation from matrices, as its authors describe them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ccln.pipeline.metrics.open_vocabulary import open_scores_table, score_open, score_seen_and_unseen

CLASSES = 3
labels = arrays(np.int64, st.tuples(st.just(4), st.just(10)), elements=st.integers(0, CLASSES))


def events(row: np.ndarray) -> list[set[int]]:
    """Maximal runs of ones, as sets of seconds."""
    found: list[set[int]] = []
    for second in np.flatnonzero(row):
        if found and second - 1 in found[-1]:
            found[-1].add(int(second))
        else:
            found.append({int(second)})
    return found


def plain(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Accuracy, and both F1 by true and false positives and negatives of each row of (label, segment) matrices."""
    of_segments, of_events = [], []
    for clip in range(len(truth)):
        segment, event = [], []
        for label in range(CLASSES + 1):
            found, wanted = (of[clip] == label for of in (predicted, truth))
            if not found.any() and not wanted.any():
                continue
            right, extra, lost = (found & wanted).sum(), (found & ~wanted).sum(), (~found & wanted).sum()
            segment.append(2 * right / (2 * right + extra + lost))
            a, b = events(found), events(wanted)
            hit = [any(len(x & y) >= 0.5 * len(x | y) for y in b) for x in a]
            met = [any(len(x & y) >= 0.5 * len(x | y) for x in a) for y in b]
            right, extra, lost = sum(hit), len(hit) - sum(hit), len(met) - sum(met)
            event.append(2 * right / (2 * right + extra + lost))
        of_segments.append(np.mean(segment))
        of_events.append(np.mean(event))
    return float((predicted == truth).mean()), float(np.mean(of_segments)), float(np.mean(of_events))


@settings(max_examples=150, deadline=None)
@given(labels, labels)
def test_scores_are_those_of_the_matrices(predicted: np.ndarray, truth: np.ndarray) -> None:
    scores = score_open(predicted, truth)
    found = scores.segment_accuracy, scores.segment_f1, scores.event_f1
    assert found == pytest.approx(plain(predicted, truth))
    assert scores.average == pytest.approx(sum(found) / 3)


@settings(max_examples=50, deadline=None)
@given(labels)
def test_what_is_right_scores_one(truth: np.ndarray) -> None:
    scores = score_open(truth, truth)
    assert (scores.segment_accuracy, scores.segment_f1, scores.event_f1, scores.clips) == (1, 1, 1, 4)


def test_a_known_clip() -> None:
    truth = np.array([[0, 0, 0, 0, 3, 3, 3, 3, 3, 3]])
    predicted = np.array([[0, 0, 3, 3, 3, 3, 3, 3, 1, 1]])
    scores = score_open(predicted, truth)
    assert scores.segment_accuracy == pytest.approx(0.6)
    # Class 0: 2 of 4 and none extra; class 1: all extra; background: 4 right, 2 extra, 2 lost.
    assert scores.segment_f1 == pytest.approx((4 / 6 + 0 + 8 / 12) / 3)
    # The event of class 0 has IoU 2/4, that of the background 4/8.
    assert scores.event_f1 == pytest.approx((1 + 0 + 1) / 3)


def test_clips_count_to_seen_and_unseen_by_their_own_class() -> None:
    names = ("a", "b", "c")
    truth = np.array([[0] * 10, [1] * 10, [2] * 10, [3] * 10])
    predicted = np.array([[0] * 10, [3] * 10, [2] * 5 + [3] * 5, [3] * 10])
    scores = score_seen_and_unseen(predicted, truth, np.array([0, 1, 2, 3]), names, {"b", "c"})
    assert {name: of.clips for name, of in scores.items()} == {"all": 4, "seen": 1, "unseen": 2}
    assert scores["seen"].segment_accuracy == 1
    assert scores["unseen"].segment_accuracy == 0.25
    assert scores["all"].segment_accuracy == pytest.approx(0.625)
    text = open_scores_table(scores)
    assert [line.split()[0] for line in text.splitlines()] == ["classes", "all", "seen", "unseen"]


def test_no_clips_have_no_score() -> None:
    scores = score_open(np.zeros((0, 10), int), np.zeros((0, 10), int))
    assert math.isnan(scores.segment_f1)
    assert scores.clips == 0
    with pytest.raises(ValueError, match="expected the same"):
        score_open(np.zeros((1, 10), int), np.zeros((1, 9), int))
