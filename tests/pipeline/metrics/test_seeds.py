import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccln.pipeline.cml.metrics import CmlScores
from ccln.pipeline.metrics.seeds import (
    paired_difference,
    seeds_table,
    selected_on_test_table,
    spread,
)
from ccln.pipeline.metrics.segments import Scores

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def run(accuracy: float, **others: float) -> Scores:
    """Scores of a run of which only the accuracy matters, and what is named."""
    values = {
        "background_recall": 0.75,
        "background_precision": 0.5,
        "event_f1": 0.6,
        "event_f1_tiou": 0.7,
        "boundary_error_seconds": 0.5,
        "boundary_matched": 1.0,
        **others,
    }
    return Scores(segment_accuracy=accuracy, clips=160, **values)


def test_spread_by_hand():
    assert spread([0.80, 0.82, 0.87]) == pytest.approx((0.83, math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2)))
    assert spread([1.0, 3.0]) == (2.0, math.sqrt(2))


def test_a_single_run_has_no_spread():
    mean, deviation = spread([0.8])
    assert mean == 0.8
    assert math.isnan(deviation)
    assert math.isnan(paired_difference([0.8], [0.7])[1])


def test_paired_difference_by_hand():
    # Differences 1, 3, 2: mean 2, standard deviation 1.
    assert paired_difference([11, 23, 32], [10, 20, 30]) == pytest.approx((2, 1 / math.sqrt(3)))


def test_an_offset_common_to_all_runs_of_a_seed_cancels_out():
    assert paired_difference([0.5, 0.75, 1.0], [0.25, 0.5, 0.75]) == (0.25, 0.0)


@given(SHARES)
def test_spread_agrees_with_the_standard_library(values):
    mean, deviation = spread(values)
    assert mean == pytest.approx(statistics.fmean(values))
    assert deviation == pytest.approx(statistics.stdev(values), abs=1e-12)


@given(SHARES, st.data())
def test_swapping_the_methods_changes_only_the_sign(a, data):
    b = data.draw(st.lists(st.floats(0, 1), min_size=len(a), max_size=len(a)))
    (there, error), (back, same_error) = paired_difference(a, b), paired_difference(b, a)
    assert there == pytest.approx(-back)
    assert error == pytest.approx(same_error)


def test_runs_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="no run"):
        spread([])
    with pytest.raises(ValueError, match="2 runs against 1"):
        paired_difference([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="no run"):
        seeds_table({"CCLN": []})
    with pytest.raises(ValueError, match="2 runs against 1"):
        seeds_table({"full": [run(0.8), run(0.9)], "without SBI": [run(0.8)]}, "full")
    with pytest.raises(KeyError, match="whole"):
        seeds_table({"full": [run(0.8)]}, "whole")


def test_the_table_has_a_line_for_each_method_with_its_runs():
    table = seeds_table(
        {
            "CCLN": [run(0.84, boundary_error_seconds=0.4), run(0.86, boundary_error_seconds=0.6)],
            "one run": [run(0.8, background_recall=math.nan)],
        }
    )
    head, both, one, _, second, *runs = table.splitlines()
    assert " ".join(head.split()) == "accuracy % bg recall % event F1 % boundary error s"
    assert " ".join(both.split()) == "CCLN 85.0 ± 1.4 75.0 ± 0.0 60.0 ± 0.0 0.50 ± 0.14"
    assert " ".join(one.split()) == "one run 80.0 – 60.0 0.50"
    assert len(head) == len(both) == len(one)
    assert second.strip() == "accuracy of the runs %"
    assert [" ".join(line.split()) for line in runs] == ["CCLN 84.0 86.0", "one run 80.0"]


def test_the_table_shows_the_difference_that_each_part_makes():
    full, less = [run(0.84), run(0.86), run(0.85)], [run(0.83), run(0.83), run(0.83)]
    table = seeds_table({"full": full, "without SBI": less, "better": [run(0.90)] * 3}, "full")
    head, whole, part, better = table.split("\n\n")[1].splitlines()
    assert head.endswith("accuracy: full minus this")
    assert " ".join(whole.split()).endswith("84.0 86.0 85.0 –")
    assert part.endswith("+2.0 ± 0.6")  # 1, 3, 2: standard deviation 1, over the root of 3
    assert better.endswith("-5.0 ± 0.6")


def test_tables_of_five_runs_fit_80_columns():
    runs = {name: [run(0.84)] * 5 for name in ("full", "without WCCL")}
    assert max(map(len, seeds_table(runs, "full").splitlines())) <= 80


def test_other_tasks_have_their_own_columns_in_the_same_tables():
    full = [CmlScores(0.70, 0.80, 38), CmlScores(0.68, 0.84, 38)]
    less = [CmlScores(0.68, 0.80, 38), CmlScores(0.68, 0.80, 38)]
    spreads, *single = [table.splitlines() for table in seeds_table({"CCLN": full}).split("\n\n")]
    assert [" ".join(line.split()) for line in spreads] == ["A2V % V2A %", "CCLN 69.0 ± 1.4 82.0 ± 2.8"]
    assert [line.split() for _, line in single] == [["CCLN", "70.0", "68.0"], ["CCLN", "80.0", "84.0"]]
    _, *single = seeds_table({"full": full, "without WCCL": less}, "full").split("\n\n")
    for table, difference in zip(single, ("+1.0 ± 1.0", "+2.0 ± 2.0"), strict=True):
        assert table.splitlines()[0].endswith(": full minus this")
        assert table.splitlines()[2].endswith(difference)


def test_results_selected_on_test_are_labelled():
    matching = CmlScores(0.70, 0.80, 38)
    head, line, note = selected_on_test_table({"CCLN": [(matching, 0.75), (matching, 0.77)]}).splitlines()
    assert head.startswith("selected on test: mean of A2V and V2A")
    assert note.endswith("optimistic.")
    assert " ".join(line.split()) == "CCLN 76.0 ± 1.4 75.0 77.0"
    assert "accuracy" in selected_on_test_table({"CCLN": [(run(0.8), 0.9)]})
