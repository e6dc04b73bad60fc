"""The stages in order, decode -> extract -> train -> evaluate -> localize -> report, and the commands.

`extract`, `train`, `evaluate_checkpoint`, `localize`, `demo`, `import_ave` and `export_ave` are the commands as Python
functions, each imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccln.pipeline.demonstration.demo import demo
    from ccln.pipeline.evaluation import evaluate_checkpoint
    from ccln.pipeline.exchange.ave import export_ave, import_ave
    from ccln.pipeline.features.extraction import extract
    from ccln.pipeline.localizing.localize import localize
    from ccln.pipeline.training.experiment import train

__all__ = ["demo", "evaluate_checkpoint", "export_ave", "extract", "import_ave", "localize", "train"]

_HOMES = {
    "demo": "demonstration.demo",
    "evaluate_checkpoint": "evaluation",
    "export_ave": "exchange.ave",
    "extract": "features.extraction",
    "import_ave": "exchange.ave",
    "localize": "localizing.localize",
    "train": "training.experiment",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
