"""Processes that start at once, and commands in them.

A server that has imported what they need forks them: the seconds that importing torch takes are spent once, and nothing
of pytest's own threads is forked. They are processes in all else: each has arguments, streams, a folder, an environment
and signal handlers of its own. Tests of what is imported, of how a process starts, and of the README start new ones.
"""

import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "ccln.pipeline.commands.formats",
        "ccln.pipeline.commands.located",
        "ccln.pipeline.extract.run",
        "ccln.pipeline.localize.localize",
        "ccln.pipeline.report.outputs",
        "ccln.pipeline.train.run",
        "ccln.pipeline.evaluate",
    ]
)
_LONGEST_SECONDS = 280


def run(
    command: str, *words: object, cwd: Path | None = None, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands as its console script does.

    Args:
        command: Its name.
        words: Its arguments.
        cwd: The folder it runs in; this one if None.
        encoding: Of its stdout and stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        arguments = [command, *map(str, words)]
        process = PROCESSES.Process(
            target=_command, args=(arguments, str(cwd or Path.cwd()), dict(os.environ), streams, encoding)
        )
        process.start()
        process.join(_LONGEST_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, _LONGEST_SECONDS)
        shown = [stream.read_text(encoding) for stream in streams]
    return subprocess.CompletedProcess(arguments, process.exitcode, *shown)


def _command(
    arguments: list[str], folder: str, environment: Mapping[str, str], streams: list[Path], encoding: str
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(streams, 1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding=encoding, errors=errors)
    sys.argv = ["ccln", arguments[0].removeprefix("ccln-"), *arguments[1:]]
    from ccln.__main__ import main

    main()
