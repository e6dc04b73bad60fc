"""Commands that are made of public functions."""

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import pytest
from cyclopts import Parameter

from ccln.pipeline.commands.console import OnePath, Paths, run_function

if TYPE_CHECKING:  # no command may need the types of callbacks and results, which would import torch
    from torch import Tensor as Heavy


def collect(
    folder: OnePath,
    /,
    videos: Paths,
    *,
    cache: OnePath | None = None,
    dry: bool = False,
    progress: Annotated[Callable[["Heavy"], None] | None, Parameter(parse=False)] = None,
) -> "Heavy":
    """Collect videos.

    Args:
        folder: Where they go.
        videos: What to
            collect.
        cache: Where the rest lies.
        dry: Only look.
        progress: Called now and then.

    Raises:
        ValueError: Never.
    """
    assert progress is not None
    return folder, videos, cache, dry  # pyright: ignore[reportReturnType]


def run(monkeypatch: pytest.MonkeyPatch, words: str) -> tuple[object, list[object]]:
    """The exit code, and what the body received and the function returned."""
    seen: list[object] = []

    def body(call: partial, *, twice: Annotated[bool, Parameter(help="Do it again.")] = False) -> int:
        seen.extend([call.keywords["cache"], twice, call(progress=print)])
        return 1 if twice else 0

    monkeypatch.setattr(sys, "argv", ["collect", *words.split()])
    with pytest.raises(SystemExit) as ended:
        run_function("collect", collect, body)
    return ended.value.code, seen


def test_function_and_console_body_get_their_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    code, seen = run(monkeypatch, "out a.mp4 b.mp4 --cache x --twice --dry")
    assert (code, seen[:2]) == (1, ["x", True])
    assert seen[2] == ("out", ["a.mp4", "b.mp4"], "x", True)
    code, seen = run(monkeypatch, "out a.mp4")
    assert (code, seen) == (0, [None, False, ("out", ["a.mp4"], None, False)])


def test_help_is_the_docstring_without_callbacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == (0, [])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in (
        "Collect videos.",
        "FOLDER Where they go.",
        "What to collect.",
        "--dry Only look.",
        "--twice Do it again",
    ):
        assert text in shown
    for text in ("progress", "Called", "Never", "--no-dry"):
        assert text not in shown


def test_a_wrong_option_gets_the_nearest_suggested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "out a.mp4 --twise") == (2, [])
    assert "--twice" in capsys.readouterr().err
