"""What the commands have in common: how they are made of the public functions, run, show progress, and end.

Options are stated once, by the public function; `commands/extract.py` is an example:

- The function has type hints, defaults, and a Google docstring, which is its documentation and the command's help. It
  imports torch in its body alone, so that `--help` and a wrong option are answered without it.
- Callbacks are `Annotated[..., Parameter(parse=False)]`: they are no options, the command's body gives them.
- The body takes the function, bound to the options, as `call`; the options are in `call.keywords`. It calls it, prints,
  and returns the exit code. Keyword-only parameters of the body are options of the command alone; their help is in
  their annotation: `Annotated[bool, Parameter(help="...")]`.
- What it prints, and what is logged, passes a gate that escapes controls (`pipeline/visible.py`). The gate cannot tell
  the end of a line from one in a name: a line with names goes through `visible` first.
- The entry point is one call of `run_function`; of several functions, `new_app`, `command_of` for each, and `run`.

Exit codes: 0 all went well, 1 some clips failed and the others are done, 2 nothing could be done, 130 stopped by
Ctrl-C, 143 by SIGTERM.
"""

import ctypes
import gc
import inspect
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

from cyclopts import App, CycloptsError, CycloptsPanel, Parameter
from tqdm import tqdm

from ccln.pipeline.visible import ENCODING_ERRORS, visible

if TYPE_CHECKING:
    from rich.console import Console

    from ccln.pipeline.extract.failures import Failure

# Words of the command line become the first of each type: a Path would take a slash from a URL.
OnePath = Annotated[str | Path, Parameter(metavar="PATH")]
"""An option that is a path."""
Paths = Annotated[Iterable[str | Path] | str | Path, Parameter(metavar="PATH")]
"""One path or several."""

_STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_BYTES = 1 << 30


class _Stopped(KeyboardInterrupt):
    """The process was asked to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def new_app(name: str, about: str | None = None) -> App:
    """An app with our version; commands are added by the caller.

    Args:
        name: Of the console script.
        about: First line of the help; if None, the docstring of the app's only command.
    """
    return App(
        name=name,
        help=about,
        version=version("ccln"),
        version_flags=["--version"],
        default_parameter=Parameter(negative=(), show_default=_shown_default),
        suppress_keyboard_interrupt=False,
    )


def _shown_default(value: object) -> str | None:
    """A default as the help shows it; what is off, empty or not given needs no word."""
    return None if value in (False, None, ()) else str(value)


def command_of(function: Callable[..., Any], body: Callable[..., int]) -> Callable[..., int]:
    """Make a command of a public function: its options and help are the function's.

    Args:
        function: See the module's docstring.
        body: Gets `call`, a `functools.partial` of the function, and its own options; returns the exit code.
    """
    parameters = inspect.signature(function).parameters.values()
    own = [part for part in inspect.signature(body).parameters.values() if part.kind is part.KEYWORD_ONLY]
    options_of = [part for part in parameters if not _is_callback(part)]
    # What must be given is named by its place alone, as VIDEOS.
    shown = [part.replace(kind=part.POSITIONAL_ONLY) if part.default is part.empty else part for part in options_of]

    def command(*positional: Any, **named: Any) -> int:
        given = signature.bind(*positional, **named)
        given.apply_defaults()
        options = given.arguments
        of_body = {part.name: options.pop(part.name) for part in own}
        first = [options.pop(part.name) for part in options_of if part.kind is part.POSITIONAL_ONLY]
        return body(partial(function, *first, **options), **of_body)

    signature = inspect.Signature([*shown, *own])
    command.__signature__ = signature
    command.__annotations__ = {part.name: part.annotation for part in signature.parameters.values()}
    command.__doc__ = function.__doc__
    return command


def _is_callback(parameter: inspect.Parameter) -> bool:
    notes = getattr(parameter.annotation, "__metadata__", ())
    return any(isinstance(note, Parameter) and note.parse is False for note in notes)


def counted(count: int, noun: str) -> str:
    """How many there are of what: "1 clip", "2 clips"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def report(failed: Sequence["Failure"]) -> int:
    """Name each failure on stderr; return the exit code."""
    for failure in failed:
        print(visible(f"failed: {failure.reason}"), file=sys.stderr)
    return 1 if failed else 0


