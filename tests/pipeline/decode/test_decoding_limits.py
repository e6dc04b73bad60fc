"""Files that are too large or damaged."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.container import InputContainer
from support.decoded import MILLISECOND, REQUEST, TICK_25, joined, overwrite_packets, same, sweep_audio
from support.making import HEIGHT, WIDTH, Video, cover_image, make_video, numbers_in, steady

from ccln.pipeline.decode import container as video_file
from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.container import DecodeError


def short_video(path: Path, **more: Any) -> Path:
    """Three seconds, 75 frames, a sweep."""
    return make_video(path, Video(steady(75)), sweep_audio(), **more)


# Too large


@pytest.mark.parametrize(
    ("name", "codec", "time_base"),
    [("clip.mp4", "libx264", Fraction(1, 30_000)), ("clip.webm", "libvpx", TICK_25), ("clip.avi", "mpeg4", TICK_25)],
)
def test_frames_over_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, time_base: Fraction
):
    audio = sweep_audio(codec="libopus" if name == "clip.webm" else "ac3")
    path = make_video(tmp_path / name, Video(steady(25), codec, time_base=time_base), audio)
    monkeypatch.setattr(video_file, "MAX_PIXELS", HEIGHT * WIDTH * 32)  # FFmpeg counts its own padding
    decode_clip(path, REQUEST)
    monkeypatch.setattr(video_file, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.raises(DecodeError, match=rf"{name}: its frames are larger than the 3071 pixels.*Scale"):
        decode_clip(path, REQUEST)


def test_frames_that_grow_over_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = Video(steady(50, start_seconds=1)), sweep_audio(2, codec="mp2", start_seconds=Fraction(1))
    larger = Video(steady(75, start_seconds=3), height=4 * HEIGHT, width=4 * WIDTH, options={"bf": "0"})
    path = joined(tmp_path, one, (larger, sweep_audio(3, codec="mp2", start_seconds=Fraction(3))))
    numbers = numbers_in(decode_clip(path, REQUEST).frames)
    assert (numbers[1] > 20).all()
    assert numbers[4, -1] > 70  # scaled like the small ones
    monkeypatch.setattr(video_file, "MAX_PIXELS", 2 * HEIGHT * WIDTH)
    with pytest.raises(DecodeError, match=r"its video is damaged at 2\.0\d s"):
        decode_clip(path, REQUEST)


# Damage


@pytest.mark.parametrize(
    ("name", "kind"), [("clip.mp4", "video"), ("clip.mp4", "audio"), ("clip.mkv", "audio"), ("clip.mov", "audio")]
)
def test_damage_in_the_middle_is_an_error_that_names_the_second(tmp_path: Path, name: str, kind: str):
    path = make_video(tmp_path / name, Video(steady(75), options={"bf": "0"}), sweep_audio(codec="aac"))
    (time,) = overwrite_packets(path, kind, lambda time: 2 < time <= 2.021 if kind == "audio" else 2 < time <= 2.041)
    with pytest.raises(DecodeError, match=rf"{name}: its {kind} is damaged at {time:.2f} s.*again") as raised:
        decode_clip(path, REQUEST)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_damage_in_the_last_packet_shortens_the_clip(tmp_path: Path, kind: str):
    path = make_video(tmp_path / "clip.mp4", Video(steady(75), options={"bf": "0"}), sweep_audio(codec="aac"))
    whole = decode_clip(path, REQUEST)
    last = max(overwrite_packets(path, kind, lambda time: time > (2.95 if kind == "video" else 2.985)))
    clip = decode_clip(path, REQUEST)
    if kind == "video":
        assert last == pytest.approx(2.96)
        assert (numbers_in(clip.frames)[3:] == 73).all()
        np.testing.assert_array_equal(clip.waveform, whole.waveform)
    else:
        np.testing.assert_array_equal(clip.frames, whole.frames)
        assert clip.duration_seconds < whole.duration_seconds


def test_a_recording_cut_out_of_a_broadcast_can_be_decoded(tmp_path: Path):
    video = Video(steady(250), options={"g": "50", "bf": "2"})
    path = make_video(tmp_path / "clip.ts", video, sweep_audio(10, codec="mp2"), container="mpegts")
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 3 // 188 * 188 :])
    clip = decode_clip(path, REQUEST)
    numbers = numbers_in(clip.frames)
    shown = numbers.ravel()[clip.frame_seconds.ravel() > clip.frame_seconds[0, 0]]
    offsets = shown / 25 - clip.frame_seconds.ravel()[clip.frame_seconds.ravel() > clip.frame_seconds[0, 0]]
    assert np.ptp(offsets) < MILLISECOND  # every frame at its place on one clock
    assert 4 < clip.duration_seconds < 8


def test_a_video_with_a_cover_image_is_a_video(tmp_path: Path):
    path = tmp_path / "clip.mkv"
    plain = short_video(tmp_path / "plain.mkv")
    with av.open(str(path), "w") as output, av.open(str(plain)) as source:
        assert isinstance(source, InputContainer)
        output.add_attachment("cover.jpg", "image/jpeg", cover_image())
        streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    assert same(decode_clip(path, REQUEST), decode_clip(plain, REQUEST))
