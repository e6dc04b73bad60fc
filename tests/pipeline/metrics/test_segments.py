import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_score, recall_score
from support.paths import SHARED
from support.scoring import events_of, label_pairs, labels

from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import class_labels, segment_labels
from ccln.pipeline.metrics.segments import baselines, score

PUBLISHED = SHARED / "ave"


# By hand


def test_a_perfect_prediction_has_perfect_scores():
    truth = labels("..AAA.....", "BBBBBBBBBB", "AA..BB..AA")
    scores = score(truth, truth, 2)
    assert scores.as_dict() == {
        "segment_accuracy": 1.0,
        "background_recall": 1.0,
        "background_precision": 1.0,
        "event_f1": 1.0,
        "event_f1_tiou": 1.0,
        "boundary_error_seconds": 0.0,
        "boundary_matched": 1.0,
        "clips": 3,
    }


def test_scores_by_hand():
    truth = labels("..AAAA....", "BBBBBBBBBB", "..........", "AAAA..AAAA")
    predicted = labels("...AAAA...", "AAAAAAAAAA", ".........B", "AAAAAAAAA.")
    scores = score(predicted, truth, 2)
    assert scores.segment_accuracy == pytest.approx((8 + 0 + 9 + 7) / 40)
    assert scores.background_recall == pytest.approx((5 + 0 + 9 + 0) / 18)
    assert scores.background_precision == pytest.approx((5 + 0 + 9 + 0) / (6 + 0 + 9 + 1))
    # One right of four predicted and four true; the run over both true events of the last clip is right for neither.
    assert scores.event_f1 == pytest.approx(2 * 1 / (4 + 4))
    # Three of five seconds in the first clip; four of nine in the last are too few.
    assert scores.event_f1_tiou == pytest.approx(2 * 1 / (4 + 4))
    # First clip (1 + 1) / 2; last clip 0..9 against 0..4, (0 + 5) / 2, and against 6..10, (6 + 1) / 2.
    assert scores.boundary_error_seconds == pytest.approx((1 + 2.5 + 3.5) / 3)
    assert scores.boundary_matched == pytest.approx(3 / 4)
    assert scores.clips == 4


def test_the_boundary_is_measured_on_the_event_that_overlaps_most():
    scores = score(labels("AAA.AAAAAA"), labels(".AAAAAAA.."), 2)
    assert scores.boundary_error_seconds == pytest.approx((3 + 2) / 2)
    scores = score(labels("AA....AA..", "....BB...."), labels("..AA......", "....AA...."), 2)
    assert np.isnan(scores.boundary_error_seconds)  # touching is no overlap
    assert scores.boundary_matched == 0


def test_a_score_without_a_denominator_is_nan_and_none_in_json():
    nothing = score(labels("......"), labels("......"), 2)
    assert np.isnan([nothing.event_f1, nothing.boundary_error_seconds, nothing.boundary_matched]).all()
    assert nothing.background_recall == 1
    no_background = score(labels("AAA"), labels("AAA"), 2)
    assert np.isnan([no_background.background_recall, no_background.background_precision]).all()
    assert json.loads(json.dumps(nothing.as_dict(), allow_nan=False)) == {
        "segment_accuracy": 1.0,
        "background_recall": 1.0,
        "background_precision": 1.0,
        "event_f1": None,
        "event_f1_tiou": None,
        "boundary_error_seconds": None,
        "boundary_matched": None,
        "clips": 1,
    }


def test_labels_may_be_any_integers():
    predicted, truth = labels("A.BB", "B..."), labels("AABB", "A...")
    assert score(predicted.astype(np.uint8), truth.astype(np.int16), 2) == score(predicted, truth, 2)


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((2, 4), int), r"\(2, 3\) but truth \(2, 4\)"),
        (np.zeros((1, 4), int), np.zeros((2, 4), int), r"\(1, 4\) but truth \(2, 4\)"),
        (np.zeros(4, int), np.zeros(4, int), r"predicted has the shape \(4,\)"),
        (np.zeros((0, 10), int), np.zeros((0, 10), int), r"predicted has the shape \(0, 10\)"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), "predicted holds float64"),
        (np.full((2, 3), 3), np.zeros((2, 3), int), "predicted has labels from 3 to 3; expected 0 to 2"),
        (np.zeros((2, 3), int), np.full((2, 3), -1), "truth has labels from -1 to -1"),
    ],
)
def test_labels_that_do_not_fit_are_named(predicted, truth, message):
    with pytest.raises(ValueError, match=message):
        score(predicted, truth, 2)


# Against others


@settings(deadline=None)
@given(label_pairs())
def test_segments_agree_with_scikit_learn(pair):
    class_count, predicted, truth = pair
    scores = score(predicted, truth, class_count)
    assert scores.segment_accuracy == pytest.approx(accuracy_score(truth.ravel(), predicted.ravel()))
    background: dict = {"labels": [class_count], "average": "macro", "zero_division": np.nan}
    recall = recall_score(truth.ravel(), predicted.ravel(), **background)
    precision = precision_score(truth.ravel(), predicted.ravel(), **background)
    assert scores.background_recall == pytest.approx(recall, nan_ok=True)
    assert scores.background_precision == pytest.approx(precision, nan_ok=True)


