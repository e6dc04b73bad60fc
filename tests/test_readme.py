"""Every command of the README is run here, except the one that runs the tests."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT
from support.processes import run

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
TEST_COMMAND = "pip install uv && uv run pytest -n auto"
TRY_COMMAND = "pip install uv && uv run ccln-localize examples/cat.mp4"
DEMO_COMMAND = "pip install uv && uv run ccln-demo"


@pytest.fixture(scope="module")
def folder(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: videos/ in AVE's layout, the seven of two classes, and a clip."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "videos" / "AVE").mkdir(parents=True)
    for table in tiny_set.glob("*.txt"):
        rows = [row for row in table.read_text().splitlines() if row.startswith(("Category&", "Bell&", "Bird&"))]
        (folder / "videos" / table.name).write_text("\n".join(rows))
        for name in {row.split("&")[1] for row in rows} - {"VideoID"}:
            shutil.copy(tiny_set / "AVE" / f"{name}.mp4", folder / "videos" / "AVE")
    shutil.copy(sorted((tiny_set / "AVE").iterdir())[0], folder / "clip.mp4")
    return folder


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a README line as it stands, with the commands of this environment first in the path."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = command.replace("uv run ", "")  # the environment is the one that uv runs these tests in
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_readme_shows_one_command_to_try_one_demo_and_one_to_test() -> None:
    assert [command for command in COMMANDS if "pip install" in command] == [TRY_COMMAND, DEMO_COMMAND, TEST_COMMAND]


def test_the_first_command_prints_the_output_shown(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = shell(TRY_COMMAND.removeprefix("pip install uv && "), tmp_path)
    (shown,) = re.findall(r"```text\n(examples/.*?)```", README, re.DOTALL)
    # Another processor may round otherwise, by a point or two.
    numbers = [[int(number) for number in re.findall(r"(\d+)%", text)] for text in (done.stdout, shown)]
    assert numbers[0] == pytest.approx(numbers[1], abs=3)
    lines = [
        [line for line in text.splitlines() if "event" in line or "(10.0 s)" in line] for text in (done.stdout, shown)
    ]
    assert [line.split("(conf")[0] for line in lines[0]] == [line.split("(conf")[0] for line in lines[1]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_other_command_works_in_the_order_shown(folder: Path) -> None:
    for command in COMMANDS:
        if command in (TRY_COMMAND, DEMO_COMMAND, TEST_COMMAND):
            continue
        assert command.startswith("uv run ccln-"), command
        short = " --epochs 1" if "ccln-train" in command and "--epochs" not in command else ""
        shown = run(*shlex.split(command.removeprefix("uv run ") + short), cwd=folder)
        assert shown.returncode == 0, f"{command}\n{shown.stderr}"
    assert (folder / "pictures" / "clip.png").exists()


@pytest.mark.slow
def test_the_python_examples_work_in_the_same_folder(folder: Path) -> None:
    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        example = example.replace("seed=0)", "seed=0, epochs=1)")
        done = subprocess.run([sys.executable, "-c", example], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (folder / "runs" / "first" / "report.html").exists()
