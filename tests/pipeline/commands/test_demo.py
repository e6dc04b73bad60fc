"""The demo runs all stages, from making its videos to locating the events in one of them."""

import shutil
from pathlib import Path

import pytest

from ccln import demo
from ccln.pipeline.data.ave import read_ave_folder


@pytest.mark.slow
def test_the_demo_locates_a_test_clip_and_prints_its_commands(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ccln.pipeline.demo.make_demo_dataset", lambda folder, **_: shutil.copytree(tiny_set, folder))
    stages: dict[str, tuple[int, int]] = {}
    result = demo(tmp_path / "demo", progress=lambda stage, done, total, _: stages.update({stage: (done, total)}))
    assert {"extract", "train"} <= set(stages)
    assert all(done == total for done, total in stages.values())
    assert result.located.path.stem in {clip.video_id for clip in read_ave_folder(tiny_set).clips_of("test")}
    assert result.timeline.is_file()
    assert [command.split()[0] for command in result.commands] == ["ccln-extract", "ccln-train", "ccln-localize"]


def test_a_folder_that_is_not_empty_is_refused_and_not_changed(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match=r"is not an empty folder.*--out"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
