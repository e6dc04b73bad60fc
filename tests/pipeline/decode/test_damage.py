"""Going on past packets that a decoder refuses: what is shown and heard, and what is recorded of it."""

import json
import shutil
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decoded import AT, FAST, RATE_HZ, REQUEST, overwrite_packets, same
from support.making import Audio, Video, audio_with_sweep, make_video, numbers_in, steady, sweep_heard_at
from support.processes import run

from ccln import extract, localize
from ccln.cache import FeatureCache, clip_digest, feature_key, pack, source_digest
from ccln.pipeline.decode.clip import DecodedClip, decode_clip, decode_clips
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.decode.damage import MOST_LOST_SECONDS
from ccln.pipeline.decode.inspect import inspect_clip

INDEPENDENT = {"codec": "mjpeg", "pixel_format": "yuvj420p", "options": FAST["mjpeg"]}
"""Every frame can be decoded without the others."""


def damaged(source: Path, copy: Path, when: dict[str, tuple[float, float]]) -> Path:
    """A copy whose packets of "video" or "audio" within some seconds are noise."""
    shutil.copy(source, copy)
    for kind, (start, end) in when.items():
        assert overwrite_packets(copy, kind, lambda seconds, start=start, end=end: start <= seconds < end)
    return copy


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.5, 0.5, round(seconds * RATE_HZ)).astype(np.float32)


