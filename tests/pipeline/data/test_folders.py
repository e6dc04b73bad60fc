"""What a folder holds is found, also behind links, and what is left out is named."""

import logging
import os
import unicodedata
from pathlib import Path

import pytest
from support.processes import run

from ccln.pipeline.data import find_videos


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("ending", [".mts", ".M2TS", ".vob", ".mxf", ".asf", ".3g2", ".mp4", ".rmvb", ".nut"])
def test_every_kind_of_video_is_found(tmp_path: Path, ending: str) -> None:
    file = touch(tmp_path / f"clip{ending}")
    assert find_videos(tmp_path) == [file]


def test_folders_behind_links_are_searched_once_and_circles_end(tmp_path: Path) -> None:
    inside = touch(tmp_path / "videos" / "a.mp4")
    beside = touch(tmp_path / "elsewhere" / "b.mp4")
    (inside.parent / "itself").symlink_to(inside.parent)
    (beside.parent / "back").symlink_to(inside.parent)
    (inside.parent / "linked").symlink_to(beside.parent)
    (inside.parent / "once more").symlink_to(beside.parent)
    assert find_videos(inside.parent) == [inside, inside.parent / "linked" / "b.mp4"]


def test_one_line_says_what_was_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.mp4", "b.txt", "c.TXT", "notes", "._a.mp4", ".DS_Store", "Thumbs.db"):
        touch(tmp_path / name)
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    with caplog.at_level(logging.INFO, "ccln"):
        assert find_videos(tmp_path) == [tmp_path / "a.mp4"]
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}: left out")
    for reason in ("2 *.txt", "1 without ending", "1 links that lead nowhere"):
        assert reason in line
    assert "._a" not in line


@pytest.mark.parametrize(
    ("listings", "others"),
    [
        (["AVE/one.mp4", "Annotations.txt", "trainSet.txt", "valSet.txt", "testSet.txt"], ["AVE/trainSet.txt"]),
        (["AVE/one.mp4", "Annotations.txt", "backgroundSet.txt", "manifest.jsonl"], ["classes.txt", "a.jsonl"]),
        (["AVE/one.mp4", "Annotations.txt", "train_order.h5", "labels.h5"], ["AVE/labels.h5"]),
        (["park/one.mp4", "labels.csv", "park/more.CSV"], ["manifest.jsonl", "labels.h5", "trainSet.txt"]),
    ],
)
def test_a_data_sets_own_files_are_not_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, listings: list[str], others: list[str]
) -> None:
    for name in listings:
        touch(tmp_path / "set" / name)
    with caplog.at_level(logging.INFO, "ccln"):
        find_videos(tmp_path)
        assert not caplog.messages
        for name in others:
            touch(tmp_path / "set" / name)
        find_videos(tmp_path)
    (line,) = caplog.messages
    assert all(f"1 *{Path(name).suffix}" in line for name in others)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "a.mp4")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    with caplog.at_level(logging.INFO, "ccln"):
        find_videos(tmp_path)
    assert "1 folders that cannot be read" in caplog.text


def test_a_name_that_begins_with_a_hyphen_gets_a_hint(tmp_path: Path) -> None:
    touch(tmp_path / "-clip.mp4")
    refused = run("ccln-extract", "--check", "-clip.mp4", cwd=tmp_path)
    assert refused.returncode == 2
    assert "-clip.mp4 is a file, too. Write -- before names that begin with -" in refused.stderr
    for arguments in (["--", "-clip.mp4"], ["."]):
        done = run("ccln-extract", "--check", *arguments, cwd=tmp_path)
        assert "-clip.mp4: is empty" in done.stdout


@pytest.mark.parametrize(
    ("written", "there"),
    [
        (unicodedata.normalize("NFC", "Café.mp4"), unicodedata.normalize("NFD", "Café.mp4")),
        ("park/CLIP.mp4", "park/clip.MP4"),
        ("./park//one.mp4", "park/One.mp4"),
    ],
)
def test_a_csv_says_which_file_a_name_nearly_matched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, written: str, there: str
) -> None:
    touch(tmp_path / there)
    touch(tmp_path / "other.mp4")
    if (tmp_path / written).exists():
        pytest.skip("this file system does not tell the names apart")
    listing = tmp_path / "set.csv"
    listing.write_text(f"path,start,end,label\n{written},0,1,Dog\nother.mp4,0,1,Dog\n", encoding="utf-8")
    find_videos(listing)
    assert f"is not there, but {there} is" in caplog.text


def test_the_order_is_that_of_paths_whatever_sorts_before_a_slash(tmp_path: Path) -> None:
    names = ["a/b.mp4", "a-b.mp4", "a/z/c.mp4", "a.mp4", "a!/c.mp4", "A/b.mp4", "a/z.mp4", "é.mp4"]
    files = [touch(tmp_path / name) for name in names]
    assert find_videos(tmp_path) == sorted(files)


def test_the_folder_one_is_in_is_not_part_of_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.mp4", "b/c.mp4"):
        touch(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert find_videos(".") == find_videos([".", "a.mp4", "b"]) == [Path("a.mp4"), Path("b/c.mp4")]


def test_folders_may_be_deep_and_links_lead_in_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.mp4").symlink_to("x.mp4")
    (tmp_path / "y").symlink_to("y")
    touch(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):  # deeper than Python's stack
        os.mkdir("d")
        os.chdir("d")
    try:
        assert find_videos(tmp_path) == [tmp_path / "a.mp4"]
    finally:
        for _ in range(1200):  # pytest could not delete them
            os.chdir("..")
            os.rmdir("d")
