"""Files beside each other in a folder, whole or not at all, and not over others."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.located import BELL, VIDEO, located_video

from ccln.pipeline.report.writers import FORMATS, OutputError, distinct_names, to_text, write_beside, write_files

FILES = {
    "tower.json",
    "tower.csv",
    "tower.vtt",
    "tower.srt",
    "tower.audacity.txt",
    "tower.eaf",
    "tower.label-studio.json",
}
OTHER = located_video(VIDEO.path, VIDEO.duration_seconds, (BELL,))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_format_is_written_beside_the_others(tmp_path: Path):
    folder = tmp_path / "new" / "folder"
    written = write_beside(VIDEO, folder, FORMATS)
    assert {path.name for path in written} == FILES
    assert contents(folder).keys() == FILES  # and nothing half-written
    for (name, suffix), path in zip(FORMATS.items(), written, strict=True):
        assert path.name.endswith(suffix), name
        assert path.read_bytes().decode("utf-8") == to_text(VIDEO, name, folder=folder)


def test_a_second_run_changes_nothing(tmp_path: Path):
    written = write_beside(VIDEO, tmp_path, FORMATS)
    before = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in written]
    assert write_beside(VIDEO, tmp_path, FORMATS) == written
    assert [(path.stat().st_mtime_ns, path.stat().st_ino) for path in written] == before


def test_a_missing_file_is_added_to_existing_ones(tmp_path: Path):
    write_beside(VIDEO, tmp_path, ["srt"])
    write_beside(VIDEO, tmp_path, ["webvtt", "srt"])
    assert contents(tmp_path).keys() == {"tower.vtt", "tower.srt"}


def test_other_content_is_never_written_over(tmp_path: Path):
    (tmp_path / "tower.eaf").write_text("hours of an annotator's work")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"tower\.eaf: is there already with other content\. Remove it"):
        write_beside(VIDEO, tmp_path, FORMATS)
    assert contents(tmp_path) == before


def test_another_result_is_refused(tmp_path: Path):
    write_beside(VIDEO, tmp_path, ["webvtt"])
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"tower\.vtt"):
        write_beside(OTHER, tmp_path, ["webvtt"])
    assert contents(tmp_path) == before


def test_another_result_replaces_it_when_asked(tmp_path: Path):
    write_beside(VIDEO, tmp_path, ["webvtt"])
    write_beside(OTHER, tmp_path, ["webvtt"], overwrite=True)
    assert contents(tmp_path) == {"tower.vtt": to_text(OTHER, "webvtt").encode()}
    (tmp_path / "tower.srt").mkdir()
    with pytest.raises(OutputError, match=r"tower\.srt: is there already"):
        write_beside(OTHER, tmp_path, ["srt"], overwrite=True)


def test_a_folder_in_the_way_is_refused(tmp_path: Path):
    (tmp_path / "tower.vtt").mkdir()
    with pytest.raises(OutputError, match=r"tower\.vtt: is there already"):
        write_beside(VIDEO, tmp_path, ["webvtt"])


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match=r"out: this folder cannot be made .*Choose another place"):
        write_beside(VIDEO, tmp_path / "out", ["webvtt"])


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_beside(VIDEO, tmp_path, ["webvtt"])
    assert contents(tmp_path) == {}


def test_of_several_files_none_is_written_if_one_would_replace_another(tmp_path: Path):
    (tmp_path / "b").write_bytes(b"mine")
    with pytest.raises(OutputError, match="b: is there already with other content"):
        write_files({tmp_path / "a": [b"new"], tmp_path / "b": [b"yo", b"urs"]})
    assert contents(tmp_path) == {"b": b"mine"}
    write_files({tmp_path / "a": [b"new"], tmp_path / "b": [b"mi", b"ne"]})
    assert contents(tmp_path) == {"a": b"new", "b": b"mine"}


def test_content_that_fails_half_way_leaves_no_file(tmp_path: Path):
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise OSError(5, "Input/output error")

    with pytest.raises(OutputError, match=r"page: cannot be written \(.*Input/output error"):
        write_files({tmp_path / "page": pieces()})
    assert contents(tmp_path) == {}


def test_a_name_that_is_too_long_is_refused(tmp_path: Path):
    with pytest.raises(OutputError, match="too long"):
        write_beside(located_video(Path("x" * 250 + ".mp4"), 1.0, ()), tmp_path, ["label-studio"])


def test_files_get_the_permissions_of_any_new_file(tmp_path: Path):
    (path,) = write_beside(VIDEO, tmp_path, ["csv"])
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_an_unknown_format_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"'docx' is no format; choose from json, csv"):
        write_beside(VIDEO, tmp_path, ["docx"])


def test_a_name_that_is_not_unicode_is_accepted(tmp_path: Path):
    path = Path(os.fsdecode(b"caf\xe9.mp4"))
    for written in write_beside(located_video(path, 6.0, (BELL,)), tmp_path, FORMATS, name="cafe"):
        assert "Church bell" in written.read_text("utf-8")


def test_same_names_from_different_folders_get_different_names(tmp_path: Path):
    paths = [Path("a/clip.mp4"), Path("b/clip.mp4"), Path("b/clip.mov"), Path("clip-2.mp4"), Path("a/clip.mp4")]
    names = distinct_names(paths)
    assert names == {paths[0]: "clip", paths[1]: "clip-3", paths[2]: "clip-4", paths[3]: "clip-2"}
    for path, name in names.items():
        write_beside(located_video(path, 6.0, (BELL,)), tmp_path, ["json"], name=name)
    assert len(contents(tmp_path)) == 4


@given(st.lists(st.sampled_from(["a", "A", "a-2", "A-2", "a-3", "é", "e\u0301", "b"]), max_size=10))
def test_names_are_distinct_on_any_file_system(stems: list[str]):
    paths = [Path(f"{number}/{stem}.mp4") for number, stem in enumerate(stems)]
    names = distinct_names(paths)
    assert list(names) == paths
    assert len({name.casefold().replace("e\u0301", "é") for name in names.values()}) == len(paths)
    assert all(names[path].startswith(path.stem) for path in paths)


def test_many_files_of_one_name_get_different_names():
    names = distinct_names(Path(f"{number}/video.mp4") for number in range(20_000))
    assert len(set(names.values())) == 20_000


def test_the_writers_import_no_heavy_library():
    program = "import sys, ccln.pipeline.report.writers; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "matplotlib", "pysubs2", "pympi", "webvtt", "pandas", "lxml"}
