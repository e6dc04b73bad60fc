"""The result of localization: its times, its checks, and its other forms."""

import builtins
import json
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.located import BELL, BELL_AGAIN, DOG, VIDEO, located_video

from ccln.pipeline.localize.result import Event


@settings(deadline=None, max_examples=40)
@given(data=st.data(), duration=st.floats(0.001, 2e6))
def test_rounding_keeps_events_within_their_video(data: st.DataObject, duration: float):
    start = data.draw(st.floats(0, duration, exclude_max=True))
    end = data.draw(st.floats(start, duration, exclude_min=True) | st.just(duration))
    located = located_video("clip.mp4", duration, (Event("Dog", start, end, 0.5),))
    (event,) = located.events
    assert 0 <= event.start_seconds < event.end_seconds <= located.duration_seconds <= duration
    # To the nearest millisecond but for the video's end, which is rounded down, and events that would become empty.
    exact = end - start >= 0.002
    assert abs(event.start_seconds - start) <= (0.000501 if exact else 0.0021)
    assert abs(event.end_seconds - end) <= (0.000501 if exact and duration - end >= 0.001 else 0.0021)
    assert (event.start_milliseconds, event.end_milliseconds) == (
        pytest.approx(1000 * event.start_seconds),
        pytest.approx(1000 * event.end_seconds),
    )
    assert located_video("clip.mp4", duration, located.events).events == located.events


def test_adjacent_events_stay_adjacent_and_events_are_sorted():
    cut = 1.0005
    first, second = located_video("a.mp4", 3.0, (Event("Bell", cut, 3.0, 0.5), Event("Dog", 0.0, cut, 0.5))).events
    assert (first.label, second.label) == ("Dog", "Bell")
    assert first.end_seconds == second.start_seconds


@pytest.mark.parametrize(
    ("start", "end"), [(-0.5, 1.0), (2.0, 2.0), (3.0, 2.0), (1.0, 6.2), (6.1, 6.2), (float("nan"), 1.0)]
)
def test_an_event_that_is_not_within_its_video_is_refused(start: float, end: float):
    with pytest.raises(ValueError, match=r"tower\.mp4: the event 'Dog' .* is not within the video's 6\.0 s"):
        located_video("tower.mp4", 6.0, (Event("Dog", start, end, 0.5),))


@pytest.mark.parametrize("duration", [-1.0, float("inf"), float("nan")])
def test_a_video_without_a_length_is_refused(duration: float):
    track = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match=r"tower\.mp4: duration_seconds is (-1\.0|inf|nan)"):
        located_video("tower.mp4", duration, seen=track)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"attention": np.zeros((5, 2, 3), np.float32)}, r"clip\.mp4: attention is \(5, 2, 3\)"),
        ({"attention": np.full((6, 2, 3), np.nan, np.float32)}, "not finite"),
        ({"heard": np.full(6, 2, np.float32)}, "'heard'"),
        ({"seen": np.full(6, np.nan, np.float32)}, "'seen'"),
        ({"event_probability": np.zeros(5, np.float32), "seen": np.zeros(6, np.float32)}, "numbers from 0 to 1"),
        ({"labels": ("Dog",) * 5}, "5 labels; expected 6"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        located_video(**parts)


def test_numpy_numbers_become_plain_floats():
    start, end, confidence = (cast(float, number) for number in (np.float32(1.0), np.float64(2.5), np.float32(0.5)))
    (event,) = located_video("a.mp4", 6.0, (Event("Dog", start, end, confidence),)).events
    assert json.dumps(vars(event)) == json.dumps(vars(Event("Dog", 1.0, 2.5, 0.5)))


def test_a_located_video_has_a_short_repr():
    many = tuple(Event("Dog", float(second), second + 1.0, 0.5) for second in range(5))
    assert repr(located_video("a/b.mp4", 6.0)) == "<LocatedVideo b.mp4, 6 s, 0 events>"
    assert repr(located_video("b.mp4", 7.0, (DOG,))) == "<LocatedVideo b.mp4, 7 s, 1 event; Dog 2.5 to 6.006 s>"
    assert len(repr(located_video("b.mp4", 6.0, many))) < 100


def test_a_located_video_converts_to_a_dictionary_for_json():
    assert json.loads(json.dumps(VIDEO.to_dict(), allow_nan=False)) == VIDEO.to_dict()


def test_a_located_video_converts_to_a_data_frame_of_events():
    frame = VIDEO.to_dataframe()
    assert list(frame.columns) == ["path", "label", "start_seconds", "end_seconds", "confidence"]
    assert frame["label"].tolist() == [event.label for event in (BELL, DOG, BELL_AGAIN)]
    assert frame["path"].unique().tolist() == [str(VIDEO.resolved_path)]
    assert pd.api.types.is_float_dtype(frame["confidence"])
    nothing = located_video("a.mp4", 6.0).to_dataframe()
    assert list(nothing.columns) == list(frame.columns)
    assert len(nothing) == 0


def test_without_pandas_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install pandas"):
        VIDEO.to_dataframe()
