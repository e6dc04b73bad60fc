"""A file of any length as clips of ten seconds: each is as it was made, none is lost, and memory does not grow."""

import ctypes
import gc
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soxr
from av.packet import Packet
from av.video.stream import VideoStream
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.decoded import MILLISECOND, NTSC, RATE_HZ, assert_shows, overwrite_packets, same
from support.making import HEIGHT, WIDTH, Audio, Video, make_video, steady

from ccln.pipeline.decode.clip import ClipReader, DecodedClip, decode_clip, decode_clips
from ccln.pipeline.decode.container import DecodeError, MissingStreamError
from ccln.pipeline.decode.frames import FramePicker, FrameRequest

REQUEST = FrameRequest(HEIGHT, WIDTH, 4)
QUICK = {"preset": "ultrafast"}
B_FRAMES = {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=none", "preset": "veryfast"}


def noise(seconds: float, rate_hz: int = RATE_HZ, codec: str = "pcm_s16le", start: Fraction | int = 0) -> Audio:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate_hz)).astype(np.float32)
    return Audio(samples, rate_hz, codec=codec, start_seconds=Fraction(start))


def clips_of(path: Path, request: FrameRequest = REQUEST, **more: Any) -> list[DecodedClip]:
    """All clips; they must follow each other without a gap, all but the last whole, the first as it is alone."""
    clips = list(decode_clips(path, request, **more))
    assert [clip.start_seconds for clip in clips] == [10 * index for index in range(len(clips))]
    assert all(clip.duration_seconds == 10 for clip in clips[:-1])
    return clips


def duration(clips: list[DecodedClip]) -> float:
    return clips[-1].start_seconds + clips[-1].duration_seconds


def audio_of(clips: list[DecodedClip]) -> np.ndarray:
    return np.concatenate([clip.waveform for clip in clips])


def assert_same_clips(some: list[DecodedClip], others: list[DecodedClip]) -> None:
    assert len(some) == len(others)
    assert all(map(same, some, others))
    assert [clip.missing for clip in some] == [clip.missing for clip in others]
    assert [clip.aspect for clip in some] == [clip.aspect for clip in others]


# Frames


@pytest.mark.parametrize(
    ("name", "codec", "seconds", "audio", "options"),
    [
        ("clip.mp4", "libx264", steady(875), "aac", B_FRAMES),
        ("clip.mp4", "libx264", steady(1049, NTSC), "flac", QUICK),
        ("clip.mkv", "mpeg4", steady(350, 10), "mp2", {"bf": "2"}),
    ],
)
def test_every_clip_holds_the_displayed_frames(
    tmp_path: Path, name: str, codec: str, seconds: list[Fraction], audio: str, options: dict[str, str]
):
    time_base = Fraction(1, 10) if codec == "mpeg4" else Fraction(1, 30_000)
    video = Video(seconds, codec, options=options, time_base=time_base)
    path = make_video(tmp_path / name, video, noise(35, codec=audio))
    clips = clips_of(path)
    assert duration(clips) == pytest.approx(35, abs=0.05)
    assert len(clips) == 4
    for clip in clips:
        assert clip.missing == ()
        assert_shows(clip, seconds, MILLISECOND if name.endswith("mkv") else 1e-6)
    assert same(clips[0], decode_clip(path, REQUEST))


