"""Whether files that were damaged or made on purpose cost only themselves, and no more than the stated caps.

    uv run python benchmarks/hostile.py --videos DIR [--count 1000] [--seed 0] [--timeout 300] [--keep DIR]

Real clips, some of them put into other containers first, are mutated: bytes flipped, the end cut off, blocks swapped,
fields of the header set to extremes. Beside them come containers that are built: audio of one sample a packet, times
that grow exponentially, absurd times. Each is decoded to its end as `ccln-extract` decodes it, one after another, in
the same kind of process. It prints how many were decoded, refused with a message, crashed their decoder, or ran out of
time or memory, the most memory that a process took, and the slowest files, against the caps. The same seed makes the
same files. --keep writes those that were not refused cleanly into a folder.

Exit code 1: a file was not refused cleanly, or a cap was exceeded.
"""

import argparse
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np

from ccln.pipeline.commands.console import ProgressBar
from ccln.pipeline.data import find_videos
from ccln.pipeline.decode.clip import decode_first
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.decode.damage import OnDamage
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.processes import DecoderDiedError, Decoders
from ccln.pipeline.defaults import TIMEOUT_SECONDS
from ccln.pipeline.visible import visible

CLEAN = ("decoded", "refused")
LIGHT = FrameRequest(224, 224, frames_per_segment=4)
CLIPS = 2  # of ten seconds: what follows the first is looked at, too
EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1", b"\0\1\0\0")
SHOWN = 3
CONTAINERS = ("", "", ".m4v", ".mkv", ".ts", ".nut")  # nothing stands for the clip as it is
FORMATS = {".m4v": "mp4"}
KINDS = ("video", "audio")


def flip(data: bytearray, dice: random.Random) -> None:
    """Change some bytes anywhere."""
    for _ in range(dice.choice((1, 4, 30, 300))):
        data[dice.randrange(len(data))] = dice.randrange(256)


def cut(data: bytearray, dice: random.Random) -> None:
    """Take the end away."""
    del data[dice.randrange(len(data)) :]


def swap(data: bytearray, dice: random.Random) -> None:
    """Exchange blocks."""
    for _ in range(dice.randint(1, 5)):
        size = min(dice.choice((16, 512, 4096, 65536)), len(data) // 2)
        first, second = (dice.randrange(len(data) - size + 1) for _ in range(2))
        data[first : first + size], data[second : second + size] = (
            data[second : second + size],
            data[first : first + size],
        )


def forge(data: bytearray, dice: random.Random) -> None:
    """Set fields of the header: of MP4's moov box where there is one, else of the first kilobyte."""
    start = max(data.find(b"moov"), 0)
    size = int.from_bytes(data[start - 4 : start], "big") if start else 1024
    for _ in range(dice.choice((1, 2, 8))):
        place = min(start + dice.randrange(max(min(size, len(data) - start), 1)), len(data) - 4)
        data[place : place + 4] = dice.choice((*EXTREMES, dice.randbytes(4)))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, cut, swap, forge)


def build(path: Path, stamps: Callable[[int], int], base: Fraction, packets: int, *, video: bool = True) -> None:
    """Write a file of 50 small frames and of audio of a sample a packet, each packet at the time that a function says.

    Args:
        path: The file; its ending names the container.
        stamps: Of the number of a packet, its time.
        base: What times are counted in, in seconds.
        packets: Of audio.
        video: Whether the frames' times are the function's, too, or 25 a second.
    """
    with av.open(path, "w") as container:
        frames = container.add_stream("mpeg4", rate=25)
        frames.width, frames.height, frames.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        sound.time_base = base
        for number in range(50):
            for packet in frames.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")):
                if video:
                    packet.time_base = base
                    packet.pts = packet.dts = stamps(number)
                container.mux(packet)
        for number in range(packets):
            packet = av.Packet(b"\x10\x20")
            packet.stream, packet.time_base = sound, base
            packet.pts = packet.dts = stamps(number)
            container.mux(packet)


def remux(clip: Path, path: Path) -> None:
    """Put a clip's streams into another container, an MP4's header to its front."""
    options = {"movflags": "faststart"} if path.suffix == ".m4v" else {}
    with av.open(clip) as source, av.open(path, "w", FORMATS.get(path.suffix), container_options=options) as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams if stream.type in KINDS}
        for packet in source.demux(list(streams)):
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                target.mux(packet)


