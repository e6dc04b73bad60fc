import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from support.scoring import label_pairs, labels

from ccln.pipeline.metrics.segments import ClassScores, DetailedScores, score_in_detail


def in_detail(predicted: np.ndarray, truth: np.ndarray, class_count: int) -> DetailedScores:
    """Scores of labels alone; that no clip has a class."""
    nothing = np.full(len(truth), class_count)
    return score_in_detail(predicted, truth, class_count, nothing, nothing)


def test_class_scores_by_hand():
    truth = labels("..AAAA....", "BBBBBBBBBB", "..........", "AAAA......")
    predicted = labels("...AAAA...", "AAAAAAAAAA", ".........B", "..........")
    scores = score_in_detail(predicted, truth, 2, named=np.array([0, 0, 1, 0]), clip_labels=np.array([0, 1, 2, 0]))
    assert scores.confusion.tolist() == [[3, 0, 5], [10, 0, 0], [1, 1, 20]]
    # Of A one event is right, of four: two true, two predicted. The clip that found none was still named A.
    assert scores.classes == (
        ClassScores(clips=2, named_right=2, segment_recall=3 / 8, segment_precision=3 / 14, event_f1=2 / 4),
        ClassScores(clips=1, named_right=0, segment_recall=0.0, segment_precision=0.0, event_f1=0.0),
    )
    assert scores.clip_accuracy == 2 / 3


def test_a_class_without_clips_or_predictions_has_no_scores():
    scores = in_detail(labels("AA.."), labels("AA.."), 2)
    assert np.isnan([scores.classes[1].segment_recall, scores.classes[1].segment_precision]).all()
    assert np.isnan(scores.classes[1].event_f1)
    assert np.isnan(scores.clip_accuracy)
    assert scores.classes[0].event_f1 == 1


def test_clip_labels_that_do_not_fit_are_named():
    truth, right = labels("AA..", "BBBB"), np.array([0, 1])
    with pytest.raises(ValueError, match=r"named has the shape \(3,\); expected \(2,\)"):
        score_in_detail(truth, truth, 2, np.array([0, 1, 0]), right)
    with pytest.raises(ValueError, match="clip_labels has labels from 0 to 3; expected 0 to 2"):
        score_in_detail(truth, truth, 2, right, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"predicted has the shape \(1, 4\) but truth \(2, 4\)"):
        score_in_detail(truth[:1], truth, 2, right, right)


@settings(deadline=None)
@given(label_pairs())
def test_segments_agree_with_scikit_learn(pair):
    class_count, predicted, truth = pair
    scores = in_detail(predicted, truth, class_count)
    flat, every = (truth.ravel(), predicted.ravel()), list(range(class_count + 1))
    assert scores.confusion.tolist() == confusion_matrix(*flat, labels=every).tolist()
    each: dict = {"labels": every, "average": None, "zero_division": np.nan}
    recalls, precisions = np.asarray(recall_score(*flat, **each)), np.asarray(precision_score(*flat, **each))
    for label, found in enumerate(scores.classes):
        assert found.segment_recall == pytest.approx(recalls[label], nan_ok=True)
        assert found.segment_precision == pytest.approx(precisions[label], nan_ok=True)


@settings(deadline=None)
@given(label_pairs(), st.data())
def test_clips_are_counted_once_in_any_order(pair, data):
    class_count, predicted, truth = pair
    clip_values = arrays(np.int64, len(truth), elements=st.integers(0, class_count))
    named, clip_labels = data.draw(clip_values), data.draw(clip_values)
    scores = score_in_detail(predicted, truth, class_count, named, clip_labels)
    assert sum(scores.clips for scores in scores.classes) == (clip_labels < class_count).sum()
    right = [n for n, label in zip(named, clip_labels, strict=True) if n == label < class_count]
    assert [scores.named_right for scores in scores.classes] == [right.count(label) for label in range(class_count)]
    order = np.array(data.draw(st.permutations(range(len(truth)))))
    again = score_in_detail(predicted[order], truth[order], class_count, named[order], clip_labels[order])
    assert str(again.classes) == str(scores.classes)  # NaN is not equal to itself, but reads the same
    assert (again.confusion == scores.confusion).all()