@settings(max_examples=8, deadline=None)
@given(
    steps=st.lists(st.integers(1000, 500_000), min_size=4, max_size=8),
    frames_per_segment=st.integers(1, 5),
    b_frames=st.booleans(),
)
@example([1000, 99_001, 500_000, 1000], 1, True)  # no second wants the frame after which the decoder gives that at 3 s
@example([1000, 99_001, 500_000, 1000], 4, True)
def test_variable_rate_videos_give_the_displayed_frame(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], frames_per_segment: int, b_frames: bool
):
    steps = steps + [30_000] * 4  # frames that a decoder holds back come at the end of the file
    seconds = [Fraction(sum(steps[:i]), 30_000) for i in range(len(steps) + 1)]
    video = Video(seconds, options=QUICK | {"bf": "3" if b_frames else "0"})
    audio = noise(float(seconds[-1]) + 5, 8000)
    path = make_video(tmp_path_factory.mktemp("any") / "clip.mov", video, audio)
    request = FrameRequest(HEIGHT, WIDTH, frames_per_segment)
    clips = clips_of(path, request)
    for clip in clips:
        assert_shows(clip, seconds)
    assert duration(clips) >= seconds[-1] + 4.9
    assert same(clips[0], decode_clip(path, request))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("clip.mp4", "libx264"), ("clip.mp4", "libx265"), ("clip.webm", "libvpx-vp9"), ("clip.mp4", "libsvtav1")],
)
@pytest.mark.parametrize("with_audio", [True, False])
def test_a_slideshows_frame_is_taken_as_long_as_it_is_displayed(
    tmp_path: Path, name: str, codec: str, with_audio: bool
):
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no encoder {codec}")
    seconds = [Fraction(time) for time in (0, 3, 33, 34, 64, 124, 125)]
    options = {
        "libx264": {"bf": "2", "x264-params": "b-adapt=0"},
        "libx265": {"x265-params": "log-level=none:bframes=2:b-adapt=0", "preset": "ultrafast"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
        "libsvtav1": {"preset": "9"},
    }[codec]
    video = Video(seconds, codec, 96, 128, options=options, time_base=Fraction(1, 1000))
    audio = noise(128, 8000, "libopus") if with_audio else None
    clips = clips_of(make_video(tmp_path / name, video, audio), on_missing="zeros")
    assert len(clips) == 13
    for clip in clips:
        assert_shows(clip, seconds)
        assert clip.missing == (() if with_audio else ("audio",))
        assert clip.waveform.any() == with_audio


def test_skipping_frames_does_not_change_the_others(tmp_path: Path):
    path = make_video(tmp_path / "clip.mp4", Video(steady(875), options=B_FRAMES), noise(35))
    every = clips_of(path, FrameRequest(HEIGHT, WIDTH, 50))
    few = clips_of(path, FrameRequest(HEIGHT, WIDTH, 2))
    assert len(every) == len(few) == 4
    for one, other in zip(every, few, strict=True):
        np.testing.assert_array_equal(other.frames, one.frames[:, 12::25])  # both want 1/4 and 3/4 of every second
        np.testing.assert_array_equal(other.frame_seconds, one.frame_seconds[:, 12::25])
        assert one.duration_seconds == other.duration_seconds


def test_frames_are_skipped_in_later_clips_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    decoded: list[float] = []
    add = FramePicker.add
    monkeypatch.setattr(FramePicker, "add", lambda self, frame, time: (decoded.append(time), add(self, frame, time)))
    path = make_video(tmp_path / "clip.mp4", Video(steady(875), options=B_FRAMES))
    clips_of(path, FrameRequest(HEIGHT, WIDTH, 1), on_missing="zeros")
    share = [sum(start <= time < start + 10 for time in decoded) / 250 for start in (0, 10, 20)]
    assert max(share) < 0.6
    assert np.ptp(share) < 0.1


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("pixel_aspect", ["0/1", "4/3", "8/9"])  # the first is that of a file that does not state it
@pytest.mark.parametrize("quarter_turns", range(4))
def test_the_aspect_is_that_of_the_upright_frame_and_its_pixels(
    tmp_path: Path, quarter_turns: int, pixel_aspect: str, decoder: str
):
    if decoder == "decord":
        pytest.importorskip("decord")
    video = Video(steady(5), height=96, width=160, quarter_turns=quarter_turns, options={"aspect": pixel_aspect})
    path = make_video(tmp_path / "clip.mp4", video)
    (clip,) = clips_of(path, on_missing="zeros", decoder=decoder)
    wide = float(Fraction(pixel_aspect)) or 1.0  # its pixels as they are stored, which a quarter turn makes high
    assert clip.aspect == pytest.approx(160 / 96 / wide if quarter_turns % 2 else 160 / 96 * wide)
    assert decode_clip(path, REQUEST, on_missing="zeros", decoder=decoder).aspect == clip.aspect
    assert clip.frames.shape[2:4] == (HEIGHT, WIDTH)


@pytest.mark.parametrize(("name", "codec"), [("clip.mkv", "libx264"), ("clip.ts", "libx264"), ("clip.avi", "mpeg4")])
def test_pixel_aspect_is_taken_from_container_or_codec(tmp_path: Path, name: str, codec: str):
    video = Video(steady(5), codec, 48, 80, options={"aspect": "3/2"}, time_base=Fraction(1, 25))
    (clip,) = clips_of(make_video(tmp_path / name, video), on_missing="zeros")
    assert clip.aspect == pytest.approx(80 / 48 * 3 / 2)


# Audio


def test_audio_is_split_between_clips_at_the_exact_sample(tmp_path: Path):
    audio = noise(33)  # at 16 kHz nothing is resampled; pieces of 1024 lie across the borders
    clips = clips_of(make_video(tmp_path / "clip.mov", Video(steady(66, 2), options=QUICK), audio))
    heard = audio_of(clips)
    np.testing.assert_allclose(heard[: 33 * RATE_HZ], audio.samples, rtol=0, atol=2**-15)
    assert not heard[33 * RATE_HZ :].any()
    assert len(heard) == 40 * RATE_HZ


@pytest.mark.parametrize("rate_hz", [44_100, 8000])
def test_each_clip_is_resampled_on_its_own(tmp_path: Path, rate_hz: int):
    audio = noise(30, rate_hz, "pcm_f32le")
    clips = clips_of(make_video(tmp_path / "clip.mkv", Video(steady(60, 2), options=QUICK), audio))
    for clip, samples in zip(clips, np.split(audio.samples, 3), strict=True):
        np.testing.assert_allclose(clip.waveform, soxr.resample(samples, rate_hz, RATE_HZ), rtol=0, atol=1e-6)


def test_audio_may_start_late_pause_and_end_early(tmp_path: Path):
    audio = replace(noise(20, start=12), gap=(3.072, 14.08))  # whole pieces: heard from 12 to 15.072 and from 26.08
    clips = clips_of(make_video(tmp_path / "clip.mkv", Video(steady(110, 2), options=QUICK), audio))
    assert [clip.missing for clip in clips] == [("audio",), (), (), (), (), ()]
    heard = audio_of(clips)
    expected = np.zeros_like(heard)
    expected[12 * RATE_HZ : 32 * RATE_HZ] = audio.samples
    expected[round(15.072 * RATE_HZ) : round(26.08 * RATE_HZ)] = 0
    np.testing.assert_allclose(heard, expected, rtol=0, atol=2**-15)
    assert duration(clips) == pytest.approx(55, abs=MILLISECOND)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_frames_may_start_late_and_end_early(tmp_path: Path, name: str):
    seconds = steady(50, 5, start_seconds=23)
    video = Video(seconds, options=QUICK | {"aspect": "3/2"})
    clips = clips_of(make_video(tmp_path / name, video, noise(55, codec="flac")))
    assert [clip.aspect for clip in clips] == pytest.approx([4 / 3] * 2 + [4 / 3 * 3 / 2] * 4)
    assert [clip.missing for clip in clips] == [("video",)] * 2 + [()] * 4
    for clip in clips[:2]:
        assert not clip.frames.any()
        np.testing.assert_allclose(clip.frame_seconds.ravel(), clip.start_seconds + (np.arange(40) + 0.5) / 4)
    for clip in clips[2:]:
        assert_shows(clip, seconds)
    assert duration(clips) == pytest.approx(55, abs=MILLISECOND)


def delayed(packets: Callable[..., Iterator[tuple[Packet, float]]], kind: str, by_seconds: float) -> Callable[..., Any]:
    """The packets of one kind come later in the file than those of the other with the same times."""

    def place(timed: tuple[Packet, float]) -> tuple[bool, float]:
        packet, seconds = timed
        return not packet.size, seconds + by_seconds * (packet.stream.type == kind)

    return lambda reader: iter(sorted(packets(reader), key=place))


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("name", ["steady", "slides"])
def test_audio_and_frames_may_be_far_apart_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
):
    seconds = steady(450, 10) if name == "steady" else steady(4, Fraction(1, 14))
    path = make_video(tmp_path / "clip.mov", Video(seconds, options=QUICK | {"bf": "0"}), noise(45))
    clips = clips_of(path)
    packets = ClipReader.packets
    monkeypatch.setattr(ClipReader, "packets", delayed(packets, kind, 9.5))
    assert_same_clips(clips_of(path), clips)
    monkeypatch.setattr(ClipReader, "packets", delayed(packets, kind, 30))
    apart = clips_of(path)
    assert duration(apart) == duration(clips)
    if kind == "audio":
        for clip in apart:
            assert_shows(clip, seconds)
        assert not apart[0].waveform.any()


