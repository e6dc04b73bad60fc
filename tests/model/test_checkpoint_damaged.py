"""Checkpoints with a file that is missing, cut off or not what it should be."""

import os
from pathlib import Path

import pytest
from support.checkpoints import checkpoint, refused

from ccln.model import CheckpointError, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole checkpoint, for the test to damage."""
    save_checkpoint(tmp_path / "run", checkpoint())
    return tmp_path / "run"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    refused(tmp_path / "nowhere", "config.json", "no such file")
    refused(tmp_path / ("long" * 100), "config.json")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    refused(folder, name, "no such file")
    (folder / name).mkdir()
    refused(folder, name, "no such file")
    (folder / name).rmdir()
    os.mkfifo(folder / name)  # opening it for reading would block for ever
    refused(folder, name, "no such file")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    really_read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return really_read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    refused(folder, name, "Permission denied")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.0005, 0.3, 0.99999])
def test_a_truncated_file_is_refused(folder: Path, name: str, share: float):
    path = folder / name
    whole = path.read_bytes().rstrip()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(folder, name)


@pytest.mark.parametrize("place", [0, 9, 3000, -1])
def test_a_flipped_bit_in_the_weights_is_refused(folder: Path, place: int):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    refused(folder, "model.safetensors", "sha256")


def test_every_flipped_bit_in_the_config_is_noticed(folder: Path):
    path = folder / "config.json"
    whole = path.read_bytes()
    known = vars(load_checkpoint(folder)).keys() - {"model"}
    taken = {name: getattr(load_checkpoint(folder), name) for name in known}
    noticed = 0
    for place in range(0, len(whole), 3):
        data = bytearray(whole)
        data[place] ^= 1 << place % 7
        path.write_bytes(data)
        try:
            assert {name: getattr(load_checkpoint(folder), name) for name in known} == taken
        except CheckpointError:
            noticed += 1
    assert noticed > len(whole) / 6  # a space may become another


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"config"',
        b"{}",
        b"\xff\xfe\x00",
        b"\x80",
        b'{"format": 4',
        b"[" * 10**6,
        b'{"a":' * 10**6,
        b'{"format": 1}',
        b'{"format": 2}',
        b'{"format": 2, "model": [], "reading": null}',
        b'{"format": 4}',
        b'{"format": ' + b"9" * 10**5 + b"}",
        b'{"format": NaN}',
        b"{1: 2}",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_an_invalid_config_file_is_refused(folder: Path, text: bytes):
    (folder / "config.json").write_bytes(text)
    refused(folder, "config.json")


def test_oversized_files_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    really_read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        assert path.stat().st_size < 2**20, f"{path} is read"
        return really_read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    for name, size_bytes in (("model.safetensors", 10**12), ("config.json", 17 * 2**20)):
        os.truncate(folder / name, size_bytes)  # sparse
        refused(folder, name, "larger than")
