"""Defaults of the commands, chosen so that they work one after the other in one folder."""

import json
from datetime import datetime
from pathlib import Path

CACHE = Path("features")
RUNS = Path("runs")
DEMO = Path("ccln-demo")
PRETRAINED = Path(__file__).parent / "pretrained"
"""The checkpoint that comes with the package; its README.md says what it was trained on."""
PACKAGED = "packaged"
"""What it is called where a run is named."""

TIMEOUT_SECONDS = 300.0
"""What ten seconds of video may take to decode: even 8K needs less, on one core of a busy machine."""

_LOCATE_EVENTS = ("ccln", "zero-shot")  # by their names in a checkpoint's config.json


class NothingFoundError(Exception):
    """There is no sensible default here; the message says what was looked for and which option names it."""


def find_data() -> Path:
    """The AVE folder here: this folder, or the only one directly below that holds Annotations.txt.

    Raises:
        NothingFoundError: there is none, or more than one.
    """
    if Path("Annotations.txt").is_file():
        return Path()
    found = sorted(path.parent for path in Path().glob("*/Annotations.txt"))
    if len(found) != 1:
        held = f"these folders do: {', '.join(map(str, found))}" if found else "no folder here does"
        raise NothingFoundError(
            f"which data set? It is a folder that holds Annotations.txt ({held}) or a CSV file. Name it: --data"
        )
    return found[0]


def new_run() -> Path:
    """A run folder that does not exist yet, named by the time, so that the last name is the newest run."""
    return RUNS / datetime.now().strftime("%Y%m%d-%H%M%S")


def run_named(run: Path | str) -> Path:
    """The folder of a run, or of the checkpoint that comes with the package."""
    return PRETRAINED if str(run) == PACKAGED and not Path(run).exists() else Path(run)


def finished_runs(folder: Path) -> list[Path]:
    """The finished runs in a folder of runs: its own, those of several seeds, and those of an ablation."""
    return [path.parent for depth in range(1, 4) for path in folder.glob("/".join(["*"] * depth + ["config.json"]))]


def latest_localizing_run() -> Path | None:
    """The newest finished run in the folder of runs whose network locates events; None if there is none."""
    runs = sorted(finished_runs(RUNS), key=lambda run: (run / "config.json").stat().st_mtime_ns, reverse=True)
    for run in runs:
        if _network_of(run) in _LOCATE_EVENTS:
            return run
    return None


def _network_of(run: Path) -> str:
    """The kind of a checkpoint's network.

    A damaged checkpoint passes for one that locates events: who reads it reports what is wrong.
    """
    try:
        return json.loads((run / "config.json").read_bytes())["network"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return _LOCATE_EVENTS[0]
