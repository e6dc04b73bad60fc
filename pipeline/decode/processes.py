"""Decoding in processes of their own: what a file does to its decoder, it does to nobody else.

A codec that crashes, hangs or takes all memory ends its process, and the file fails; the others go on. A process is a
fresh interpreter that neither imports torch nor runs the caller's main module again, as those of `multiprocessing` do:
a script without a guard would start itself anew. It is asked, and answers, by pickles through its pipes. The 6 MB of a
clip's frames cost 2 ms of processor time that way, and 5 to 8 ms in shared memory, whose pages the system clears first.
Nothing is left behind, however either side ends.
"""

import itertools
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from types import GeneratorType
from typing import Any, BinaryIO, Concatenate, Literal, ParamSpec, TypeVar

from ccln.pipeline.decode.causes import is_memory_short
from ccln.pipeline.decode.container import DecodeError, unforeseen
from ccln.pipeline.defaults import TIMEOUT_SECONDS
from ccln.pipeline.segments import CLIP_SECONDS

_MEMORY_BYTES = 8 << 30  # three times what the largest frames need that are allowed
_START_SECONDS = 300.0
_ATTEMPTS = 2
_PIPE_BYTES = 1 << 20
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; from ccln.pipeline.decode.processes import serve; serve(int(sys.argv[1]))"
)
# A decoder has one thread; linear algebra, which it does not do, would keep memory for one a processor.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

_Parameters = ParamSpec("_Parameters")
_Item = TypeVar("_Item")


class DecoderDiedError(DecodeError):
    """A file ended the process that decoded it, twice."""


class DecoderStartError(Exception):
    """The process that decodes cannot be started."""


class Decoders:
    """Processes that decode, started as they are needed, the first at once. A context; at its end they end, too.

    Any number of threads may use it; each has a process to itself while it reads a file.
    """

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS, memory_bytes: int = _MEMORY_BYTES) -> None:
        """Start the first process, which gets ready while the caller prepares the rest.

        Args:
            timeout_seconds: How long to wait for each ten seconds of a video; what it may take grows with its length.
            memory_bytes: Of a process's address space, and no more than half of the machine's memory; only where the
                system can limit it.
        """
        self._timeout_seconds, self._memory_bytes = timeout_seconds, _at_most_half(memory_bytes)
        self._lock = threading.Lock()
        self._closed = False
        self._all: set[_Process] = set()
        self._idle = [self._start()]

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes. A thread that still reads from one gets an error."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for process in self._all:
                process.kill()
        for process in idle:
            process.end()

    def each(
        self,
        function: Callable[Concatenate[Path, _Parameters], Generator[_Item]],
        path: Path,
        *args: _Parameters.args,
        **options: _Parameters.kwargs,
    ) -> Generator[_Item]:
        """Iterate over what a function yields of a file, in a process; it works ahead by what its pipe holds.

        A process that dies is replaced once, and the new one goes on after what has been yielded.

        Args:
            function: One of a module's own, the same each time it is called.
            path: The file.
            args: For the function, after the path.
            options: For the function.

        Raises:
            DecoderDiedError: The process died, took too long or had too little memory, both times.
            DecodeError: The function raised it, or something that nobody foresaw.
            DecoderStartError: There is no process.
        """
        count = 0
        cause = ""
        for _ in range(_ATTEMPTS):
            process = self._take()
            try:
                process.wait_until_ready()
                answers = process.ask((function, path, args, options), self._timeout_seconds)
                for item in itertools.islice(answers, count, None):
                    count += 1
                    yield item
                return
            except _DiedError as death:
                cause = str(death)
            finally:
                self._give_back(process)
        raise DecoderDiedError(f"{path}: its decoder {cause}")

    def once(
        self,
        function: Callable[Concatenate[Path, _Parameters], _Item],
        path: Path,
        *args: _Parameters.args,
        **options: _Parameters.kwargs,
    ) -> _Item:
        """What a function returns of a file, as `each`."""
        (found,) = self.each(function, path, *args, **options)  # pyright: ignore[reportArgumentType]
        return found

    def _take(self) -> "_Process":
        with self._lock:
            if self._closed:
                raise DecoderStartError("decoding has ended")
            return self._idle.pop() if self._idle else self._start()

    def _give_back(self, process: "_Process") -> None:
        with self._lock:
            if process.is_ready and not self._closed:
                self._idle.append(process)
                return
            self._all.discard(process)
        process.end()

    def _start(self) -> "_Process":
        process = _Process(self._memory_bytes)
        self._all.add(process)
        return process