def stretches(path: Path, kind: str) -> list[tuple[float, float]]:
    """When each packet of a stream is displayed, in seconds."""
    with av.open(str(path)) as container:
        return [
            (float(packet.pts * packet.time_base), float((packet.pts + (packet.duration or 0)) * packet.time_base))
            for packet in container.demux(*(stream for stream in container.streams if stream.type == kind))
            if packet.pts is not None and packet.time_base is not None
        ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of packets of which none needs another, at the rate to which sound is resampled."""
    path = tmp_path_factory.mktemp("whole") / "whole.mkv"
    return make_video(path, Video(steady(75), **INDEPENDENT), Audio(noise(3), RATE_HZ, codec="flac"))


@settings(max_examples=40, deadline=None)
@given(
    first=st.integers(0, 74),
    frames=st.integers(0, 60),
    others=st.sets(st.integers(0, 74), max_size=4),
    sounds=st.sets(st.integers(0, 60), max_size=5),
)
def test_all_but_what_is_damaged_is_shown_and_heard_at_its_time(
    whole: Path, first: int, frames: int, others: set[int], sounds: set[int]
) -> None:
    shown, heard = stretches(whole, "video"), stretches(whole, "audio")
    broken = {
        "video": {*range(first, min(first + frames, 75)), *others},
        "audio": {i for i in sounds if i < len(heard)},
    }
    lost, cut = {}, {}  # a refused packet that none follows is where the file was cut off
    for kind, times in (("video", shown), ("audio", heard)):
        cut[kind] = broken[kind] & {len(times) - 1}
        lost[kind] = sum(end - start for index, (start, end) in enumerate(times) if index in broken[kind] - cut[kind])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(whole, folder))
        for kind, times in (("video", shown), ("audio", heard)):
            starts = {times[index][0] for index in broken[kind]}
            overwrite_packets(path, kind, lambda seconds, starts=starts: seconds in starts)
        strict = outcome(path, "error")
        clip = outcome(path, "conceal")
    if any(lost.values()):
        assert isinstance(strict, DecodeError)
        assert "is damaged" in str(strict)
    if max(lost.values()) > MOST_LOST_SECONDS + 1e-6:
        assert isinstance(clip, DecodeError)
        assert f"are lost, and at most {MOST_LOST_SECONDS:g} s are concealed" in str(clip)
        return
    assert isinstance(clip, DecodedClip)
    if not any(lost.values()):
        assert isinstance(strict, DecodedClip)
        assert same(strict, clip)
    assert clip.lost_seconds == {kind: pytest.approx(seconds) for kind, seconds in lost.items() if seconds}
    left = [index for index in range(75) if index not in broken["video"]]
    wanted = (np.arange(160) + 0.5) / 16
    before = [[index for index in left if shown[index][0] <= time + 1e-9] for time in wanted]
    numbers = [found[-1] if found else left[0] for found in before]
    assert numbers_in(clip.frames).ravel().tolist() == numbers
    waveform = np.zeros(10 * RATE_HZ, np.float32)
    waveform[: 3 * RATE_HZ] = decode_clip(whole, REQUEST).waveform[: 3 * RATE_HZ]
    for index in broken["audio"]:
        waveform[round(heard[index][0] * RATE_HZ) : round(heard[index][1] * RATE_HZ)] = 0
    np.testing.assert_array_equal(clip.waveform, waveform)
    ends = [times[-2 if cut[kind] else -1][1] for kind, times in (("video", shown), ("audio", heard))]
    assert clip.duration_seconds == pytest.approx(max(ends), abs=1e-3)


def outcome(path: Path, on_damage: str) -> DecodedClip | DecodeError:
    try:
        return decode_clip(path, REQUEST, on_damage=on_damage)  # type: ignore[arg-type]
    except DecodeError as error:
        return error


@pytest.mark.parametrize(
    ("name", "video_codec", "audio_codec"),
    [
        ("clip.mkv", "libx264", "aac"),
        ("clip.mp4", "libx264", "aac"),
        ("clip.mkv", "libx265", "mp2"),
        ("clip.mkv", "libvpx-vp9", "flac"),
        ("clip.mkv", "libvpx", "ac3"),
        ("clip.avi", "mpeg4", "ac3"),
        ("clip.mkv", "ffv1", "flac"),
        ("clip.mkv", "mjpeg", "libmp3lame"),
    ],
)
@pytest.mark.parametrize("kind", ["video", "audio"])
def test_sound_and_picture_stay_in_time_in_every_codec(
    tmp_path: Path, name: str, video_codec: str, audio_codec: str, kind: str
) -> None:
    pictures = INDEPENDENT if video_codec == "mjpeg" else {"codec": video_codec, "options": FAST.get(video_codec, {})}
    sound = Audio(audio_with_sweep(AT, 3, 48_000), 48_000, codec=audio_codec)
    if name.endswith("avi"):
        pictures["time_base"] = steady(2)[1]
    source = make_video(tmp_path / f"source-{name}", Video(steady(75), **pictures), sound)
    path = damaged(source, tmp_path / name, {kind: (0.9, 1.1)})
    with pytest.raises(DecodeError, match=f"its {kind} is damaged"):
        decode_clip(path, REQUEST)
    clip, before = decode_clip(path, REQUEST, on_damage="conceal"), decode_clip(source, REQUEST)
    assert clip.lost_seconds.keys() == {kind}
    assert 0.02 < clip.lost_seconds[kind] < 0.6
    assert sweep_heard_at(clip.waveform, RATE_HZ) == pytest.approx(sweep_heard_at(before.waveform, RATE_HZ), abs=1e-3)
    assert clip.duration_seconds == pytest.approx(before.duration_seconds, abs=0.03)
    untouched = clip.frames if kind == "audio" else clip.frames[0, :12]  # up to 0.75 s
    assert np.array_equal(untouched, before.frames if kind == "audio" else before.frames[0, :12])


def test_a_gap_shorter_than_jitter_moves_nothing(tmp_path: Path) -> None:
    """A packet of 10.7 ms: less than what sound whose stated times jitter may be off without being a gap."""
    sound = Audio(audio_with_sweep(AT, 3, 96_000), 96_000, codec="aac")
    source = make_video(tmp_path / "source.mkv", Video(steady(75)), sound)
    path = damaged(source, tmp_path / "clip.mkv", {"audio": (1.0, 1.01)})
    clip = decode_clip(path, REQUEST, on_damage="conceal")
    assert clip.lost_seconds["audio"] == pytest.approx(0.0107, abs=0.001)
    at = sweep_heard_at(decode_clip(source, REQUEST).waveform, RATE_HZ)
    assert sweep_heard_at(clip.waveform, RATE_HZ) == pytest.approx(at, abs=0.002)  # as Matroska rounds


def test_too_much_is_refused_with_what_came_first_and_the_limit(tmp_path: Path, whole: Path) -> None:
    path = damaged(whole, tmp_path / "clip.mkv", {"video": (0.5, 2.8)})
    with pytest.raises(DecodeError) as refused:
        decode_clip(path, REQUEST, on_damage="conceal")
    assert str(refused.value).startswith(f"{path}: its video is damaged at 0.52 s (")
    assert str(refused.value).endswith(
        "; of its video from 0 to 10 s 2.28 s are lost, and at most 2 s are concealed. "
        "Fetch the file or convert it again."
    )


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-five seconds with damage to the second and the third ten."""
    folder = tmp_path_factory.mktemp("long")
    sound = Audio(noise(25), RATE_HZ, codec="flac")
    source = make_video(folder / "source.mkv", Video(steady(625), **INDEPENDENT), sound)
    once = damaged(source, folder / "once.mkv", {"video": (12, 13.5)})
    return damaged(once, folder / "long.mkv", {"video": (21, 22), "audio": (12, 12.5)})


def test_every_ten_seconds_of_a_long_video_state_their_own_losses(long: Path) -> None:
    clips = list(decode_clips(long, REQUEST, on_damage="conceal"))
    assert [clip.lost_seconds.get("video", 0) for clip in clips] == [0, pytest.approx(1.52), pytest.approx(1)]
    assert [clip.lost_seconds.get("audio", 0) > 0.3 for clip in clips] == [False, True, False]
    assert decode_clip(long, REQUEST).lost_seconds == {}  # the damage is not in its first ten seconds


def test_the_cache_records_what_is_lost_and_shares_what_is_whole(tmp_path: Path, whole: Path) -> None:
    folder, cache = tmp_path / "videos", tmp_path / "features"
    folder.mkdir()
    shutil.copy(whole, folder)
    broken = damaged(whole, folder / "broken.mkv", {"video": (1, 1.4), "audio": (2, 2.2)})
    options = (folder, "--cache", cache, "--preset", "light-log-mel")
    strict = run("ccln-extract", *options)
    assert strict.returncode == 1
    assert "1 done, 0 cached, 1 failed" in strict.stdout
    assert f"{broken}: its video is damaged at 1.00 s" in strict.stderr
    lenient = run("ccln-extract", *options, "--on-damage", "conceal")
    assert lenient.returncode == 0
    assert "1 done, 1 cached, 0 failed" in lenient.stdout
    assert f"damaged: {broken}: 0.40 s of video and " in lenient.stderr
    assert "1 with damage concealed" in run("ccln-cache", "info", "--cache", cache).stdout
    store = FeatureCache(cache)
    (specification,) = store.specifications()
    found = {path: feature_key(source_digest(path), specification) for path in (folder / whole.name, broken)}
    before = store.read(found[broken])
    assert before.lost_seconds == {"video": pytest.approx(0.4), "audio": pytest.approx(0.2, abs=0.11)}
    assert store.read(found[folder / whole.name]).lost_seconds == {}
    assert b"lost_seconds" not in store.path_of(found[folder / whole.name]).read_bytes()  # as older versions read it
    assert pack(store).clips == 2
    assert FeatureCache(cache).read(found[broken]).lost_seconds == before.lost_seconds
    assert "1 with damage concealed" in run("ccln-cache", "info", "--cache", cache).stdout
    assert "2 clips whole, 0 damaged" in run("ccln-cache", "verify", "--cache", cache).stdout


def test_windows_of_a_data_set_state_their_own_losses(tmp_path: Path, long: Path) -> None:
    listing = long.parent / "set.csv"
    listing.write_text("path,start,end,label,split\nlong.mkv,1,24,A,train\n")
    refused = extract(listing, cache=tmp_path, preset="light-log-mel")
    assert (refused.done, len(refused.failed)) == (1, 1)  # the windows before the damage are kept
    done = extract(listing, cache=tmp_path, preset="light-log-mel", on_damage="conceal")
    assert (done.done, done.cached, len(done.failed)) == (2, 1, 0)
    assert done.damaged[0].lost_seconds["video"] == pytest.approx(2.52)
    store = FeatureCache(tmp_path)
    keys = [feature_key(clip_digest(source_digest(long), start), done.specification) for start in (0, 10, 20)]
    assert [store.read(key).lost_seconds.get("video", 0) for key in keys] == [0, pytest.approx(1.52), pytest.approx(1)]


def test_check_says_what_is_damaged_and_what_concealing_it_costs(tmp_path: Path, whole: Path) -> None:
    path = damaged(whole, tmp_path / "clip.mkv", {"video": (1, 1.4)})
    failing, concealed = inspect_clip(path), inspect_clip(path, damage_fails=False)
    assert "its video is damaged at 1.00 s" in failing.problems[0]
    assert failing.remarks == ("0.40 s of video lost to damage: --on-damage conceal goes on past that",)
    assert concealed.problems == ()
    assert "0.40 s of video lost to damage" in concealed.remarks
    shown = run("ccln-extract", path, "--check", "--on-damage", "conceal")
    assert shown.returncode == 0
    assert "remark: 0.40 s of video lost to damage" in shown.stdout
    assert run("ccln-extract", path, "--check").returncode == 1


def test_localization_says_what_is_lost_and_draws_into_what_is_left(
    tmp_path: Path, tiny_run: Path, whole: Path
) -> None:
    path = damaged(whole, tmp_path / "clip.mkv", {"video": (1, 1.4)})
    found = localize([path, whole], checkpoint=tiny_run)
    assert [failure.path for failure in found.failed] == [path]
    options = ("--checkpoint", tiny_run, "--on-damage", "conceal")
    shown = run("ccln-localize", path, whole, *options, "--video", tmp_path / "drawn", "--format", "json")
    assert shown.returncode == 0
    assert [video["lost_seconds"] for video in json.loads(shown.stdout)["videos"]] == [
        {"video": 0.4, "audio": 0.0},
        {"video": 0.0, "audio": 0.0},
    ]
    (drawn,) = (tmp_path / "drawn").glob("clip.events.*")
    times = [start for start, _ in stretches(drawn, "video")]
    assert [time for time in times if 0.99 < time < 1.39] == []
    assert len(times) == 65
    assert "damaged: 0.40 s of video lost to damage" in run("ccln-localize", path, *options).stdout
