"""The checkpoint that comes with the package, and the example clip."""

import importlib.util
import json
import logging
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from support.paths import ROOT

from ccln import localize
from ccln.model import load_checkpoint
from ccln.pipeline import defaults
from ccln.pipeline.localize.result import LocatedVideo

CLIP = ROOT / "examples" / "cat.mp4"
CARD = (defaults.PRETRAINED / "README.md").read_text("utf-8")


def truth() -> Any:
    """The script that made the clip; it holds the times of the event."""
    spec = importlib.util.spec_from_file_location("make_cat", ROOT / "examples" / "make_cat.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def alone() -> LocatedVideo:
    (located,) = localize(CLIP, checkpoint=defaults.PRETRAINED).videos
    return located


def test_the_packaged_checkpoint_is_the_default_and_is_named_in_the_output(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("ccln-localize")), str(CLIP), "--format", "json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (event,) = json.loads(done.stdout)["videos"][0]["events"]
    start, end = truth().EVENT_SECONDS
    assert event["label"] == truth().LABEL
    assert abs(event["start_seconds"] - start) <= 1
    assert abs(event["end_seconds"] - end) <= 1
    assert "the small network that comes with ccln" in done.stderr


def test_the_packaged_checkpoint_finds_the_same_events_as_before(alone: LocatedVideo) -> None:
    """Numbers of when it was made, computed in bfloat16; the extractor's arithmetic moves them in the second digit."""
    (event,) = alone.events
    assert (event.label, event.start_seconds, event.end_seconds) == ("Cat", 3, 8)
    assert event.confidence == pytest.approx(0.9939, abs=0.005)
    expected = [0.0109, 0.004, 0.0166, 0.9974, 0.9819, 0.9992, 0.9943, 0.9991, 0.0142, 0.0042]
    np.testing.assert_allclose(alone.event_probability, expected, atol=0.03)


def test_the_card_agrees_with_the_checkpoint() -> None:
    checkpoint = load_checkpoint(defaults.PRETRAINED)
    training, decoding = checkpoint.training, checkpoint.decoding
    assert all(name in CARD.replace("\n", " ") for name in checkpoint.class_names)
    assert f"{100 * training['test']['segment_accuracy']:.1f} % of segments" in CARD
    assert f"({100 * training['validation']['segment_accuracy']:.1f}, " in CARD
    assert f"--seed {training['seed']}" in CARD
    stated = f"{decoding.minimum_duration_seconds} s or more at a probability of {decoding.event_threshold:g} or more"
    assert stated in CARD
    assert sum(path.stat().st_size for path in defaults.PRETRAINED.iterdir()) < 8 * 2**20
    assert not re.search(r'"/|\\\\', (defaults.PRETRAINED / "config.json").read_text("utf-8"))  # no local path


def within_silence(path: Path, lead_seconds: Fraction) -> Path:
    """The example after a dark and silent stretch of that length, and before another, encoded anew."""
    rate, size = 25, 160
    with av.open(str(CLIP)) as source, av.open(str(path), "w") as target:
        video = target.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = 2 * size, 3 * size // 2, "yuv420p"
        audio = target.add_stream("aac", rate=16_000, layout="mono")
        images = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in source.decode(video=0)]
        source.seek(0)
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
        pieces = [piece.to_ndarray()[0] for frame in source.decode(audio=0) for piece in resampler.resample(frame)]
        dark = np.zeros_like(images[0])
        lead, tail = round(lead_seconds * rate), 8 * rate
        for number, image in enumerate([dark] * lead + images + [dark] * tail):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            target.mux(video.encode(frame))
        quiet = np.zeros(round(lead_seconds * 16_000), np.float32), np.zeros(8 * 16_000, np.float32)
        samples = np.concatenate([quiet[0], *pieces, quiet[1]])[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        target.mux(audio.encode(frame))
        target.mux([*video.encode(None), *audio.encode(None)])
    return path


@pytest.mark.parametrize("lead_seconds", [Fraction(4), Fraction(9, 2), Fraction(5), Fraction(29, 5), Fraction(13)])
def test_events_do_not_depend_on_where_windows_begin(
    lead_seconds: Fraction, alone: LocatedVideo, tmp_path: Path
) -> None:
    """Shifted by fractions of the hop of two seconds, the event moves by at most one second, its confidence by 0.15.

    The clip begins with a cat and another's sound, half of which a second may hold: doubtful, but never a cat.
    """
    (shifted,) = localize(within_silence(tmp_path / "longer.mp4", lead_seconds), checkpoint=defaults.PRETRAINED).videos
    (expected,) = alone.events
    (event,) = (event for event in shifted.events if event.label == expected.label)
    assert abs(event.start_seconds - float(lead_seconds) - expected.start_seconds) <= 1
    assert abs(event.end_seconds - float(lead_seconds) - expected.end_seconds) <= 1
    assert event.confidence == pytest.approx(expected.confidence, abs=0.15)


@pytest.mark.slow
def test_different_hops_find_the_same_event(tmp_path: Path, alone: LocatedVideo) -> None:
    longer = within_silence(tmp_path / "longer.mp4", Fraction(7))
    for hop in (1, 3, 5):
        calls: list[tuple[int, int, str]] = []
        (found,) = localize(
            longer,
            checkpoint=defaults.PRETRAINED,
            hop=hop,
            progress=lambda done, total, note: calls.append((done, total, note)),  # noqa: B023
        ).videos
        assert calls == [(0, 25, ""), (10, 25, ""), (20, 25, ""), (25, 25, "")]
        (event,), (expected,) = found.events, alone.events
        assert event.label == expected.label
        assert abs(event.start_seconds - 7 - expected.start_seconds) <= 1
        assert abs(event.end_seconds - 7 - expected.end_seconds) <= 1


@pytest.mark.parametrize("warnings", [["no better than a baseline", 3], "no", None, {}])
def test_what_the_newest_runs_training_warned_of_is_said_once(
    warnings: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(defaults.PRETRAINED, run := tmp_path / "runs" / "first")
    config = json.loads((run / "config.json").read_text("utf-8"))
    config.pop("config_sha256", None)
    config["training"]["warnings"] = warnings
    (run / "config.json").write_text(json.dumps(config), "utf-8")
    with caplog.at_level(logging.INFO, "ccln"):
        assert localize(CLIP).videos
    assert caplog.text.count("with the newest run, runs/first") == 1
    assert caplog.text.count("no better than a baseline") == isinstance(warnings, list)


@pytest.mark.parametrize("any_event", [False, True])
def test_an_annotator_can_choose_every_label_that_an_event_may_have(tmp_path: Path, any_event: bool) -> None:
    (located,) = localize(CLIP, out=tmp_path, formats=["label-studio"], any_event=any_event).videos
    view = ElementTree.parse(tmp_path / "label-studio.xml").getroot()
    labels = [label.get("value") for label in view.iter("Label")]
    assert {event.label for event in located.events} <= set(labels)
    assert {"Cat", "Baby cry, infant cry", "event" if any_event else "unknown"} <= set(labels)
    assert len(labels) == len(set(labels))
    assert [tag.get("toName") for tag in view.iter("Filter")] == ["events"]
