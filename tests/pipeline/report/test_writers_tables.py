"""Audacity's label track, CSV, JSON and Label Studio."""

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import ROOT
from support.timelines import BELL, CLIP, DOG, Plain, Tracked, as_one_line, expected, timelines

from ccln.pipeline.events import Event
from ccln.pipeline.report.writers import WRITERS, csv_table, json_document

to_audacity, to_csv = WRITERS["audacity"].to_text, WRITERS["csv"].to_text
to_json, to_label_studio = WRITERS["json"].to_text, WRITERS["label-studio"].to_text
DOCUMENT = ROOT / "docs" / "localization-json.md"

FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
SECONDS = {"type": "number", "minimum": 0}


def strict(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TRACK = {"type": "array", "items": FRACTION}
CLIP_SCHEMA = strict(
    path={"type": "string"},
    duration_seconds=SECONDS,
    events={
        "type": "array",
        "items": strict(label={"type": "string"}, start_seconds=SECONDS, end_seconds=SECONDS, confidence=FRACTION),
    },
)
CLIP_SCHEMA["properties"]["tracks"] = strict(
    segment_seconds={"type": "number", "exclusiveMinimum": 0}, seen=TRACK, heard=TRACK, both=TRACK
)
CLIP_SCHEMA["properties"]["tracks"]["properties"]["labels"] = {"type": "array", "items": {"type": "string"}}
SCHEMA = strict(
    format={"const": "ccln-localization"},
    version={"const": 2},
    clips={"type": "array", "items": CLIP_SCHEMA},
    failed={"type": "array", "items": strict(path={"type": "string"}, reason={"type": "string"})},
)


def milliseconds(seconds: float | str) -> int:
    return round(1000 * float(seconds))


@settings(deadline=None, max_examples=40)
@given(timeline=timelines())
def test_audacity_comes_back(timeline: Plain):
    # Audacity's own reader takes lines apart at tabs; nothing is quoted.
    rows = list(csv.reader(io.StringIO(to_audacity(timeline), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    read = sorted((milliseconds(start), milliseconds(end), label) for start, end, label in rows)
    assert read == expected(timeline, as_one_line)


def test_audacity_of_a_clip():
    assert to_audacity(CLIP).splitlines()[1] == "2.500000\t6.006000\tDog"


@settings(deadline=None, max_examples=40)
@given(timeline=timelines())
def test_csv_comes_back_with_its_text_unchanged(timeline: Plain):
    rows = list(csv.DictReader(io.StringIO(to_csv(timeline), newline="")))
    read = [(milliseconds(row["start_seconds"]), milliseconds(row["end_seconds"]), row["label"]) for row in rows]
    assert read == expected(timeline)  # in this order, too
    assert {row["path"] for row in rows} <= {"clip.mp4"}


def test_csv_of_several_clips_has_one_heading():
    other = Plain(Path('odd, "name".mp4'), 4.0, (BELL,))
    assert csv_table([CLIP, other]).splitlines() == [
        "path,label,start_seconds,end_seconds,confidence",
        f'"{CLIP.path}","Church bell",1.0,4.0,0.875',
        f'"{CLIP.path}","Dog",2.5,6.006,0.5',
        f'"{CLIP.path}","Church bell",5.0,6.0,0.25',
        '"odd, ""name"".mp4","Church bell",1.0,4.0,0.875',
    ]


@settings(deadline=None, max_examples=40)
@given(timeline=timelines())
def test_json_comes_back_and_is_as_documented(timeline: Plain):
    document = json.loads(to_json(timeline))
    jsonschema.validate(document, SCHEMA)
    (clip,) = document["clips"]
    read = [(milliseconds(e["start_seconds"]), milliseconds(e["end_seconds"]), e["label"]) for e in clip["events"]]
    assert read == expected(timeline)
    assert clip["duration_seconds"] == timeline.duration_seconds


@settings(deadline=None, max_examples=40)
@given(data=st.data(), duration=st.floats(0.001, 2e6))
def test_rounding_keeps_events_within_their_clip(data: st.DataObject, duration: float):
    start = data.draw(st.floats(0, duration, exclude_max=True))
    end = data.draw(st.floats(start, duration, exclude_min=True) | st.just(duration))
    (event,) = json.loads(to_json(Plain(CLIP.path, duration, (Event("Dog", start, end, 0.5),))))["clips"][0]["events"]
    assert 0 <= event["start_seconds"] < event["end_seconds"] <= duration
    # To the nearest millisecond but for the clip's end, which is rounded down, and events that would become empty.
    exact = end - start >= 0.002
    assert abs(event["start_seconds"] - start) <= (0.000501 if exact else 0.0021)
    assert abs(event["end_seconds"] - end) <= (0.000501 if exact and duration - end >= 0.001 else 0.0021)
    assert {round(event[name], 3) for name in ("start_seconds", "end_seconds")} == {
        event["start_seconds"],
        event["end_seconds"],
    }


def test_neighbours_stay_neighbours():
    cut = 1.0005
    timeline = Plain(CLIP.path, 3.0, (Event("Dog", 0.0, cut, 0.5), Event("Bell", cut, 3.0, 0.5)))
    first, second = json.loads(to_json(timeline))["clips"][0]["events"]
    assert first["end_seconds"] == second["start_seconds"]


@pytest.mark.parametrize(
    ("start", "end"), [(-0.5, 1.0), (2.0, 2.0), (3.0, 2.0), (1.0, 6.2), (6.1, 6.2), (float("nan"), 1.0)]
)
@pytest.mark.parametrize("name", WRITERS)
def test_an_event_that_is_not_within_its_clip_is_refused(name: str, start: float, end: float):
    with pytest.raises(ValueError, match=r"tower\.mp4: the event 'Dog' .* is not within the clip's 6\.0 s"):
        WRITERS[name].to_text(Plain(CLIP.path, 6.0, (Event("Dog", start, end, 0.5),)))


@pytest.mark.parametrize("duration", [-1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", WRITERS)
def test_a_clip_without_a_length_is_refused(name: str, duration: float):
    with pytest.raises(ValueError, match=r"tower\.mp4: duration_seconds is (-1\.0|inf|nan)"):
        WRITERS[name].to_text(Plain(CLIP.path, duration, ()))


@pytest.mark.parametrize("name", WRITERS)
def test_numbers_of_numpy_are_written_as_any_other(name: str):
    start, end, confidence = (cast(float, number) for number in (np.float32(1.0), np.float64(2.5), np.float32(0.5)))
    of_numpy = Plain(CLIP.path, 6.0, (Event("Dog", start, end, confidence),))
    plain = Plain(CLIP.path, 6.0, (Event("Dog", 1.0, 2.5, 0.5),))
    assert WRITERS[name].to_text(of_numpy) == WRITERS[name].to_text(plain)


def test_json_tracks():
    track = np.linspace(0, 1, 7, dtype=np.float32)
    clip = Tracked(CLIP.path, CLIP.duration_seconds, (DOG,), seen=track, heard=track[::-1], both=track * track)
    document = json.loads(to_json(clip))
    jsonschema.validate(document, SCHEMA)
    tracks = document["clips"][0]["tracks"]
    assert tracks["segment_seconds"] == 1
    assert tracks["seen"] == pytest.approx(track, abs=5e-5)
    assert tracks["heard"] == tracks["seen"][::-1]
    assert tracks["both"] == pytest.approx(track**2, abs=5e-5)


def test_json_says_how_long_segments_are():
    class Fine(Tracked):
        segment_seconds = 0.5

    track = np.zeros(12, np.float32)
    clip = Fine(CLIP.path, 6.0, (), seen=track, heard=track, both=track)
    assert json.loads(to_json(clip))["clips"][0]["tracks"]["segment_seconds"] == 0.5


def test_json_says_what_each_segment_is_most_like():
    @dataclass(frozen=True, eq=False)
    class Labelled(Tracked):
        labels: tuple[str, ...]

    track = np.zeros(3, np.float32)
    labels = ("Dog", "Dog", "Church bell")
    document = json.loads(to_json(Labelled(CLIP.path, 3.0, (), seen=track, heard=track, both=track, labels=labels)))
    jsonschema.validate(document, SCHEMA)
    assert document["clips"][0]["tracks"]["labels"] == list(labels)


def test_json_of_several_clips_and_failures():
    document = json_document([CLIP, Plain(Path("b.mp4"), 1.0, ())], failed=[(Path("c.mp4"), "no picture")])
    jsonschema.validate(document, SCHEMA)
    assert [clip["path"] for clip in document["clips"]] == [str(CLIP.path), "b.mp4"]
    assert document["failed"] == [{"path": "c.mp4", "reason": "no picture"}]


def test_the_document_names_every_field():
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text("utf-8")))
    schemas = [SCHEMA, CLIP_SCHEMA, CLIP_SCHEMA["properties"]["events"]["items"], CLIP_SCHEMA["properties"]["tracks"]]
    assert {name for schema in schemas for name in schema["properties"]} <= documented


@settings(deadline=None, max_examples=40)
@given(timeline=timelines())
def test_label_studio_comes_back(timeline: Plain):
    (task,) = json.loads(to_label_studio(timeline))
    (prediction,) = task["predictions"]
    regions = prediction["result"]
    read = [
        (milliseconds(r["value"]["start"]), milliseconds(r["value"]["end"]), *r["value"]["labels"]) for r in regions
    ]
    assert read == expected(timeline)
    assert len({region["id"] for region in regions}) == len(regions)
    assert {region["original_length"] for region in regions} <= {timeline.duration_seconds}
    scores = [event.confidence for event in timeline.events]
    assert prediction.get("score") == (pytest.approx(np.mean(scores), abs=1e-4) if scores else None)


def test_label_studio_fits_the_documented_configuration():
    (block,) = re.findall(r"```xml\n(.*?)```", DOCUMENT.read_text("utf-8"), flags=re.DOTALL)
    view = ElementTree.fromstring(block)
    (task,) = json.loads(to_label_studio(CLIP))
    region = task["predictions"][0]["result"][0]
    labels = view.find("Labels")
    players = {player.get("name"): player for player in (*view.iter("Audio"), *view.iter("Video"))}
    assert labels is not None
    assert (region["from_name"], region["to_name"]) == (labels.get("name"), labels.get("toName"))
    assert region["type"] == labels.tag.lower()
    assert players[region["to_name"]].tag == "Audio"  # the tag whose regions have start and end in seconds
    assert {player.get("value") for player in players.values()} == {f"${name}" for name in task["data"]}


@pytest.mark.parametrize("path", ["/videos/a b & c?#é %41.mp4", "videos/教会.mp4", "a+b=c.mp4"])
def test_label_studio_finds_the_video(path: str):
    (task,) = json.loads(to_label_studio(Plain(Path(path), 6.0, ())))
    address = urlsplit(task["data"]["video"])
    assert address.path == "/data/local-files/"
    assert parse_qs(address.query)["d"] == [path.lstrip("/")]


def test_label_studio_regions_of_two_videos_differ():
    ids = {
        region["id"]
        for name in ("a.mp4", "b.mp4")
        for region in json.loads(to_label_studio(Plain(Path(name), 6.0, (BELL,))))[0]["predictions"][0]["result"]
    }
    assert len(ids) == 2
