from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ccln.pipeline.events import Event, equal_runs, events_from_segments

PROBABILITIES = arrays(np.float64, st.integers(0, 12), elements=st.floats(0, 1))


def test_runs_at_or_above_the_threshold_are_events():
    events = events_from_segments([0.9, 0.7, 0.1, 0.49, 0.5, 0.2, 0.0, 0.0, 0.6, 1.0], "Bark", 0.5)
    assert [(event.start_seconds, event.end_seconds) for event in events] == [(0, 2), (4, 5), (8, 10)]
    assert [event.confidence for event in events] == pytest.approx([0.4, 0.25, 0.4])
    assert {event.label for event in events} == {"Bark"}


def test_segments_of_another_length():
    events = events_from_segments([0, 1, 1, 0, 1], "Bark", 1, segment_seconds=0.5, duration_seconds=2.5)
    assert events == (Event("Bark", 0.5, 1.5, 1.0), Event("Bark", 2.0, 2.5, 1.0))


def test_an_event_ends_with_its_clip():
    probability = [0, 0, 0.75, 0.5, 1, 0, 1, 1]
    # The segment at 4 s is no part of the clip, so it does not raise the confidence.
    assert events_from_segments(probability, "Bark", 1, duration_seconds=3.25) == (Event("Bark", 2.0, 3.25, 0.625),)
    assert events_from_segments(probability, "Bark", 1, duration_seconds=2.0) == ()
    assert events_from_segments(probability, "Bark", 1, duration_seconds=0.0) == ()
    assert events_from_segments([], "Bark", 1) == ()


@given(PROBABILITIES, st.floats(0, 1), st.floats(0, 1), st.floats(0, 15), st.sampled_from([0.25, 0.96, 1.0, 2.0]))
def test_a_moment_is_in_an_event_where_its_segment_reaches_the_threshold(
    probability, label_probability, threshold, duration_seconds, segment_seconds
):
    events = events_from_segments(probability, "Bark", label_probability, threshold, duration_seconds, segment_seconds)
    for index, segment_probability in enumerate(probability):
        start = index * segment_seconds
        end = min((index + 1) * segment_seconds, duration_seconds)
        if start < end:
            moment = (start + end) / 2
            inside = sum(event.start_seconds <= moment < event.end_seconds for event in events)
            assert inside == (segment_probability >= threshold)
    for event in events:
        assert 0 <= event.start_seconds < event.end_seconds <= duration_seconds
        assert label_probability * threshold - 1e-12 <= event.confidence <= label_probability
    for earlier, later in pairwise(events):
        assert earlier.end_seconds < later.start_seconds  # they touch nowhere, or they would be one


@given(arrays(np.int64, st.integers(0, 12), elements=st.integers(0, 2)))
def test_runs_are_maximal_and_cover_all(values):
    runs = equal_runs(values)
    assert [position for start, end in runs for position in range(start, end)] == list(range(len(values)))
    assert all(len(set(values[start:end].tolist())) == 1 for start, end in runs)
    assert all(values[end] != values[end - 1] for _, end in runs[:-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event_probability": [[0.5]]}, r"shape \(1, 1\)"),
        ({"event_probability": [0.5, 1.5]}, "event_probability is .*1.5"),
        ({"event_probability": [0.5, np.nan]}, "event_probability is .*nan"),
        ({"label_probability": -0.1}, "label_probability is -0.1"),
        ({"segment_seconds": 0.0}, "segment_seconds is 0.0"),
        ({"duration_seconds": -1.0}, "duration_seconds is -1.0"),
        ({"duration_seconds": np.nan}, "duration_seconds is nan"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        events_from_segments(**{"event_probability": [0.5], "label": "Bark", "label_probability": 0.5, **arguments})
