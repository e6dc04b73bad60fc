"""What the commands have in common: how they run, show progress, and end.

Exit codes: 0 all went well, 1 some clips failed and the others are done, 2 nothing could be done, 130 stopped by hand.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import App, CycloptsError, Parameter
from tqdm import tqdm

from ccln.pipeline.commands.memory import keep_freed_memory

if TYPE_CHECKING:
    from ccln.pipeline.extract import Failure

_Result = TypeVar("_Result")

OnePath = Annotated[Path | str, Parameter(metavar="PATH")]
"""A path as a public function takes it, shown in the help of its command."""

Videos = Annotated[list[Path], Parameter(negative=())]
"""What a command takes that reads videos."""


def new_app(name: str, about: str) -> App:
    """An app with our version; commands are added by the caller."""
    return App(name=name, help=about, version=version("ccln"), version_flags=["--version"])


def report(failed: Sequence["Failure"]) -> int:
    """Name each failure on stderr; return the exit code."""
    for failure in failed:
        print(f"failed: {failure.reason}", file=sys.stderr)
    return 1 if failed else 0


class ProgressBar:
    """A progress bar that appears with the first step, and only where a person watches."""

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        self._bar: tqdm | None = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are done; the progress callback of library code."""
        if self._bar is None:
            self._bar = tqdm(desc=self._title, total=total, unit=self._unit, disable=None, dynamic_ncols=True)
        self._bar.set_postfix_str(note, refresh=False)
        if done == self._bar.n:
            self._bar.refresh()
        else:
            self._bar.update(done - self._bar.n)

    def print(self, text: str) -> None:
        """Write to stdout, above the bar."""
        with tqdm.external_write_mode():
            sys.stdout.write(text)
            sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def as_command(
    function: Callable[..., _Result], show: Callable[[_Result], int | None], title: str, unit: str
) -> Callable[..., int]:
    """Make a command of a public function: progress becomes a bar, and the result is printed.

    Args:
        function: Takes a callback `progress` that is no option: `Annotated[..., Parameter(parse=False)]`.
        show: Prints the result; returns the exit code, or None for 0.
        title: What the bar is called.
        unit: What it counts.
    """

    @wraps(function)
    def command(*arguments: object, **options: object) -> int:
        with ProgressBar(title, unit) as bar:
            result = function(*arguments, progress=bar, **options)
        return show(result) or 0

    # cyclopts evaluates every annotation; the result's type would need torch.
    command.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    return command


def run(app: App, kept: str = "") -> None:
    """Parse the arguments, run, and end the process with an exit code; errors we know are one line, not a traceback.

    Args:
        app: the command; what it returns is the exit code.
        kept: what to say of the work done so far when it is stopped by hand.
    """
    name = app.name[0]
    logging.basicConfig(format=f"{name}: %(message)s", level=logging.WARNING)
    logging.getLogger("ccln").setLevel(logging.INFO)
    keep_freed_memory()
    try:
        with _heard_once():
            code = app(sys.argv[1:], result_action="return_value", exit_on_error=False)
    except CycloptsError:
        sys.exit(2)  # it has printed what is wrong and what was perhaps meant
    except KeyboardInterrupt:
        print(f"\n{name}: stopped. {kept}".rstrip(), file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if not _is_known(error):
            raise
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(code or 0)


def run_single(name: str, about: str, command: Callable[..., int], kept: str = "") -> None:
    """Run an app that is one command; see `run`."""
    app = new_app(name, about)
    app.default(command)
    run(app, kept)


@contextmanager
def _heard_once() -> Iterator[None]:
    """Of processes that a launcher started to train together only the first one speaks; errors are everyone's."""
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    logging.getLogger("ccln").setLevel(logging.ERROR)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _is_known(error: Exception) -> bool:
    """Whether the message is meant for people: our own errors, and files that are not there or not ours to touch."""
    return type(error).__module__.startswith("ccln.") or isinstance(error, OSError)
