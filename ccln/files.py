"""Files and folders that are there whole or not at all, to readers and after a loss of power alike.

All packages write by this module. What is not complete has a name of its own, which says what process writes it: what
processes that have died left behind is recognised by that, and removed.
"""

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_PARTIAL = re.compile(r"\..*\.(\w+-\d+-\w+)-[0-9a-f]{8}\.partial")
_MOST_CHARACTERS = 40  # of the name of the file to be: a name may have 255 bytes
_ABANDONED_SECONDS = 7 * 24 * 3600
"""After that, what a process of another machine has left without a change is held to be left behind."""


def owner() -> str:
    """This process's name among all processes of all machines and times; holds letters, digits and hyphens."""
    pid = os.getpid()
    return f"{_machine()}-{pid}-{_started(pid)}"


def is_dead(name: str) -> bool:
    """Whether the process that `owner` gave a name is no more; False where that cannot be known: on other machines."""
    machine, pid, started = name.split("-")
    return machine == _machine() and _started(int(pid)) != started


@cache
def _machine() -> str:
    """This machine; of its containers, which number their processes each for itself, this one."""
    place = socket.gethostname()
    with suppress(OSError):
        place += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(place.encode(errors="replace")).hexdigest()[:12]


def _started(pid: int) -> str:
    """When a process was started, since numbers are used again; "dead" if there is none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8]
    except OSError:  # no Linux
        import psutil

        return "alive" if psutil.pid_exists(pid) else "dead"
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return "dead"
    return "dead" if fields[0] in b"ZX" else f"{boot}{fields[19].decode()}"


@contextmanager
def whole(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Where to write a file or a folder; it gets its name when the block ends, and is safe on disk then.

    Until then, and if the block fails or removes what it wrote, nothing becomes of what has that name. A file is
    replaced, a folder only if it is empty.

    Args:
        path: What it is to be called. Its folder is made.
        folder: Where it is written, on the same file system; that of `path` if not given.

    Raises:
        OSError: It cannot be written.
    """
    folder = folder or path.parent
    for place in {folder, path.parent}:
        make_folder(place)
    _sweep_once(folder.absolute())
    partial = folder / f".{path.name[:_MOST_CHARACTERS]}.{owner()}-{secrets.token_hex(4)}.partial"
    try:
        yield partial
        if os.path.lexists(partial):
            _sync(partial)
            os.replace(partial, path)
            sync_folder(path.parent)
    finally:
        _remove(partial)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file as `whole` does.

    Raises:
        OSError: It cannot be written.
    """
    with whole(path) as partial:
        partial.write_bytes(content)


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in, if it does not exist, and see that they outlast a loss of power.

    Raises:
        OSError: It cannot be made.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in new:
        sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """See that the names in a folder outlast a loss of power, where the file system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path) -> int:
    """Remove from a folder what processes that have died left half written; return how many files and folders."""
    swept = 0
    with suppress(OSError), os.scandir(folder) as items:
        for item in items:
            if (match := _PARTIAL.fullmatch(item.name)) is None:
                continue
            with suppress(OSError):  # another process may sweep at the same time
                age_seconds = time.time() - item.stat(follow_symlinks=False).st_mtime
                is_foreign = not match[1].startswith(_machine())
                if is_dead(match[1]) or (is_foreign and age_seconds > _ABANDONED_SECONDS):
                    _remove(Path(item.path))
                    swept += 1
    return swept


@cache
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Write a file, or a folder with all that is in it, through to the disk."""
    if path.is_dir():
        for item in path.iterdir():
            _sync(item)
        sync_folder(path)
    else:
        with path.open("r+b") as file:
            os.fsync(file.fileno())
