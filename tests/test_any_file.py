"""Any file people have: each kind is made, with numbered pictures and a sweep at known times, and read back."""

import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import numpy as np
import pytest
from making import (
    HEIGHT,
    WIDTH,
    Picture,
    Sound,
    cover_picture,
    make_video,
    numbers_in,
    on_display,
    sound_with_sweep,
    steady,
    sweep_heard_at,
)

from ccln.pipeline.decoding import DecodedClip, DecodeError, FrameRequest, MissingStreamError, decode_clip
from ccln.pipeline.decord_decoding import DecordMissingError

REQUEST = FrameRequest(HEIGHT, WIDTH)
RATE_HZ = 16_000
MILLISECOND = 1e-3
NTSC = Fraction(30_000, 1001)
TICK_25 = Fraction(1, 25)
AT = 1.3
"""Second of its sound at which the sweep starts."""
FAST = {
    "libx265": {"x265-params": "log-level=none:keyint=20:bframes=3", "preset": "ultrafast"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "9"},  # faster ones blur one number into the next
    "mjpeg": {"strict": "unofficial"},
}


def video(seconds: list[Fraction] | None = None, codec: str = "libx264", **more: Any) -> Picture:
    """Three seconds at 25 a second unless told otherwise."""
    options = FAST.get(codec, {}) | more.pop("options", {})
    return Picture(seconds or steady(75), codec, options=options, **more)


def audio(
    seconds: float = 3, rate_hz: int = 48_000, codec: str = "flac", layout: str = "mono", start: Any = 0
) -> Sound:
    return Sound(sound_with_sweep(AT, seconds, rate_hz), rate_hz, layout, codec, Fraction(start))


