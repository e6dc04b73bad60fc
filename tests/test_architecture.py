"""Which package may import which, what an import may cost, and what every package must have."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.paths import ROOT

ROOMS = ("pipeline", "extractors", "model", "cache")
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
ANNEXES = ("report", "cml", "exchange", "unav", "demo")
HEAVY = {"torch", "timm", "torchvision", "matplotlib", "librosa", "accelerate"}
UNNEEDED = {
    *("torch._dynamo", "torch._inductor", "torchaudio", "tensorboard", "h5py", "huggingface_hub", "PIL"),
    *("scipy", "sklearn", "pandas", "sympy", "decord", "rich.console"),
}
"""Besides the heavy ones, libraries that a command which finds and prints events must not import."""

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def imported(source: str) -> Iterator[str]:
    """Dotted names that a module imports anywhere, for type checkers only and by name (`import_module`) included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            yield from (f"{package}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"ccln(\.\w+)+", str(node.value)):
            yield str(node.value)


def misdirected(source: str, room: str) -> list[str]:
    """Imports that the architecture forbids in a module of this package."""
    allowed = {
        "ccln.files",
        "ccln.storage",
        "ccln.strict_json",
        *(f"ccln.{name}" for name in (ROOMS if room == "pipeline" else [room])),
    }
    return [
        name
        for name in imported(source)
        if name.startswith(".")
        or name.split(".")[0] in ROOMS
        or (name.split(".")[0] == "ccln" and ".".join(name.split(".")[:2]) not in allowed)
    ]


class WithoutTypeChecking(ast.NodeTransformer):
    """Removes imports for type checkers only, which are not executed."""

    def visit_If(self, node: ast.If) -> ast.If | None:
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node


def modules_imported(sources: dict[str, str]) -> dict[str, set[str]]:
    """Of each module those of ours that it imports anywhere, inside functions too; type checkers' imports do not count.

    Args:
        sources: Of the modules, by their dotted names.
    """
    graph: dict[str, set[str]] = {}
    for name, source in sources.items():
        found = imported(ast.unparse(WithoutTypeChecking().visit(ast.parse(source))))
        # `from package import module` names the module, `from module import name` something in it.
        modules = {path if path in sources else path.rpartition(".")[0] for path in found}
        graph[name] = (modules & sources.keys()) - {name}
    return graph


def our_sources() -> dict[str, str]:
    """The source of each of our modules by its dotted name; a package has its own."""
    names = {path: ("ccln", *path.relative_to(ROOT).with_suffix("").parts) for path in MODULES}
    return {".".join(name).removesuffix(".__init__"): path.read_text("utf-8") for path, name in names.items()}


def part_of(module: str) -> str:
    """The folder or module of the pipeline that a module lies in; "" for those of the other rooms."""
    return ([*module.removeprefix("ccln.pipeline").split("."), ""])[1] if module.startswith("ccln.pipeline") else ""


def public_definitions(body: list[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public classes, functions and methods, but for overloads, whose docstring is that of what they overload."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list):
                continue
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)


def test_the_four_packages_are_there():
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(ROOMS)


@each_module
def test_imports_run_one_way_only(path: Path):
    assert misdirected(path.read_text("utf-8"), path.relative_to(ROOT).parts[0]) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("model", "import ccln.cache"),
        ("model", "from ccln import cache"),
        ("cache", "def f():\n    from ccln.pipeline.train.run import train"),
        ("extractors", "from importlib import import_module\nimport_module('ccln.model.network')"),
        ("pipeline", "import model.network"),
        ("pipeline", "from cache import store"),
        ("model", "from ..cache import store"),
        ("model", "from . import losses"),
    ],
)
def test_a_forbidden_import_is_noticed(room: str, source: str):
    assert misdirected(source, room)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("pipeline", "from ccln.model import CCLN\nimport ccln.cache"),
        ("model", "from ccln.model.network import CCLN\nimport json"),
        ("cache", "from torch.utils import model_zoo"),
    ],
)
def test_an_allowed_import_passes(room: str, source: str):
    assert not misdirected(source, room)


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter(modules_imported(our_sources())).prepare()  # raises CycleError, which names the modules


