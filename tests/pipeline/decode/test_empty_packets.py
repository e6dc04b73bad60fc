"""Packets with a time and nothing in them are no damage: the frame before them again, or no audio."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from support.decoded import RATE_HZ
from support.drawing import write_video
from support.located import located_video
from support.making import (
    HEIGHT,
    WIDTH,
    Audio,
    Video,
    audio_with_sweep,
    make_video,
    number_in,
    numbers_in,
    steady,
    sweep_heard_at,
)

from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.inspect import inspect_clip


def with_empty_packets(folder: Path, is_emptied: Callable[[Packet, int], bool]) -> Path:
    """Five seconds, 25 frames a second; the chosen packets, by their number in their stream, lose what they hold."""
    video = Video(steady(125), "mjpeg", options={"strict": "unofficial"}, time_base=Fraction(1, 25))
    audio = Audio(audio_with_sweep(1, 5, RATE_HZ), RATE_HZ, codec="pcm_s16le")
    source = make_video(folder / "source.nut", video, audio)
    path = folder / "clip.nut"  # which keeps empty packets, as Ogg does
    with av.open(str(source)) as one, av.open(str(path), "w") as other:
        streams = {stream: other.add_stream_from_template(stream) for stream in one.streams}
        count = dict.fromkeys(streams, 0)
        for packet in one.demux():
            if packet.pts is None:
                continue
            stream, kept = packet.stream, packet
            if is_emptied(packet, count[stream]):
                kept = Packet(0)
                kept.pts, kept.dts, kept.duration, kept.time_base = (
                    packet.pts,
                    packet.dts,
                    packet.duration,
                    packet.time_base,
                )
            count[stream] += 1
            kept.stream = streams[stream]
            other.mux(kept)
    return path


def test_an_empty_packet_of_video_shows_the_frame_before_it(tmp_path: Path) -> None:
    path = with_empty_packets(tmp_path, lambda packet, number: packet.stream.type == "video" and number % 25 > 1)
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, 4))
    assert clip.duration_seconds == pytest.approx(5, abs=0.001)
    assert numbers_in(clip.frames)[:5].tolist() == [[25 * second + 1] * 4 for second in range(5)]
    assert sweep_heard_at(clip.waveform, RATE_HZ) == pytest.approx(1, abs=0.001)
    report = inspect_clip(path)
    assert report.problems == ()
    assert report.video is not None
    assert report.video.constant_rate


def test_a_video_that_ends_in_empty_packets_lasts_until_their_end(tmp_path: Path) -> None:
    path = with_empty_packets(tmp_path, lambda packet, number: packet.stream.type == "video" and number > 1)
    clip = decode_clip(path, FrameRequest(HEIGHT, WIDTH, 4))
    assert clip.duration_seconds == pytest.approx(5, abs=0.001)
    assert set(numbers_in(clip.frames).ravel()) == {1}
    written = write_video(located_video("clip.nut", 5.0), path, tmp_path / "written")
    with av.open(str(written)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [number_in(image[: image.shape[1] * HEIGHT // WIDTH]) for image in images] == [0] + [1] * 124


def test_an_empty_packet_of_audio_is_silence(tmp_path: Path) -> None:
    whole = with_empty_packets(tmp_path, lambda packet, number: False)
    expected = decode_clip(whole, FrameRequest(8, 8, 1)).waveform
    emptied: list[tuple[float, float]] = []

    def is_emptied(packet: Packet, number: int) -> bool:
        if packet.stream.type == "video" or number % 7 != 3:
            return False
        assert packet.pts is not None
        assert packet.duration is not None
        assert packet.time_base is not None
        start = float(packet.pts * packet.time_base)
        emptied.append((start, start + float(packet.duration * packet.time_base)))
        return True

    heard = decode_clip(with_empty_packets(tmp_path, is_emptied), FrameRequest(8, 8, 1)).waveform
    assert emptied
    for start, end in emptied:
        expected[round(start * RATE_HZ) : round(end * RATE_HZ)] = 0
    np.testing.assert_array_equal(heard, expected)
