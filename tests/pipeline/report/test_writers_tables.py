"""Audacity's label track, CSV, JSON and Label Studio."""

import csv
import io
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from support.located import BELL, DOG, VIDEO, as_one_line, expected, located_video, located_videos
from support.paths import ROOT

from ccln.pipeline.localize.result import Event, LocatedVideo, Named
from ccln.pipeline.report.writers import OutputError, labelling_configuration, to_csv, to_json
from ccln.pipeline.report.writers.label_studio import to_label_studio
from ccln.pipeline.report.writers.text import to_audacity

DOCUMENT = ROOT / "docs" / "localization-json.md"
SCHEMA = json.loads((files("ccln.pipeline.report.writers") / "localization.schema.json").read_text("utf-8"))


def strict(schema: Any) -> Any:
    """The schema without room for fields that it does not describe."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return {**{name: strict(part) for name, part in schema.items()}, **closed}


def objects(schema: Any) -> list[dict[str, Any]]:
    """All descriptions of objects in a schema."""
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    own = [schema] if isinstance(schema, dict) and isinstance(schema.get("properties"), dict) else []
    return own + [found for part in parts for found in objects(part)]


def milliseconds(seconds: float | str) -> int:
    return round(1000 * float(seconds))


def label_of(text: str) -> str:
    return text[: text.rindex("(")].removesuffix(" ")


@settings(deadline=None, max_examples=40)
@given(located=located_videos())
def test_audacity_labels_are_read_back_unchanged(located: LocatedVideo):
    # Audacity's own reader takes lines apart at tabs; nothing is quoted.
    rows = list(csv.reader(io.StringIO(to_audacity(located), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    read = sorted((milliseconds(start), milliseconds(end), label_of(text)) for start, end, text in rows)
    assert read == expected(located, as_one_line)


def test_audacity_of_a_video():
    assert to_audacity(VIDEO).splitlines()[1] == "2.500000\t6.006000\tDog (0.50)"


@settings(deadline=None, max_examples=40)
@given(located=located_videos())
def test_csv_is_read_back_unchanged(located: LocatedVideo):
    rows = list(csv.DictReader(io.StringIO(to_csv([located]), newline="")))
    read = [(milliseconds(row["start_seconds"]), milliseconds(row["end_seconds"]), row["label"]) for row in rows]
    assert read == expected(located)  # in this order, too
    assert {row["path"] for row in rows} <= {str(Path("clip.mp4").resolve())}


def test_csv_of_several_videos_has_one_heading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    tower, odd = VIDEO.resolved_path, tmp_path / 'odd, "name".mp4'
    assert to_csv([VIDEO, located_video(odd.name, 4.0, (BELL,))]).splitlines() == [
        "path,label,start_seconds,end_seconds,confidence,named_by,heard,seen",
        f'"{tower}","Church bell",1.0,4.0,0.875,"trained","",""',
        f'"{tower}","Dog",2.5,6.006,0.5,"trained","",""',
        f'"{tower}","Church bell",5.0,6.0,0.25,"trained","",""',
        f'"{tmp_path}/odd, ""name"".mp4","Church bell",1.0,4.0,0.875,"trained","",""',
    ]


def test_csv_names_what_is_heard_and_seen_most():
    barking = Event(
        "Bark", 0.0, 2.0, 0.5, "open", (Named("Dog", 0.9), Named("Bark", 0.8)), (Named("pug", 0.5), Named("tub", 0.2))
    )
    (row,) = csv.DictReader(io.StringIO(to_csv([located_video(events=(barking,))])))
    assert (row["label"], row["named_by"], row["heard"], row["seen"]) == ("Bark", "open", "Dog", "pug")


@settings(deadline=None, max_examples=40)
@given(located=located_videos())
def test_json_is_read_back_unchanged_and_fits_the_schema(located: LocatedVideo):
    document = json.loads(to_json([located]))
    jsonschema.validate(document, SCHEMA)
    jsonschema.validate(document, strict(SCHEMA))  # and the schema describes every field
    (video,) = document["videos"]
    read = [(milliseconds(e["start_seconds"]), milliseconds(e["end_seconds"]), e["label"]) for e in video["events"]]
    assert read == expected(located)
    assert video == located.to_dict()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("version",), 2),
        (("videos", 0, "duration_seconds"), -1),
        (("videos", 0, "height"), 0),
        (("videos", 0, "events", 0, "confidence"), 1.5),
        (("videos", 0, "tracks", "event"), [0.5, 2]),
        (("videos", 0, "made_by", "class_names"), "Dog"),
        (("failed",), [{"path": "a.mp4"}]),
    ],
)
def test_the_schema_rejects_invalid_documents(place: tuple[str | int, ...], value: object):
    document = json.loads(to_json([VIDEO]))
    part = document
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_json_holds_the_tracks():
    track = np.linspace(0, 1, 7, dtype=np.float32)
    parts = {
        "seen": track,
        "heard": track[::-1],
        "event_probability": track * track,
        "labels": ("Dog",) * 6 + ("Bell",),
    }
    (video,) = json.loads(to_json([located_video(VIDEO.path, 6.006, (DOG,), **parts)]))["videos"]
    tracks = video["tracks"]
    assert tracks["segment_seconds"] == 1
    assert tracks["seen"] == pytest.approx(track, abs=5e-5)
    assert tracks["heard"] == tracks["seen"][::-1]
    assert tracks["event"] == pytest.approx(track**2, abs=5e-5)
    assert tracks["labels"] == ["Dog"] * 6 + ["Bell"]


def test_json_names_version_checkpoint_and_settings():
    (video,) = json.loads(to_json([VIDEO]))["videos"]
    assert (video["height"], video["width"], video["frame_rate_hz"]) == (48, 64, 25)
    assert video["made_by"] == {
        "ccln_version": "1.2.3",
        "weights_sha256": "0" * 64,
        "class_names": ["Church bell", "Dog"],
        "event_threshold": 0.5,
        "minimum_duration_seconds": 2,
        "hop_seconds": 2,
    }


def test_json_does_not_depend_on_how_a_path_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "videos").mkdir()
    (tmp_path / "link").symlink_to("videos")
    monkeypatch.chdir(tmp_path / "videos")
    spelled = [
        "tower.mp4",
        "./tower.mp4",
        "../videos/tower.mp4",
        "../link/tower.mp4",
        tmp_path / "videos" / "tower.mp4",
    ]
    texts = {to_json([located_video(path, 6.0)], [(Path(path), "no picture")]) for path in spelled}
    assert len(texts) == 1
    assert json.loads(texts.pop())["videos"][0]["path"] == str(tmp_path.resolve() / "videos" / "tower.mp4")


def test_json_of_several_videos_and_failures(tmp_path: Path):
    one, two, bad = (tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4"))
    document = json.loads(to_json([located_video(one), located_video(two)], failed=[(bad, "no picture")]))
    jsonschema.validate(document, SCHEMA)
    assert [video["path"] for video in document["videos"]] == [str(one), str(two)]
    assert document["failed"] == [{"path": str(bad), "reason": "no picture"}]


def test_the_documentation_names_every_field():
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text("utf-8")))
    assert {name for schema in objects(SCHEMA) for name in schema["properties"]} <= documented


@settings(deadline=None, max_examples=40)
@given(located=located_videos())
def test_label_studio_tasks_are_read_back_unchanged(located: LocatedVideo):
    (task,) = json.loads(to_label_studio(located))
    (prediction,) = task["predictions"]
    regions = prediction["result"]
    read = [
        (milliseconds(r["value"]["start"]), milliseconds(r["value"]["end"]), *r["value"]["labels"]) for r in regions
    ]
    assert read == expected(located)
    assert len({region["id"] for region in regions}) == len(regions)
    assert {region["original_length"] for region in regions} <= {located.duration_seconds}
    scores = [event.confidence for event in located.events]
    assert prediction.get("score") == (pytest.approx(np.mean(scores), abs=1e-4) if scores else None)


def test_label_studio_fits_the_configuration_written_beside():
    view = ElementTree.fromstring(labelling_configuration(["Church bell", 'a & "b" <c>']))
    (task,) = json.loads(to_label_studio(VIDEO))
    region = task["predictions"][0]["result"][0]
    labels = view.find("Labels")
    players = {player.get("name"): player for player in (*view.iter("Audio"), *view.iter("Video"))}
    assert labels is not None
    assert [label.get("value") for label in labels] == ["Church bell", 'a & "b" <c>']
    assert (region["from_name"], region["to_name"]) == (labels.get("name"), labels.get("toName"))
    assert region["type"] == labels.tag.lower()
    assert players[region["to_name"]].tag == "Audio"  # the tag whose regions have start and end in seconds
    assert {player.get("value") for player in players.values()} == {f"${name}" for name in task["data"]}


@pytest.mark.parametrize("name", ["a b & c?#é %41.mp4", "videos/教会.mp4", "a+b=c.mp4"])
@pytest.mark.parametrize("with_root", [True, False])
def test_label_studio_finds_the_video(name: str, with_root: bool, tmp_path: Path):
    root = tmp_path if with_root else None
    (task,) = json.loads(to_label_studio(located_video(tmp_path / name), root))
    address = urlsplit(task["data"]["video"])
    assert address.path == "/data/local-files/"
    assert Path(root or "/") / parse_qs(address.query)["d"][0] == tmp_path / name


def test_label_studio_refuses_a_video_outside_the_media_root(tmp_path: Path):
    with pytest.raises(OutputError, match=r"tower\.mp4: is not within the media root .*--media-root"):
        to_label_studio(VIDEO, tmp_path / "elsewhere")


def test_label_studio_regions_of_two_videos_differ():
    ids = {
        region["id"]
        for name in ("a.mp4", "b.mp4")
        for region in json.loads(to_label_studio(located_video(name, 6.0, (BELL,))))[0]["predictions"][0]["result"]
    }
    assert len(ids) == 2
