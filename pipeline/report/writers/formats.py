"""All formats by name."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ccln.pipeline.localize.result import LocatedVideo
from ccln.pipeline.report.writers.elan import to_elan
from ccln.pipeline.report.writers.files import write_files
from ccln.pipeline.report.writers.label_studio import to_label_studio
from ccln.pipeline.report.writers.text import to_audacity, to_csv, to_json, to_srt, to_webvtt
from ccln.pipeline.visible import ENCODING_ERRORS

FORMATS: Mapping[str, str] = {
    "json": ".json",
    "csv": ".csv",
    "webvtt": ".vtt",
    "srt": ".srt",
    "audacity": ".audacity.txt",
    "elan": ".eaf",
    "label-studio": ".label-studio.json",
}
"""How the names of each format's files end."""


def to_text(located: LocatedVideo, format_name: str, *, folder: Path = Path(), media_root: Path | None = None) -> str:
    """The content of a file.

    Args:
        located: what was found in a video.
        format_name: of `FORMATS`.
        folder: where the file will lie; ELAN's link to the video starts there.
        media_root: what Label Studio's link to the video is relative to, see `to_label_studio`.

    Raises:
        KeyError: there is no such format.
        OutputError: the video is not within the media root.
    """
    return {
        "json": lambda: to_json([located]),
        "csv": lambda: to_csv([located]),
        "webvtt": lambda: to_webvtt(located),
        "srt": lambda: to_srt(located),
        "audacity": lambda: to_audacity(located),
        "elan": lambda: to_elan(located, folder),
        "label-studio": lambda: to_label_studio(located, media_root),
    }[format_name]()


def write_beside(
    located: LocatedVideo,
    folder: Path,
    formats: Iterable[str],
    *,
    name: str | None = None,
    media_root: Path | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a video's events as NAME.vtt and the like; what is there already, the same to the byte, stays as it is.

    Args:
        located: the video and its events.
        folder: made if it does not exist.
        formats: of `FORMATS`.
        name: without folder and suffix; of several videos, each one's of `distinct_names`. If None, the video's.
        media_root: see `to_text`.
        overwrite: whether to replace files that are there with other content.

    Returns:
        The files, in the order of `formats`.

    Raises:
        OutputError: a file is there with other content, and then none is written; or one cannot be written.
        ValueError: a format is unknown.
    """
    texts: dict[Path, list[bytes]] = {}
    for format_name in formats:
        if format_name not in FORMATS:
            raise ValueError(f"{format_name!r} is no format; choose from {', '.join(FORMATS)}")
        text = to_text(located, format_name, folder=folder, media_root=media_root)
        path = folder / f"{located.path.stem if name is None else name}{FORMATS[format_name]}"
        # File names may hold bytes that are no text; UTF-8 has no place for them.
        texts[path] = [text.encode("utf-8", ENCODING_ERRORS)]
    write_files(texts, overwrite=overwrite)
    return tuple(texts)
