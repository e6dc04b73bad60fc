"""Files are there whole or not at all, also after a loss of power, and nothing of dead processes stays."""

import ast
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.paths import ROOT

from ccln.files import is_dead, make_folder, owner, sweep, whole, write_whole


def test_a_file_is_there_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / f"{'ä' * 120}.txt"
    for content in (b"one", b"two"):
        with whole(path) as partial:
            partial.write_bytes(content)
            assert not path.exists() or path.read_bytes() == b"one"
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_nothing_becomes_of_what_fails_or_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"before")
    with suppress(KeyError), whole(path) as partial:
        partial.write_bytes(b"half")
        raise KeyError
    with suppress(KeyError), whole(tmp_path / "other") as partial:
        partial.mkdir()
        (partial / "inside").write_bytes(b"half")
        raise KeyError
    with whole(path) as partial:
        partial.write_bytes(b"the same")
        partial.unlink()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_there_when_the_block_ends(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()  # empty
    with whole(tmp_path / "out") as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "deep" / "file").write_bytes(b"x")
    assert (tmp_path / "out" / "deep" / "file").read_bytes() == b"x"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_content_is_on_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted_fsync(descriptor: int) -> None:
        done.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))

    def noted_replace(source: Path, target: Path) -> None:
        done.append(("name", Path(source)))
        replace(source, target)

    done: list[tuple[str, Path]] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    with whole(tmp_path / "new" / "run" / "file") as partial:
        partial.write_bytes(b"x")
    assert done == [
        ("sync", tmp_path / "new"),
        ("sync", tmp_path),
        ("sync", partial),
        ("name", partial),
        ("sync", tmp_path / "new" / "run"),
    ]
    done.clear()
    with whole(tmp_path / "export") as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "deep" / "file").write_bytes(b"x")
    expected = [partial / "deep" / "file", partial / "deep", partial, partial, tmp_path]
    assert [path for _, path in done] == expected
    done.clear()
    make_folder(tmp_path / "a" / "b")
    assert [path for _, path in done] == [tmp_path / "a", tmp_path]


LEAVE = """
import os, signal, sys
from pathlib import Path
from ccln.files import owner, whole
with whole(Path(sys.argv[1], "file")) as partial:
    partial.write_bytes(b"half")
    print(owner(), flush=True)
    sys.stdin.read()
"""


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_kept(tmp_path: Path) -> None:
    words = [sys.executable, "-c", LEAVE, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not is_dead(name)
        assert sweep(tmp_path) == 0
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has asked how it ended
        assert is_dead(name)
    (left,) = tmp_path.iterdir()
    machine, pid, _ = owner().split("-")
    young = "-12345678.partial"
    kept = [f".file.{owner()}{young}", f".file.0123-{pid}-1{young}", "thesis.partial", f"file.{machine}-1-1{young}"]
    used_again = tmp_path / f".file.{machine}-{pid}-1{young}"
    for path in (*(tmp_path / each for each in kept), used_again):
        path.mkdir()
    assert left.exists()
    assert sweep(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
    os.utime(tmp_path / kept[1], (0, 0))  # of another machine, and old
    assert sweep(tmp_path) == 1


def test_the_first_file_in_a_folder_sweeps_it(tmp_path: Path) -> None:
    machine, pid, _ = owner().split("-")
    left = tmp_path / f".file.{machine}-{pid}-1-12345678.partial"
    left.mkdir()
    write_whole(tmp_path / "other", b"")
    assert not left.exists()


def test_names_are_given_to_files_in_one_place() -> None:
    giving = set()
    for path in [path for room in ("pipeline", "extractors", "model", "cache") for path in (ROOT / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and re.fullmatch(
                r"os\.(replace|rename)|shutil\.move", ast.unparse(node.func)
            ):
                giving.add(path.relative_to(ROOT).as_posix())
    # What is complete already: a damaged entry moves to the quarantine, an abandoned claim to whoever was the first to
    # take it, and the state of the epoch before makes room.
    assert giving == {"cache/folder.py", "cache/claims.py", "pipeline/train/state.py"}
