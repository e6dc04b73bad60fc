"""Defaults of the commands, chosen so that they work one after the other in one folder."""

import json
import logging
from datetime import datetime
from pathlib import Path

log = logging.getLogger(__name__)

CACHE = Path("features")
RUNS = Path("runs")
DEMO = Path("ccln-demo")
PRETRAINED = Path(__file__).parent / "pretrained"
"""The checkpoint that comes with the package; its README.md says what it was trained on."""

_LOCATES_EVENTS = "ccln"  # by its name in a checkpoint's config.json


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


def finished_runs(folder: Path) -> list[Path]:
    """The finished runs in a folder of runs: its own, those of several seeds, and those of an ablation."""
    return [path.parent for depth in range(1, 4) for path in folder.glob("/".join(["*"] * depth + ["config.json"]))]


def latest_localizing_run() -> Path | None:
    """The newest finished run in the folder of runs whose network locates events; None if there is none.

    The warnings that its training gave go to the log: nobody has named this run.
    """
    runs = sorted(finished_runs(RUNS), key=lambda run: (run / "config.json").stat().st_mtime_ns, reverse=True)
    for run in runs:
        network, warnings = _network_of(run)
        if network == _LOCATES_EVENTS:
            for warning in warnings:
                log.warning("the newest run, %s: %s. Name another: --checkpoint", run, warning)
            return run
    return None


def _network_of(run: Path) -> tuple[str, list[str]]:
    """The kind of a checkpoint's network, and the warnings of its training.

    A damaged checkpoint passes for one that locates events: who reads it reports what is wrong.
    """
    try:
        config = json.loads((run / "config.json").read_bytes())
        network = config["network"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return _LOCATES_EVENTS, []
    training = config.get("training")
    warnings = training.get("warnings") if isinstance(training, dict) else None
    return network, [text for text in warnings if isinstance(text, str)] if isinstance(warnings, list) else []