# Length


@pytest.mark.parametrize(
    ("frames", "audio_seconds", "expected"),
    [(250, 10.08, 10), (252, 9, 10), (500, 20, 20), (250, 10.2, 10.2), (505, 3, 20.2), (8, 0.32, 0.32)],
)
def test_a_remainder_under_a_tenth_of_a_second_makes_no_clip(
    tmp_path: Path, frames: int, audio_seconds: float, expected: float
):
    path = make_video(tmp_path / "clip.mov", Video(steady(frames), options=QUICK), noise(audio_seconds))
    clips = clips_of(path)
    assert duration(clips) == pytest.approx(expected, abs=MILLISECOND)
    assert same(clips[0], decode_clip(path, REQUEST))


def test_a_file_with_endless_timestamps_is_refused(tmp_path: Path):
    seconds = [Fraction(0), Fraction(10_000_000)]
    path = make_video(tmp_path / "clip.mkv", Video(seconds, options={"bf": "0"}, time_base=Fraction(1, 1000)))
    clips = decode_clips(path, FrameRequest(8, 8, 1), on_missing="zeros")
    given = [clip.start_seconds for clip in islice(clips, 361)]
    assert given[-1] == 3600
    with pytest.raises(DecodeError, match=r"clip\.mkv: nothing new is seen or heard in the hour before 3600 s"):
        next(clips)


