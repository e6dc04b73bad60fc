"""Unusual file names, and files without a decodable or whole clip."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
import pytest
from support.decoded import AT, MILLISECOND, RATE_HZ, REQUEST, audio, video
from support.making import (
    HEIGHT,
    WIDTH,
    cover_image,
    make_video,
    numbers_in,
    on_display,
    steady,
    sweep_heard_at,
)

from ccln.pipeline.decode.clip import decode_clip, decode_clips
from ccln.pipeline.decode.container import DecodeError, MissingStreamError
from ccln.pipeline.decode.inspect import inspect_clip

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
def test_unusual_file_names_can_be_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, decoder: Literal["pyav", "decord"]
):
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


# Files without a clip


def make_cover_only(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as output:
        output.add_attachment("cover.jpg", "image/jpeg", cover_image())
        stream = output.add_stream("pcm_s16le", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def make_late_audio(path: Path) -> None:
    make_video(path, video(steady(10)), audio(3, start=Fraction(12)))


def make_cut_index(path: Path) -> None:
    """The index of a plain MP4 file is at its end."""
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


def make_encrypted(path: Path) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    make_video(path, video(), audio(codec="aac"), options=key)


def make_scalable_audio(path: Path) -> None:
    """AAC that is said to be of object type 6, scalable, which FFmpeg's decoder has not."""
    make_video(path, video(), audio(codec="aac"))
    with av.open(str(path)) as container:
        config = container.streams.audio[0].codec_context.extradata
    assert config is not None
    content = path.read_bytes()
    assert content.count(config) == 1
    path.write_bytes(content.replace(config, bytes([config[0] & 0b111 | 6 << 3]) + config[1:]))


def make_odd_sampling(path: Path) -> None:
    """JPEG frames whose luminance has three samples each way where the colours have one."""
    content = bytearray(make_video(path, video(codec="mjpeg", pixel_format="yuvj420p"), audio()).read_bytes())
    header = b"\xff\xc0\x00\x11\x08" + HEIGHT.to_bytes(2, "big") + WIDTH.to_bytes(2, "big") + b"\x03\x01"
    assert content.count(header + b"\x22") == 75
    path.write_bytes(content.replace(header + b"\x22", header + b"\x33"))


LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"

REFUSALS: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("clip.mp4", lambda path: path.write_bytes(b""), "is empty", "Fetch it again"),
    ("clip.mp4", lambda path: path.write_bytes(bytes(100_000)), "Invalid data", "Check that it plays"),
    ("clip.mp4", lambda path: path.write_text("This is no video.\n" * 99), "Invalid data", "Check that it plays"),
    ("clip.srt", make_subtitles, "neither a video nor an audio stream", "Check that it plays"),
    ("clip.mp4", make_cut_index, "cut off before its index (Invalid data", "Fetch or copy it again, whole"),
    ("clip.mp4", lambda path: path.write_text(LFS_POINTER), "a file that Git LFS holds", "git lfs pull"),
    (
        "clip.mp4",
        lambda path: path.write_text("\n<!DOCTYPE html><html>Sign in</html>"),
        "HTML page",
        "the video itself",
    ),
    ("clip.mp4", make_encrypted, "is encrypted", "a copy without protection"),
    ("clip.mkv", lambda path: path.write_bytes(b"\x1aE\xdf\xa3" + bytes(9999)), "EBML", "Check that it plays"),
    ("clip.mp4", Path.mkdir, "is not a file", "Check the path"),
    ("clip.mp4", lambda path: None, "no such file", "Check the path"),
    ("clip.m3u8", make_playlist, "cannot be read", "Check that it plays"),
    ("clip.mp4", make_concatenation, "cannot be read", "Check that it plays"),
    ("clip.mkv", make_unknown_codec, "no decoder for its video", "Convert the file"),
    ("clip.mp4", make_scalable_audio, "its audio needs what FFmpeg's decoder cannot do", "another program"),
    ("clip.mkv", make_scalable_audio, "its audio needs what FFmpeg's decoder cannot do", "another program"),
]


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(("name", "make", "reason", "remedy"), REFUSALS)
def test_files_without_decodable_streams_are_refused(
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


def test_a_feature_that_the_decoder_lacks_is_no_damage(tmp_path: Path):
    make_odd_sampling(path := tmp_path / "clip.mkv")
    expected = f"{path}: its video needs what FFmpeg's decoder cannot do, at 0.00 s (Not yet implemented in FFmpeg, "
    with pytest.raises(DecodeError) as raised:
        decode_clip(path, REQUEST)
    assert str(raised.value).startswith(expected)
    (problem,) = inspect_clip(path).problems
    assert problem == str(raised.value)


@pytest.mark.parametrize(("make", "missing"), [(make_cover_only, "video"), (make_late_audio, "audio")])
def test_a_cover_image_does_not_count_as_video_and_late_audio_is_missing(
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
def test_a_file_without_read_permission_is_refused(tmp_path: Path):
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


def test_streams_that_begin_in_mid_file_are_passed_over(tmp_path: Path):
    path = make_video(tmp_path / "clip.ts", video(steady(500)), audio(20, codec="mp2"))
    whole = list(decode_clips(path, REQUEST))
    data, begun = bytearray(path.read_bytes()), 0
    for start in range(len(data) // 188 * 3 // 4 * 188, len(data), 188):  # packets of the transport stream
        identity = int.from_bytes(data[start + 1 : start + 3], "big") & 0x1FFF
        if identity == 0x101 and data[start + 1] & 0x40:  # the audio's, with the beginning of a frame
            data[start + 1 : start + 3] = (0x4300 + begun).to_bytes(2, "big")
            begun += 1
    assert begun > 30  # that many more than FFmpeg's list of streams had room for
    path.write_bytes(data)
    clips = list(decode_clips(path, REQUEST, on_damage="conceal"))
    assert len(clips) == len(whole)
    np.testing.assert_array_equal(clips[0].waveform, whole[0].waveform)


def test_a_packet_of_impossible_size_is_damage_and_no_lack_of_memory(tmp_path: Path):
    path = make_video(tmp_path / "clip.mp4", video(steady(50)), audio(2))
    data = bytearray(path.read_bytes())
    sizes = data.index(b"stsz")
    data[sizes + 16 : sizes + 20] = b"\x33\0\0\0"  # of the first frame
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"clip\.mp4: its index names a packet that is larger than any memory"):
        decode_clip(path, REQUEST)
