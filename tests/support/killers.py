"""Decoders that die, each in its way, for processes to run in place of the real ones."""

import ctypes
import itertools
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from ccln.pipeline.data import media
from ccln.pipeline.decode import clip
from ccln.pipeline.report.video import video


def segfault(path: Path) -> Generator[int]:
    yield from ()
    ctypes.string_at(0)


def abort(path: Path) -> Generator[int]:
    yield from ()
    os.abort()


def leave(path: Path) -> Generator[int]:
    yield from ()
    os._exit(3)


def be_killed(path: Path) -> Generator[int]:
    yield from ()
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(path: Path) -> Generator[int]:
    yield from ()
    time.sleep(600)


def spin(path: Path) -> Generator[int]:
    yield from ()
    for _ in itertools.count():
        pass


def allocate(path: Path) -> Generator[int]:
    yield from ()
    held = [bytearray(1 << 20)]
    while True:
        held += [bytearray(len(held[-1]) * 2)]


def demand(path: Path) -> Generator[int]:
    """Ask for more memory at once than there is."""
    yield from ()
    bytearray(1 << 50)


def divide(path: Path) -> Generator[int]:
    yield from ()
    raise ArithmeticError(f"{1 / 0}")


def count(path: Path, until: int) -> Generator[int]:
    """Count, and note in the file that it was begun."""
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    yield from range(until)


def count_and_die_once(path: Path, until: int) -> Generator[int]:
    """Count, but end the process before the last number the first time."""
    first = not path.exists()
    for number in count(path, until):
        if first and number == until - 1:
            os.abort()
        yield number


def whoami(path: Path) -> int:
    return os.getpid()


def chatter(path: Path) -> Generator[bytes]:
    """Print, as a library may, and yield more than a pipe holds."""
    for letter in b"abc":
        os.write(1, b"noise")
        yield bytes([letter]) * 5_000_000


KILLERS = {
    killer.__name__: killer for killer in (segfault, abort, leave, be_killed, sleep, spin, allocate, demand, divide)
}


def decode_first(path: Path, *args: Any, **options: Any) -> Generator[Any]:
    """As the real one, but a file that bears a killer's name gets the killer, and so does `decode_clips`."""
    yield from KILLERS[path.stem](path) if path.stem in KILLERS else clip.decode_first(path, *args, **options)


def decode_clips(path: Path, *args: Any, **options: Any) -> Generator[Any]:
    yield from KILLERS[path.stem](path) if path.stem in KILLERS else clip.decode_clips(path, *args, **options)


def silences(path: Path) -> Generator[bool]:
    yield from KILLERS[path.stem](path) if path.stem in KILLERS else media.silences(path)  # pyright: ignore[reportReturnType]


def draw_video(source: Path, path: Path, place: Path, *args: Any, **options: Any) -> Generator[float]:
    """As the real one, but a killer has written half of the file before it strikes."""
    if source.stem in KILLERS:
        place.write_bytes(b"half")
        yield 10.0
        yield from KILLERS[source.stem](source)
    yield from video.draw_video(source, path, place, *args, **options)
