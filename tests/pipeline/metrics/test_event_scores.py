"""Event F1, over all classes and class by class, against hand counts, brute force and sed_eval."""

import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from support.scoring import events_of, label_pairs, labels, random_pair

from ccln.pipeline.metrics.segments import score, score_in_detail


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
def test_event_f1_allows_a_second_at_both_ends(predicted: str, truth: str, event_f1: float) -> None:
    assert score(labels(predicted), labels(truth), 2).event_f1 == pytest.approx(event_f1)


@pytest.mark.parametrize(
    ("predicted", "truth", "event_f1"),
    [
        ("AAAA......", "..AAAAAA..", 0.0),  # 2 of 8
        ("AAAAAA....", "..AAAA....", 1.0),  # 4 of 6
        ("AAAA......", "AA........", 1.0),  # 2 of 4, just enough
        ("AAAAA.....", "AA........", 0.0),  # 2 of 5
        ("AAAA......", "BBBB......", 0.0),  # the class
        (".A........", "A.........", 0.0),  # touching; within a second it would be right
        ("AAAAAAAAAA", "..AAAAAAAA", 1.0),  # two seconds off at one end, of ten
        ("AAAAA.....", "AA.AA.....", 0.0),  # neither part is half of it
        ("AAAAA.....", "AAA.A.....", 2 / 3),
        ("AAAABBBB..", "AAA.BBB...", 1.0),
    ],
)
def test_event_f1_tiou_needs_half_of_the_union(predicted: str, truth: str, event_f1: float) -> None:
    assert score(labels(predicted), labels(truth), 2).event_f1_tiou == pytest.approx(event_f1)
    assert score(labels(truth), labels(predicted), 2).event_f1_tiou == pytest.approx(event_f1)


Fits = Callable[[dict, dict], bool]


def ends_within_a_second(a: dict, b: dict) -> bool:
    return abs(a["onset"] - b["onset"]) <= 1 and abs(a["offset"] - b["offset"]) <= 1


def half_in_common(a: dict, b: dict) -> bool:
    first, second = (set(range(int(event["onset"]), int(event["offset"]))) for event in (a, b))
    return 2 * len(first & second) >= len(first | second)


def most_pairs(predicted: list[dict], true: list[dict], fits: Fits) -> int:
    """Size of the largest one-to-one matching, by trying every one."""
    if not predicted:
        return 0
    first, rest = predicted[0], predicted[1:]
    partners = [
        i for i, event in enumerate(true) if event["event_label"] == first["event_label"] and fits(first, event)
    ]
    return max(
        [most_pairs(rest, true, fits), *(1 + most_pairs(rest, true[:i] + true[i + 1 :], fits) for i in partners)]
    )


@settings(deadline=None)
@given(label_pairs())
def test_event_pairing_is_the_largest_possible(pair: tuple[int, np.ndarray, np.ndarray]) -> None:
    class_count, predicted, truth = pair
    clips = [(events_of(p, class_count), events_of(t, class_count)) for p, t in zip(predicted, truth, strict=True)]
    count = sum(len(p) + len(t) for p, t in clips)
    scores = score(predicted, truth, class_count)
    for found, fits in ((scores.event_f1, ends_within_a_second), (scores.event_f1_tiou, half_in_common)):
        expected = 2 * sum(most_pairs(p, t, fits) for p, t in clips) / count if count else np.nan
        assert found == pytest.approx(expected, nan_ok=True)


@pytest.fixture(scope="module")
def sed_eval():
    # Its dcase_util imports pkg_resources, which setuptools no longer has, but calls nothing of it here.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pkg_resources", sys.modules.get("pkg_resources", ModuleType("pkg_resources")))
        yield pytest.importorskip("sed_eval")


def test_event_f1_agrees_with_sed_eval(sed_eval) -> None:
    """Where its definition is ours: overall and class by class, without the share of the length that it also allows.

    By default sed_eval lets the end of an event be off by half its length, too (`percentage_of_length`), which our
    second at most does not. Where no event is right, it calls the F1 NaN even if there are events; ours is 0 then.
    It has no F1 by temporal intersection over union.
    """
    random = np.random.default_rng(0)
    scored = []
    for _ in range(150):
        class_count, predicted, truth = random_pair(random)
        reference = sed_eval.sound_event.EventBasedMetrics(
            [str(label) for label in range(class_count)],
            t_collar=1.0,
            percentage_of_length=0.0,
            event_matching_type="optimal",
        )
        for predicted_clip, true_clip in zip(predicted, truth, strict=True):
            reference.evaluate(events_of(true_clip, class_count), events_of(predicted_clip, class_count))

        def expected(results: dict, labels: list[int], predicted=predicted, truth=truth) -> float:
            f1 = results["f_measure"]["f_measure"]
            has_events = bool((np.isin(truth, labels) | np.isin(predicted, labels)).any())
            return 0.0 if np.isnan(f1) and has_events else f1

        overall = expected(reference.results_overall_metrics(), list(range(class_count)))
        scored.append(overall)
        assert score(predicted, truth, class_count).event_f1 == pytest.approx(overall, nan_ok=True)
        nothing = np.full(len(truth), class_count)
        classes = score_in_detail(predicted, truth, class_count, nothing, nothing).classes
        for label, results in reference.results_class_wise_metrics().items():
            assert classes[int(label)].event_f1 == pytest.approx(expected(results, [int(label)]), nan_ok=True)
    assert len(set(scored)) > 30  # the draws are of use
