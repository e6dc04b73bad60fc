"""Annotations of other tools: what is read of them, and that what we write comes back, corrected too."""

import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pysubs2
import pytest
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st
from pympi.Elan import Eaf
from support.located import located_video, located_videos
from support.making import Audio, Video, make_video, steady

from ccln import import_annotations
from ccln.pipeline.commands.data import data_command
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.data.csv_file import read_csv_dataset
from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report.writers import FORMATS, to_csv, to_json, write_beside

Row = tuple[str, str, float, float]
"""Path, label, start and end in seconds."""


def rows_of(file: Path) -> list[Row | tuple[str]]:
    """The rows of a CSV data set, sorted; of a video without events its path alone."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = [
            (row["path"], row["label"], float(row["start"]), float(row["end"])) if row["label"] else (row["path"],)
            for row in csv.DictReader(opened)
        ]
    return sorted(rows)


def imported(folder: Path, *files: Path, media_root: Path | None = None) -> list[Row | tuple[str]]:
    out = folder / "set.csv"
    import_annotations(files, media_root=media_root or folder / "media", out=out, overwrite=True)
    return rows_of(out)


def media(folder: Path, *names: str) -> Path:
    """A media root with videos; nothing reads them."""
    for name in names:
        path = folder / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder / "media"


# What we write


def is_label(text: str) -> bool:
    return bool(text.strip()) and text.isprintable() and text == text.strip() and text.lower() != "background"


labels = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=12).filter(is_label)


@pytest.fixture(scope="module")
def one_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a media root in which there is one video."""
    folder = tmp_path_factory.mktemp("one-video")
    media(folder, "some folder/clip.mp4")
    return folder


@pytest.mark.parametrize("format_name", FORMATS)
@settings(max_examples=100, deadline=None)
@given(located=located_videos(labels | st.sampled_from(["<b>Bell</b> & co", "=SUM(A1:A9)", "Bell (0.50)", "教会の鐘"])))
def test_what_a_writer_writes_imports_back_to_the_same_events(one_video: Path, format_name: str, located: LocatedVideo):
    root = one_video / "media"
    with tempfile.TemporaryDirectory(dir=one_video) as directory:
        video = located_video(root / "some folder" / "clip.mp4", located.duration_seconds, located.events)
        (file,) = write_beside(video, Path(directory, "events"), [format_name], media_root=root)
        expected = [
            ("media/some folder/clip.mp4", event.label, event.start_seconds, event.end_seconds)
            for event in video.events
        ]
        if format_name == "srt":
            expected = [(path, label.replace("-->", "->"), *times) for path, label, *times in expected]
        if expected or format_name != "csv":  # a table of events says nothing of a video without
            assert imported(one_video, file) == (sorted(expected) or [("media/some folder/clip.mp4",)])


def test_several_videos_of_one_file_and_several_files_are_one_set(tmp_path: Path):
    root = media(tmp_path, "a.mp4", "b.mp4", "deep/c.mp4")
    first = [
        located_video(root / "a.mp4", 6, [Event("Dog", 1, 2, 0.5)]),
        located_video(root / "b.mp4", 6, [Event("Bell", 0, 6, 0.5), Event("Dog", 3, 4, 0.5)]),
    ]
    (tmp_path / "first.json").write_text(to_json(first))
    (tmp_path / "second.csv").write_text(to_csv([located_video(root / "deep/c.mp4", 6, [Event("Cat", 1.5, 2, 0.1)])]))
    assert imported(tmp_path, tmp_path / "first.json", tmp_path / "second.csv") == [
        ("media/a.mp4", "Dog", 1, 2),
        ("media/b.mp4", "Bell", 0, 6),
        ("media/b.mp4", "Dog", 3, 4),
        ("media/deep/c.mp4", "Cat", 1.5, 2),
    ]


# Corrected in the tool

FOUND = (Event("Dog", 1, 2.5, 0.9), Event("Bell", 4, 6, 0.8), Event("Cat", 7, 8, 0.7))
CORRECTED = [("media/clip.mp4", "Bark", 4.25, 6), ("media/clip.mp4", "Cat", 7, 8), ("media/clip.mp4", "Flute", 0.5, 3)]
"""The first event removed, the second moved and renamed, the third as it was, a fourth added."""


