import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ccln.pipeline.segments import equal_runs


@given(arrays(np.int64, st.integers(0, 12), elements=st.integers(0, 2)))
def test_runs_are_maximal_and_cover_all_values(values):
    runs = equal_runs(values)
    assert [position for start, end in runs for position in range(start, end)] == list(range(len(values)))
    assert all(len(set(values[start:end].tolist())) == 1 for start, end in runs)
    assert all(values[end] != values[end - 1] for _, end in runs[:-1])
