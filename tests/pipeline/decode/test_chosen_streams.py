"""Which of several streams are taken: both of one program, and such that can be decoded."""

from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import pytest
from support.decoded import RATE_HZ, sweep_audio, video
from support.making import Audio, Video, audio_with_sweep, make_video, number_in, steady, sweep_heard_at

from ccln.pipeline.decode.clip import decode_clip
from ccln.pipeline.decode.container import MissingStreamError
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.inspect import inspect_clip

REQUEST = FrameRequest(48, 64, 1)
PACKET_BYTES = 188


def programs(folder: Path, *streams: tuple[Video | None, Audio | None]) -> Path:
    """A transport stream with several programs, each of which has the given streams."""
    tables, contents = b"", []
    for place, (video_stream, audio_stream) in enumerate(streams):
        options = {
            "mpegts_service_id": str(place + 1),
            "mpegts_pmt_start_pid": str(0x100 + place),
            "mpegts_start_pid": str(0x200 + 0x10 * place),
        }
        part = make_video(folder / f"{place}.ts", video_stream, audio_stream, container="mpegts", options=options)
        content = part.read_bytes()
        packets = [content[i : i + PACKET_BYTES] for i in range(0, len(content), PACKET_BYTES)]
        contents.append([packet for packet in packets if packet[1] & 0x1F or packet[2]])  # without its own table
        tables += (place + 1).to_bytes(2, "big") + (0xE000 | 0x100 + place).to_bytes(2, "big")
    section = b"\x00" + (0xB000 | len(tables) + 9).to_bytes(2, "big") + b"\x00\x01\xc1\x00\x00" + tables
    table = b"\x47\x40\x00\x10\x00" + section + checksum(section).to_bytes(4, "big")
    path = folder / "programs.ts"
    mixed = (packet for packets in zip_longest(*contents) for packet in packets if packet)
    path.write_bytes(table.ljust(PACKET_BYTES, b"\xff") + b"".join(mixed))
    return path


def checksum(section: bytes) -> int:
    """CRC-32 of MPEG-2: its bits are not reflected."""
    value = 0xFFFFFFFF
    for byte in section:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def sweep_at(seconds: float, layout: str = "mono") -> Audio:
    return Audio(audio_with_sweep(seconds, 3, 48_000), 48_000, layout, codec="mp2")


LARGE: dict[str, Any] = {"height": 96, "width": 128}


@pytest.mark.parametrize("large", [0, 1])
@pytest.mark.parametrize("rich", [0, 1])
def test_picture_and_sound_are_of_one_program(tmp_path: Path, large: int, rich: int) -> None:
    path = programs(
        tmp_path,
        *(
            (
                Video(steady(75), first_number=100 * place, **(LARGE if place == large else {})),
                sweep_at(1 + place, "stereo" if place == rich else "mono"),
            )
            for place in range(2)
        ),
    )
    clip = decode_clip(path, REQUEST)
    seen = number_in(clip.frames[0, 0]) // 100
    heard = round(sweep_heard_at(clip.waveform, RATE_HZ)) - 1
    assert seen == heard
    remarks = inspect_clip(path).remarks
    assert [remark.endswith("(taken)") for remark in remarks if " track " in remark] == [
        place == seen for place in range(2) for _ in range(2)
    ]


def test_the_sound_of_another_video_is_not_taken(tmp_path: Path) -> None:
    path = programs(tmp_path, (Video(steady(75), **LARGE), None), (Video(steady(75)), sweep_at(1)))
    with pytest.raises(MissingStreamError, match="has no audio stream"):
        decode_clip(path, REQUEST)


def without_decoder(path: Path, codec: bytes) -> Path:
    """A Matroska file whose track of that codec is of one that nobody knows."""
    content = path.read_bytes()
    assert content.count(codec) == 1
    path.write_bytes(content.replace(codec, codec[:-1] + b"?"))
    return path


@pytest.mark.parametrize("broken", [b"A_FLAC", b"A_AC3"])
def test_a_track_without_decoder_gives_way_to_another(tmp_path: Path, broken: bytes) -> None:
    one = make_video(tmp_path / "one.mkv", video(), sweep_audio(codec="flac"))
    other = make_video(tmp_path / "other.mkv", None, sweep_audio(codec="ac3", layout="stereo"))
    path = tmp_path / "both.mkv"
    with av.open(str(path), "w") as output, av.open(str(one)) as first, av.open(str(other)) as second:
        streams = {
            stream: output.add_stream_from_template(stream) for source in (first, second) for stream in source.streams
        }
        for source in (first, second):
            for packet in source.demux():
                if packet.pts is not None:
                    packet.stream = streams[packet.stream]
                    output.mux(packet)
    clip = decode_clip(without_decoder(path, broken), REQUEST)
    assert sweep_heard_at(clip.waveform, RATE_HZ) == pytest.approx(1.3, abs=0.02)
    remarks = inspect_clip(path).remarks
    assert sum("no decoder" in remark for remark in remarks) == 1
    assert sum("(taken)" in remark for remark in remarks) == 2
