"""The page itself, from a template: everything is escaped, and a security policy lets nothing in."""

import json
import mimetypes
import os
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from ccln.pipeline.report.page.video import PageVideo
from ccln.pipeline.report.style import CLASS_COLORS, TRACK_COLORS, attention_scale, class_numbers
from ccln.pipeline.report.writers import OutputError, write_files
from ccln.pipeline.visible import shown, visible

EMBED_LIMIT_BYTES = 64 * 2**20
"""A page holds its videos if all together are no larger."""

_SCRIPTS = (
    "vendored/wavesurfer.min.js",
    *(f"assets/{name}.js" for name in ("attention", "timeline", "videos", "player", "page")),
)
_CHUNK_BYTES = 3 * 2**18  # a multiple of three: base64 of each piece has no padding but the last


def write_page(
    videos: Sequence[PageVideo],
    out: Path,
    *,
    title: str,
    failed: Iterable[tuple[Path, str]] = (),
    embed_limit_bytes: int = EMBED_LIMIT_BYTES,
    overwrite: bool = False,
) -> Path:
    """Write one page that shows any number of videos and loads nothing from elsewhere.

    Waveforms, tracks, events and attention are always within the page, about 0.6 MB an hour. The video files are too
    if all together have at most `embed_limit_bytes`; then the page can be sent and moved alone. Else it refers to each
    by its path relative to the page, and has to be moved together with them. Of a video that is no longer there, or
    that the browser cannot play, the page says so, and shows everything else.

    A page that is there already, the same to the byte, stays as it is; it is written whole or not at all.

    Args:
        videos: in the order in which they are listed.
        out: the page, NAME.html; its folder is made if it does not exist.
        title: any text.
        failed: files that could not be read, each with the reason; listed, so that nobody looks for them.
        embed_limit_bytes: of all video files together.
        overwrite: whether to replace another file.

    Returns:
        `out`.

    Raises:
        OutputError: `out` is there with other content, or it cannot be written, or a video file cannot be read.
    """
    try:
        embedded = sum(video.located.path.stat().st_size for video in videos) <= embed_limit_bytes
    except OSError as error:
        raise OutputError(
            f"{error.filename}: cannot be read ({error}). Put the video back, or leave it out."
        ) from error
    write_files({out: _page(videos, title, list(failed), None if embedded else out.parent)}, overwrite=overwrite)
    return out


def _page(
    videos: Sequence[PageVideo], title: str, failed: Sequence[tuple[Path, str]], linked_from: Path | None
) -> Iterator[bytes]:
    """The page in pieces; `linked_from` is its folder if the video files are not to be within it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # its import takes a while: for pages only

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        finalize=shown,
    )
    environment.policies["json.dumps_function"] = _dumped
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {"digest": _digest}

    def source(name: str) -> str:
        assert environment.loader is not None
        return environment.loader.get_source(environment, name)[0]

    style = environment.get_template("assets/page.css").render(
        track_colors=TRACK_COLORS, class_colors=CLASS_COLORS, lighter=_lighter
    )
    # wavesurfer makes a style element of its own, and marks it with this.
    nonce = sha256(style.encode()).hexdigest()
    pieces = environment.get_template("assets/page.html").generate(
        title=title,
        style=Markup(style),
        nonce=nonce,
        scripts=[Markup(source(name)) for name in _SCRIPTS],
        licence=source("vendored/wavesurfer.LICENSE"),
        videos=((_details(video, linked_from), _base64(video.located.path)) for video in videos),
        index={
            **_index(videos, failed),
            "classes": list(class_numbers(chain.from_iterable(video.located.events for video in videos))),
            "hues": len(CLASS_COLORS),
            "glow": b64encode(attention_scale().tobytes()).decode("ascii"),
            "nonce": nonce,
        },
    )
    return (piece.encode() for piece in pieces)


def _dumped(data: Any, **options: Any) -> str:
    """JSON of which the scripts show every text."""
    return json.dumps(_visible(data), **options)


def _visible(data: Any) -> Any:
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {name: _visible(value) for name, value in data.items()}
    return [_visible(value) for value in data] if isinstance(data, list | tuple) else data


def _index(videos: Sequence[PageVideo], failed: Sequence[tuple[Path, str]]) -> dict[str, Any]:
    """What the list and the filter need of every video."""
    names = _names([*(video.located.path for video in videos), *(path for path, _ in failed)])
    return {
        "videos": [
            {"name": name, "duration": round(video.located.duration_seconds, 3), "events": video.events()}
            for name, video in zip(names, videos, strict=False)
        ],
        "failed": [
            {"name": name, "reason": reason} for name, (_, reason) in zip(names[len(videos) :], failed, strict=True)
        ],
    }


def _names(paths: Sequence[Path]) -> list[str]:
    """The paths from the folder that all share: where that folder is concerns no reader of the page."""
    absolute = [Path(os.path.abspath(path)) for path in paths]
    try:
        common = os.path.commonpath([path.parent for path in absolute])
    except ValueError:  # none, or on several drives
        return [path.name for path in absolute]
    return [path.relative_to(common).as_posix() for path in absolute]


def _details(video: PageVideo, linked_from: Path | None) -> dict[str, Any]:
    """All that is needed of the open video only, with its link unless the page holds the file."""
    path = video.located.path
    link = None if linked_from is None else _link(path, linked_from)
    return {**video.details(), "contentType": mimetypes.guess_type(path.name)[0] or "", "link": link}


def _link(path: Path, folder: Path) -> str:
    """The address relative to the page; every character that could mean something in an address is escaped."""
    path = path.absolute()
    try:
        relative = os.path.relpath(path, folder.absolute())
    except ValueError:  # on another drive
        return path.as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))


def _base64(path: Path) -> Iterator[str]:
    """The file's content in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            yield b64encode(piece).decode("ascii")


def _digest(text: str) -> Markup:
    """The text's hash as a content security policy (https://www.w3.org/TR/CSP3/) names it."""
    return Markup(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'")


def _lighter(color: str) -> str:
    """A color for dark pages: two fifths of the way to white."""
    return "#" + "".join(f"{round(0.6 * int(color[i : i + 2], 16) + 0.4 * 255):02x}" for i in (1, 3, 5))
