"""ELAN's .eaf, read back by pympi and by an XML parser."""

import os
import re
import tempfile
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from pympi import Eaf
from support.located import VIDEO, expected, located_video, located_videos

from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report.writers.elan import to_elan


def in_xml(label: str) -> str:
    """XML has no control characters, and one kind of line end."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", label).replace("\r\n", "\n").replace("\r", "\n")


def read(text: str) -> tuple[Eaf, list[str]]:
    """What pympi reads, and the tiers of events."""
    with tempfile.NamedTemporaryFile("w", suffix=".eaf", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        eaf = Eaf(file.name)
    return eaf, [name for name in eaf.get_tier_names() if eaf.tiers[name][2]["LINGUISTIC_TYPE_REF"] == "event"]


@settings(deadline=None, max_examples=40)
@given(located=located_videos())
def test_events_are_read_back_unchanged(located: LocatedVideo):
    eaf, tiers = read(to_elan(located))
    found = sorted(
        (start, end, value or "") for tier in tiers for start, end, value in eaf.get_annotation_data_for_tier(tier)
    )
    assert found == expected(located, in_xml)


@settings(deadline=None, max_examples=40)
@given(located=located_videos())
def test_the_file_keeps_the_rules_of_the_format(located: LocatedVideo):
    """Rules of EAFv3.0.xsd and of ELAN that the XML has to keep."""
    document = ElementTree.fromstring(to_elan(located).encode("utf-8"))
    order = [child.tag for child in document]
    parts = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "CONSTRAINT"]
    assert order == sorted(order, key=parts.index)
    times = {slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) for slot in document.iter("TIME_SLOT")}
    assert list(times.values()) == sorted(times.values())
    assert len(times) == 2 * len(located.events)
    tiers = {tier.attrib["TIER_ID"]: tier for tier in document.iter("TIER")}
    assert len(tiers) == order.count("TIER")
    types = {kind.attrib["LINGUISTIC_TYPE_ID"] for kind in document.iter("LINGUISTIC_TYPE")}
    annotations = {a.attrib["ANNOTATION_ID"] for a in document.iter() if "ANNOTATION_ID" in a.attrib}
    assert annotations == {f"a{number}" for number in range(1, 2 * len(located.events) + 1)}
    last = [p.text for p in document.iter("PROPERTY") if p.attrib["NAME"] == "lastUsedAnnotationId"]
    assert last == [str(len(annotations))]
    for tier in tiers.values():
        assert tier.attrib["LINGUISTIC_TYPE_REF"] in types
        spans = [
            (times[a.attrib["TIME_SLOT_REF1"]], times[a.attrib["TIME_SLOT_REF2"]])
            for a in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))
        parent = tier.attrib.get("PARENT_REF")
        if parent is not None:
            referred = [a.attrib["ANNOTATION_REF"] for a in tier.iter("REF_ANNOTATION")]
            assert referred == [a.attrib["ANNOTATION_ID"] for a in tiers[parent].iter("ALIGNABLE_ANNOTATION")]


def test_a_tier_for_each_class_and_the_confidences_below_it():
    eaf, tiers = read(to_elan(VIDEO))
    assert tiers == ["Church bell", "Dog"]
    assert eaf.get_annotation_data_for_tier("Church bell") == [
        (1000, 4000, "Church bell"),
        (5000, 6000, "Church bell"),
    ]
    assert eaf.get_child_tiers_for("Church bell") == ["Church bell: confidence"]
    confidences = eaf.get_ref_annotation_data_for_tier("Church bell: confidence")
    assert [(start, end, value) for start, end, value, _ in confidences] == [
        (1000, 4000, "0.8750"),
        (5000, 6000, "0.2500"),
    ]
    assert eaf.get_parameters_for_linguistic_type("confidence")["CONSTRAINTS"] == "Symbolic_Association"


def test_classes_that_overlap_themselves_or_each_others_names():
    labels = ("Dog", "Dog", "Dog-2", "Dog: confidence")
    events = tuple(Event(label, 1.0 + 0.1 * i, 3.0, 0.5) for i, label in enumerate(labels))
    eaf, tiers = read(to_elan(located_video(VIDEO.path, 5.0, events)))
    assert sorted(tiers) == ["Dog", "Dog-2", "Dog-3", "Dog: confidence"]
    assert eaf.get_annotation_data_for_tier("Dog-3") == [(1100, 3000, "Dog")]
    assert eaf.get_annotation_data_for_tier("Dog-2") == [(1200, 3000, "Dog-2")]
    assert len(eaf.get_tier_names()) == 8


@pytest.mark.parametrize("name", ["a & b <c> \"d\" 'e'.mp4", "50 % é 教会.mp4", "a\tb\nc.mp4"])
@pytest.mark.parametrize("folder", [".", "..", "elsewhere/deep"])
def test_the_video_is_linked_from_where_the_file_lies(name: str, folder: str, tmp_path: Path):
    (tmp_path / "videos").mkdir()
    folder_of_files = tmp_path / "videos" / folder
    folder_of_files.mkdir(parents=True, exist_ok=True)
    text = to_elan(located_video(tmp_path / "videos" / name, 5.0), folder_of_files)
    (media,) = read(text)[0].media_descriptors
    # ELAN opens what follows the colon, as it stands.
    assert Path(media["MEDIA_URL"].removeprefix("file://")) == tmp_path / "videos" / name
    relative = media["RELATIVE_MEDIA_URL"]
    assert relative.startswith(("./", "../"))
    assert Path(os.path.normpath(folder_of_files / relative)) == tmp_path / "videos" / name
    assert media["MIME_TYPE"] == "video/mp4"


def test_a_relative_path_is_linked_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (media,) = read(to_elan(located_video("x.unheard-of", 5.0)))[0].media_descriptors
    assert media["MEDIA_URL"] == f"file://{tmp_path}/x.unheard-of"
    assert media["RELATIVE_MEDIA_URL"] == "./x.unheard-of"
    assert media["MIME_TYPE"] == "unknown"
