"""A file that changes while it is read: its features are filed under no content at all."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.making import Audio, Video, make_video, steady

from ccln import extract
from ccln.cache import FeatureCache, source_digest
from ccln.pipeline.extract.run import ExtractionSummary

CONTAINERS = {"mp4": ("libx264", "aac"), "mkv": ("libx264", "aac"), "webm": ("libvpx", "libopus")}
CHANGED = "{}: changed while it was read. When it is complete, run the same command again."

Change = Callable[[Path, Path], object]


def make(path: Path, first_number: int = 0) -> Path:
    video, audio = CONTAINERS[path.suffix[1:]]
    noise = np.random.default_rng(first_number).normal(0, 0.1, 3 * 48_000).astype(np.float32)
    return make_video(path, Video(steady(75), video, first_number=first_number), Audio(noise, 48_000, codec=audio))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each container a file, another, and one that is left alone, all written long ago."""
    folder = tmp_path_factory.mktemp("made")
    for container in CONTAINERS:
        for number, name in enumerate(("first", "other", "quiet")):
            age(make(folder / f"{name}.{container}", 100 * number))
    return folder


def age(path: Path) -> None:
    os.utime(path, (1e9, 1e9))


def replaced(path: Path, other: Path) -> None:
    os.replace(shutil.copy2(other, path.with_suffix(".new")), path)


def overwritten(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def overwritten_in_secret(path: Path, other: Path) -> None:
    """By as many bytes, and with the time set back."""
    size = path.stat().st_size
    path.write_bytes(other.read_bytes()[:size].ljust(size, b"\0"))
    age(path)


def shrunk(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grown(path: Path, other: Path) -> None:
    with path.open("ab") as file:
        file.write(other.read_bytes())


def gone(path: Path, other: Path) -> None:
    path.unlink()


def there_and_back(path: Path, other: Path) -> None:
    """Only the time says that the file was another meanwhile."""
    os.utime(path)


CHANGES = (replaced, overwritten, overwritten_in_secret, shrunk, grown, gone, there_and_back)


@pytest.mark.parametrize("container", CONTAINERS)
def test_files_that_change_after_hashing_fail_alone(
    container: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_and_change(path: Path) -> str:
        digest = source_digest(path)
        if (change := pending.pop(path, None)) is not None:
            change(path, made / f"other.{container}")
        return digest

    pending: dict[Path, Change] = {}
    for number, change in enumerate(CHANGES):
        for is_old in (True, False):
            file = tmp_path / f"{change.__name__}-{is_old}.{container}"
            shutil.copy2(made / f"first.{container}", file)
            with file.open("ab") as content:  # contents differ, or one entry would stand for all
                content.write(bytes([2 * number + is_old]))
            age(file) if is_old else os.utime(file)
            pending[file] = change
    quiet = Path(shutil.copy2(made / f"quiet.{container}", tmp_path))
    changing = list(pending)
    monkeypatch.setattr("ccln.pipeline.extract.source.source_digest", hash_and_change)
    summary = run(tmp_path, *changing, quiet)
    assert [failure.reason for failure in summary.failed] == [CHANGED.format(file) for file in changing]
    assert summary.done == 1
    (entry,) = (tmp_path / "features" / "entries").rglob("*.safetensors")
    assert FeatureCache(tmp_path / "features").source_of(entry.stem) == source_digest(quiet)


def run(folder: Path, *files: Path) -> ExtractionSummary:
    return extract(files, cache=folder / "features", preset="light-log-mel", workers=1)


@pytest.mark.parametrize(("is_old", "times"), [(True, 1), (False, 2)])
def test_only_what_was_written_just_before_is_hashed_twice(
    is_old: bool, times: int, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(
        "ccln.pipeline.extract.source.source_digest", lambda path: hashed.append(path) or source_digest(path)
    )
    file = Path(shutil.copy2(made / "first.mp4", tmp_path))
    if not is_old:
        os.utime(file, (time.time(), time.time()))
    assert run(tmp_path, file).done == 1
    assert hashed == [file] * times


def test_other_permissions_and_names_are_no_change(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hash_and_link(path: Path) -> str:
        digest = source_digest(path)
        os.link(path, tmp_path / f"copy {time.time_ns()}")
        path.chmod(0o600)
        return digest

    monkeypatch.setattr("ccln.pipeline.extract.source.source_digest", hash_and_link)
    assert run(tmp_path, Path(shutil.copy2(made / "first.mp4", tmp_path))).done == 1


def test_files_that_are_done_are_not_read_again_until_they_change(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Path(shutil.copy2(made / "first.mp4", tmp_path))
    monkeypatch.setattr(
        "ccln.pipeline.extract.source._SETTLED_NANOSECONDS", 0
    )  # else only what changed seconds ago is known
    assert run(tmp_path, old).done == 1
    reads: list[Path] = []
    monkeypatch.setattr(
        "ccln.pipeline.extract.source.source_digest", lambda path: reads.append(path) or source_digest(path)
    )
    assert run(tmp_path, old).cached == 1
    shutil.rmtree(tmp_path / "features" / "entries")
    assert run(tmp_path, old).done == 1  # nor if the features are gone
    assert reads == []
    shutil.copy2(made / "other.mp4", old)
    assert run(tmp_path, old).done == 1
    assert reads == [old]


def test_digests_of_files_that_may_still_change_are_not_kept(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Path(shutil.copy2(made / "first.mp4", tmp_path))
    monkeypatch.setattr("ccln.pipeline.extract.source._SETTLED_NANOSECONDS", 10**15)
    assert run(tmp_path, new).done == 1
    reads: list[Path] = []
    monkeypatch.setattr(
        "ccln.pipeline.extract.source.source_digest", lambda path: reads.append(path) or source_digest(path)
    )
    assert run(tmp_path, new).cached == 1
    assert reads == [new]
