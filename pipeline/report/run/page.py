"""Pages from templates: everything is escaped, and a security policy lets nothing in."""

import os
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ccln.pipeline.metrics.evaluation import percent
from ccln.pipeline.report.run import PAGE_NAME
from ccln.pipeline.report.run.charts import dot_plot, histogram, line_chart


def write_page(folder: Path, template: str, **context: Any) -> Path:
    """Write `PAGE_NAME` into a folder, so that a reader sees the old one or the whole new one.

    Args:
        folder: of a run or of several.
        template: name of the template.
        context: what the template shows.

    Returns:
        The path of the page.
    """
    environment = Environment(
        loader=PackageLoader("ccln.pipeline.report.run"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.globals |= {"dot_plot": dot_plot, "histogram": histogram, "line_chart": line_chart}
    environment.filters |= {"percent": percent, "digest": _digest, "nobreak": _unbroken}
    style, script = (_source(environment, name) for name in ("report.css", "report.js"))
    page = environment.get_template(template).render(context, style=style, script=script)
    path = folder / PAGE_NAME
    partial = path.with_name(f".{path.name}.partial")
    # Names of files may hold bytes that are no text; UTF-8 has no place for them.
    partial.write_bytes(page.encode("utf-8", errors="replace"))
    os.replace(partial, path)
    return path


def _source(environment: Environment, name: str) -> Markup:
    """A file of the package that goes into the page as it is."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _digest(text: str) -> Markup:
    """The text's hash as a content security policy (https://www.w3.org/TR/CSP3/) names it."""
    return Markup(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'")


def _unbroken(text: Markup) -> Markup:
    """The text, no line of it beginning with a per cent sign."""
    return text.replace(" %", "\u00a0%")