@settings(deadline=None)
@given(label_pairs())
def test_boundary_error_agrees_with_counting_seconds(pair):
    class_count, predicted, truth = pair
    errors = []
    true_count = 0
    for predicted_clip, true_clip in zip(predicted, truth, strict=True):
        for true_event in events_of(true_clip, class_count):
            true_count += 1
            start, end = true_event["onset"], true_event["offset"]
            best_overlap, best_error = 0, None
            for event in events_of(predicted_clip, class_count):
                seconds = set(range(int(event["onset"]), int(event["offset"]))) & set(range(int(start), int(end)))
                if event["event_label"] == true_event["event_label"] and len(seconds) > best_overlap:
                    best_overlap = len(seconds)
                    best_error = (abs(event["onset"] - start) + abs(event["offset"] - end)) / 2
            errors += [best_error] if best_error is not None else []
    scores = score(predicted, truth, class_count)
    expected_error = np.mean(errors) if errors else np.nan
    assert scores.boundary_error_seconds == pytest.approx(expected_error, nan_ok=True)
    assert scores.boundary_matched == pytest.approx(len(errors) / true_count if true_count else np.nan, nan_ok=True)


# Properties


@settings(deadline=None)
@given(label_pairs())
def test_the_truth_has_perfect_scores_and_none_is_better(pair):
    class_count, predicted, truth = pair
    shares = ("segment_accuracy", "background_recall", "background_precision", "event_f1", "event_f1_tiou")
    perfect, found = score(truth, truth, class_count), score(predicted, truth, class_count)
    for name in (*shares, "boundary_matched"):
        assert getattr(perfect, name) == 1 or np.isnan(getattr(perfect, name))
        assert 0 <= getattr(found, name) <= 1 or np.isnan(getattr(found, name))
    assert perfect.boundary_error_seconds == 0 or np.isnan(perfect.boundary_error_seconds)
    assert not found.boundary_error_seconds < 0


@settings(deadline=None)
@given(label_pairs(), st.data())
def test_the_order_of_the_clips_changes_nothing(pair, data):
    class_count, predicted, truth = pair
    order = np.array(data.draw(st.permutations(range(len(truth)))))
    expected = pytest.approx(score(predicted, truth, class_count).as_dict())
    assert score(predicted[order], truth[order], class_count).as_dict() == expected


# Baselines


def test_baselines_by_hand():
    train = labels("AA..", "A.B.", "BBB.", "B...")  # more background than any class
    truth = labels("A...", "BBBB")
    expected = {
        "always background": labels("....", "...."),
        "most frequent label per segment": labels("A.B.", "A.B."),  # A and B tie in the first, B and . in the third
        "best single class": labels("BBBB", "BBBB"),
        "oracle class, every segment an event": labels("AAAA", "BBBB"),
    }
    found = baselines(train, truth, 2, np.array([0, 1]))
    assert list(found) == list(expected)
    assert found["always background"].segment_accuracy == 3 / 8
    assert found["most frequent label per segment"].segment_accuracy == 4 / 8
    assert found["best single class"].segment_accuracy == 4 / 8
    assert found["oracle class, every segment an event"].segment_accuracy == 5 / 8
    for name, prediction in expected.items():
        assert found[name].as_dict() == score(prediction, truth, 2).as_dict()


def test_baselines_refuse_what_does_not_fit():
    truth = labels("A...", "BBBB")
    with pytest.raises(ValueError, match="train_truth has 3 segments a clip but truth 4"):
        baselines(labels("A.."), truth, 2, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"clip_labels has the shape \(1,\); expected \(2,\)"):
        baselines(truth, truth, 2, np.array([0]))
    with pytest.raises(ValueError, match="clip_labels has labels from 0 to 3; expected 0 to 2"):
        baselines(truth, truth, 2, np.array([0, 3]))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published AVE files are not in {PUBLISHED}")
def test_published_baselines(tmp_path):
    for name in ("Annotations.txt", "trainSet.txt", "valSet.txt", "testSet.txt"):
        shutil.copy(PUBLISHED / name, tmp_path)
    folder = read_ave_folder(tmp_path)
    train, test = (segment_labels(folder.clips_of(split), folder.class_names) for split in ("train", "test"))
    clip_labels = class_labels(folder.clips_of("test"), folder.class_names)
    found = baselines(train, test, len(folder.class_names), clip_labels)
    assert round(100 * found["always background"].segment_accuracy, 1) == 17.8
    assert round(100 * found["oracle class, every segment an event"].segment_accuracy, 1) == 82.2
    assert found["always background"].background_recall == 1
    assert found["oracle class, every segment an event"].boundary_matched == 1
