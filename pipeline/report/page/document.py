"""The page itself."""

import json
import os
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ccln.pipeline.report.page.clip import PageClip
from ccln.pipeline.report.page.media import EMBED_LIMIT_BYTES, Media, media_of
from ccln.pipeline.report.writers import write_files

_SCRIPTS = ("attention.js", "timeline.js", "clips.js", "player.js", "page.js")
_DATA = "<!-- data -->"  # where in the template the clips go


def write_page(
    clips: Sequence[PageClip],
    out: Path,
    *,
    title: str,
    failed: Iterable[tuple[Path, str]] = (),
    embed_limit_bytes: int = EMBED_LIMIT_BYTES,
    overwrite: bool = False,
) -> Path:
    """Write one page that shows any number of clips and loads nothing from elsewhere.

    Waveforms, tracks, events and attention are always within the page, about 0.6 MB an hour. The videos are too if
    all together have at most `embed_limit_bytes`; then the page can be sent and moved alone. Else it refers to each
    by its path relative to the page, and has to be moved together with them. A video that is not there any more, or
    that the browser cannot play, is said to be so, and everything else is shown.

    What is there already, the same to the byte, stays as it is; the page is written whole or not at all.

    Args:
        clips: in the order in which they are listed.
        out: the page, NAME.html; its folder is made if it does not exist.
        title: any text.
        failed: files that could not be read, each with the reason; listed, so that nobody looks for them.
        embed_limit_bytes: of all videos together.
        overwrite: whether to replace another file.

    Returns:
        `out`.

    Raises:
        OutputError: `out` is there with other content, or it cannot be written, or a video cannot be read.
        ValueError: an event is not within its clip.
    """
    media = media_of([clip.located.path for clip in clips], out.parent, embed_limit_bytes)
    write_files({out: _page(clips, media, title, tuple(failed))}, overwrite=overwrite)
    return out


def _page(
    clips: Sequence[PageClip], media: Sequence[Media], title: str, failed: Sequence[tuple[Path, str]]
) -> Iterator[bytes]:
    style = _asset("page.css")
    scripts = [_asset("../vendored/wavesurfer.min.js"), *map(_asset, _SCRIPTS)]
    # wavesurfer makes a style element of its own, and marks it with this.
    nonce = sha256(style.encode()).hexdigest()
    before, after = _asset("page.html").split(_DATA)
    filled = {
        "title": escape(title),
        "policy": _policy(style, scripts, nonce),
        "style": style,
        "licence": escape(_asset("../vendored/wavesurfer.LICENSE")),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    yield _utf8(Template(before).substitute(filled))
    for number, (clip, its_media) in enumerate(zip(clips, media, strict=True)):
        yield _data(f"clip-{number}", {**clip.details(), "contentType": its_media.content_type, "link": its_media.link})
        if its_media.link is None:
            yield b'<script type="text/plain" id="media-%d">' % number
            yield from its_media.base64()
            yield b"</script>\n"
    yield _data("index", _index(clips, failed, nonce))
    yield _utf8(Template(after).substitute(filled))


def _index(clips: Sequence[PageClip], failed: Sequence[tuple[Path, str]], nonce: str) -> dict[str, Any]:
    """What the list and the filter need of every clip."""
    names = _names([*(clip.located.path for clip in clips), *(path for path, _ in failed)])
    return {
        "clips": [
            {"name": name, "duration": round(clip.located.duration_seconds, 3), "events": clip.events()}
            for name, clip in zip(names, clips, strict=False)
        ],
        "failed": [
            {"name": name, "reason": reason} for name, (_, reason) in zip(names[len(clips) :], failed, strict=True)
        ],
        "nonce": nonce,
    }


def _names(paths: Sequence[Path]) -> list[str]:
    """The paths from the folder that all share, which says nothing of whose machine it was."""
    absolute = [Path(os.path.abspath(path)) for path in paths]
    try:
        common = os.path.commonpath([path.parent for path in absolute])
    except ValueError:  # none, or on several drives
        return [path.name for path in absolute]
    return [path.relative_to(common).as_posix() for path in absolute]


def _policy(style: str, scripts: Iterable[str], nonce: str) -> str:
    """A content security policy (https://www.w3.org/TR/CSP3/): this page's own scripts run, and nothing comes in."""
    hashes = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
    style_hash = b64encode(sha256(style.encode()).digest()).decode()
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes}",
            f"style-src 'sha256-{style_hash}' 'nonce-{nonce}'",
            "media-src 'self' file: blob:",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _data(identity: str, content: Any) -> bytes:
    """JSON that no HTML parser takes for markup: it has neither `<` nor anything but ASCII."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{identity}">{text}</script>\n'.encode("ascii")


def _asset(name: str) -> str:
    return (files("ccln.pipeline.report.page") / "assets" / name).read_text(encoding="utf-8")


def _utf8(text: str) -> bytes:
    # File names may hold bytes that are no text; UTF-8 has no place for them.
    return text.encode("utf-8", errors="replace")
