import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ccln.cache import FeatureCache, feature_key, source_digest, specification_digest
from ccln.extractors import PRESETS, ExtractorError, load_extractors
from ccln.pipeline import extract
from ccln.pipeline.extraction import find_videos


def entries(cache: Path) -> dict[str, int]:
    """Name and time of the last change, in nanoseconds, of every entry's file."""
    return {file.name: file.stat().st_mtime_ns for file in (cache / "entries").rglob("*.safetensors")}


def videos_of(folder: Path) -> list[Path]:
    return sorted((folder / "AVE").iterdir())


def test_every_clip_is_done_once_and_a_second_run_does_nothing(tiny_set: Path, tiny_cache: Path) -> None:
    before = entries(tiny_cache)
    summary = extract([tiny_set], cache=tiny_cache)
    assert (summary.done, summary.cached, summary.failed) == (0, 16, ())
    assert entries(tiny_cache) == before
    assert len(before) == 16


def test_features_lie_under_content_and_specification_with_the_shapes_of_the_preset(
    tiny_set: Path, tiny_cache: Path
) -> None:
    specification = load_extractors(PRESETS["light"]).specification
    key = feature_key(source_digest(videos_of(tiny_set)[0]), specification_digest(specification))
    features = FeatureCache(tiny_cache).read(key)
    assert features.visual.shape == (10, 7, 7, 320)
    assert features.audio.shape == (10, 128)
    assert features.duration_seconds == pytest.approx(10, abs=0.1)


def test_a_broken_file_is_reported_and_the_rest_is_done(tiny_set: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "empty.mp4").touch()
    shutil.copy(videos_of(tiny_set)[0], folder / "good & schön.mp4")
    summary = extract([folder], cache=tmp_path / "cache")
    assert summary.done == 1
    (failure,) = summary.failed
    assert failure.path.name == "empty.mp4"
    assert "empty.mp4" in failure.reason


def test_two_files_of_the_same_content_are_one_clip(tiny_set: Path, tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        shutil.copy(videos_of(tiny_set)[0], tmp_path / name)
    summary = extract([tmp_path / "one.mp4", tmp_path / "two.mp4"], cache=tmp_path / "cache")
    assert (summary.done, summary.cached) == (1, 1)
    assert len(entries(tmp_path / "cache")) == 1


def test_a_clips_features_do_not_depend_on_its_company(tiny_set: Path, tiny_cache: Path, tmp_path: Path) -> None:
    chosen = videos_of(tiny_set)[3:5]
    extract(chosen[::-1], cache=tmp_path / "alone", workers=1)
    (digest,) = FeatureCache(tiny_cache).specifications()
    for video in chosen:
        key = feature_key(source_digest(video), digest)
        alone, together = FeatureCache(tmp_path / "alone").read(key), FeatureCache(tiny_cache).read(key)
        assert torch.equal(alone.visual, together.visual)
        assert torch.equal(alone.audio, together.audio)


def test_a_killed_run_goes_on_where_it_was(tiny_set: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    command = [Path(sys.executable).with_name("ccln-extract"), tiny_set, "--cache", cache]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(entries(cache)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = entries(cache)
    assert 4 <= len(before) < 16
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert f"{16 - len(before)} done, {len(before)} cached, 0 failed" in again.stdout
    after = entries(cache)
    assert len(after) == 16
    assert {name: after[name] for name in before} == before
    for name in after:
        FeatureCache(cache).read(name.removesuffix(".safetensors"))  # checks the sha256


def test_folders_are_searched_through_and_through(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    for file in (tmp_path / "x.MP4", inside / "y.webm", inside / "notes.txt"):
        file.touch()
    assert find_videos([tmp_path, inside / "y.webm"]) == [inside / "y.webm", tmp_path / "x.MP4"]


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no video"):
        find_videos([tmp_path])
    with pytest.raises(FileNotFoundError, match="gone"):
        find_videos([tmp_path / "gone"])


def test_an_unknown_preset_names_the_known_ones(tiny_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match="light"):
        extract([tiny_set], cache=tmp_path, preset="lite")