class _DiedError(Exception):
    """A process died; the message is what a sentence about it says, with what to do."""


class _Process:
    """The near side of a process."""

    def __init__(self, memory_bytes: int) -> None:
        self.is_ready = False
        """Whether it waits for a request."""
        self._late = False
        self._memory_bytes = memory_bytes
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, str(memory_bytes), *map(str, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=_PIPE_BYTES,
            process_group=0,  # Ctrl-C is for us
            env={**os.environ, **_ONE_THREAD},
        )

    def wait_until_ready(self) -> None:
        if self.is_ready:
            return
        try:
            self._receive(_START_SECONDS)
        except _DiedError as death:
            raise DecoderStartError(f"the process that decodes does not start: it {death}") from None
        self.is_ready = True

    def ask(self, request: tuple[Any, ...], seconds: float) -> Generator[Any]:
        """Send a request, and yield the answers, for each of which to wait so long at most.

        Raises:
            _DiedError: The process is no more, or not fit for another request.
            DecodeError: What went wrong in it.
        """
        assert self._process.stdin is not None
        self.is_ready = False
        with suppress(BrokenPipeError):  # it is dead, as the answer says
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
        while True:
            kind, value = self._receive(seconds)
            if kind == "item":
                yield value
                continue
            if kind == "memory":
                gib = self._memory_bytes / (1 << 30)
                raise _DiedError(f"ran out of memory ({gib:.1f} GiB). Convert the file to a smaller size.")
            self.is_ready = True
            if kind == "error":
                raise value
            return

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Kill it, unless it is dead, and leave nothing of it."""
        self._process.kill()
        with suppress(BrokenPipeError), self._process:  # closes the pipes, and waits
            pass

    def _receive(self, seconds: float) -> tuple[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(seconds, self._kill_late)
        timer.daemon = True
        timer.start()
        try:
            return pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):  # the end, or the middle of an answer
            raise _DiedError(self._cause(seconds)) from None
        finally:
            timer.cancel()

    def _kill_late(self) -> None:
        self._late = True
        self.kill()

    def _cause(self, seconds: float) -> str:
        code = self._process.wait()
        if self._late:
            return f"ran out of time ({seconds:g} s for {CLIP_SECONDS} s of video). Allow for more: --timeout."
        name = f"exit code {code}"
        with suppress(ValueError):
            name = signal.Signals(-code).name
        if name == "SIGKILL":
            return "was killed (SIGKILL), as happens when memory runs out. Have fewer files in work at the same time."
        return f"crashed ({name}). Convert the file with another program, or leave it out."


def _at_most_half(memory_bytes: int) -> int:
    """So much memory, and no more than half of the machine's, where that is known."""
    try:
        return min(memory_bytes, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    except (AttributeError, ValueError, OSError):
        return memory_bytes


def serve(memory_bytes: int) -> None:
    """The far side: answer requests until the near side is no more. A process runs this and nothing else."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    _limit_memory(memory_bytes)
    from ccln.pipeline.decode import clip  # noqa: F401 - before the first request needs it

    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_take_requests, args=(requests,), daemon=True).start()
    _answer(answers, "ready")
    while True:
        _work(answers, *requests.get())


def _limit_memory(memory_bytes: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # not on Windows; macOS may refuse
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _take_requests(requests: "queue.SimpleQueue[Any]") -> None:
    """Put each request into the queue, and end the process, whatever it does, when nobody is there any more."""
    try:
        while True:
            requests.put(pickle.load(sys.stdin.buffer))
    finally:
        os._exit(0)


def _work(answers: BinaryIO, function: Callable[..., Any], path: Path, args: Any, options: Any) -> None:
    try:
        found = function(path, *args, **options)
        for item in found if isinstance(found, GeneratorType) else (found,):
            _answer(answers, "item", item)
    except MemoryError:
        _answer(answers, "memory")
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        if is_memory_short():
            _answer(answers, "memory")
            return
        known = type(error).__module__.startswith("ccln.")
        _answer(answers, "error", error if known else DecodeError(unforeseen(path, error)))
    else:
        _answer(answers, "end")


def _answer(answers: BinaryIO, kind: Literal["ready", "item", "memory", "error", "end"], value: Any = None) -> None:
    pickle.dump((kind, value), answers, pickle.HIGHEST_PROTOCOL)
    answers.flush()
