"""Ctrl-C and SIGTERM sent to running commands: finished work is kept, and they end soon."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from ccln.cache import FeatureCache
from ccln.pipeline.train.state import STATE_NAME

pytestmark = pytest.mark.slow

SOON_SECONDS = 15  # five as documented, and time for a busy machine
SLEEPER = """
import time
from ccln.pipeline.commands.console import run_function
from ccln.pipeline.workers import worked_on

def sleep() -> None:
    '''Work on what never ends.'''
    def work(number: int) -> None:
        print(f"{number}\\n", end="", flush=True)
        time.sleep(600)

    for _ in worked_on(range(20), work, workers=2):
        pass

run_function("sleeper", sleep, lambda call: call() or 0, stopped="Nothing was done.")
"""

HANGING = """
import sys
from ccln.pipeline.extract import worker
from ccln.pipeline.commands.extract import extract_command
from support import killers
worker.decode_first = killers.decode_first
sys.argv = ["ccln-extract", *sys.argv[1:]]
extract_command()
"""

both_signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)


@contextmanager
def started(*words: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        list(map(str, words)),
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def script(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def taking_requests(pid: int) -> list[psutil.Process]:
    """The decoders of a process that are ready: they have a second thread; other children come and go."""
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            found += [child] * (child.num_threads() == 2)
    return found


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_caught(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether the process has a handler for a signal, by what Linux says of it."""
    if not Path("/proc/self/status").exists():
        time.sleep(2)
        return False
    (mask,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


def stopped_with(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal to a process, which must end as documented; returns what it writes to stderr."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=SOON_SECONDS)
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    return errors


@both_signals
def test_extract_keeps_finished_clips_when_stopped(tiny_set: Path, tmp_path: Path, number: signal.Signals) -> None:
    with started(script("ccln-extract"), tiny_set, "--cache", tmp_path) as process:
        wait_for(lambda: any((tmp_path / "entries").rglob("*.safetensors")))
        assert "ccln-extract: stopped. Finished clips are kept" in stopped_with(process, number)
    kept = [file.stem for file in tmp_path.rglob("*.safetensors")]
    assert 1 <= len(kept) < 16
    for key in kept:
        FeatureCache(tmp_path).read(key)  # checks the sha256


def test_localize_keeps_finished_output_when_stopped(tiny_set: Path, tiny_run: Path) -> None:
    with started(script("ccln-localize"), tiny_set / "AVE", "--checkpoint", tiny_run) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(str(tiny_set))
        assert "ccln-localize: stopped. What was printed" in stopped_with(process, signal.SIGINT)


def test_train_keeps_finished_epochs_when_stopped(tiny_set: Path, tiny_cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--data", tiny_set, "--cache", tiny_cache, "--out", run, "--epochs", 1000)
    with started(script("ccln-train"), *words) as process:
        wait_for((run / STATE_NAME).exists)
        assert "ccln-train: stopped. Finished epochs are kept" in stopped_with(process, signal.SIGTERM)
    assert (run / STATE_NAME).exists()
    assert not any(run.rglob("*partial*"))


@both_signals
def test_work_in_progress_is_ended_after_a_few_seconds(number: signal.Signals) -> None:
    with started(sys.executable, "-c", SLEEPER) as process:
        assert process.stdout is not None
        begun = sorted(process.stdout.readline() for _ in range(2))
        assert "sleeper: stopped. Nothing was done." in stopped_with(process, number)
    assert begun == ["0\n", "1\n"]


@both_signals
@pytest.mark.parametrize("name", ["sleep", "spin"])
def test_a_decoder_that_hangs_is_ended_with_the_command(
    name: str, number: signal.Signals, tiny_set: Path, tmp_path: Path
) -> None:
    video = shutil.copy(next((tiny_set / "AVE").iterdir()), tmp_path / f"{name}.mp4")
    words = (sys.executable, "-c", HANGING, video, "--cache", tmp_path / "cache")
    with started(*words, PYTHONPATH=os.pathsep.join(filter(None, sys.path))) as process:
        wait_for(lambda: len(taking_requests(process.pid)) == 1)
        (child,) = taking_requests(process.pid)
        time.sleep(1)
        assert "ccln-extract: stopped. Finished clips are kept" in stopped_with(process, number)
    assert psutil.wait_procs([child], timeout=5)[1] == []


@both_signals
def test_a_second_signal_ends_the_command_at_once(number: signal.Signals) -> None:
    with started(sys.executable, "-c", SLEEPER) as process:
        assert process.stdout is not None
        for _ in range(2):  # once the second is in work, the first is certainly one that the end waits for
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        wait_for(lambda: not is_caught(process, signal.SIGINT))  # signals that come at the same moment are one
        sent = time.monotonic()
        process.send_signal(number)
        process.wait(SOON_SECONDS)
        assert time.monotonic() - sent < 2
        assert process.returncode == -number
