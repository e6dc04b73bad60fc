"""Annotations for ELAN: the EAF format, version 3.0, https://www.mpi.nl/tools/elan/EAFv3.0.xsd .

Written here and not by pympi, which leaves the time slots of overlapping events out of order, finds an annotation's
parent by its time and so the wrong one for events that touch, and refuses or damages some labels.
"""

import os
import re
from collections.abc import Sequence
from mimetypes import MimeTypes
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report.writers.files import distinct

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_SCHEMA_ATTRIBUTE = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"

# The format wants a date. That of writing would make two files of the same events differ.
_DATE = "1970-01-01T00:00:00+00:00"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_EVENT, _CONFIDENCE, _ASSOCIATION = "event", "confidence", "Symbolic_Association"


def to_elan(located: LocatedVideo, folder: Path = Path()) -> str:
    """One tier for each class, with the label as each annotation's text, and below it a tier with the confidences.

    Characters that XML cannot hold become U+FFFD. The tier of a class whose events overlap one another is followed by
    a second one, LABEL-2. The video is linked by its absolute path and by its path from the file's folder.

    Args:
        located: what was found.
        folder: where the .eaf file will lie.
    """
    tiers = _tiers(located.events)
    names = distinct(label for label, _ in tiers)
    confidence_names = distinct([*names, *(f"{name}: {_CONFIDENCE}" for name in names)])[len(names) :]
    document = Element("ANNOTATION_DOCUMENT", AUTHOR="ccln", DATE=_DATE, FORMAT="3.0", VERSION="3.0")
    document.set(_SCHEMA_ATTRIBUTE, _SCHEMA)
    count = len(located.events)
    _add_header(document, located.resolved_path, folder.resolve(), last_annotation=2 * count)
    slots = iter(_add_times(document, [event for _, events in tiers for event in events]))
    number = 0
    for (label, events), name, confidence_name in zip(tiers, names, confidence_names, strict=True):
        main = SubElement(document, "TIER", LINGUISTIC_TYPE_REF=_EVENT, TIER_ID=name)
        below = SubElement(document, "TIER", LINGUISTIC_TYPE_REF=_CONFIDENCE, PARENT_REF=name, TIER_ID=confidence_name)
        for event in events:
            number += 1
            start, end = next(slots)
            identity, confidence = f"a{number}", f"a{count + number}"
            times = {"TIME_SLOT_REF1": start, "TIME_SLOT_REF2": end}
            _annotate(main, "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": identity, **times}, label)
            reference = {"ANNOTATION_ID": confidence, "ANNOTATION_REF": identity}
            _annotate(below, "REF_ANNOTATION", reference, f"{event.confidence:.4f}")
    alike = {"GRAPHIC_REFERENCES": "false"}
    SubElement(document, "LINGUISTIC_TYPE", alike, LINGUISTIC_TYPE_ID=_EVENT, TIME_ALIGNABLE="true")
    depends = {"CONSTRAINTS": _ASSOCIATION, **alike, "LINGUISTIC_TYPE_ID": _CONFIDENCE, "TIME_ALIGNABLE": "false"}
    SubElement(document, "LINGUISTIC_TYPE", depends)
    described = "1-1 association with a parent annotation"
    SubElement(document, "CONSTRAINT", DESCRIPTION=described, STEREOTYPE=_ASSOCIATION)
    indent(document)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(document, encoding="unicode") + "\n"


def _tiers(events: Sequence[Event]) -> list[tuple[str, list[Event]]]:
    """Labels and their events; more than one of a label where its events overlap, which a tier's must not."""
    tiers: list[tuple[str, list[Event]]] = []
    for event in events:
        label = _xml(event.label)
        for other, found in tiers:
            if other == label and found[-1].end_milliseconds <= event.start_milliseconds:
                found.append(event)
                break
        else:
            tiers.append((label, [event]))
    return sorted(tiers, key=lambda tier: tier[0])


def _add_header(document: Element, path: Path, folder: Path, last_annotation: int) -> None:
    header = SubElement(document, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    # ELAN takes what follows `file:` for the path itself: percent signs would be read as such.
    media = {
        "MEDIA_URL": "file:///" + _xml(path.as_posix()).lstrip("/"),
        "MIME_TYPE": MimeTypes().guess_type(path.name)[0] or "unknown",
    }
    if path.anchor == folder.anchor:  # else on another drive
        relative = Path(os.path.relpath(path, folder)).as_posix()
        media["RELATIVE_MEDIA_URL"] = _xml(relative if relative.startswith("../") else f"./{relative}")
    SubElement(header, "MEDIA_DESCRIPTOR", media)
    # ELAN numbers new annotations from here.
    SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId").text = str(last_annotation)


def _add_times(document: Element, events: Sequence[Event]) -> list[tuple[str, str]]:
    """Each event's two time slots, by name; none is shared, so that each event can be moved alone."""
    times = [time for event in events for time in (event.start_milliseconds, event.end_milliseconds)]
    order = SubElement(document, "TIME_ORDER")
    names = [""] * len(times)
    for number, position in enumerate(sorted(range(len(times)), key=times.__getitem__), start=1):
        names[position] = f"ts{number}"
        SubElement(order, "TIME_SLOT", TIME_SLOT_ID=names[position], TIME_VALUE=str(times[position]))
    return list(zip(names[::2], names[1::2], strict=True))


def _annotate(tier: Element, kind: str, attributes: dict[str, str], text: str) -> None:
    annotation = SubElement(SubElement(tier, "ANNOTATION"), kind, attributes)
    SubElement(annotation, "ANNOTATION_VALUE").text = text


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
