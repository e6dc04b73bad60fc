"""The guide to a backbone of one's own, followed literally: its package is installed, its commands are run."""

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from support.paths import ROOT
from support.processes import run

from ccln.extractors import AudioExtractor, ExtractorError, VisualExtractor, preset_named, preset_with
from ccln.extractors.registry import installed_extractor

pytestmark = pytest.mark.slow

GUIDE = (ROOT / "docs" / "guides" / "backbone.md").read_text("utf-8")
NAME = "ccln-colours:grid"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return found


def install(folder: Path, module: str = "") -> Path:
    """Lay the guide's package out as an installer does."""
    project = tomllib.loads(block("toml"))["project"]
    information = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (information / "entry_points.txt").write_text("\n".join(lines))
    (folder / "ccln_colours.py").write_text(module or block("python"))
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "installed")
    monkeypatch.delitem(sys.modules, "ccln_colours", raising=False)
    return tmp_path / "installed"


def test_the_guide_works_and_a_missing_package_is_named(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(install(tmp_path / "installed"))
    (tmp_path / "videos").symlink_to(tiny_set)
    shutil.copy(sorted((tiny_set / "AVE").iterdir())[0], tmp_path / "clip.mp4")
    commands = block("bash").splitlines()
    printed = ""
    for command in commands:
        short = " --epochs 1" if "ccln-train" in command else ""
        done = run(*(command + short).split(), cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        printed = done.stdout
    assert "clip.mp4" in printed
    monkeypatch.undo()
    without = run(*commands[-1].split(), cwd=tmp_path)
    assert without.returncode == 2
    assert f"{NAME} is an extractor of the package 'ccln-colours', which is not installed" in without.stderr


def test_a_wrong_name_of_the_package_gets_the_nearest_suggested(installed: Path) -> None:
    install(installed)
    with pytest.raises(ExtractorError, match=r"'gird': did you mean grid\?"):
        preset_with(preset_named("light"), visual="ccln-colours:gird")
    with pytest.raises(ExtractorError, match="VisualExtractor, but has to be of the type AudioExtractor"):
        installed_extractor(NAME, AudioExtractor)


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ("frame_height=112", "frame_height=0", "frame_height"),
        ('precision="float32"', 'precision="int4"', "int4"),
        (NAME, "grid", "'grid', but has to be called 'ccln-colours:grid'"),
        ("import torch\n", "import torch\nimport no_such_module\n", "installed, but .* cannot be imported"),
        ("GRID =", "OTHER =", "cannot be imported"),
    ],
)
def test_a_package_that_cannot_be_used_is_refused(installed: Path, right: str, wrong: str, reason: str) -> None:
    assert right in block("python")
    install(installed, block("python").replace(right, wrong))
    with pytest.raises(ExtractorError, match=reason):
        installed_extractor(NAME, VisualExtractor)