MILLISECOND, SAMPLE = Fraction(1, 1000), Fraction(1, 16_000)
BUILT: dict[str, Callable[[Path], None]] = {
    "one-sample.mkv": lambda path: build(path, lambda n: n, SAMPLE, 100_000, video=False),
    "one-sample.nut": lambda path: build(path, lambda n: n, SAMPLE, 100_000, video=False),
    "one-sample-at-once.mkv": lambda path: build(path, lambda n: 0, SAMPLE, 100_000, video=False),
    "exponential.mkv": lambda path: build(path, lambda n: int(1.5 ** min(n, 60)) + n, MILLISECOND, 8000),
    "exponential.nut": lambda path: build(path, lambda n: 2 ** min(n, 40) + n, MILLISECOND, 8000),
    "exponential.mov": lambda path: build(path, lambda n: int(1.2 ** min(n, 100)) + n, MILLISECOND, 0),
    "far.mkv": lambda path: build(path, lambda n: 2**50 + 40 * n, MILLISECOND, 100),
    "far.nut": lambda path: build(path, lambda n: 2**60 + 40 * n, MILLISECOND, 100),
    "leap.nut": lambda path: build(path, lambda n: 40 * n + (n > 20) * 2**55, MILLISECOND, 100),
    "leap.mkv": lambda path: build(path, lambda n: 40 * n + (n > 20) * 2**45, MILLISECOND, 100),
    "days-apart.mkv": lambda path: build(path, lambda n: 86_400_000 * n, MILLISECOND, 8000),
    "seconds-apart.mkv": lambda path: build(path, lambda n: 1000 * n, MILLISECOND, 8000),
    "negative.mov": lambda path: build(path, lambda n: 40 * n - 2**30, MILLISECOND, 0),
}


def hostile_files(videos: Path, folder: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """Make the files, each when it is asked for; the one before is gone then.

    Yields:
        What it is, and the file.
    """
    for name, make in BUILT.items():
        path = folder / name
        try:
            make(path)
        except (
            av.error.FFmpegError,
            OverflowError,
        ) as error:  # the muxer refuses such times: what it has written is there
            name = f"{name} (cut off: {error})"
        if path.exists():
            yield f"built {name}", path
            path.unlink()
    clips = find_videos(videos)
    for number in range(count):
        dice = random.Random(f"{seed} {number}")
        clip, mutation = dice.choice(clips), MUTATIONS[number % len(MUTATIONS)]
        path = folder / f"{number}{dice.choice(CONTAINERS) or clip.suffix}"
        if path.suffix == clip.suffix:
            shutil.copyfile(clip, path)
        else:
            remux(clip, path)
        data = bytearray(path.read_bytes())
        mutation(data, dice)
        path.write_bytes(data)
        yield f"{mutation.__name__} of {clip.name} as {path.name}", path
        path.unlink()


def outcome(decoders: Decoders, path: Path, on_damage: OnDamage) -> tuple[str, str]:
    """What became of a file, in a word and in its message."""
    try:
        for _ in decoders.each(decode_first, path, LIGHT, CLIPS, on_missing="zeros", on_damage=on_damage):
            pass
        return "decoded", ""
    except DecoderDiedError as error:
        text = str(error)
        kinds = {"ran out of time": "out of time", "ran out of memory": "out of memory"}
        return next((kind for words, kind in kinds.items() if words in text), "crashed"), text
    except DecodeError as error:
        return ("unforeseen" if "an unforeseen error" in str(error) else "refused"), str(error)


def main() -> int:
    """Make the files, decode them, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder of clips to mutate")
    parser.add_argument("--count", type=int, default=1000, help="mutations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds for ten seconds of video")
    parser.add_argument("--keep", type=Path, help="folder for the files that were not refused cleanly")
    chosen = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    times: list[tuple[float, str]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Decoders(chosen.timeout) as decoders,
        ProgressBar("try", "file") as bar,
    ):
        files = hostile_files(chosen.videos, Path(folder), chosen.count, chosen.seed)
        for number, (what, path) in enumerate(files):
            started = time.perf_counter()
            on_damage = "conceal" if number // len(MUTATIONS) % 2 else "error"
            became, text = outcome(decoders, path, on_damage)
            times.append((time.perf_counter() - started, what))
            counts[what.split(" ")[0], became] += 1
            if became not in CLEAN:
                bar.print(visible(f"{became}: {what}: {text}") + "\n")
                if chosen.keep:
                    chosen.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, chosen.keep)
            bar(number + 1, len(BUILT) + chosen.count)
    print(f"seed {chosen.seed}")
    for (kind, became), count in sorted(counts.items()):
        print(f"{kind:6} {became:14} {count:5}")
    for seconds, what in sorted(times, reverse=True)[:SHOWN]:
        print(f"slowest: {seconds:.1f} s, {what} (cap: {chosen.timeout:g} s for ten seconds, twice)")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak of a decoder's memory: {peak:.2f} GiB (cap: 8 GiB of addresses, or half of the machine's memory)")
    return 0 if all(became in CLEAN for _, became in counts) else 1


if __name__ == "__main__":
    sys.exit(main())
