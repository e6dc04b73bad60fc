"""ELAN's .eaf files: https://www.mpi.nl/tools/elan/EAFv3.0.xsd .

Read here and not by pympi, which expands the entities that a forged file declares, and takes no notice of a medium's
time origin.
"""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from ccln.pipeline.data.clips import VIDEO_ENDINGS, DatasetError, read_annotation_file
from ccln.pipeline.data.imports.annotations import AnnotatedVideo, event_of
from ccln.pipeline.data.windows import LabelledSpan

LAYOUT = "a file of ELAN is XML with the root ANNOTATION_DOCUMENT"


class _DoctypeError(Exception):
    pass


class _Builder(TreeBuilder):
    """Builds the tree of a document without a document type, which alone can declare entities."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise _DoctypeError


def read_elan(file: Path) -> list[AnnotatedVideo]:
    """Read the events of an .eaf file.

    An event is an annotation of a tier that depends on no other; its text is the label, or if that is empty the tier's
    name. Annotations of dependent tiers, such as our confidences, are none.

    Raises:
        DatasetError: The file cannot be read, is no .eaf file, or an annotation has no times or no label.
    """
    parser = XMLParser(target=_Builder())
    try:
        parser.feed(read_annotation_file(file, LAYOUT))
        root = parser.close()
    except _DoctypeError:
        raise DatasetError(f"{file}: has a document type, which files of ELAN have not. Save it with ELAN") from None
    except (ParseError, ValueError, LookupError) as error:  # the latter of an unknown encoding
        raise DatasetError(f"{file}: {error}; {LAYOUT}") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise DatasetError(f"{file}: its root is {root.tag[:100]!r}; {LAYOUT}")
    descriptors = [one.attrib for one in root.iter("MEDIA_DESCRIPTOR")]
    # A sound file may lie beside the video; any name will do to find that.
    descriptors.sort(key=lambda one: Path(one.get("MEDIA_URL", "")).suffix.lower() not in VIDEO_ENDINGS)
    origin = descriptors[0].get("TIME_ORIGIN", "0") if descriptors else "0"
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    header = root.find("HEADER")
    if header is not None and header.get("TIME_UNITS", "milliseconds") != "milliseconds":
        raise DatasetError(f"{file}: its times are {header.get('TIME_UNITS', '')[:20]!r}; expected milliseconds")
    names = tuple(dict.fromkeys(name for one in descriptors for name in _names(file, one)))
    events = [event for tier in root.iter("TIER") for event in _events(file, tier, times, origin)]
    return [AnnotatedVideo(file, (*names, file.stem), tuple(events))]


def _names(file: Path, descriptor: dict[str, str]) -> Iterator[str]:
    relative, url = descriptor.get("RELATIVE_MEDIA_URL", ""), descriptor.get("MEDIA_URL", "")
    for written in (relative, unquote(relative)):
        if written:
            yield str(Path(file.parent.resolve(), written.removeprefix("file:/").removeprefix("./")).resolve())
    path = url.removeprefix("file://")
    if len(path) > 2 and path[0] == "/" and path[2] == ":":  # /C:/videos/a.mp4
        path = path[1:]
    for written in (path, unquote(path)):
        if written:
            yield written


def _events(file: Path, tier: Element, times: dict[str | None, str | None], origin: str) -> Iterator[LabelledSpan]:
    if "PARENT_REF" in tier.attrib:
        return
    name = tier.get("TIER_ID", "")
    for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
        place = f"annotation {annotation.get('ANNOTATION_ID', '')[:40]!r} of the tier {name[:100]!r}"
        marks = [times.get(annotation.get(f"TIME_SLOT_REF{number}")) for number in (1, 2)]
        try:
            start, end = (int(mark or "") + int(origin) for mark in marks)
        except ValueError as error:
            raise DatasetError(f"{file}, {place}: has no start or end; expected whole milliseconds") from error
        text = annotation.findtext("ANNOTATION_VALUE") or ""
        event = event_of(file, place, text if text.strip() else name, start / 1000, end / 1000)
        if event is not None:
            yield event
