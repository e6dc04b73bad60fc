"""What a manifest says of the background: read whole or refused with the line, and turned into kinds of seconds."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.paths import SHARED

from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import AnnotatedClip, DatasetError, Distractor
from ccln.pipeline.data.manifest import read_manifest, segment_kinds

COMPOSED = SHARED / "ave-composed"


def write(file: Path, *lines: object) -> Path:
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def distractor(kind: object = "mismatch", start: object = 0, end: object = 2) -> dict:
    return {"type": kind, "t0": start, "t1": end, "cls": "piano"}


def test_reads_the_distractors_of_each_video(tmp_path):
    lines = (
        {"id": "-a", "distractors": [distractor("mismatch", 0, 2.5), distractor("other_heard", 4, 5)], "snr_db": 3},
        "",
        {"id": "b", "distractors": []},
    )
    found = read_manifest(write(tmp_path / "manifest.jsonl", *lines))
    assert found == {"-a": (Distractor("mismatch", 0, 2.5), Distractor("other_heard", 4, 5)), "b": ()}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "Expected `object`, got `array`"),
        ({"audio_filepath": "a.wav"}, "missing required field `id`.*take it away if it is of something else"),
        ({"id": "b", "distractors": {}}, "Expected `array`, got `object`"),
        ({"id": "b", "distractors": [distractor(kind=5)]}, "Expected `str`, got `int`"),
        ({"id": "b", "distractors": [distractor(kind="x" * 41)]}, "length <= 40"),
        ({"id": "b", "distractors": [distractor(kind="a\nb")]}, "printable"),
        ({"id": "b", "distractors": [distractor(kind="none")]}, "neither 'event' nor 'none'"),
        ({"id": "b", "distractors": [distractor(start=-1)]}, ">= 0"),
        ({"id": "b", "distractors": [distractor(start=2)]}, "t0 2; expected less than t1, 2"),
        ({"id": "b", "distractors": [distractor(end="2")]}, "Expected `float`, got `str`"),
        ({"id": "b", "distractors": [distractor(end=float("nan"))]}, "NaN is not JSON"),
        ({"id": "a", "distractors": []}, "a second line for 'a'"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, line, words):
    file = write(tmp_path / "manifest.jsonl", {"id": "a", "distractors": []}, line)
    with pytest.raises(DatasetError, match=f"(?s)manifest.jsonl, line 2: .*{words}"):
        read_manifest(file)


def test_text_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "manifest.jsonl").write_bytes(b'{"id": "\xff", "distractors": []}')
    with pytest.raises(DatasetError, match="line 1"):
        read_manifest(tmp_path / "manifest.jsonl")


def test_a_data_set_without_manifest_knows_no_kinds(tiny_set):
    clips = read_dataset(tiny_set).clips
    assert segment_kinds(clips, np.zeros((len(clips), 10), bool)) is None


def clip(*distractors: Distractor) -> AnnotatedClip:
    return AnnotatedClip(0, "Bark", "a", (), "test", distractors=distractors)


def test_a_second_is_of_the_kind_that_covers_half_of_it():
    is_event = np.array([[False, False, False, True, False]])
    kinds = segment_kinds([clip(Distractor("a", 0.4, 1.5), Distractor("b", 1.6, 2.5))], is_event)
    assert kinds is not None
    assert kinds.tolist() == [["a", "a", "b", "event", "none"]]
    beyond = segment_kinds([clip(Distractor("a", 2.6, 60))], is_event)
    assert beyond is not None
    assert beyond.tolist() == [["none", "none", "none", "event", "a"]]


def test_of_two_kinds_that_covers_which_covers_more_then_the_first():
    both = [clip(Distractor("a", 0, 0.5), Distractor("b", 0.4, 1)), clip(Distractor("b", 0, 1), Distractor("a", 0, 1))]
    kinds = segment_kinds(both, np.zeros((2, 1), bool))
    assert kinds is not None
    assert kinds.tolist() == [["b"], ["b"]]


def test_clips_that_the_manifest_does_not_name_have_no_kinds():
    kinds = segment_kinds([clip(), AnnotatedClip(1, None, "b", (), "test")], np.array([[True], [True]]))
    assert kinds is not None
    assert kinds.tolist() == [["event"], [""]]


@pytest.mark.skipif(not COMPOSED.is_dir(), reason=f"the composed clips are not in {COMPOSED}")
def test_the_composed_set_has_the_seconds_that_its_manifest_counts():
    dataset = read_dataset(COMPOSED)
    clips = dataset.clips_of("test")
    spans = np.array([clip.spans[0] for clip in clips])
    is_event = (np.arange(10) >= spans[:, :1]) & (np.arange(10) < spans[:, 1:])
    kinds = segment_kinds(clips, is_event)
    assert kinds is not None
    names, counts = np.unique(kinds, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        **{"event": 1295, "none": 84, "heard_not_seen": 48, "mismatch": 33},
        **{"other_heard": 26, "other_seen": 46, "seen_not_heard": 68},
    }
