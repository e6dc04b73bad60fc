"""Videos written again with their events drawn in: times and audio stay those of the source."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from support.decoded import NTSC, RATE_HZ, audio, overwrite_packets, video
from support.drawing import write_video
from support.located import BROKEN, NASTY, located_video
from support.making import Audio, Video, make_video, number_in, steady, sweep_heard_at

from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.container import Clock, DecodeError, MissingStreamError, chosen_streams, open_video
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.processes import Decoders
from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report import video as drawing
from ccln.pipeline.report.writers import OutputError

MILLISECOND = 1e-3
UNEVEN = [Fraction(number * number, 500) for number in range(38)]
BELL = Event("Church bell", 1.0, 2.0, 0.87)
WIDE = {"height": 96, "width": 640, "options": {"preset": "ultrafast"}}


def timeline(seconds: float = 3.0, events: Sequence[Event] = (), attention: np.ndarray | None = None) -> LocatedVideo:
    """Seen in the first second, heard in the second, an event in the third, and so on; uniform attention by default."""
    count = int(np.ceil(seconds))
    rows = ((np.arange(count) % 3 == row).astype(np.float32) for row in range(3))
    parts: dict[str, Any] = dict(zip(("seen", "heard", "event_probability"), rows, strict=True))
    if attention is not None:
        parts["attention"] = attention
    return located_video("clip.mp4", seconds, events, **parts)


@dataclass(frozen=True)
class Content:
    times: list[float]
    frames: list[np.ndarray]
    audio_times: list[float]
    packets: list[bytes]


def content(path: Path) -> Content:
    """All that a file holds, on the clock of decoding."""
    found = Content([], [], [], [])
    with open_video(path) as container:
        video_stream, audio_streams = chosen_streams(path, container)
        audio_stream = next(iter(audio_streams), None)
        clock = Clock(video_stream, audio_stream)
        for packet in container.demux(*(stream for stream in (video_stream, audio_stream) if stream)):
            if packet.stream is audio_stream and packet.size:
                found.packets.append(bytes(packet))
            for frame in packet.decode():
                assert isinstance(frame, AudioFrame | VideoFrame)
                assert frame.pts is not None
                clock.start(packet.stream, frame.pts)
                seconds = clock.seconds(packet.stream, frame.pts)
                if isinstance(frame, AudioFrame):
                    found.audio_times.append(seconds)
                else:
                    found.times.append(seconds)
                    found.frames.append(frame.to_ndarray(format="rgb24"))
    return found


def frame_part(drawn: np.ndarray, height: int, width: int) -> np.ndarray:
    """What is above the panel."""
    return drawn[: drawn.shape[1] * height // width]


def is_green(drawn: np.ndarray) -> np.ndarray:
    """Where the colour of events is, (height, width)."""
    return np.abs(drawn.astype(int) - (0, 121, 90)).max(-1) < 40


@pytest.mark.parametrize(
    ("name", "video_stream", "audio_stream", "suffix"),
    [
        ("clip.mp4", video(), audio(codec="aac"), ".mp4"),
        ("clip.mp4", video(steady(60, NTSC)), audio(2, 44_100, "libmp3lame"), ".mp4"),
        ("clip.mp4", video(UNEVEN), audio(codec="aac", layout="stereo"), ".mp4"),
        ("clip.mkv", video(UNEVEN), audio(), ".mp4"),
        ("clip.mp4", video(steady(50, start_seconds=Fraction(1, 2))), audio(rate_hz=44_100, codec="aac"), ".mp4"),
        ("clip.mp4", video(steady(50)), audio(1, 44_100, "flac", start=Fraction(7, 10)), ".mp4"),
        ("clip.ts", video(steady(50, start_seconds=9)), audio(2, codec="ac3", start=9), ".mp4"),
        ("clip.ts", video(steady(50, start_seconds=9)), audio(2, codec="mp2", start=9), ".mkv"),
        ("clip.mov", video(UNEVEN), audio(codec="pcm_s16le"), ".mkv"),
        ("clip.mov", video(steady(50, start_seconds=1)), audio(codec="pcm_s16le"), ".mkv"),
        ("clip.mp4", video(pixel_format="yuv444p"), None, ".mp4"),
        ("clip.mp4", video(pixel_format="yuvj420p"), audio(), ".mp4"),
    ],
)
def test_frames_keep_their_times_and_the_audio_stays_as_it_is(
    tmp_path: Path, name: str, video_stream: Video, audio_stream: Audio | None, suffix: str
) -> None:
    source = make_video(tmp_path / name, video_stream, audio_stream)
    written = write_video(timeline(8.0), source, tmp_path / "out" / "found.clip")
    assert written == tmp_path / "out" / f"found.clip{suffix}"
    assert list(written.parent.iterdir()) == [written]
    before, after = content(source), content(written)
    tolerance = MILLISECOND if suffix == ".mkv" else 0  # to which Matroska rounds
    np.testing.assert_allclose(after.times, before.times, rtol=0, atol=tolerance)
    np.testing.assert_allclose(after.audio_times, before.audio_times, rtol=0, atol=tolerance)
    assert after.packets == before.packets
    seen = [number_in(frame_part(drawn, video_stream.height, video_stream.width)) for drawn in after.frames]
    assert seen == list(range(len(video_stream.seconds)))


def test_the_label_is_shown_exactly_during_the_event(tmp_path: Path) -> None:
    source = make_video(tmp_path / "clip.mp4", video(UNEVEN, **WIDE), audio(codec="aac"))
    with_event = content(write_video(timeline(3.0, [BELL]), source, tmp_path / "with"))
    without = content(write_video(timeline(3.0), source, tmp_path / "without"))
    corner = np.s_[8:30, 8:130]
    labelled = [
        bool(np.abs(one[corner].astype(int) - other[corner]).mean() > 20)
        for one, other in zip(with_event.frames, without.frames, strict=True)
    ]
    assert labelled == [1 <= time < 2 for time in UNEVEN]
    assert any(labelled)
    elsewhere = np.s_[40:96, :]
    for one, other in zip(with_event.frames, without.frames, strict=True):
        assert np.abs(one[elsewhere].astype(int) - other[elsewhere]).mean() < 3


def test_the_timeline_shows_events_tracks_and_playhead(tmp_path: Path) -> None:
    source = make_video(tmp_path / "clip.mp4", video(steady(3, rate=1), **WIDE), audio(codec="aac"))
    first, _, third = (drawn[96:] for drawn in content(write_video(timeline(3, [BELL]), source, tmp_path / "o")).frames)
    # Where the playhead was and is, the two frames differ; the last begins at two seconds.
    moved = np.flatnonzero(np.abs(first.mean(-1)[5:30] - third.mean(-1)[5:30]).mean(0) > 60)
    start, two = moved[moved < 200].mean(), moved[moved > 200].mean()
    assert np.ptp(moved[moved > 200]) < 8
    pixels_per_second = (two - start) / 2
    assert 600 < start + 3 * pixels_per_second < 640
    bar = np.flatnonzero(is_green(first).sum(0) > 5)
    assert bar[0] == pytest.approx(start + pixels_per_second, abs=6)
    assert bar[-1] == pytest.approx(two, abs=6)
    for second, colour in enumerate(((0, 114, 178), (184, 79, 0), (27, 30, 35))):
        place = round(start + (second + 0.6) * pixels_per_second)
        for other in range(3):
            elsewhere = round(start + (other + 0.6) * pixels_per_second)
            height = (np.abs(first[22:, elsewhere].astype(int) - colour).max(-1) < 40).sum()
            assert (height >= 5) == (elsewhere == place)


def test_a_long_video_is_shown_about_half_a_minute_at_a_time(tmp_path: Path) -> None:
    times = steady(24, rate=Fraction(1, 5))
    source = make_video(tmp_path / "clip.mp4", video(times, **WIDE), audio(codec="aac"))
    late = Event("Dog", 97.0, 104.0, 0.5)
    found = content(write_video(timeline(120.0, [late]), source, tmp_path / "out"))
    shown = [float(time) for time, drawn in zip(times, found.frames, strict=True) if is_green(drawn[96:]).sum() > 300]
    assert shown
    assert all(97 - 30 < time < 104 + 30 for time in shown)
    assert {95.0, 100.0, 105.0} <= set(shown)


def test_the_heat_map_lights_up_the_attended_region(tmp_path: Path) -> None:
    source = make_video(
        tmp_path / "clip.mp4", video(steady(15, rate=5), height=360, width=640, options=WIDE["options"]), audio()
    )
    attention = np.zeros((3, 7, 7), np.float32)
    attention[(0, 1, 2), (1, 5, 3), (5, 1, 3)] = 1
    found = timeline(3.0, attention=attention)
    plain = content(write_video(found, source, tmp_path / "plain")).frames
    heated = content(write_video(found, source, tmp_path / "heated", heat_map=True)).frames
    for number in (2, 7, 12):
        change = np.abs(heated[number].astype(int) - plain[number])[:360].mean(-1)
        cells = np.array([[cell.mean() for cell in np.array_split(row, 7, 1)] for row in np.array_split(change, 7, 0)])
        row, column = ((1, 5), (5, 1), (3, 3))[number // 5]
        assert cells[row, column] == cells.max() > 25
        distance = np.hypot(*(np.indices((7, 7)) - np.array([row, column])[:, None, None]))
        assert cells[distance > 3].max() < 5


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_frames_are_written_upright(tmp_path: Path, turns: int) -> None:
    video_stream = video(steady(30), height=96, width=64, quarter_turns=turns)
    written = write_video(
        timeline(), make_video(tmp_path / "clip.mp4", video_stream, audio(codec="aac")), tmp_path / "out"
    )
    with open_video(written) as container:
        assert all(frame.rotation == 0 for frame in container.decode(video=0))
    found = content(written).frames
    assert found[0].shape[1] == 320  # five times 64
    assert [number_in(frame_part(drawn, 96, 64)) for drawn in found] == list(range(30))


@pytest.mark.parametrize(("height", "width", "factor"), [(45, 63, 6), (359, 481, 1), (360, 640, 1), (27, 321, 1)])
def test_frames_keep_their_size_unless_text_would_be_illegible(
    tmp_path: Path, height: int, width: int, factor: int
) -> None:
    video_stream = video(steady(2), codec="ffv1", height=height // 3 * 3, width=width, pixel_format="yuv444p")
    drawn = content(write_odd(tmp_path, video_stream)).frames[1]
    assert drawn.shape[1] == factor * width + factor * width % 2
    assert drawn.shape[0] % 2 == 0
    assert drawn.shape[0] > factor * height


def write_odd(tmp_path: Path, video_stream: Video) -> Path:
    """A clip whose sides need not be even."""
    import av

    source = tmp_path / "odd.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream(
            "ffv1", rate=25, width=video_stream.width, height=video_stream.height, pix_fmt="yuv444p"
        )
        assert isinstance(stream, av.VideoStream)
        for number in range(len(video_stream.seconds)):
            grey = np.full((3, video_stream.height, video_stream.width), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="yuv444p")))
        container.mux(stream.encode(None))
    return write_video(timeline(1.0), source, tmp_path / "out", heat_map=True)


def test_any_class_name_can_be_drawn(tmp_path: Path) -> None:
    names = [*NASTY, *BROKEN, "long " * 5000, "\ud800 half a pair", "e" + "\u0301" * 500, "\u202eright to left", "\x00"]
    source = make_video(tmp_path / "clip.mp4", video(steady(50)), audio(2, codec="aac"))
    one_by_one = [Event(name, place / 13, place / 13 + 0.25, 0.5) for place, name in enumerate(names)]
    together = [Event(name, 1.0, 2.0, 0.5) for name in names]
    written = write_video(timeline(2.5, [*one_by_one, *together]), source, tmp_path / "out")
    assert len(content(written).times) == 50


def test_another_file_is_never_replaced(tmp_path: Path) -> None:
    source = make_video(tmp_path / "clip.mp4", video(steady(5)), audio(1, codec="aac"))
    place = tmp_path / "out" / "clip"
    written = write_video(timeline(), source, place)
    before = written.stat().st_mtime_ns
    assert write_video(timeline(), source, place) == written
    assert written.stat().st_mtime_ns == before
    with pytest.raises(OutputError, match=r"clip\.mp4: is there already with other content"):
        write_video(timeline(3.0, [BELL]), source, place)
    assert list(written.parent.iterdir()) == [written]
    assert written.stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="Choose another place"):
        write_video(timeline(), source, source / "clip")


def test_the_same_video_gives_the_same_file_whatever_is_in_memory(
    tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With mbtree, x264 fails this on processors with AVX-512.
    source = next((tiny_set / "AVE").iterdir())
    written = []
    for filling in (1, 170, 254):
        monkeypatch.setenv("MALLOC_PERTURB_", str(filling))  # glibc's: what memory holds before it is written
        with Decoders() as decoders:
            written.append(drawing.write_video(timeline(10.0, [BELL]), source, tmp_path / str(filling), decoders))
    first, *others = (path.read_bytes() for path in written)
    assert [other == first for other in others] == [True, True]


def test_matroska_files_are_reproducible(tmp_path: Path) -> None:
    source = make_video(tmp_path / "clip.mov", video(steady(5)), audio(1, codec="pcm_s16le"))
    one, other = (write_video(timeline(), source, tmp_path / name) for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_a_damaged_source_leaves_no_file(tmp_path: Path) -> None:
    damaged = make_video(tmp_path / "damaged.mkv", video(codec="ffv1"), audio())
    assert overwrite_packets(damaged, "video", lambda time: 1 < time < 1.2)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    mute = make_video(tmp_path / "mute.mp4", None, audio(codec="aac"))
    for source in (damaged, text, tmp_path / "gone.mp4"):
        with pytest.raises(DecodeError, match=source.name):
            write_video(timeline(), source, tmp_path / "out" / "clip")
    with pytest.raises(MissingStreamError, match="no video stream"):
        write_video(timeline(), mute, tmp_path / "out" / "clip")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_truncated_source_is_written_up_to_its_end(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "clip.ts", video(steady(75, start_seconds=9)), audio(codec="ac3", start=9))
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    found = content(write_video(timeline(), cut, tmp_path / "out"))
    assert 20 < len(found.times) < 75


def test_aac_of_a_transport_stream_is_written(tmp_path: Path) -> None:
    """There each packet has a header, which files have once for all."""
    source = make_video(tmp_path / "clip.ts", video(), audio(codec="aac"))
    written = write_video(timeline(), source, tmp_path / "found.clip")
    assert written.suffix == ".mp4"
    before, after = (decode_clip(path, FrameRequest(8, 8, 1)).waveform for path in (source, written))
    assert sweep_heard_at(after, RATE_HZ) == pytest.approx(sweep_heard_at(before, RATE_HZ), abs=MILLISECOND)
    assert [number_in(frame_part(drawn, 48, 64)) for drawn in content(written).frames] == list(range(75))


@pytest.mark.parametrize("codec", ["adpcm_ima_qt", "pcm_f64be"])
def test_audio_that_no_container_holds_is_encoded_again(tmp_path: Path, codec: str) -> None:
    source = make_video(tmp_path / "clip.mov", video(), audio(codec=codec))
    written = write_video(timeline(), source, tmp_path / "found.clip")
    with open_video(written) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    before, after = (decode_clip(path, FrameRequest(8, 8, 1)).waveform for path in (source, written))
    assert sweep_heard_at(after, RATE_HZ) == pytest.approx(sweep_heard_at(before, RATE_HZ), abs=0.002)


def test_room_is_asked_for_only_where_there_is_none(tmp_path: Path) -> None:
    source = make_video(tmp_path / "clip.mp4", video(), audio(codec="aac"))
    with pytest.raises(OutputError) as raised:
        write_video(timeline(), source, tmp_path / "clip.mp4" / "found")
    assert "Make room" not in str(raised.value)