@pytest.mark.parametrize("seconds", [[1.03**i for i in range(400)], [3000.0 * i for i in range(60)]])
def test_a_file_of_a_few_packets_is_not_worked_on_for_hours(seconds: list[float], tmp_path: Path):
    """Each frame lies within the hour, but what they claim to last has nothing to do with what there is."""
    times = sorted({Fraction(round(time * 1000), 1000) for time in seconds})
    video = Video(times, options={"bf": "0"}, time_base=Fraction(1, 1000))
    path = make_video(tmp_path / "clip.mkv", video, noise(5))
    clips = decode_clips(path, FrameRequest(8, 8, 1))
    most = 360 + 2 * len(times)
    with pytest.raises(DecodeError, match=r"clip\.mkv: has next to nothing in most of the \d+ s so far"):
        list(islice(clips, most))


def test_a_slow_silent_slideshow_is_no_such_file(tmp_path: Path):
    """A frame a minute for more than an hour, silence beside it: audio that is silent is there."""
    silence = Audio(np.zeros(3720 * 8000, np.float32), 8000, codec="flac")
    video = Video(steady(62, Fraction(1, 60)), options={"tune": "zerolatency"}, time_base=Fraction(1, 1000))
    path = make_video(tmp_path / "clip.mkv", video, silence)
    assert sum(1 for _ in decode_clips(path, FrameRequest(8, 8, 1))) == 372


