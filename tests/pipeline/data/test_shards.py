"""Shards of files: disjoint, complete, and decided by each file's own path alone."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.processes import run

from ccln.pipeline.data import find_clips
from ccln.pipeline.data.remote import Video
from ccln.pipeline.data.shards import Shard

names = st.lists(st.text("ab/é\udcff", min_size=1).map(lambda name: f"v{name}.mp4"), unique=True)


@given(names, st.integers(1, 20))
def test_shards_are_disjoint_and_complete(names: list[str], count: int) -> None:
    root = Path("nowhere")
    files: dict[Video, set[int]] = {str(root / name): {0} for name in names}
    shards = [Shard(number + 1, count).of(files, [root]) for number in range(count)]
    assert sum(map(len, shards)) == len(files)
    assert {file: starts for shard in shards for file, starts in shard.items()} == files
    for shard in shards:
        assert list(shard) == [file for file in files if file in shard]


def test_a_file_has_its_shard_wherever_the_folder_lies_and_whatever_else_is_in_it(tmp_path: Path) -> None:
    placed = []
    for folder, extra in ((tmp_path / "here", 0), (tmp_path / "there" / "deep", 30)):
        files = [folder / f"{place}/{number}.mp4" for place in "ab" for number in range(20 + extra)]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        found = {file: n for n in range(1, 5) for file in find_clips(folder, shard=Shard(n, 4))}
        placed.append({Path(str(file)).relative_to(folder).as_posix(): n for file, n in found.items()})
    few, many = placed
    assert few.items() <= many.items()
    assert set(many.values()) == {1, 2, 3, 4}


def test_the_hash_is_the_documented_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "b.mp4"
    file.touch()
    number = int.from_bytes(hashlib.sha256(b"a/b.mp4").digest()[:8], "big") % 7 + 1
    assert list(find_clips(tmp_path, shard=Shard(number, 7))) == [str(file)]
    assert find_clips(tmp_path, shard=Shard(number % 7 + 1, 7)) == {}


def test_videos_of_a_csv_are_named_from_its_folder_or_the_media_root(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    rows = "".join(f"{number}.mp4,0,10,Dog\n" for number in range(12))
    (tmp_path / "set.csv").write_text(f"path,start,end,label\n{rows}")
    for number in range(12):
        (media / f"{number}.mp4").touch()
    listed = [set(find_clips(tmp_path / "set.csv", media, Shard(n, 3))) for n in (1, 2, 3)]
    assert listed == [set(find_clips(media, shard=Shard(n, 3))) for n in (1, 2, 3)]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "/3", "1/", "1/0", "-1/3", "1/3/5", "a/b", "1 /3", "１/3", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no shard: I/N, such as 1/16"):
        Shard.named(text)


def test_the_command_refuses_what_is_no_shard() -> None:
    shown = run("ccln-extract", "videos", "--shard", "0/3")
    assert shown.returncode == 2
    assert "is no shard" in shown.stderr
    assert "Traceback" not in shown.stderr
