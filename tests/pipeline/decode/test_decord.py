"""What only decord does, and where it is refused."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import av
import av.error
import numpy as np
import pytest
from support.decoded import REQUEST, audio, video
from support.making import make_video, steady
from support.paths import SHARED

from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.decode.decord import DecordMissingError
from ccln.pipeline.decode.frames import FrameRequest

REAL = SHARED / "clips"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real clips in ../shared/clips")
def test_decord_gives_nearly_the_same_real_frames():
    pytest.importorskip("decord")
    request = FrameRequest(112, 112, 4)
    for path in sorted(REAL.glob("d*.mp4")):
        ours, theirs = decode_clip(path, request), decode_clip(path, request, decoder="decord")
        np.testing.assert_array_equal(theirs.frame_seconds, ours.frame_seconds)
        # The FFmpeg in decord converts colours with tables that come out one or two of 255 too dark.
        assert np.abs(theirs.frames.astype(int) - ours.frames).mean(axis=(2, 3, 4)).max() < 2


def test_decord_is_needed_only_when_it_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = make_video(tmp_path / "clip.mp4", video(steady(5)), audio(1))
    monkeypatch.setitem(sys.modules, "decord", None)
    decode_clip(path, REQUEST)
    with pytest.raises(DecordMissingError, match=r"not installed.*Leave the decoder at pyav"):
        decode_clip(path, REQUEST, decoder="decord")


def change_frame_at(path: Path, seconds: float, change: Callable[[bytes], bytes]) -> Path:
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
    return change_frame_at(path, 2, lambda frame: random.Random(0).randbytes(len(frame)))


def started_in_the_middle(path: Path) -> Path:
    content = make_video(
        path, video(steady(150, start_seconds=2), options={"g": "50"}), container="mpegts"
    ).read_bytes()
    path.write_bytes(content[len(content) // 3 // 188 * 188 :])
    return path


def hidden_frame(path: Path) -> Path:
    make_video(path, video(codec="libvpx"), audio(codec="libopus"))
    return change_frame_at(path, 2, lambda frame: bytes([frame[0] & ~0x10]) + frame[1:])


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (spoilt_in_the_middle, "clip.mp4", ""),
        (started_in_the_middle, "clip.ts", "it does not start with a key frame"),
        (hidden_frame, "clip.webm", "hidden frames"),
    ],
)
def test_decord_refuses_files_whose_frames_it_would_get_wrong(
    tmp_path: Path, make: Callable[[Path], Path], name: str, reason: str
):
    pytest.importorskip("decord")
    with pytest.raises(DecodeError, match=rf"{name}: decord cannot decode its video \(.*{reason}.*pyav"):
        decode_clip(make(tmp_path / name), REQUEST, on_missing="zeros", decoder="decord")
