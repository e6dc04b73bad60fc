import errno
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import av.error
import pytest
import torch
from support import killers
from support.cache_clips import wait_for
from support.extractor_inputs import save_timm
from support.processes import run

from ccln import extract
from ccln.cache import FeatureCache, Features, feature_key, pack, source_digest, specification_digest, verify
from ccln.extractors import PRESETS, ExtractorError, Extractors, load_extractors, pick_precision, preset_with
from ccln.pipeline.data import find_videos
from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.extract.features import clip_features
from ccln.pipeline.extract.source import Digests, Source


def entries(cache: Path) -> dict[str, int]:
    """Name and time of the last change, in nanoseconds, of every entry's file."""
    return {file.name: file.stat().st_mtime_ns for file in (cache / "entries").rglob("*.safetensors")}


def videos_of(folder: Path) -> list[Path]:
    return sorted((folder / "AVE").iterdir())


def test_every_clip_is_extracted_once_and_a_second_run_does_nothing(tiny_set: Path, tiny_cache: Path) -> None:
    before = entries(tiny_cache)
    summary = extract([tiny_set], cache=tiny_cache)
    assert (summary.done, summary.cached, summary.failed) == (0, 16, ())
    assert entries(tiny_cache) == before
    assert len(before) == 16


def test_features_lie_under_content_and_specification_with_the_shapes_of_the_preset(
    tiny_set: Path, tiny_cache: Path
) -> None:
    preset = preset_with(PRESETS["light"], precision=pick_precision("auto", "cpu"))
    specification = load_extractors(preset).specification
    key = feature_key(source_digest(videos_of(tiny_set)[0]), specification_digest(specification))
    features = FeatureCache(tiny_cache).read(key)
    assert features.visual.shape == (10, 7, 7, 320)
    assert features.audio.shape == (10, 1024)
    assert features.duration_seconds == pytest.approx(10, abs=0.1)