def uneven(grid: int) -> list[Fraction]:
    """Times of pictures at distances from one to 1900 milliseconds over three seconds, on a grid of 1/grid seconds."""
    steps = random.Random(1).choices([2, 8, 40, 55, 300, 900], k=60)
    times = [Fraction(sum(steps[:i]) * grid // 1000, grid) for i in range(60)]
    return [time for time in times if time < 10]


@dataclass(frozen=True)
class Case:
    """A file, and what is special about what is read from it; all else must be as it was made."""

    id: str
    name: str = "clip.mp4"
    picture: Picture | None = field(default_factory=video)
    sound: Sound | None = field(default_factory=audio)
    more: dict[str, Any] = field(default_factory=dict)
    """For the muxer."""
    sound_leads: bool = False
    """Whether what the encoder of the sound puts first starts the clock, so that all else comes up to 30 ms later."""
    grid_seconds: float = 1e-6
    """How exactly the container keeps times."""
    decord: str = "agrees"
    """"agrees", or why decord refuses."""


def made(tmp_path: Path, case: Case) -> Path:
    for part in (case.picture, case.sound):
        if part is not None and part.codec not in av.codecs_available:
            pytest.skip(f"this build of PyAV has no encoder {part.codec}")
    try:
        return make_video(tmp_path / case.name, case.picture, case.sound, **case.more)
    except av.error.ArgumentError as error:
        pytest.skip(f"this build of PyAV cannot encode it: {error}")


def shift(times: list[Fraction], by: Fraction) -> list[Fraction]:
    return [time + by for time in times]


CODECS = [
    ("H.264 in MP4", "clip.mp4", video(), audio(codec="aac"), {}),
    ("H.264 at 29.97 in MP4", "clip.mp4", video(steady(90, NTSC)), audio(codec="libmp3lame"), {}),
    ("H.264 without B-pictures in MP4", "clip.mp4", video(options={"bf": "0"}), audio(codec="ac3"), {}),
    ("H.264 in open groups in MP4", "clip.mp4", video(options={"g": "12", "x264-params": "open-gop=1"}), audio(), {}),
    (
        "H.264 in fragments in MP4",
        "clip.mp4",
        video(options={"bf": "0"}),
        audio(),
        {"options": {"movflags": "+frag_keyframe"}},
    ),
    ("HEVC in MP4", "clip.mp4", video(codec="libx265"), audio(codec="aac"), {}),
    ("AV1 in MP4", "clip.mp4", video(steady(30), "libsvtav1", height=96, width=128), audio(codec="aac"), {}),
    ("MPEG-4 in MP4", "clip.mp4", video(codec="mpeg4", time_base=TICK_25), audio(codec="aac"), {}),
    ("MPEG-2 in MP4", "clip.mp4", video(codec="mpeg2video", time_base=TICK_25, options={"bf": "2"}), audio(), {}),
    ("M4V", "clip.m4v", video(), audio(codec="aac"), {"container": "mp4"}),
    ("H.264 in MOV", "clip.mov", video(), audio(codec="pcm_s16le"), {}),
    ("M-JPEG in MOV", "clip.mov", video(codec="mjpeg"), audio(codec="aac"), {}),
    ("H.264 in MKV", "clip.mkv", video(), audio(codec="aac"), {}),
    ("HEVC in MKV", "clip.mkv", video(codec="libx265"), audio(codec="libopus"), {}),
    ("FFV1 in MKV", "clip.mkv", video(codec="ffv1"), audio(), {}),
    ("AV1 in MKV", "clip.mkv", video(steady(30), "libsvtav1", height=96, width=128), audio(), {}),
    ("VP9 in WebM", "clip.webm", video(codec="libvpx-vp9"), audio(codec="libopus"), {}),
    ("VP8 in WebM", "clip.webm", video(codec="libvpx"), audio(codec="libopus"), {}),
    ("MPEG-4 in AVI", "clip.avi", video(codec="mpeg4", time_base=TICK_25), audio(codec="pcm_s16le"), {}),
    ("M-JPEG in AVI", "clip.avi", video(codec="mjpeg", time_base=TICK_25), audio(codec="pcm_s16le"), {}),
    ("H.264 in TS", "clip.ts", video(steady(75, start_seconds=9)), audio(codec="mp2", start=9), {}),
    ("HEVC in TS", "clip.ts", video(steady(75, start_seconds=9), "libx265"), audio(codec="mp2", start=9), {}),
    (
        "MPEG-2 in TS",
        "clip.ts",
        video(steady(75, start_seconds=9), "mpeg2video", options={"bf": "2"}, time_base=TICK_25),
        audio(codec="ac3", start=9),
        {},
    ),
    ("no suffix", "clip", video(), audio(codec="aac"), {"container": "mp4"}),
    ("10 bits H.264", "clip.mp4", video(pixel_format="yuv420p10le"), audio(), {}),
    ("10 bits HEVC", "clip.mkv", video(codec="libx265", pixel_format="yuv420p10le"), audio(), {}),
    ("10 bits VP9", "clip.webm", video(codec="libvpx-vp9", pixel_format="yuv420p10le"), audio(codec="libopus"), {}),
    ("4:4:4 H.264", "clip.mp4", video(pixel_format="yuv444p"), audio(), {}),
    ("full range", "clip.mp4", video(pixel_format="yuvj420p"), audio(), {}),
    ("interlaced H.264", "clip.mp4", video(options={"x264-params": "tff=1"}), audio(), {}),
    (
        "interlaced MPEG-2",
        "clip.mkv",
        video(codec="mpeg2video", height=96, time_base=TICK_25, options={"flags": "+ilme+ildct"}),
        audio(),
        {},
    ),
]
STARTS = [(0, 0), (Fraction(1, 2), 0), (0, Fraction(7, 10)), (3, 0), (0, Fraction(5, 2)), (2, 2)]

CASES = [
    *(
        Case(
            id,
            name,
            picture,
            sound,
            more,
            sound_leads=name.endswith("ts"),
            grid_seconds=MILLISECOND if name.endswith(("mkv", "webm")) else 2e-5,
            decord="AV1" if picture.codec == "libsvtav1" else "agrees",
        )
        for id, name, picture, sound, more in CODECS
    ),
    *(
        Case(
            f"variable rate in {name}",
            name,
            video(uneven(grid), codec),
            audio(4, codec=sound),
            grid_seconds=grid_seconds,
        )
        for name, grid, codec, sound, grid_seconds in (
            ("clip.mp4", 30_000, "libx264", "flac", 1e-6),
            ("clip.mkv", 1000, "libx264", "flac", 1e-6),
            ("clip.webm", 1000, "libvpx-vp9", "libopus", 1e-6),
        )
    ),
    *(
        Case(
            f"turned by {90 * turns} in {name}",
            name,
            video(height=96, width=64, quarter_turns=turns),
            audio(codec="aac"),
        )
        for turns in (1, 2, 3)
        for name in ("clip.mp4", "clip.mov")
    ),
    *(
        Case(
            f"video from {float(first)} s, audio from {float(second)} s in {name}",
            name,
            video(steady(75, start_seconds=first)),
            audio(codec="pcm_s16le" if name == "clip.mov" else "flac", start=second),
        )
        for first, second in STARTS
        for name in ("clip.mp4", "clip.mkv", "clip.mov")
    ),
    Case("audio shorter than video", sound=audio(2)),
    Case("audio longer than video", sound=audio(5)),
    *(Case(f"{layout} sound", sound=audio(layout=layout)) for layout in ("stereo", "5.1", "7.1")),
    Case("5.1 AAC", sound=audio(codec="aac", layout="5.1")),
    Case(
        "stereo sound in 8 bits in AVI",
        "clip.avi",
        video(codec="mpeg4", time_base=TICK_25),
        audio(codec="pcm_u8", layout="stereo"),
    ),
    *(
        Case(f"sound at {rate} Hz", sound=audio(rate_hz=rate))
        for rate in (8000, 11_025, 16_000, 22_050, 44_100, 96_000)
    ),
    *(
        Case(f"AAC at {rate} Hz", sound=audio(rate_hz=rate, codec="aac"))
        for rate in (8000, 11_025, 22_050, 44_100, 96_000)
    ),
    Case("no audio", sound=None),
    Case("no audio in TS", "clip.ts", video(steady(75, start_seconds=9)), sound=None, grid_seconds=2e-5),
    Case("no video", picture=None),
    Case("no video in WebM", "clip.webm", None, audio(codec="libopus")),
    Case("muted", sound=Sound(np.zeros(3 * 48_000, np.float32), 48_000, "stereo")),
    Case("13 s", picture=video(steady(325), options={"preset": "ultrafast"}), sound=audio(13)),
    Case("13 s of video, 2 s of audio", picture=video(steady(325), options={"preset": "ultrafast"}), sound=audio(2)),
    Case("13 s of audio, 1 s of video", picture=video(steady(25)), sound=audio(13)),
    Case("one picture", picture=video(steady(1)), sound=audio(11)),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def expected_times(case: Case, zero: Fraction) -> list[Fraction]:
    return shift(list(case.picture.seconds), -zero) if case.picture else []


def clock_zero(case: Case) -> Fraction:
    starts = [case.picture.seconds[0]] if case.picture else []
    return min(starts + ([case.sound.start_seconds] if case.sound else []))


def assert_as_made(case: Case, clip: DecodedClip) -> None:
    """Frames, their times, the sweep, the duration and what is missing are those of the file as it was made."""
    zero = clock_zero(case)
    lead = Fraction(0)
    if case.sound_leads:
        lead = Fraction(float(clip.frame_seconds[0, 0]))
        assert 0 <= lead < 0.03
    times = shift(expected_times(case, zero), lead)
    frames = clip.frame_seconds.shape[1]
    ends = []
    if case.picture:
        expected = on_display(times, frames)
        np.testing.assert_array_equal(numbers_in(clip.frames), expected)
        np.testing.assert_allclose(clip.frame_seconds, np.array(times, float)[expected], rtol=0, atol=case.grid_seconds)
        ends.append(times[-1] + (times[1] - times[0] if len(times) > 1 else TICK_25))
    else:
        assert not clip.frames.any()
        np.testing.assert_allclose(clip.frame_seconds.ravel(), (np.arange(10 * frames) + 0.5) / frames)
    lossy = 0.0
    if case.sound:
        start = float(case.sound.start_seconds - zero + lead)
        if case.sound.samples.any():
            assert sweep_heard_at(clip.waveform, RATE_HZ) == pytest.approx(start + AT, abs=MILLISECOND)
        else:
            assert not clip.waveform.any()
        length = case.sound.samples.shape[-1] / case.sound.rate_hz
        ends.append(start + length)
        if case.sound.codec not in ("flac", "pcm_s16le", "pcm_u8"):
            lossy = 2048 / case.sound.rate_hz  # the encoder fills its last piece
    else:
        assert not clip.waveform.any()
        lossy = 0.04 * case.name.endswith("ts")  # which do not say how long a picture lasts
    assert clip.duration_seconds == pytest.approx(min(10.0, float(max(ends))), abs=2 * MILLISECOND + lossy)
    assert clip.missing == (("audio",) if not case.sound else ("video",) if not case.picture else ())


@each_case
def test_it_is_read_as_it_was_made(tmp_path: Path, case: Case):
    path = made(tmp_path, case)
    clip = decode_clip(path, REQUEST, on_missing="zeros")
    assert_as_made(case, clip)
    if clip.missing:
        with pytest.raises(MissingStreamError, match=rf"{path.name}: has no {clip.missing[0]} stream.*add the stream"):
            decode_clip(path, REQUEST)


@pytest.mark.parametrize("case", [case for case in CASES if case.picture], ids=lambda case: case.id)
def test_decord_gives_the_same_frames(tmp_path: Path, case: Case):
    pytest.importorskip("decord")
    path = made(tmp_path, case)
    if case.decord != "agrees":
        with pytest.raises(DecodeError, match=rf"{path.name}: decord cannot decode.*Use the decoder pyav"):
            decode_clip(path, REQUEST, on_missing="zeros", decoder="decord")
        return
    ours = decode_clip(path, REQUEST, on_missing="zeros")
    theirs = decode_clip(path, REQUEST, on_missing="zeros", decoder="decord")
    assert_as_made(case, theirs)
    np.testing.assert_array_equal(theirs.frame_seconds, ours.frame_seconds)
    np.testing.assert_array_equal(theirs.waveform, ours.waveform)
    assert theirs.duration_seconds == ours.duration_seconds
    # The pictures are grey: what the two convert differently is colour. Fields are scaled each for itself by PyAV only.
    error = np.abs(theirs.frames.astype(int) - ours.frames)
    assert error.mean() < 1
    assert error.max() <= (16 if "interlaced" in case.id else 2)


REAL = Path(__file__).parents[1].parent / "shared" / "clips"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real clips in ../shared/clips")
def test_decord_gives_nearly_the_same_real_pictures():
    pytest.importorskip("decord")
    request = FrameRequest(112, 112, 4)
    for path in sorted(REAL.glob("d*.mp4")):
        ours, theirs = decode_clip(path, request), decode_clip(path, request, decoder="decord")
        np.testing.assert_array_equal(theirs.frame_seconds, ours.frame_seconds)
        # The FFmpeg in decord converts colours with tables that come out one or two of 255 too dark.
        assert np.abs(theirs.frames.astype(int) - ours.frames).mean(axis=(2, 3, 4)).max() < 2


def test_decord_is_only_needed_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = make_video(tmp_path / "clip.mp4", video(steady(5)), audio(1))
    monkeypatch.setitem(sys.modules, "decord", None)
    decode_clip(path, REQUEST)
    with pytest.raises(DecordMissingError, match=r"pip install 'ccln\[decord\]'"):
        decode_clip(path, REQUEST, decoder="decord")


def change_picture_at(path: Path, seconds: float, change: Callable[[bytes], bytes]) -> Path:
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        times = ((float((packet.pts or 0) * packet.time_base), packet) for packet in container.demux(video=0))
        packet = next(packet for time, packet in times if time >= seconds)
    assert packet.pos is not None
    begin = content.index(bytes(packet), packet.pos)  # Matroska's position is that of a header
    content[begin : begin + packet.size] = change(bytes(packet))
    path.write_bytes(content)
    return path


def spoilt_in_the_middle(path: Path) -> Path:
    make_video(path, video(options={"bf": "0"}), audio())
    return change_picture_at(path, 2, lambda picture: random.Random(0).randbytes(len(picture)))


def started_in_the_middle(path: Path) -> Path:
    content = make_video(
        path, video(steady(150, start_seconds=2), options={"g": "50"}), container="mpegts"
    ).read_bytes()
    path.write_bytes(content[len(content) // 3 // 188 * 188 :])
    return path


def hidden_picture(path: Path) -> Path:
    make_video(path, video(codec="libvpx"), audio(codec="libopus"))
    return change_picture_at(path, 2, lambda picture: bytes([picture[0] & ~0x10]) + picture[1:])


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (spoilt_in_the_middle, "clip.mp4", ""),
        (started_in_the_middle, "clip.ts", "it does not start with a picture of its own"),
        (hidden_picture, "clip.webm", "hidden pictures"),
    ],
)
def test_decord_gives_no_wrong_frames(tmp_path: Path, make: Callable[[Path], Path], name: str, reason: str):
    pytest.importorskip("decord")
    with pytest.raises(DecodeError, match=rf"{name}: decord cannot decode its video \(.*{reason}.*pyav"):
        decode_clip(make(tmp_path / name), REQUEST, on_missing="zeros", decoder="decord")


# Names


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    "name",
    [
        "two words.mp4",
        "salt & pepper.mp4",
        "Straße 東京.mp4",
        "-dash.mp4",
        'it\'s "quoted".mp4',
        "12:30.mp4",
        "http:clip.mp4",
        "file:clip.mp4",
        "concat:clip.mp4",
        "pipe:0",
        "picture%03d.mp4",
        "what?.mp4",
        "#1.mp4",
        "a|b*.mp4",
        "a\nb.mp4",
        os.fsdecode(b"\xff\xfe.mp4"),
    ],
    ids=ascii,
)
@pytest.mark.skipif(os.name == "nt", reason="most of these names are not allowed on Windows")
def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, decoder: Literal["pyav", "decord"]):
    if decoder == "decord":
        pytest.importorskip("decord")
    monkeypatch.chdir(tmp_path)
    try:
        make_video(tmp_path / "plain.mp4", video(steady(25)), audio()).rename(name)
    except OSError:
        pytest.skip("this file system wants Unicode")
    clip = decode_clip(Path(name), REQUEST, decoder=decoder)
    assert sweep_heard_at(clip.waveform, RATE_HZ) == pytest.approx(AT, abs=MILLISECOND)
    np.testing.assert_array_equal(numbers_in(clip.frames), on_display(steady(25)))


# What is no clip


def make_cover_only(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as output:
        output.add_attachment("cover.jpg", "image/jpeg", cover_picture())
        stream = output.add_stream("pcm_s16le", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def make_late_audio(path: Path) -> None:
    make_video(path, video(steady(10)), audio(3, start=Fraction(12)))


def make_cut_index(path: Path) -> None:
    """The index of a plain MP4 file is its end."""
    make_video(path, video(), audio())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_playlist(path: Path) -> None:
    make_video(path.with_name("segment.ts"), video(), audio(codec="mp2"))
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nsegment.ts\n#EXT-X-ENDLIST\n")


def make_concatenation(path: Path) -> None:
    make_video(path.with_name("part.mp4"), video(), audio())
    path.write_text("ffconcat version 1.0\nfile part.mp4\n")


def make_unknown_codec(path: Path) -> None:
    content = make_video(path, video(), audio()).read_bytes()
    assert content.count(b"V_MPEG4/ISO/AVC") == 1
    path.write_bytes(content.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))


def make_subtitles(path: Path) -> None:
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\nThis is no video.\n\n" * 20)


REFUSALS: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("clip.mp4", lambda path: path.write_bytes(b""), "is empty", "Fetch it again"),
    ("clip.mp4", lambda path: path.write_bytes(bytes(100_000)), "Invalid data", "Check that it plays"),
    ("clip.mp4", lambda path: path.write_text("This is no video.\n" * 99), "Invalid data", "Check that it plays"),
    ("clip.srt", make_subtitles, "neither a video nor an audio stream", "Check that it plays"),
    ("clip.mp4", make_cut_index, "Invalid data", "fetch or convert it again"),
    ("clip.mp4", Path.mkdir, "is not a file", "Check the path"),
    ("clip.mp4", lambda path: None, "no such file", "Check the path"),
    ("clip.m3u8", make_playlist, "cannot be read", "Check that it plays"),
    ("clip.mp4", make_concatenation, "cannot be read", "Check that it plays"),
    ("clip.mkv", make_unknown_codec, "no decoder for its video", "Convert the file"),
]


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(("name", "make", "reason", "remedy"), REFUSALS)
def test_what_is_no_clip_is_refused(
    tmp_path: Path,
    name: str,
    make: Callable[[Path], object],
    reason: str,
    remedy: str,
    decoder: Literal["pyav", "decord"],
):
    path = tmp_path / name
    make(path)
    with pytest.raises(DecodeError) as raised:
        decode_clip(path, REQUEST, on_missing="zeros", decoder=decoder)
    assert not isinstance(raised.value, MissingStreamError)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert remedy in message


@pytest.mark.parametrize(("make", "missing"), [(make_cover_only, "video"), (make_late_audio, "audio")])
def test_a_cover_is_no_video_and_sound_behind_the_ten_seconds_none(
    tmp_path: Path, make: Callable[[Path], None], missing: str
):
    path = tmp_path / "clip.mkv"
    make(path)
    with pytest.raises(MissingStreamError, match=rf"clip\.mkv: has no {missing} stream"):
        decode_clip(path, REQUEST)
    clip = decode_clip(path, REQUEST, on_missing="zeros")
    assert clip.missing == (missing,)
    assert not (clip.waveform if missing == "audio" else clip.frames).any()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path):
    path = make_video(tmp_path / "clip.mp4", video(), audio())
    path.chmod(0)
    with pytest.raises(DecodeError, match=r"clip\.mp4: .*Permission denied"):
        decode_clip(path, REQUEST)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path):
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(DecodeError, match="is not a file"):
        decode_clip(tmp_path / "clip.mp4", REQUEST)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mp4", "aac", {"movflags": "+faststart"}),
        ("clip.mkv", "aac", {}),
        ("clip.mov", "pcm_s16le", {"movflags": "+faststart"}),
        ("clip.ts", "mp2", {}),
    ],
)
@pytest.mark.parametrize("part", [0.8, 0.9])
def test_a_cut_off_file_is_a_shorter_clip(tmp_path: Path, name: str, codec: str, options: dict[str, str], part: float):
    path = make_video(tmp_path / name, video(steady(125)), audio(5, codec=codec), options=options)
    whole = decode_clip(path, REQUEST)
    path.write_bytes(path.read_bytes()[: round(part * path.stat().st_size)])
    clip = decode_clip(path, REQUEST)
    assert 1.5 < clip.duration_seconds < whole.duration_seconds
    kept = int(clip.duration_seconds)
    np.testing.assert_array_equal(clip.frames[:kept], whole.frames[:kept])
    assert (np.diff(numbers_in(clip.frames).ravel()) >= 0).all()
    expected = sweep_heard_at(whole.waveform, RATE_HZ)
    assert sweep_heard_at(clip.waveform, RATE_HZ) == pytest.approx(expected, abs=MILLISECOND)