class _Gate:
    """A stream that writes text from outside with its controls escaped, and all else as the stream behind it does."""

    def __init__(self, stream: TextIO) -> None:
        self.ungated = stream
        """For our own colours and progress bars."""
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)

    def write(self, text: str) -> int:
        self.ungated.write(visible(text, keep="\n\t"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ungated, name)


def _set_gates() -> None:
    """Let nothing reach the terminal raw from here on, tracebacks neither."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Gate):
            setattr(sys, name, cast(TextIO, _Gate(stream)))


def _ungated(stream: TextIO) -> TextIO:
    return stream.ungated if isinstance(stream, _Gate) else stream


class _LineFormatter(logging.Formatter):
    """One line a message, whatever names it quotes."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return visible(super().formatMessage(record))


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
            self._bar = tqdm(
                desc=self._title,
                total=total,
                unit=self._unit,
                file=_ungated(sys.stderr),
                disable=None,
                dynamic_ncols=True,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
            )
        self._bar.total = total
        self._bar.set_postfix_str(visible(note), refresh=False)
        if done == self._bar.n:
            self._bar.refresh()
        else:
            self._bar.update(done - self._bar.n)

    def print(self, text: str) -> None:
        """Write to stdout, above the bar."""
        with tqdm.external_write_mode(_ungated(sys.stderr)):
            sys.stdout.write(text)
            sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def run_function(name: str, function: Callable[..., Any], body: Callable[..., int], *, stopped: str = "") -> None:
    """Run the console script that is one public function; see `command_of` and `run`."""
    app = new_app(name)
    app.default(command_of(function, body))
    run(app, stopped)


def run(app: App, stopped: str = "") -> None:
    """Parse the arguments, run, and end the process with an exit code; errors we know are one line, not a traceback.

    Args:
        app: the command; what it returns is the exit code.
        stopped: what to say of the work done so far when Ctrl-C or SIGTERM stops it.
    """
    name = app.name[0]
    _set_gates()
    handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter(f"{name}: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("ccln").setLevel(logging.INFO)
    keep_freed_memory()
    try:
        with _stopped_by_signals(), _printed_once():
            if not sys.argv[1:] or {"-h", "--help", "--version"} & set(sys.argv[1:]):
                app.console = _console(sys.stdout)
            code = app(sys.argv[1:], result_action="return_value", exit_on_error=False, print_error=False)
    except CycloptsError as error:  # says what is wrong and what was perhaps meant
        _console(sys.stderr).print(CycloptsPanel(visible(str(error), keep="\n")))
        if files := [word for word in sys.argv[1:] if word.startswith("-") and Path(word).exists()]:
            print(
                visible(f"{name}: {files[0]} is a file, too. Write -- before names that begin with -"), file=sys.stderr
            )
        sys.exit(2)
    except _Stopped as stop:
        print(f"\n{name}: stopped. {stopped}".rstrip(), file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + stop.number)  # a normal exit would wait for threads that are still at work
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if not _is_known(error):
            raise
        print(visible(f"{name}: {error}"), file=sys.stderr)
        sys.exit(2)
    sys.exit(code or 0)


def _console(stream: TextIO) -> "Console":
    """What cyclopts shows help and errors with; its colours are our own."""
    from rich.console import Console

    return Console(file=_ungated(stream))


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM raise in the main thread, and the second end the process at once."""

    def stop(number: int, _: FrameType | None) -> None:
        for each in _STOPPING_SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise _Stopped(number)

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = {each: signal.signal(each, stop) for each in _STOPPING_SIGNALS}
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is stop:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _printed_once() -> Iterator[None]:
    """Of processes that a launcher started to train together only the first one prints; all print errors."""
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    logging.getLogger("ccln").setLevel(logging.ERROR)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _is_known(error: Exception) -> bool:
    """Whether the message is meant for people: our own errors, and files that are not there or not ours to touch."""
    return type(error).__module__.startswith("ccln.") or isinstance(error, OSError)


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks for the next ones instead of handing each back to the system.

    The activations of a network are tens of megabytes, freed and asked for again for every few frames; by default each
    is mapped and zeroed anew by the kernel: 168,000 page faults a clip with EfficientNet-Lite0, which doubled its time.
    Kept, there are none. The price is that the process stays as large as it once was. Does nothing without glibc.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _BYTES)
        mallopt(_M_TRIM_THRESHOLD, _BYTES)


@contextmanager
def imported_for_good() -> Iterator[None]:
    """Look for no garbage among what is imported here, neither now nor later: it stays until the process ends.

    Torch brings 180,000 objects. Python would search them again and again as they come, and all of them once more when
    the process ends.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