def test_more_packets_than_any_device_writes_are_refused(tmp_path: Path):
    path = tmp_path / "clip.mkv"
    plain = make_video(tmp_path / "plain.mkv", Video(steady(50, 10)), noise(5))
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
                continue
            data = bytes(packet)
            for place in range(len(data) // 2):  # a packet for each sample
                one = av.Packet(data[2 * place : 2 * place + 2])
                one.stream, one.time_base = streams[packet.stream.index], packet.time_base
                one.pts = one.dts = packet.dts + round(place / RATE_HZ / packet.time_base)
                output.mux(one)
    with pytest.raises(DecodeError, match=r"clip\.mkv: has more than 2000 packets a second"):
        decode_clip(path, REQUEST)


def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    status = Path("/proc/self/statm")
    if not status.exists() or not hasattr(c_library := ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("needs to know the memory of this process")
    video = Video(steady(720, 2), height=48, width=64, options=QUICK | {"bf": "3"})
    path = make_video(tmp_path / "clip.mov", video, noise(360))
    pages = []
    for count, _ in enumerate(decode_clips(path, FrameRequest(32, 32, 4))):
        if count % 5 == 0 and count > 5:  # the first minute and more fill what is kept for later use
            gc.collect()
            c_library.malloc_trim(0)  # else freed memory that the process still holds would hide a leak
            pages.append(int(status.read_text().split()[1]))
    assert len(pages) == 6
    # A clip kept would be 0.7 MB, its compressed packets 0.3 MB; there are 25 from the first measurement to the last.
    assert (max(pages) - pages[0]) * 4096 < 4_000_000


# Damage and what is missing


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_damage_is_raised_after_the_clips_before_it(tmp_path: Path, kind: str):
    video = Video(steady(350, 10), options=QUICK | {"bf": "0"})
    path = make_video(tmp_path / "clip.mp4", video, noise(35, 44_100, "aac"))
    whole = clips_of(path)
    low, high = (25, 25.05) if kind == "video" else (25, 25.03)
    time = overwrite_packets(path, kind, lambda time: low <= time < high)[0]
    clips = decode_clips(path, REQUEST)
    assert same(next(clips), whole[0])
    assert same(next(clips), whole[1])
    with pytest.raises(DecodeError, match=rf"clip\.mp4: its {kind} is damaged at {time:.2f} s.*again"):
        next(clips)
    assert list(clips) == []


def test_damage_at_the_end_shortens_the_file(tmp_path: Path):
    video = Video(steady(250, 10), options=QUICK | {"bf": "0"})
    path = make_video(tmp_path / "clip.mp4", video, noise(23, 44_100, "aac"))
    assert duration(clips_of(path)) == pytest.approx(25, abs=MILLISECOND)
    overwrite_packets(path, "video", lambda time: time >= 24.85)
    clips = clips_of(path)
    assert duration(clips) == pytest.approx(24.9, abs=MILLISECOND)
    assert_shows(clips[2], steady(249, 10))


def test_samples_that_are_not_finite_are_refused_at_their_second(tmp_path: Path):
    audio = noise(25, codec="pcm_f32le")
    audio.samples[15 * RATE_HZ] = np.nan
    clips = decode_clips(make_video(tmp_path / "clip.mkv", Video(steady(50, 2)), audio), REQUEST)
    next(clips)
    with pytest.raises(DecodeError, match="its audio holds values that are not numbers"):
        next(clips)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_an_absent_stream_is_refused_or_filled_with_zeros(tmp_path: Path, kind: str):
    video, audio = Video(steady(50, 2), options=QUICK), noise(25)
    path = make_video(tmp_path / "clip.mov", *((None, audio) if kind == "video" else (video, None)))
    with pytest.raises(MissingStreamError, match=rf"clip\.mov: has no {kind} stream.*add the stream"):
        next(decode_clips(path, REQUEST))
    clips = clips_of(path, on_missing="zeros")
    assert [clip.missing for clip in clips] == [(kind,)] * 3
    assert duration(clips) == pytest.approx(25, abs=MILLISECOND)
    assert same(clips[0], decode_clip(path, REQUEST, on_missing="zeros"))


def test_a_declared_stream_without_packets_is_missing(tmp_path: Path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=2)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(70):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert [clip.missing for clip in clips_of(path, on_missing="zeros")] == [("audio",)] * 4
    with pytest.raises(MissingStreamError, match="has no audio stream, or nothing in"):
        list(decode_clips(path, REQUEST))


# The file


def test_a_generator_that_is_closed_closes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = make_video(tmp_path / "clip.mov", Video(steady(80, 2), options=QUICK), noise(40))
    file = io.FileIO(path)
    monkeypatch.setattr(Path, "open", lambda *_: file)
    clips = decode_clips(path, REQUEST)
    assert next(clips).start_seconds == 0
    assert next(clips).start_seconds == 10
    assert not file.closed
    clips.close()
    assert file.closed


def test_clips_are_returned_before_the_file_has_been_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    video = Video(steady(500, 5), "rawvideo", time_base=Fraction(1, 5))
    path = make_video(tmp_path / "clip.mkv", video, noise(100))
    file = io.FileIO(path)
    monkeypatch.setattr(Path, "open", lambda *_: file)
    places = [file.tell() / path.stat().st_size for _ in decode_clips(path, REQUEST)]
    assert len(places) == 10
    assert all(abs(place - (index + 1) / 10) < 0.06 for index, place in enumerate(places))


def test_decord_decodes_files_of_at_most_ten_seconds_only(tmp_path: Path):
    pytest.importorskip("decord")
    short = make_video(tmp_path / "short.mp4", Video(steady(250), options=QUICK), noise(10, codec="flac"))
    (clip,) = decode_clips(short, REQUEST, decoder="decord")
    assert same(clip, decode_clip(short, REQUEST, decoder="decord"))
    for frames, seconds in ((300, 4), (100, 12)):
        long = make_video(tmp_path / "long.mp4", Video(steady(frames), options=QUICK), noise(seconds, codec="flac"))
        with pytest.raises(DecodeError, match=r"long\.mp4: is longer than ten seconds.*train with pyav"):
            next(decode_clips(long, REQUEST, decoder="decord"))


def test_a_tone_across_the_border_of_clips_keeps_its_time_and_level(tmp_path: Path):
    samples = np.zeros(25 * 44_100, np.float32)
    burst = np.sin(2 * np.pi * 500 * np.arange(44_100 // 2) / 44_100)
    samples[round(9.75 * 44_100) :][: len(burst)] = 0.5 * burst
    path = make_video(tmp_path / "clip.mp4", Video(steady(50, 2)), Audio(samples, 44_100))
    heard = audio_of(clips_of(path))
    loud = np.flatnonzero(np.abs(heard) > 0.05) / RATE_HZ
    assert loud[0] == pytest.approx(9.75, abs=0.01)
    assert loud[-1] == pytest.approx(10.25, abs=0.01)
    assert np.sqrt(np.mean(heard[int(9.76 * RATE_HZ) : int(10.24 * RATE_HZ)] ** 2)) == pytest.approx(0.354, rel=0.02)
