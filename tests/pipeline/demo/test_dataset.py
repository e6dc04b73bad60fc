"""The demo's videos: frames and audio agree with their annotations."""

import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccln.pipeline import demo as demo_dataset
from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.demo import make_demo_dataset, write_clip
from ccln.pipeline.demo.audio import SAMPLE_RATE_HZ, render_samples
from ccln.pipeline.demo.frames import FRAME_RATE_HZ, render_frames
from ccln.pipeline.demo.plan import CLASS_NAMES, ClipPlan, Span, plan_demo_dataset

SPLIT_FILES = {"train": "trainSet.txt", "validation": "valSet.txt", "test": "testSet.txt"}
TINY_PLANS = plan_demo_dataset(1, train=6, validation=5, test=5)  # those of the fixture tiny_set
SECONDS = range(10)


def present(spans: tuple[Span, ...]) -> list[bool]:
    """Second by second, whether any class is there."""
    return [any(span.start_seconds <= second < span.end_seconds for span in spans) for second in SECONDS]


def frames_of(plan: ClipPlan) -> np.ndarray:
    return np.stack(list(render_frames(plan.seen, pace=plan.pace, entropy=plan.entropy)))


def first_frame_of(plan: ClipPlan) -> np.ndarray:
    return next(render_frames(plan.seen, pace=plan.pace, entropy=plan.entropy))


def samples_of(plan: ClipPlan) -> np.ndarray:
    return render_samples(plan.heard, pace=plan.pace, entropy=plan.entropy)


@lru_cache(maxsize=1)
def background_of(entropy: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Frames and samples of a clip without objects and without their sounds."""
    return np.stack(list(render_frames((), pace=1, entropy=entropy))), render_samples((), pace=1, entropy=entropy)


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames `(frame, height, width, channel)` and samples `(sample,)` of a video file."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        samples = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.stack(frames), np.concatenate(samples)


def visible(frames: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Pixels that differ clearly from the same scene without objects, `(frame, height, width)`."""
    return np.abs(frames.astype(np.int16) - empty).max(axis=-1) > 60


def distractor_kinds(plan: ClipPlan) -> set[str]:
    kinds = set()
    for modality, spans in (("seen", plan.seen), ("heard", plan.heard)):
        for span in spans:
            if span != plan.event:
                kinds.add(f"{'own' if span.class_name == plan.event.class_name else 'other'} {modality}")
    return kinds


# The plan


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**70))
def test_a_class_is_both_seen_and_heard_exactly_during_the_event(seed: int):
    for plan in plan_demo_dataset(seed, train=10, validation=1, test=1):
        at = {
            (modality, span.class_name, second)
            for modality, spans in (("seen", plan.seen), ("heard", plan.heard))
            for span in spans
            for second in range(*span[1:])
        }
        own, start, end = plan.event
        for name in CLASS_NAMES:
            both = [second for second in SECONDS if {("seen", name, second), ("heard", name, second)} <= at]
            assert both == (list(range(start, end)) if name == own else [])
        # Never two objects nor two sounds at once, and never a distractor during the event.
        assert len(at) == sum(span.end_seconds - span.start_seconds for span in plan.seen + plan.heard)
        assert len({(modality, second) for modality, _, second in at}) == len(at)
        outside = [second for modality, _, second in at if not start <= second < end]
        assert len(set(outside)) == len(outside), "a distractor is in one modality only"


def test_ids_have_youtubes_form_and_are_safe_file_names():
    ids = [plan.video_id for plan in plan_demo_dataset(3, train=500)]
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{10}", video_id) for video_id in ids)
    assert len({video_id.casefold() for video_id in ids}) == len(ids)


