"""Annotations for ELAN: the EAF format, version 3.0, https://www.mpi.nl/tools/elan/EAFv3.0.xsd ."""

import re
from mimetypes import MimeTypes
from pathlib import Path
from xml.etree import ElementTree

from ccln.pipeline.report.writers.names import distinct
from ccln.pipeline.report.writers.timeline import Span, Timeline, spans

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_SCHEMA_ATTRIBUTE = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"

# The format wants a date. That of writing would make two files of the same events differ.
_DATE = "1970-01-01T00:00:00+00:00"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_EVENT, _CONFIDENCE = "event", "confidence"


def to_elan(timeline: Timeline) -> str:
    """One tier a class, with the label as each annotation's text, and below it a tier with the confidences.

    Characters that XML cannot hold become U+FFFD. The tier of a class whose events overlap one another is followed by
    a second one, LABEL-2. The media file is linked by its absolute path; ELAN looks beside the .eaf file as well.
    """
    tiers = _tiers(timeline)
    names = distinct(label for label, _ in tiers)
    confidence_names = distinct([*names, *(f"{name}: {_CONFIDENCE}" for name in names)])[len(names) :]
    document = ElementTree.Element(
        "ANNOTATION_DOCUMENT", {"AUTHOR": "ccln", "DATE": _DATE, "FORMAT": "3.0", "VERSION": "3.0"}
    )
    document.set(_SCHEMA_ATTRIBUTE, _SCHEMA)
    count = sum(len(found) for _, found in tiers)
    _add_header(document, timeline.path, last_annotation=2 * count)
    slots = _add_times(document, [span for _, found in tiers for span in found])
    number = 0
    for (label, found), name, confidence_name in zip(tiers, names, confidence_names, strict=True):
        main = ElementTree.SubElement(document, "TIER", {"LINGUISTIC_TYPE_REF": _EVENT, "TIER_ID": name})
        confidences = ElementTree.SubElement(
            document, "TIER", {"LINGUISTIC_TYPE_REF": _CONFIDENCE, "PARENT_REF": name, "TIER_ID": confidence_name}
        )
        for span in found:
            start, end = slots[number]
            number += 1
            times = {"TIME_SLOT_REF1": start, "TIME_SLOT_REF2": end}
            _annotate(main, "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": f"a{number}", **times}, label)
            reference = {"ANNOTATION_ID": f"a{count + number}", "ANNOTATION_REF": f"a{number}"}
            _annotate(confidences, "REF_ANNOTATION", reference, f"{span.confidence:.4f}")
    _add_types(document)
    ElementTree.indent(document)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(document, encoding="unicode") + "\n"


def _tiers(timeline: Timeline) -> list[tuple[str, list[Span]]]:
    """Labels and their spans; more than one of a label where its spans overlap, which a tier's must not."""
    tiers: list[tuple[str, list[Span]]] = []
    for span in spans(timeline):
        label = _NOT_XML.sub("\ufffd", span.label)
        for other, found in tiers:
            if other == label and found[-1].end_milliseconds <= span.start_milliseconds:
                found.append(span)
                break
        else:
            tiers.append((label, [span]))
    return sorted(tiers, key=lambda tier: tier[0])


def _add_header(document: ElementTree.Element, path: Path, last_annotation: int) -> None:
    header = ElementTree.SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    # ELAN takes what follows `file:` for the path itself: percent signs would be read as such.
    absolute = _NOT_XML.sub("\ufffd", path.absolute().as_posix()).lstrip("/")
    ElementTree.SubElement(
        header,
        "MEDIA_DESCRIPTOR",
        {
            "MEDIA_URL": f"file:///{absolute}",
            "MIME_TYPE": MimeTypes().guess_type(path.name)[0] or "unknown",
            "RELATIVE_MEDIA_URL": "./" + _NOT_XML.sub("\ufffd", path.name),
        },
    )
    # ELAN numbers new annotations from here.
    ElementTree.SubElement(header, "PROPERTY", {"NAME": "lastUsedAnnotationId"}).text = str(last_annotation)


def _add_times(document: ElementTree.Element, found: list[Span]) -> list[tuple[str, str]]:
    """Each span's two time slots, by name; none is shared, so that each event can be moved alone."""
    times = [time for span in found for time in (span.start_milliseconds, span.end_milliseconds)]
    order = ElementTree.SubElement(document, "TIME_ORDER")
    names = [""] * len(times)
    for number, position in enumerate(sorted(range(len(times)), key=times.__getitem__), start=1):
        names[position] = f"ts{number}"
        slot = {"TIME_SLOT_ID": names[position], "TIME_VALUE": str(times[position])}
        ElementTree.SubElement(order, "TIME_SLOT", slot)
    return list(zip(names[::2], names[1::2], strict=True))


def _annotate(tier: ElementTree.Element, kind: str, attributes: dict[str, str], text: str) -> None:
    annotation = ElementTree.SubElement(ElementTree.SubElement(tier, "ANNOTATION"), kind, attributes)
    ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = text


def _add_types(document: ElementTree.Element) -> None:
    kind, association = {"GRAPHIC_REFERENCES": "false"}, "Symbolic_Association"
    ElementTree.SubElement(
        document, "LINGUISTIC_TYPE", {**kind, "LINGUISTIC_TYPE_ID": _EVENT, "TIME_ALIGNABLE": "true"}
    )
    ElementTree.SubElement(
        document,
        "LINGUISTIC_TYPE",
        {"CONSTRAINTS": association, **kind, "LINGUISTIC_TYPE_ID": _CONFIDENCE, "TIME_ALIGNABLE": "false"},
    )
    ElementTree.SubElement(
        document, "CONSTRAINT", {"DESCRIPTION": "1-1 association with a parent annotation", "STEREOTYPE": association}
    )
