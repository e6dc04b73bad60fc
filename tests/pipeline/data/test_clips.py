import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccln.pipeline.data.clips import (
    AnnotatedClip,
    Dataset,
    DatasetError,
    Split,
    class_labels,
    segment_labels,
    videos_of,
)


def a_clip(*spans: tuple[float, float], label: str | None = "Bark", split: Split = "train", path=None) -> AnnotatedClip:
    return AnnotatedClip(0, label, "a", spans, split, path)


def test_segment_labels_of_whole_seconds_are_half_open():
    clips = [a_clip((2, 4), label="Cat"), a_clip((3, 3)), a_clip((0, 10))]
    labels = segment_labels(clips, ["Bark", "Cat"])
    assert labels.dtype == np.int64
    assert labels.tolist() == [[2, 2, 1, 1, 2, 2, 2, 2, 2, 2], [2] * 10, [0] * 10]
    assert segment_labels(clips[:1], ["Bark", "Cat"], segments=3).tolist() == [[2, 2, 1]]
    assert segment_labels([], ["Bark"]).shape == (0, 10)


@pytest.mark.parametrize(
    ("spans", "segments"),
    [
        ([(0.5, 1.5)], [0, 1]),
        ([(0.51, 1.49)], []),
        ([(0.51, 2.49)], [1]),
        ([(3.3, 3.8)], [3]),
        ([(3.3, 3.79)], []),
        ([(8.1, 8.4), (8.6, 8.8)], [8]),  # together half of it
        ([(0, 1), (5, 7.5), (9.5, 10)], [0, 5, 6, 7, 9]),
        ([], []),
    ],
)
def test_a_segment_is_event_where_at_least_half_of_it_is(spans, segments):
    labels = segment_labels([a_clip(*spans)], ["Bark"])
    assert np.flatnonzero(labels[0] == 0).tolist() == segments


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=8, unique=True).map(sorted))
def test_segment_labels_agree_with_counting_hundredths(marks):
    spans = list(zip(marks[::2], marks[1::2], strict=False))
    inside = np.zeros(1000, bool)
    for start, end in spans:
        inside[start:end] = True
    expected = np.where(inside.reshape(10, 100).sum(axis=1) >= 50, 0, 1)
    clip = a_clip(*((start / 100, end / 100) for start, end in spans))
    assert segment_labels([clip], ["Bark"])[0].tolist() == expected.tolist()


def test_a_clip_without_a_label_is_background():
    clips = [a_clip(label=None), a_clip((0, 1), label="Cat")]
    assert class_labels(clips, ["Bark", "Cat"]).tolist() == [2, 1]
    assert segment_labels(clips, ["Bark", "Cat"], segments=2).tolist() == [[2, 2], [1, 2]]


def test_a_label_of_no_class_is_refused_by_name():
    for labels in (segment_labels, class_labels):
        with pytest.raises(DatasetError, match="'a' has the label 'Bark'"):
            labels([a_clip((0, 10))], ["Cat"])


def test_clips_of_a_split_are_found_by_its_name(tmp_path):
    clips = (a_clip((0, 1)), a_clip((0, 2), split="test"), a_clip((0, 3)))
    dataset = Dataset(tmp_path, ("Bark",), clips)
    assert dataset.clips_of("train") == clips[::2]
    assert dataset.clips_of("validation") == ()
    with pytest.raises(ValueError, match=r"'val'.*validation"):
        dataset.clips_of("val")  # pyright: ignore[reportArgumentType]


def test_existing_videos_are_listed_once_each(tmp_path):
    b, a, folder, gone = (tmp_path / name for name in ("b.mp4", "a.mp4", "folder.mp4", "gone.mp4"))
    for video in (a, b):
        video.touch()
    folder.mkdir()
    paths = [b, a, None, folder, gone, b, tmp_path / ("x" * 5000)]
    dataset = Dataset(tmp_path, ("Bark",), tuple(a_clip((0, 1), path=path) for path in paths))
    assert videos_of(dataset) == [b, a]
    assert [dataset.video_of(clip) for clip in dataset.clips] == [b, a, None, None, None, b, None]
