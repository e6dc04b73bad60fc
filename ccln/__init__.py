"""CCLN: when, in a video, an event is both seen and heard.

`extract`, `train`, `evaluate`, `localize`, `demo`, `import_annotations`, `check_data`, `import_ave`, `import_unav`,
`export_ave` and `export_webdataset` are the commands as Python functions, each imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccln.pipeline.commands.cache import export_ave, export_webdataset, import_ave, import_unav
    from ccln.pipeline.commands.data import check_data, import_annotations
    from ccln.pipeline.commands.demo import demo
    from ccln.pipeline.commands.evaluate import evaluate
    from ccln.pipeline.commands.extract import extract
    from ccln.pipeline.commands.localize import localize
    from ccln.pipeline.commands.train import train

__all__ = [
    "check_data",
    "demo",
    "evaluate",
    "export_ave",
    "export_webdataset",
    "extract",
    "import_annotations",
    "import_ave",
    "import_unav",
    "localize",
    "train",
]

_HOMES = {
    "check_data": "commands.data",
    "demo": "commands.demo",
    "evaluate": "commands.evaluate",
    "export_ave": "commands.cache",
    "export_webdataset": "commands.cache",
    "extract": "commands.extract",
    "import_annotations": "commands.data",
    "import_ave": "commands.cache",
    "import_unav": "commands.cache",
    "localize": "commands.localize",
    "train": "commands.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ccln")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ccln.pipeline.{_HOMES[name]}"), name)