def test_the_core_imports_no_annex_and_no_module_the_commands():
    climbing = [
        f"{name} imports {other}"
        for name, others in modules_imported(our_sources()).items()
        for other in sorted(others)
        if (part_of(other) in ANNEXES and part_of(name) not in {*ANNEXES, "commands"})
        or (part_of(other) == "commands" and part_of(name) not in ("commands", "demo"))
    ]
    assert climbing == []


def test_a_circle_of_imports_is_noticed():
    upwards = {"ccln.pipeline.train.loop": "from ccln.pipeline.metrics.seeds import mean"}
    for_types = "if TYPE_CHECKING:\n    from ccln.pipeline.train.loop import fit"
    TopologicalSorter(modules_imported({**upwards, "ccln.pipeline.metrics.seeds": for_types})).prepare()
    when_called = "def f():\n    from ccln.pipeline.train import loop"
    with pytest.raises(CycleError):
        TopologicalSorter(modules_imported({**upwards, "ccln.pipeline.metrics.seeds": when_called})).prepare()


@pytest.mark.parametrize(
    "module",
    [
        "ccln.pipeline.commands.extract",
        "ccln.pipeline.commands.train",
        "ccln.pipeline.commands.localize",
        "ccln.pipeline.commands.demo",
        "ccln.pipeline.commands.cache",
        "ccln.pipeline.commands.evaluate",
        "ccln",
        "ccln.pipeline",
        "ccln.extractors",
    ],
)
def test_no_heavy_library_is_imported_before_it_is_needed(module: str):
    program = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "ccln" in loaded
    assert not loaded & HEAVY


def loaded_by(command: str, *words: object, shown: str, code: int = 0) -> set[str]:
    """The modules that a command has imported by its end."""
    program = (
        f"import atexit, sys; from ccln.pipeline.commands.{command} import {command}_command; "
        f"atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {command}_command()"
    )
    arguments = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert shown in done.stdout
    return set(done.stderr.split())


def test_localizing_imports_no_heavy_library_but_torch(tiny_set: Path, tiny_run: Path):
    video = sorted((tiny_set / "AVE").iterdir())[0]
    loaded = loaded_by("localize", video, "--checkpoint", tiny_run, shown=video.name)
    assert "torch" in loaded
    assert not loaded & (HEAVY - {"torch"} | UNNEEDED)


def test_checking_files_imports_no_heavy_library():
    loaded = loaded_by("extract", ROOT / "examples" / "cat.mp4", "--check", shown="cat.mp4")
    assert not loaded & (HEAVY | UNNEEDED)


def test_checking_a_data_set_imports_no_heavy_library(tmp_path: Path):
    (tmp_path / "clips.csv").write_text("path,start,end,label\ncat.mp4,3,8,Cat\n")
    words = "check", tmp_path / "clips.csv", "--media-root", ROOT / "examples"
    loaded = loaded_by("data", *words, shown="1 clip", code=1)  # it has no clips to test on
    assert not loaded & (HEAVY | UNNEEDED)


def test_the_distribution_holds_every_package_and_its_types():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders_with_modules = {path.parent.relative_to(ROOT) for path in MODULES}
    packages = {"ccln." + ".".join(folder.parts) for folder in folders_with_modules}
    assert set(setuptools["packages"]) == {"ccln", *packages}
    assert setuptools["package-dir"] == {"ccln": "ccln"} | {f"ccln.{room}": room for room in ROOMS}
    for room in ROOMS:
        assert (ROOT / room / "py.typed").is_file()


@each_module
def test_only_the_commands_print(path: Path):
    if path.parent == ROOT / "pipeline" / "commands":
        return
    prints = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Name) and node.id == "print"
    ]
    assert prints == []


@each_module
def test_all_that_is_public_has_a_docstring(path: Path):
    module = ast.parse(path.read_text("utf-8"))
    public = list(public_definitions(module.body))
    assert [node.name for node in public if not ast.get_docstring(node)] == []
    # A module that holds a single thing is described by that thing's docstring.
    single = len([node for node in module.body if node in public]) == 1
    assert ast.get_docstring(module) or single, f"{path.name} has no docstring"
