import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, recall_score

from ccln.pipeline.datasets.annotations import class_labels, segment_labels
from ccln.pipeline.datasets.ave_folder import read_ave_folder
from ccln.pipeline.metrics import floors, score

PUBLISHED = Path(__file__).parents[2] / "shared" / "ave"


def labels(*clips: str) -> np.ndarray:
    """Clips written a character a segment: letters are classes, a dot is the background, which is 2."""
    return np.array([["AB.".index(character) for character in clip] for clip in clips])


def label_pairs(highest_class_count=3):
    """Class count, predicted and true labels of one shape, with runs long enough to be nearly right now and then."""

    @st.composite
    def draw_pair(draw):
        class_count = draw(st.integers(1, highest_class_count))
        shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 10)))
        values = arrays(np.int64, shape, elements=st.integers(0, class_count))
        truth = draw(values)
        predicted = np.where(
            draw(arrays(np.bool_, shape)), draw(values), np.roll(truth, draw(st.integers(-1, 1)), axis=1)
        )
        return class_count, predicted, truth

    return draw_pair()


# By hand


def test_a_perfect_answer():
    truth = labels("..AAA.....", "BBBBBBBBBB", "AA..BB..AA")
    scores = score(truth, truth, 2)
    assert scores.as_dict() == {
        "segment_accuracy": 1.0,
        "background_recall": 1.0,
        "event_f1": 1.0,
        "boundary_error_seconds": 0.0,
        "boundary_matched": 1.0,
        "clips": 3,
    }


def test_by_hand():
    truth = labels("..AAAA....", "BBBBBBBBBB", "..........", "AAAA..AAAA")
    predicted = labels("...AAAA...", "AAAAAAAAAA", ".........B", "AAAAAAAAA.")
    scores = score(predicted, truth, 2)
    assert scores.segment_accuracy == pytest.approx((8 + 0 + 9 + 7) / 40)
    assert scores.background_recall == pytest.approx((5 + 0 + 9 + 0) / 18)
    # One right of four predicted and four true; the run over both true events of the last clip is right for neither.
    assert scores.event_f1 == pytest.approx(2 * 1 / (4 + 4))
    # First clip (1 + 1) / 2; last clip 0..9 against 0..4, (0 + 5) / 2, and against 6..10, (6 + 1) / 2.
    assert scores.boundary_error_seconds == pytest.approx((1 + 2.5 + 3.5) / 3)
    assert scores.boundary_matched == pytest.approx(3 / 4)
    assert scores.clips == 4


