"""Every command that the README shows is run here, or is the one that runs this."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
TEST_COMMAND = "pip install uv && uv run pytest"
DEMO_COMMAND = "pip install uv && uv run ccln-demo"


@pytest.fixture(scope="module")
def folder(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: videos/ in AVE's layout, and a clip."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "videos").symlink_to(tiny_set)
    shutil.copy(sorted((tiny_set / "AVE").iterdir())[0], folder / "clip.mp4")
    return folder


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a README line as it stands, with the commands of this environment first in the path."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = command.replace("uv run ", "")  # the environment is the one that uv runs these tests in
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_readme_shows_one_demo_and_one_test_command() -> None:
    assert [command for command in COMMANDS if "pip install" in command] == [DEMO_COMMAND, TEST_COMMAND]


@pytest.mark.timeout(900)
def test_every_command_but_those_two_works_in_the_order_shown(folder: Path) -> None:
    for command in COMMANDS:
        if command in (TEST_COMMAND, DEMO_COMMAND):
            continue
        assert command.startswith("uv run ccln-"), command
        short = " --epochs 1" if "ccln-train" in command and "--epochs" not in command else ""
        shown = shell(command + short, folder)
        assert shown.returncode == 0, f"{command}\n{shown.stderr}"
    assert (folder / "pictures" / "clip.png").exists()


def test_the_python_example_works_in_the_same_folder(folder: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    example = example.replace("seed=0)", "seed=0, epochs=1)")
    done = subprocess.run([sys.executable, "-c", example], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "clip.mp4" in done.stdout


@pytest.mark.timeout(900)
def test_the_demo_does_what_the_readme_says(tmp_path: Path) -> None:
    shown = shell(DEMO_COMMAND.split("&& ")[1], tmp_path)
    assert shown.returncode == 0, shown.stderr
    for word in ("accuracy", "always background", "second", "seen", "heard", "both", "truth"):
        assert word in shown.stdout
    accuracy = float(re.search(r"CCLN, test +([\d.]+) %", shown.stdout)[1])  # type: ignore[index]
    told = float(re.search(r"told: right class, every segment an event +([\d.]+) %", shown.stdout)[1])  # type: ignore[index]
    assert accuracy > told
    (picture,) = (tmp_path / "ccln-demo" / "timelines").iterdir()
    commands = [line.strip() for line in shown.stdout.splitlines() if line.startswith("  ccln-")]
    assert [shlex.split(command)[0] for command in commands] == ["ccln-extract", "ccln-train", "ccln-localize"]
    again = shell(f"{commands[0]} && {commands[2]} --format csv", tmp_path)
    assert again.returncode == 0, again.stderr
    assert "0 done, 120 cached, 0 failed" in again.stdout
    assert picture.stem in again.stdout