def test_a_broken_file_is_reported_and_the_others_are_extracted(tiny_set: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "empty.mp4").touch()
    shutil.copy(videos_of(tiny_set)[0], folder / "good & schön.mp4")
    summary = extract(str(folder), cache=str(tmp_path / "cache"))
    assert summary.done == 1
    (failure,) = summary.failed
    assert failure.path.name == "empty.mp4"
    assert "empty.mp4" in failure.reason


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_features_are_made_again_and_the_others_kept(
    packed: bool, tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    cache = FeatureCache(shutil.copytree(tiny_cache, tmp_path / "cache"))
    chosen = videos_of(tiny_set)[:3]
    (digest,) = cache.specifications()
    keys = [feature_key(source_digest(path), digest) for path in chosen]
    before = [cache.read(key).audio.clone() for key in keys]
    if packed:
        pack(cache)
    for path in sorted((cache.root / "shards").iterdir()) if packed else map(cache.path_of, keys[:2]):
        content = bytearray(path.read_bytes())
        # In a shard a clip's own name, so that one clip is damaged; a flipped bit, and a file that is cut off.
        at = content.index(chosen[0].name.encode()) if packed else len(content) - 1
        content[at] ^= 1
        path.write_bytes(content if packed or path.stem == keys[0] else content[:-1])
    damaged = 1 if packed else 2
    summary = extract(chosen, cache=cache.root)
    assert (summary.done, summary.cached, summary.failed) == (damaged, 3 - damaged, ())
    assert all(
        torch.equal(FeatureCache(cache.root).read(key).audio, audio) for key, audio in zip(keys, before, strict=True)
    )
    assert extract(chosen, cache=cache.root).cached == 3


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [make_pipe, make_device, make_socket])
@pytest.mark.timeout(120)
def test_what_is_no_file_is_refused_before_it_is_opened(
    make: Callable[[Path], None], tiny_set: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    make(Path("odd.mp4"))
    summary = extract(["odd.mp4", videos_of(tiny_set)[0]], cache=tiny_cache)
    assert summary.cached == 1
    assert [failure.reason for failure in summary.failed] == ["odd.mp4: is not a file; check the path"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "there was not enough memory"),
        (av.error.MemoryError(12, "Cannot allocate memory"), "there was not enough memory"),
        (OverflowError("too\nlarge"), "an unforeseen error (OverflowError: too, test_extract.py:"),
    ],
)
def test_an_error_that_nobody_foresaw_costs_its_clip_alone(
    error: Exception, said: str, tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing_once(extractors: Extractors, clip: DecodedClip) -> Features:
        if not failed:
            failed.append(clip)
            raise error
        return clip_features(extractors, clip)

    failed: list[DecodedClip] = []
    monkeypatch.setattr("ccln.pipeline.extract.worker.clip_features", failing_once)
    paths = videos_of(tiny_set)[:2]
    summary = extract(paths, cache=tmp_path, workers=1)
    assert summary.done == 1
    (failure,) = summary.failed
    assert failure.path == paths[0]
    assert failure.reason.startswith(f"{paths[0]}: {said}")


def test_files_that_kill_their_decoder_cost_themselves_and_come_last_the_next_time(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(path: Path, digests: Digests) -> Source:
        order.append(path.name)
        return Source(path, digests)

    order: list[str] = []
    monkeypatch.setattr("ccln.pipeline.extract.worker.decode_first", killers.decode_first)
    monkeypatch.setattr("ccln.pipeline.extract.worker.Source", tried)
    folder, cache = tmp_path / "videos", tmp_path / "cache"
    folder.mkdir()
    causes = {"abort": "crashed (SIGABRT)", "segfault": "crashed (SIGSEGV)", "sleep": "ran out of time (4 s"}
    for number, name in enumerate([*causes, "divide", "whole"]):
        shutil.copy(videos_of(tiny_set)[number], folder / f"{name}.mp4")
    summary = extract(folder, cache=cache, workers=1, timeout=4)
    assert order == ["abort.mp4", "divide.mp4", "segfault.mp4", "sleep.mp4", "whole.mp4"]
    assert summary.done == 1
    reasons = {Path(str(failure.path)).stem: failure.reason for failure in summary.failed}
    for name, cause in causes.items():
        assert reasons[name].startswith(f"{folder / name}.mp4: its decoder {cause}")
    assert "an unforeseen error (ZeroDivisionError: " in reasons["divide"]
    order.clear()
    monkeypatch.undo()
    monkeypatch.setattr("ccln.pipeline.extract.worker.Source", tried)
    assert extract(folder, cache=cache, workers=1).done == 4
    assert [name for name in order if name != "whole.mp4"] == ["divide.mp4", "abort.mp4", "segfault.mp4", "sleep.mp4"]


@pytest.mark.parametrize("damage", ["\x00nonsense\n", '[1]\n{}\n"cut o', "\udcff"])
def test_a_damaged_journal_of_killers_is_passed_over(damage: str, tiny_set: Path, tmp_path: Path) -> None:
    (tmp_path / "killers.jsonl").write_text(damage, errors="surrogateescape")
    assert extract(videos_of(tiny_set)[0], cache=tmp_path).done == 1


def test_a_journal_that_is_a_link_is_neither_read_nor_written(tiny_set: Path, tmp_path: Path) -> None:
    (tmp_path / "killers.jsonl").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match=r"killers\.jsonl"):
        extract(videos_of(tiny_set)[0], cache=tmp_path)
    assert not (tmp_path / "other").exists()


def test_a_full_disk_ends_the_run(tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FeatureCache, "write", full)
    with pytest.raises(OSError, match="No space left"):
        extract(videos_of(tiny_set)[:2], cache=tmp_path)


def test_two_files_of_the_same_content_are_one_clip(tiny_set: Path, tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        shutil.copy(videos_of(tiny_set)[0], tmp_path / name)
    summary = extract([tmp_path / "one.mp4", tmp_path / "two.mp4"], cache=tmp_path / "cache")
    assert (summary.done, summary.cached) == (1, 1)
    assert len(entries(tmp_path / "cache")) == 1


def test_features_of_a_clip_do_not_depend_on_the_other_clips(tiny_set: Path, tiny_cache: Path, tmp_path: Path) -> None:
    chosen = videos_of(tiny_set)[3:5]
    extract(chosen[::-1], cache=tmp_path / "alone", workers=1)
    (digest,) = FeatureCache(tiny_cache).specifications()
    for video in chosen:
        key = feature_key(source_digest(video), digest)
        alone, together = FeatureCache(tmp_path / "alone").read(key), FeatureCache(tiny_cache).read(key)
        assert torch.equal(alone.visual, together.visual)
        assert torch.equal(alone.audio, together.audio)


@pytest.mark.slow
def test_shards_in_processes_of_their_own_equal_one_run_byte_for_byte(
    tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    program = Path(sys.executable).with_name("ccln-extract")
    cache = tmp_path / "cache"
    words = [program, tiny_set, "--cache", cache, "--workers", "1", "--shard"]
    running = [subprocess.Popen([*words, f"{number}/2"], stdout=subprocess.PIPE, text=True) for number in (1, 2)]
    said = [process.communicate(timeout=250)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum(int(text.split(" done, 0 cached, 0 failed")[0]) for text in said) == 16
    contents = [
        {file.relative_to(root): file.read_bytes() for file in (root / "entries").rglob("*.safetensors")}
        for root in (cache, tiny_cache)
    ]
    assert contents[0] == contents[1]
    assert FeatureCache(cache).specifications() == FeatureCache(tiny_cache).specifications()


def test_an_empty_shard_is_no_error(tiny_set: Path, tmp_path: Path) -> None:
    video = videos_of(tiny_set)[0]
    done = [extract(video, cache=tmp_path, shard=f"{number}/3").done for number in (1, 2, 3)]
    assert sorted(done) == [0, 0, 1]
    with pytest.raises(ValueError, match="is no shard"):
        extract(video, cache=tmp_path, shard="4/3")


@pytest.mark.slow
def test_a_killed_run_can_be_resumed(tiny_set: Path, tmp_path: Path) -> None:
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
    again = run("ccln-extract", tiny_set, "--cache", cache)
    assert f"{16 - len(before)} done, {len(before)} cached, 0 failed" in again.stdout
    after = entries(cache)
    assert len(after) == 16
    assert {name: after[name] for name in before} == before
    for name in after:
        FeatureCache(cache).read(name.removesuffix(".safetensors"))  # checks the sha256


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True])
def test_processes_on_one_folder_share_the_work(is_killed: bool, tiny_set: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = [Path(sys.executable).with_name("ccln-extract"), tiny_set, "--cache", cache, "--workers", "2"]
    processes = [
        subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    if is_killed:
        wait_for(lambda: f"-{processes[0].pid}-" in claimed(cache))
        os.killpg(processes[0].pid, signal.SIGKILL)
        processes.pop(0).communicate()
    counts = []
    for process in processes:
        said, errors = process.communicate()
        found = re.match(r"(\d+) done, (\d+) cached, 0 failed", said)
        assert found, said + errors
        counts.append((int(found[1]), int(found[2])))
    assert all(done + cached == 16 for done, cached in counts)
    assert sum(done for done, _ in counts) <= 16
    assert sum(done for done, _ in counts) == 16 or is_killed  # what the killed one had done is not done again
    assert len(entries(cache)) == 16
    assert list(claims(cache)) == []
    assert verify(FeatureCache(cache)) == (16, [])


def claimed(cache: Path) -> str:
    """What all claims say."""
    said = ""
    for claim in claims(cache):
        with suppress(FileNotFoundError):
            said += claim.read_text()
    return said


def claims(cache: Path) -> list[Path]:
    return sorted((cache / "claims").glob("?" * 64))


def test_folders_are_searched_recursively(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    for file in (tmp_path / "x.MP4", inside / "y.webm", inside / "notes.txt"):
        file.touch()
    assert find_videos([tmp_path, inside / "y.webm"]) == [inside / "y.webm", tmp_path / "x.MP4"]


def test_a_single_path_may_be_given_as_a_string(tmp_path: Path) -> None:
    file = tmp_path / "x.mp4"
    file.touch()
    for paths in (str(tmp_path), tmp_path, [str(tmp_path)], (tmp_path, file), iter([file])):
        assert find_videos(paths) == [file]


def test_fewer_than_one_worker_is_refused(tiny_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers is 0, but has to be 1 or more"):
        extract(tiny_set, cache=tmp_path, workers=0)
    done = run("ccln-extract", tiny_set, "--workers", "0")
    assert done.returncode == 2
    assert "--workers. Must be >= 1" in done.stderr + done.stdout


def test_a_source_without_videos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no video"):
        find_videos([tmp_path])
    with pytest.raises(FileNotFoundError, match="gone"):
        find_videos([tmp_path / "gone"])


def test_the_error_of_an_unknown_preset_names_the_known_ones(tiny_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match="light"):
        extract([tiny_set], cache=tmp_path, preset="lite")


def test_videos_of_a_csv_are_extracted_and_absent_ones_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "AVE").mkdir()
    first, second = (tmp_path / "AVE" / name for name in ("a.mp4", "b.mp4"))
    first.touch()
    second.touch()
    listing = tmp_path / "own.csv"
    rows = ["path,start,end,label", f"AVE/{second.name},0,1,Bell", f"AVE/{first.name},2,3,Dog", "AVE/gone.mp4,0,1,Dog"]
    listing.write_text("\n".join(rows))
    assert find_videos([listing]) == [second, first]
    assert "gone" in caplog.text


def without_stream(video: Path, kind: str, copy: Path) -> Path:
    """The same file, without its video or its audio."""
    with av.open(str(video)) as source, av.open(str(copy), "w") as target:
        (kept,) = (stream for stream in source.streams if stream.type != kind)
        copied = target.add_stream_from_template(kept)
        for packet in source.demux(kept):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return copy


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_missing_stream_fails_or_is_filled_or_skipped_as_asked(tiny_set: Path, tmp_path: Path, kind: str) -> None:
    lacking = without_stream(videos_of(tiny_set)[0], kind, tmp_path / "lacking.mp4")
    failing, skipping = (extract([lacking], cache=tmp_path / "c", on_missing=policy) for policy in ("error", "skip"))
    assert (failing.done, len(failing.failed), len(failing.skipped)) == (0, 1, 0)
    assert f"no {kind} stream" in failing.failed[0].reason
    assert (skipping.done, len(skipping.failed), len(skipping.skipped)) == (0, 0, 1)
    filled = extract([lacking], cache=tmp_path / "c", on_missing="zeros")
    assert (filled.done, filled.failed) == (1, ())
    features = FeatureCache(tmp_path / "c").read(feature_key(source_digest(lacking), filled.specification))
    assert features.missing == (kind,)
    filling = features.audio if kind == "audio" else features.visual
    assert torch.equal(filling, filling[:1].expand_as(filling))  # silence, or black, in every segment


def test_precision_is_part_of_the_specification(tiny_set: Path, tmp_path: Path) -> None:
    video, weights = videos_of(tiny_set)[0], tmp_path / "tiny.safetensors"
    save_timm("test_resnet", weights)  # quick where bfloat16 is emulated, too
    single, half = (
        extract([video], cache=tmp_path, visual="timm:test_resnet", visual_weights=weights, precision=name)
        for name in ("float32", "bfloat16")
    )
    assert (single.precision, half.precision) == ("float32", "bfloat16")
    assert single.specification != half.specification
    exact, rounded = (
        FeatureCache(tmp_path).read(feature_key(source_digest(video), run.specification)) for run in (single, half)
    )
    assert torch.equal(exact.audio, rounded.audio)
    error = torch.dist(exact.visual.float(), rounded.visual.float()) / exact.visual.float().norm()
    assert 0 < error < 0.05


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({"avx2": True, "avx512_f": True}, "float32"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
        ({"neon": True, "bf16": False}, "float32"),
        ({"neon": True, "bf16": True}, "bfloat16"),
    ],
)
def test_auto_never_emulates_and_bfloat16_warns_of_the_cost(
    capabilities: dict[str, bool], native: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert pick_precision("auto", "cpu") == native
    assert pick_precision("float32", "cpu") == "float32"
    assert caplog.text == ""
    assert pick_precision("bfloat16", "cpu") == "bfloat16"
    assert ("20 times" in caplog.text) == (native == "float32")


@pytest.mark.slow
def test_memory_does_not_grow_from_clip_to_clip(tiny_set: Path, tmp_path: Path) -> None:
    peaks: list[int] = []

    def note(done: int, total: int) -> None:
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    extract([tiny_set], cache=tmp_path, workers=2, progress=note)
    half = len(peaks) // 2
    assert peaks[-1] <= peaks[half] * 1.1  # after the first few, no clip leaves memory allocated