def corrected_elan(file: Path) -> None:
    document = Eaf(str(file))
    document.remove_annotation("Dog", 1500)
    document.remove_annotation("Bell", 5000)
    document.add_annotation("Bell", 4250, 6000, "Bark")
    document.add_tier("another", ling=document.get_parameters_for_tier("Cat")["LINGUISTIC_TYPE_REF"])
    document.add_annotation("another", 500, 3000, "Flute")
    document.to_file(str(file))


def corrected_audacity(file: Path) -> None:
    _, second, third = file.read_text().splitlines()
    second = second.replace("4.000000", "4.250000").replace("Bell (0.80)", "Bark")
    file.write_text("\n".join(["0.500000\t3.000000\tFlute", second, "\\\t100.000000\t8000.000000", third]))


def corrected_webvtt(file: Path) -> None:
    document = webvtt.read(str(file))
    del document.captions[0]
    document.captions[0].start, document.captions[0].text = "00:00:04.250", "Bark"
    document.captions.append(webvtt.Caption("00:00:00.500", "00:00:03.000", "Flute"))
    document.save(str(file))


def corrected_srt(file: Path) -> None:
    document = pysubs2.load(str(file))
    del document[0]
    document[0].start, document[0].text = 4250, "Bark"
    document.append(pysubs2.SSAEvent(500, 3000, "Flute"))
    document.save(str(file))


def regions_as_corrected(file: Path) -> tuple[dict, list[dict]]:
    (task,) = json.loads(file.read_text())
    _, second, third = task["predictions"][0]["result"]
    second["value"] |= {"start": 4.25, "labels": ["Bark"]}
    added = {"start": 0.5, "end": 3, "channel": 0, "labels": ["Flute"]}
    return task, [second, third, {"id": "x", "type": "labels", "to_name": "audio", "value": added}]


def corrected_label_studio(file: Path) -> None:
    """As Label Studio's export "JSON" has it."""
    task, regions = regions_as_corrected(file)
    remark = {"id": "y", "type": "textarea", "to_name": "video", "value": {"text": ["nice"]}}
    skipped = {"id": 1, "was_cancelled": True, "result": task["predictions"][0]["result"]}
    done = {"id": 2, "was_cancelled": False, "ground_truth": False, "result": [*regions, remark]}
    file.write_text(json.dumps([{**task, "id": 17, "annotations": [skipped, done], "total_annotations": 2}]))


def corrected_label_studio_min(file: Path) -> None:
    """As its export "JSON-MIN" has it."""
    task, regions = regions_as_corrected(file)
    events = [region["value"] for region in regions]
    file.write_text(json.dumps([{**task["data"], "id": 17, "events": events, "annotator": 1, "annotation_id": 3}]))


def corrected_json(file: Path) -> None:
    document = json.loads(file.read_text())
    _, second, third = document["videos"][0]["events"]
    second |= {"label": "Bark", "start_seconds": 4.25}
    document["videos"][0]["events"] = [third, {"label": "Flute", "start_seconds": 0.5, "end_seconds": 3}, second]
    file.write_text(json.dumps(document))


def corrected_csv(file: Path) -> None:
    """As a spreadsheet with another locale writes it."""
    header, _, second, third = file.read_text().splitlines()
    path = second.split(",")[0]
    rows = [
        header,
        second.replace("4.0", "4.25").replace("Bell", "Bark"),
        third,
        f'{path},"Flute",0.5,3.0' + "," * (header.count(",") - 3),
    ]
    file.write_text(
        "\ufeff" + "\r\n".join(rows).replace(",", ";").replace(".mp4", "§").replace(".", ",").replace("§", ".mp4")
    )


@pytest.mark.parametrize(
    ("format_name", "correct"),
    [
        ("elan", corrected_elan),
        ("audacity", corrected_audacity),
        ("webvtt", corrected_webvtt),
        ("srt", corrected_srt),
        ("label-studio", corrected_label_studio),
        ("label-studio", corrected_label_studio_min),
        ("json", corrected_json),
        ("csv", corrected_csv),
    ],
)
def test_a_file_that_was_corrected_in_the_tool_imports_with_the_corrections(
    tmp_path: Path, format_name: str, correct: Callable[[Path], None]
):
    root = media(tmp_path, "clip.mp4")
    located = located_video(root / "clip.mp4", 9, FOUND)
    (file,) = write_beside(located, tmp_path / "events", [format_name], media_root=root)
    correct(file)
    assert imported(tmp_path, file) == CORRECTED