def test_a_clip_depends_on_the_seed_not_on_the_number_of_clips():
    plans = plan_demo_dataset(5)
    assert plans == plan_demo_dataset(5)
    assert plans[:7] == plan_demo_dataset(5, train=7, validation=1, test=1)[:7]
    assert all(mine != other for mine, other in zip(plans, plan_demo_dataset(6), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_every_split_has_every_class_and_kind_of_distractor(seed: int):
    plans = plan_demo_dataset(seed)
    assert Counter(plan.split for plan in plans) == {"train": 80, "validation": 20, "test": 20}
    lengths = np.array([plan.event.end_seconds - plan.event.start_seconds for plan in plans])
    assert 0.28 < 1 - lengths.mean() / 10 < 0.42
    assert lengths.min() >= 2
    assert 0.35 < np.mean(lengths >= 7) < 0.65
    for split in SPLIT_FILES:
        own = [plan for plan in plans if plan.split == split]
        assert {plan.event.class_name for plan in own} == set(CLASS_NAMES)
        kinds = set().union(*map(distractor_kinds, own))
        assert kinds == {"own seen", "own heard", "other seen", "other heard"}


# Frames and audio as they are drawn and synthesised


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_a_class_is_visible_and_audible_exactly_in_its_seconds(class_name: str):
    spans = (Span(class_name, 2, 4), Span(class_name, 9, 10))
    plan = replace(TINY_PLANS[0], seen=spans, heard=spans)
    empty, bed = background_of(plan.entropy)

    inside = np.repeat(present(spans), FRAME_RATE_HZ)
    frames = frames_of(plan)
    assert frames.shape == (len(inside), 240, 320, 3)
    assert np.array_equal(frames[~inside], empty[~inside])
    shown = visible(frames[inside], empty[inside])
    assert shown.mean(axis=(1, 2)).min() > 0.02
    assert len({silhouette.tobytes() for silhouette in shown[:FRAME_RATE_HZ]}) > 4, "it moves"

    samples = samples_of(plan)
    assert samples.shape == (10 * SAMPLE_RATE_HZ,)
    assert np.abs(samples).max() < 1
    added = (samples - bed).reshape(10, SAMPLE_RATE_HZ)
    assert np.array_equal(added.any(axis=1), present(spans))
    ratios_db = 20 * np.log10(added[[2, 3, 9]].std(axis=1) / bed.std())
    assert (ratios_db > 2).all()
    assert (ratios_db < 24).all()


def test_a_clip_is_the_same_every_time_and_unlike_other_clips():
    plan, other = TINY_PLANS[3], TINY_PLANS[4]
    assert np.array_equal(frames_of(plan), frames_of(plan))
    assert np.array_equal(samples_of(plan), samples_of(plan))
    stranger = replace(plan, entropy=other.entropy)
    assert not np.array_equal(first_frame_of(stranger), first_frame_of(plan))
    assert not np.array_equal(samples_of(stranger), samples_of(plan))


# The files


def test_the_folder_has_the_layout_of_ave(tiny_set: Path):
    rows = [
        f"{plan.event.class_name}&{plan.video_id}&good&{plan.event.start_seconds}&{plan.event.end_seconds}"
        for plan in TINY_PLANS
    ]
    lines = (tiny_set / "Annotations.txt").read_text("utf-8").splitlines()
    assert lines == ["Category&VideoID&Quality&StartTime&EndTime", *rows]
    for split, name in SPLIT_FILES.items():
        own = [row for row, plan in zip(rows, TINY_PLANS, strict=True) if plan.split == split]
        assert (tiny_set / name).read_text("utf-8").splitlines() == own
        assert {row.split("&")[0] for row in own} == set(CLASS_NAMES)
    assert {path.name for path in tiny_set.iterdir()} == {"AVE", "Annotations.txt", *SPLIT_FILES.values()}
    assert {path.name for path in (tiny_set / "AVE").iterdir()} == {f"{plan.video_id}.mp4" for plan in TINY_PLANS}
    assert read_ave_folder(tiny_set).class_names == CLASS_NAMES


def test_every_video_lasts_ten_seconds_to_the_frame_with_both_streams_on_one_clock(tiny_set: Path):
    for path in (tiny_set / "AVE").iterdir():
        with av.open(str(path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 44_100, 1)
            for stream in (video, audio):
                assert stream.start_time == 0
                assert stream.duration is not None
                assert stream.time_base is not None
                assert stream.duration * stream.time_base == 10
            times = [frame.time for frame in container.decode(video)]
        assert times == [number / FRAME_RATE_HZ for number in range(10 * FRAME_RATE_HZ)]


@pytest.mark.parametrize("plan", TINY_PLANS[-5:], ids=lambda plan: plan.event.class_name)
def test_the_decoded_video_agrees_with_its_plan(plan: ClipPlan, tiny_set: Path):
    frames, samples = decoded(tiny_set / "AVE" / f"{plan.video_id}.mp4")
    empty, bed = background_of(plan.entropy)
    shares = visible(frames, empty).mean(axis=(1, 2))
    assert np.array_equal(shares > 0.01, np.repeat(present(plan.seen), FRAME_RATE_HZ))

    planned = samples_of(plan)
    assert len(planned) <= len(samples) < len(planned) + 1024, "AAC may fill up its last frame"
    samples = samples[: len(planned)]
    assert np.corrcoef(samples, planned)[0, 1] > 0.95, "the audio is late or early"
    added = (samples - bed).reshape(10, SAMPLE_RATE_HZ).std(axis=1) / bed.std()
    assert np.array_equal(added > 0.75, present(plan.heard))


def test_progress_is_reported_and_the_set_is_as_large_as_asked(tmp_path: Path):
    reported = []
    folder = tmp_path / "new" / "demo"

    def report(completed: int, total: int) -> None:
        reported.append((completed, total))

    make_demo_dataset(folder, seed=4, train=2, validation=1, test=1, progress=report)
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]
    made = read_ave_folder(folder)
    assert Counter(clip.split for clip in made.clips) == {"train": 2, "validation": 1, "test": 1}
    assert made.class_names == ("Bell", "Bird")


@pytest.mark.parametrize("occupied", ["folder", "file"])
def test_an_existing_output_folder_is_refused_and_not_changed(occupied: str, tmp_path: Path):
    place, kept = (tmp_path, tmp_path / "mine.txt") if occupied == "folder" else (tmp_path / "mine.txt",) * 2
    kept.write_text("keep me")
    with pytest.raises(ValueError, match=re.escape(str(place)) + r".*not an empty folder.*name another"):
        make_demo_dataset(place)
    assert list(tmp_path.iterdir()) == [kept]
    assert kept.read_text() == "keep me"


@pytest.mark.parametrize("wrong", [{"train": 0}, {"validation": -1}, {"test": 0}, {"seed": -1}])
def test_impossible_numbers_are_refused_before_anything_is_written(wrong: dict[str, Any], tmp_path: Path):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name}.* {value}\b.*:"):
        make_demo_dataset(tmp_path / "demo", **wrong)
    assert not (tmp_path / "demo").exists()


def test_a_clip_that_fails_half_way_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail_after_a_second(*arguments, **options):
        frames = render_frames(*arguments, **options)
        for _ in range(FRAME_RATE_HZ):
            yield next(frames)
        raise MemoryError

    monkeypatch.setattr(demo_dataset, "render_frames", fail_after_a_second)
    with pytest.raises(MemoryError):
        write_clip(TINY_PLANS[0], tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_only_whole_clips_and_no_worker(tmp_path: Path):
    folder = tmp_path / "demo"
    code = "import sys, pathlib, ccln.pipeline.demo as d; d.make_demo_dataset(pathlib.Path(sys.argv[1]))"
    run = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE)
    give_up = time.monotonic() + 60
    while not (clips := list(folder.glob("AVE/*.mp4"))):
        assert run.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
    run.kill()
    run.communicate(timeout=60)  # the workers hold the other end: it closes when the last of them has ended
    for path in folder.glob("AVE/*.mp4"):
        assert len(decoded(path)[0]) == 10 * FRAME_RATE_HZ
    assert clips
    assert not (folder / "Annotations.txt").exists()
