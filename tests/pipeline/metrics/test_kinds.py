import numpy as np
import pytest

from ccln.pipeline.metrics.kinds import KindScores, kind_rows, kind_spread_rows, score_kinds

KINDS = np.array([["mismatch", "event", "event", "none"], ["other_seen", "mismatch", "event", ""]])


def test_the_share_of_each_kind_that_is_called_event_by_hand():
    predicted = np.array([[True, True, False, False], [False, False, True, True]])
    scores = score_kinds(predicted, KINDS)
    assert list(scores.items()) == [
        ("event", KindScores(seconds=3, called_event=2 / 3)),
        ("none", KindScores(seconds=1, called_event=0.0)),
        ("mismatch", KindScores(seconds=2, called_event=0.5)),
        ("other_seen", KindScores(seconds=1, called_event=0.0)),
    ]
    assert kind_rows(scores)[:3] == [
        ["kind of second", "seconds", "called event"],
        ["event", "3", "66.7 %"],
        ["none", "1", "0.0 %"],
    ]


def test_mean_and_spread_over_runs():
    first, second = (score_kinds(np.full(KINDS.shape, called), KINDS) for called in (True, False))
    rows = kind_spread_rows({"full": [first, second], "less": [second]})
    assert rows[0] == ["kind of second, called event", "seconds", "full %", "less %"]
    assert rows[1] == ["event", "3", "50.0 ± 70.7", "0.0"]
    assert kind_spread_rows({"full": [{}, {}]}) == []


def test_predictions_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"expected bool of the same shape"):
        score_kinds(np.zeros((2, 3), bool), KINDS)
    with pytest.raises(ValueError, match=r"predicted is int64 \(2, 4\)"):
        score_kinds(np.zeros((2, 4), np.int64), KINDS)