def test_a_task_of_label_studio_whose_events_were_all_removed_is_background(tmp_path: Path):
    media(tmp_path, "clip.mp4")
    task = {"data": {"video": "/data/upload/1/0123abcd-clip.mp4"}, "annotations": [{"result": []}]}
    skipped = {"data": {"video": "other.mp4"}, "annotations": [{"was_cancelled": True, "result": []}]}
    (tmp_path / "a.json").write_text(json.dumps([task, skipped]))
    assert imported(tmp_path, tmp_path / "a.json") == [("media/clip.mp4",)]


# What others write

ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/far/away/park.wav" MIME_TYPE="audio/x-wav"/>
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/far/away/park.mp4" MIME_TYPE="video/mp4" {origin}/>
</HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2345"/>
<TIME_SLOT TIME_SLOT_ID="ts3"/></TIME_ORDER>
<TIER TIER_ID="Dog" LINGUISTIC_TYPE_REF="t"><ANNOTATION>
<ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="{end}"><ANNOTATION_VALUE>{text}
</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
</ANNOTATION_DOCUMENT>"""


def elan(text: str = "", end: str = "ts2", origin: str = "") -> str:
    return ELAN.format(text=text, end=end, origin=origin)


RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"
VIA = {
    "project": {"vid_list": ["1", "2"]},
    "attribute": {
        "1": {"aname": "KIND", "anchor_id": "FILE1_Z2_XY0", "type": 4, "options": {"1": "Dog", "2": "Bell"}},
        "2": {"aname": "BOX", "anchor_id": "FILE1_Z1_XY1", "type": 1, "options": {}},
    },
    "file": {"1": {"fid": "1", "fname": "park.mp4", "type": 4}, "2": {"fid": "2", "fname": "later.mp4", "type": 4}},
    "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    "metadata": {
        "1_a": {"vid": "1", "flg": 0, "z": [3.5, 5.25], "xy": [], "av": {"1": "2"}},
        "1_b": {"vid": "1", "flg": 0, "z": [1, 2], "xy": [], "av": {"1": "1"}},
        "1_c": {"vid": "1", "flg": 0, "z": [1], "xy": [2, 10, 10, 40, 40], "av": {"2": "face"}},
    },
}
DOG = ("media/park.mp4", "Dog", 1.0, 2.345)

READ: list[tuple[str, str, Sequence[Row | tuple[str]]]] = [
    ("x.eaf", elan(), [DOG]),
    ("x.eaf", elan(" Bell "), [("media/park.mp4", "Bell", 1, 2.345)]),
    ("x.eaf", elan("background"), [("media/park.mp4",)]),
    ("x.eaf", elan(origin='TIME_ORIGIN="250"'), [("media/park.mp4", "Dog", 1.25, 2.595)]),
    ("park.txt", "1.0\t2.345\tDog\n", [DOG]),
    ("park.txt", "1,000000\t2,345000\tDog\r\n\\\t120,5\t8000\r\n", [DOG]),
    ("park.txt", "", [("media/park.mp4",)]),
    ("park.audacity.txt", "1\t2.345\tDog (0.31)", [DOG]),
    ("park.srt", "\ufeff1\r\n00:00:01,000 --> 00:00:02,345\r\nDog\r\n\r\n", [DOG]),
    (
        "park.vtt",
        "WEBVTT - some title\n\nSTYLE\n::cue { color: red }\n\nNOTE no --> cue\n\nid 7\n00:01.000 --> 00:02.345 line:0"
        "\n<v Anna>Dog &amp;\n<i>cat</i>\n",
        [("media/park.mp4", "Dog & cat", 1, 2.345)],
    ),
    (
        "park.Table.1.selections.txt",
        f"{RAVEN}\tAnnotation\n1\tWaveform 1\t1\t1\t2.345\t0\t1\tDog\n1\tSpectrogram 1\t1\t1\t2.345\t0\t1\tDog\n",
        [DOG],
    ),
    (
        "all.txt",
        f"{RAVEN}\tBegin File\tFile Offset (s)\tSpecies\n1\tSpectrogram 1\t1\t61\t62.345\t0\t1\tpark.wav\t1\tDog\n"
        "2\tSpectrogram 1\t1\t95\t96\t0\t1\tlater.wav\t5\tOwl\n",
        [("media/later.mp4", "Owl", 5, 6), DOG],
    ),
    ("x.json", json.dumps(VIA), [("media/park.mp4", "Bell", 3.5, 5.25), ("media/park.mp4", "Dog", 1, 2)]),
    (
        "x.json",
        json.dumps(
            [
                {
                    "video": "https://example.org/x/park.mp4?token=1",
                    "events": [{"start": 1, "end": 2.345, "labels": ["Dog"]}],
                }
            ]
        ),
        [DOG],
    ),
    ("x.csv", "path;start;end;label\n\\\\server\\share\\park.mp4;0:01;0:02,345;Dog\n", [DOG]),
]


@pytest.mark.parametrize(("name", "text", "expected"), READ, ids=range(len(READ)))
def test_what_the_tools_write_is_read(tmp_path: Path, name: str, text: str, expected: Sequence[Row | tuple[str]]):
    media(tmp_path, "park.mp4", "later.mp4")
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert imported(tmp_path, tmp_path / name) == expected


def test_a_video_is_found_where_it_was_moved_to(tmp_path: Path):
    root = media(tmp_path, "new place/a b.mp4")
    (file,) = write_beside(located_video("old/a b.mp4", 6, [Event("Dog", 1, 2, 0.5)]), tmp_path, ["elan"])
    assert imported(tmp_path, file, media_root=root) == [("media/new place/a b.mp4", "Dog", 1, 2)]


@pytest.mark.parametrize("options", [["--media-root", "media"], ["--media-root", "media", "--out", "media/set.csv"]])
def test_the_command_takes_any_number_of_files(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    media(tmp_path, "park.mp4", "later.mp4")
    for name in ("park", "later"):
        (tmp_path / f"{name}.txt").write_text("1\t2\tDog\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["ccln-data", "import", "park.txt", "later.txt", *options])
    with pytest.raises(SystemExit, match="0"):
        data_command()
    assert rows_of(tmp_path / "media" / "set.csv") == [("later.mp4", "Dog", 1, 2), ("park.mp4", "Dog", 1, 2)]
    assert "2 events in 2 videos" in capsys.readouterr().out


def test_all_of_a_longer_video_is_annotated(tmp_path: Path):
    root = media(tmp_path)
    root.mkdir()
    make_video(root / "park.mp4", Video(steady(180, 5)), Audio(np.zeros(36 * 8000, np.float32), 8000))
    (tmp_path / "park.txt").write_text("1\t2\tDog")
    out = import_annotations(tmp_path / "park.txt", media_root=root, out=tmp_path / "set.csv").out
    clips = read_csv_dataset(out).clips
    assert {clip.start_seconds for clip in clips} >= {0, 10}
    (tmp_path / "set.csv").write_text(out.read_text().replace("\n", ",test\n").replace("label,test", "label,split"))
    assert [clip.start_seconds for clip in read_csv_dataset(out).clips] == [0, 10, 20, 30]


def test_paths_are_relative_to_the_media_root_where_the_file_is_elsewhere(tmp_path: Path):
    root = media(tmp_path, "park.mp4")
    (tmp_path / "park.txt").write_text("1\t2\tDog")
    done = import_annotations([tmp_path / "park.txt"], media_root=root, out=tmp_path / "tables" / "set.csv")
    assert (done.media_root, rows_of(done.out)) == (root, [("park.mp4", "Dog", 1, 2)])
    with pytest.raises(DatasetError, match="--overwrite"):
        import_annotations(tmp_path / "park.txt", media_root=root, out=done.out)


# What is refused

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">'
    + "".join(f'<!ENTITY b{n + 1} "{f"&b{n or str()};" * 10}">' for n in range(9))
    + "]><ANNOTATION_DOCUMENT>&b9;</ANNOTATION_DOCUMENT>"
)
REFUSED = [
    ("x.eaf", BOMB, "has a document type"),
    ("x.eaf", '<!DOCTYPE a SYSTEM "file:///etc/passwd"><ANNOTATION_DOCUMENT/>', "has a document type"),
    ("x.eaf", "<ANNOTATION_DOCUMENT>", "no element found"),
    ("x.eaf", "<html/>", "its root is 'html'"),
    ("x.eaf", elan(end="ts3"), "annotation 'a1' of the tier 'Dog': has no start or end"),
    ("x.eaf", elan(end="ts1"), "annotation 'a1' of the tier 'Dog': 'Dog' from 1 to 1 s; expected"),
    ("park.txt", "1\t2\tDog\n3\t3\tCat", "line 2: end '3'; expected after the start: a point in time"),
    ("park.txt", "1\t2\t\n", "line 1: label ''"),
    ("park.txt", "1\tDog\n", "line 1: line '1\\\\tDog'; expected Audacity's labels are"),
    ("park.txt", "one\t2\tDog\n", "line 1: start 'one'; expected seconds"),
    ("park.txt", f"{RAVEN}\n1\tW\t1\t1\t2\t0\t1\n", "line 1: header .*expected a selection table"),
    ("park.txt", f"{RAVEN}\tSpecies\tAnnotation\n1\tW\t1\t1\t2\t0\t1\tOwl\tx\n", "line 1: header"),
    ("park.txt", f"{RAVEN}\tSpecies\n1\tW\t1\t1\t2\t0\t1\n", "line 2: row .*expected 8 columns"),
    ("park.srt", "1\n00:00:01,000 -> 00:00:02,000\nDog\n", "line 1: subtitle"),
    ("park.srt", "1\n00:00:01,000 --> soon\nDog\n", "line 2: time 'soon'"),
    ("park.srt", "1\n00:00:01,000 --> 00:00:02,000\n\n", "line 2: label ''"),
    ("park.vtt", "WEBVTT\n\n00:02.000 --> 00:01.000\nDog\n", "line 3: 'Dog' from 2 to 1 s"),
    ("x.json", "[[[[", "JSON is read of"),
    ("x.json", "[" * 100_000, "JSON is read of"),
    ("x.json", '{"a": 1}', "none of the JSON files"),
    ("x.json", '{"format": "ccln-localization", "videos": [{"path": "a.mp4"}]}', "missing required field `events`"),
    ("x.json", '[{"data": {"text": "hello"}, "annotations": []}]', "task 1: expected one video among its data"),
    (
        "x.json",
        json.dumps([{"id": 5, "data": {"video": "park.mp4"}, "annotations": [{"result": []}, {"result": []}]}]),
        "task 5: has 2 annotations; keep one",
    ),
    (
        "x.json",
        json.dumps([{"id": 5, "video": "park.mp4", "events": []}, {"id": 6, "video": "park.mp4", "events": []}]),
        "task 6: its video is that of task 5",
    ),
    (
        "x.json",
        json.dumps([{"video": "park.mp4", "t": [{"ranges": [{"start": 1, "end": 30}], "timelinelabels": ["Dog"]}]}]),
        r"count frames \(TimelineLabels\); expected seconds",
    ),
    ("x.json", json.dumps([{"video": "park.mp4", "events": [{"start": 1, "end": 2}]}]), "from 1 to 2 s has no label"),
    ("x.json", json.dumps({**VIA, "view": {}}), "metadata '1_a': belongs to 0 files"),
    ("nowhere.txt", "1\t2\tDog", "its video 'nowhere' is not in .*media.*--media-root"),
    ("twice.txt", "1\t2\tDog", r"which of these videos is 'twice': a/twice\.mp4, b/twice\.mov\?"),
    ("x.csv", "path,start,end,label,split\npark.mp4,1,2,Dog,train\n", "is a data set already"),
    ("park.docx", "", "no file of annotations ends so"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_annotation_or_ambiguous_is_refused(tmp_path: Path, name: str, text: str, message: str):
    media(tmp_path, "park.mp4", "later.mp4", "a/twice.mp4", "b/twice.mov")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message) as caught:
        imported(tmp_path, tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert not (tmp_path / "set.csv").exists()


def test_two_files_that_disagree_about_a_video_are_refused(tmp_path: Path):
    media(tmp_path, "park.mp4")
    (tmp_path / "park.txt").write_text("1\t2\tDog")
    (tmp_path / "park.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nDog\n")
    assert len(imported(tmp_path, tmp_path / "park.txt", tmp_path / "park.vtt")) == 1
    (tmp_path / "park.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:03.000\nDog\n")
    with pytest.raises(DatasetError, match=r"park\.vtt: its video park\.mp4 has other events in .*park\.txt"):
        imported(tmp_path, tmp_path / "park.txt", tmp_path / "park.vtt")


def test_nothing_in_a_file_leads_out_of_the_media_root(tmp_path: Path):
    media(tmp_path, "park.mp4")
    (tmp_path / "secret.mp4").touch()
    for path in ("../secret.mp4", str(tmp_path / "secret.mp4"), "/../secret.mp4"):
        document = {"format": "ccln-localization", "videos": [{"path": path, "events": []}]}
        (tmp_path / "x.json").write_text(json.dumps(document))
        with pytest.raises(DatasetError, match="is not in"):
            imported(tmp_path, tmp_path / "x.json")