@pytest.mark.parametrize(
    ("predicted", "truth", "event_f1"),
    [
        (".AAAAA....", "..AAA.....", 1.0),  # both ends one second off
        ("AAAAA.....", "..AAA.....", 0.0),  # the start two seconds off
        ("..AAAAA...", "..AAA.....", 0.0),  # the end two seconds off
        ("..BBB.....", "..AAA.....", 0.0),  # the class
        ("..A.A.....", "...A......", 2 / 3),  # both are near enough, but one is enough
        ("..A.A.....", "..A.A.....", 1.0),
        ("A.A.......", ".A.A......", 1.0),
        ("..A.A.A...", ".A.A......", 4 / 5),
        ("..AABB....", "..AAAB....", 1.0),  # neighbours without background between them
    ],
)
def test_event_f1(predicted, truth, event_f1):
    assert score(labels(predicted), labels(truth), 2).event_f1 == pytest.approx(event_f1)


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
    assert np.isnan(no_background.background_recall)
    assert json.loads(json.dumps(nothing.as_dict(), allow_nan=False)) == {
        "segment_accuracy": 1.0,
        "background_recall": 1.0,
        "event_f1": None,
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
    if (truth == class_count).any():
        recall = recall_score(truth.ravel(), predicted.ravel(), labels=[class_count], average="macro")
        assert scores.background_recall == pytest.approx(recall)
    else:
        assert np.isnan(scores.background_recall)


@pytest.fixture(scope="module")
def sed_eval():
    # Its dcase_util imports pkg_resources, which setuptools no longer has, but calls nothing of it here.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pkg_resources", sys.modules.get("pkg_resources", ModuleType("pkg_resources")))
        yield pytest.importorskip("sed_eval")


def runs(clip: np.ndarray, background: int) -> list[dict]:
    """The events of a clip, found segment by segment, as sed_eval wants them."""
    events: list[dict] = []
    for second, label in enumerate(clip.tolist()):
        if label == background:
            continue
        if events and events[-1]["offset"] == second and events[-1]["event_label"] == str(label):
            events[-1]["offset"] = float(second + 1)
        else:
            events.append({"event_label": str(label), "onset": float(second), "offset": float(second + 1)})
    return events


def test_event_f1_agrees_with_sed_eval(sed_eval):
    random = np.random.default_rng(0)
    scored = []
    for _ in range(150):
        class_count = int(random.integers(1, 4))
        truth = random.integers(0, class_count + 1, size=(2, 10))
        # Random labels, and the truth moved by a second or two, which is right, half right or wrong.
        moved = np.roll(truth, random.integers(-2, 3), axis=1)
        predicted = np.where(
            random.random(truth.shape) < random.random(), random.integers(0, class_count + 1, truth.shape), moved
        )
        reference = sed_eval.sound_event.EventBasedMetrics(
            [str(label) for label in range(class_count)],
            t_collar=1.0,
            percentage_of_length=0.0,
            event_matching_type="optimal",
        )
        for predicted_clip, true_clip in zip(predicted, truth, strict=True):
            reference.evaluate(runs(true_clip, class_count), runs(predicted_clip, class_count))
        expected = reference.results_overall_metrics()["f_measure"]["f_measure"]
        if np.isnan(expected):  # so it calls the F1 of no right event, even where there are events
            has_events = bool(((truth < class_count) | (predicted < class_count)).any())
            expected = 0.0 if has_events else np.nan
        scored.append(expected)
        assert score(predicted, truth, class_count).event_f1 == pytest.approx(expected, nan_ok=True)
    assert len(set(scored)) > 30  # the draws are of use


@settings(deadline=None)
@given(label_pairs())
def test_boundary_error_agrees_with_counting_seconds(pair):
    class_count, predicted, truth = pair
    errors = []
    true_count = 0
    for predicted_clip, true_clip in zip(predicted, truth, strict=True):
        for true_event in runs(true_clip, class_count):
            true_count += 1
            start, end = true_event["onset"], true_event["offset"]
            best_overlap, best_error = 0, None
            for event in runs(predicted_clip, class_count):
                seconds = set(range(int(event["onset"]), int(event["offset"]))) & set(range(int(start), int(end)))
                if event["event_label"] == true_event["event_label"] and len(seconds) > best_overlap:
                    best_overlap = len(seconds)
                    best_error = (abs(event["onset"] - start) + abs(event["offset"] - end)) / 2
            errors += [best_error] if best_error is not None else []
    scores = score(predicted, truth, class_count)
    expected_error = np.mean(errors) if errors else np.nan
    assert scores.boundary_error_seconds == pytest.approx(expected_error, nan_ok=True)
    assert scores.boundary_matched == pytest.approx(len(errors) / true_count if true_count else np.nan, nan_ok=True)


# Floors


def test_floors_by_hand():
    train = labels("AA..", "A.B.", "BBB.", "B...")  # more background than any class
    truth = labels("A...", "BBBB")
    answers = {
        "always background": labels("....", "...."),
        "most frequent label per segment": labels("A.B.", "A.B."),  # A and B tie in the first, B and . in the third
        "best single class": labels("BBBB", "BBBB"),
        "right class, every segment an event": labels("AAAA", "BBBB"),
    }
    found = floors(train, truth, 2, np.array([0, 1]))
    assert list(found) == list(answers)
    assert found["always background"].segment_accuracy == 3 / 8
    assert found["most frequent label per segment"].segment_accuracy == 4 / 8
    assert found["best single class"].segment_accuracy == 4 / 8
    assert found["right class, every segment an event"].segment_accuracy == 5 / 8
    for name, answer in answers.items():
        assert found[name].as_dict() == score(answer, truth, 2).as_dict()


def test_floors_refuse_what_does_not_fit():
    truth = labels("A...", "BBBB")
    with pytest.raises(ValueError, match="train_truth has 3 segments a clip but truth 4"):
        floors(labels("A.."), truth, 2, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"clip_labels has the shape \(1,\); expected \(2,\)"):
        floors(truth, truth, 2, np.array([0]))
    with pytest.raises(ValueError, match="clip_labels has labels from 0 to 3; expected 0 to 2"):
        floors(truth, truth, 2, np.array([0, 3]))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published AVE files are not in {PUBLISHED}")
def test_published_floors(tmp_path):
    for name in ("Annotations.txt", "trainSet.txt", "valSet.txt", "testSet.txt"):
        shutil.copy(PUBLISHED / name, tmp_path)
    folder = read_ave_folder(tmp_path)
    train, test = (segment_labels(folder.clips_of(split), folder.class_names) for split in ("train", "test"))
    clip_labels = class_labels(folder.clips_of("test"), folder.class_names)
    found = floors(train, test, len(folder.class_names), clip_labels)
    assert round(100 * found["always background"].segment_accuracy, 1) == 17.8
    assert round(100 * found["right class, every segment an event"].segment_accuracy, 1) == 82.2
    assert found["always background"].background_recall == 1
    assert found["right class, every segment an event"].boundary_matched == 1
