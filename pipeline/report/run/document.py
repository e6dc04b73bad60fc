"""The page around its sections: head, style, script, and a policy that lets nothing in."""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from ccln.pipeline.report.run.markup import Markup, element, joined
from ccln.pipeline.train.run_folder import write_text

PAGE_NAME = "report.html"


def write_document(folder: Path, title: str, *sections: Markup) -> Path:
    """Write `PAGE_NAME` into a folder, so that a reader sees the old one or the whole new one; returns its path."""
    style, script = _asset("report.css"), _asset("report.js")
    # A content security policy (https://www.w3.org/TR/CSP3/): this page's own script runs, and nothing comes in.
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; base-uri 'none'; "
        "form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    body = element("body", element("main", element("h1", title), *sections), element("script", Markup(script)))
    page = joined([Markup("<!doctype html>\n"), element("html", head, body, lang="en"), "\n"])
    # Names of files may hold bytes that are no text; UTF-8 has no place for them.
    write_text(folder / PAGE_NAME, page.encode("utf-8", errors="replace").decode("utf-8"))
    return folder / PAGE_NAME


def section(heading: str, *content: str, note: str = "") -> Markup:
    """A part of the page under its heading, and how to read it."""
    return element("section", element("h2", heading), *([element("p", note)] if note else []), *content)


def folded(summary: str, *content: str) -> Markup:
    """What is there only for those who open it."""
    return element("details", element("summary", summary), *content)


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return (files("ccln.pipeline.report.run") / "assets" / name).read_text(encoding="utf-8")
