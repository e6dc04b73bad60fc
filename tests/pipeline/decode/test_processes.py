"""Whatever happens in a process that decodes, it happens to one file, and nothing is left of it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from support import killers
from support.making import Video, make_video, steady

from ccln.pipeline.decode.clip import decode_first
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.processes import DecoderDiedError, Decoders, DecoderStartError

CRASHED = "its decoder crashed ({}). Convert the file with another program, or leave it out."


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    with Decoders(timeout_seconds=3, memory_bytes=1 << 30) as decoders:
        yield decoders


def alive() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("segfault", CRASHED.format("SIGSEGV")),
        ("abort", CRASHED.format("SIGABRT")),
        ("leave", CRASHED.format("exit code 3")),
        ("be_killed", "its decoder was killed (SIGKILL), as happens when memory runs out."),
        ("sleep", "its decoder ran out of time (3 s for 10 s of video). Allow for more: --timeout."),
        ("spin", "its decoder ran out of time (3 s for 10 s of video). Allow for more: --timeout."),
        ("allocate", "its decoder ran out of memory (1.0 GiB). Convert the file to a smaller size."),
    ],
)
def test_a_death_is_named_and_the_next_file_is_decoded(
    name: str, said: str, decoders: Decoders, tmp_path: Path
) -> None:
    path = tmp_path / "odd\udcff.mp4"  # a name that no encoding has
    with pytest.raises(DecoderDiedError) as caught:
        decoders.once(killers.KILLERS[name], path)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert list(decoders.each(killers.count, tmp_path / "good", 3)) == [0, 1, 2]


@pytest.mark.parametrize(("codec", "more"), [("libx264", 64 << 20), ("libx264", 8 << 20), ("mpeg4", 8 << 20)])
def test_a_lack_of_memory_is_not_called_damage(codec: str, more: int, tmp_path: Path) -> None:
    path = make_video(tmp_path / "large.mkv", Video(steady(2, 1), codec, height=3840, width=3840))
    request = FrameRequest(8, 8, 1)
    with Decoders() as decoders:
        size = psutil.Process(decoders.once(killers.whoami, path)).memory_info().vms
        assert len(list(decoders.each(decode_first, path, request, 1, on_missing="zeros"))) == 1
    with Decoders(memory_bytes=size + more) as decoders, pytest.raises(DecoderDiedError, match="ran out of memory"):
        list(decoders.each(decode_first, path, request, 1, on_missing="zeros"))


def test_an_unforeseen_error_is_one_of_the_file_and_the_process_goes_on(decoders: Decoders, tmp_path: Path) -> None:
    before = decoders.once(killers.whoami, tmp_path)
    with pytest.raises(DecodeError, match=r"x.mp4: an unforeseen error \(ZeroDivisionError: .*, killers.py:\d+\)"):
        decoders.once(killers.divide, tmp_path / "x.mp4")
    assert decoders.once(killers.whoami, tmp_path) == before


def test_a_file_is_tried_again_and_goes_on_after_what_was_given(decoders: Decoders, tmp_path: Path) -> None:
    assert list(decoders.each(killers.count_and_die_once, tmp_path / "log", 5)) == [0, 1, 2, 3, 4]
    assert len(set((tmp_path / "log").read_text().split())) == 2  # processes


def test_time_is_counted_for_each_clip_and_not_while_nobody_waits(tmp_path: Path) -> None:
    with Decoders(timeout_seconds=1) as decoders:
        for _ in decoders.each(killers.count, tmp_path / "log", 3):
            time.sleep(0.7)
    assert len((tmp_path / "log").read_text().split()) == 1


def test_who_stops_reading_ends_the_process_and_the_next_gets_another(decoders: Decoders, tmp_path: Path) -> None:
    first = decoders.once(killers.whoami, tmp_path)
    with closing(decoders.each(killers.chatter, tmp_path)) as pieces:
        assert next(pieces) == b"a" * 5_000_000
        assert first in alive()
    assert first not in alive()
    assert b"".join(decoders.each(killers.chatter, tmp_path)) == b"".join(bytes([x]) * 5_000_000 for x in b"abc")


def test_threads_have_a_process_each_and_at_the_end_there_is_none(tmp_path: Path) -> None:
    before = alive()
    found: list[BaseException | None] = []

    def hang(name: str) -> None:
        try:
            decoders.once(killers.KILLERS[name], tmp_path / name)
        except (DecodeError, DecoderStartError) as error:
            found.append(error)

    with Decoders() as decoders:
        threads = [threading.Thread(target=hang, args=(name,)) for name in ("sleep", "spin")]
        for thread in threads:
            thread.start()
        while len(alive() - before) < 2:
            time.sleep(0.01)
        decoders.once(killers.whoami, tmp_path)
    for thread in threads:
        thread.join(10)
    assert len(found) == 2
    assert alive() <= before


PARENT = """
import sys, threading
from pathlib import Path
from support import killers
from ccln.pipeline.decode.processes import Decoders
decoders = Decoders()
for name in sys.argv[1:]:
    threading.Thread(target=lambda: decoders.once(killers.KILLERS[name], Path(name))).start()
    print(decoders.once(killers.whoami, Path()), flush=True)
"""


@pytest.mark.parametrize("name", ["sleep", "spin"])
def test_processes_end_when_their_parent_is_killed(name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", PARENT, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) == 2
        parent.send_signal(signal.SIGKILL)
    _, left = psutil.wait_procs(children, timeout=10)
    assert left == []


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\nfrom pathlib import Path\nfrom ccln.pipeline.decode.processes import Decoders\n"
        "from ccln.pipeline.decode.container import stated_seconds\n"
        "with Decoders() as decoders:\n    decoders.once(stated_seconds, Path('none'))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout == "once\n"
    assert done.stderr.endswith("DecodeError: none: no such file. Check the path.\n")


def test_a_process_that_does_not_start_ends_the_whole(tmp_path: Path) -> None:
    with (
        Decoders(memory_bytes=1 << 20) as decoders,
        pytest.raises(DecoderStartError, match="the process that decodes does not start: it crashed"),
    ):
        decoders.once(killers.whoami, tmp_path)
