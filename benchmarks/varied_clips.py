"""A data set with a second, harder copy of every training clip: other sound under everything, half of them portrait.

What people film has somebody speaking or music playing throughout, and phones stand upright. A copy has its clip's
events; under all of it lies the sound of a training clip that is one event throughout, of another class, 5 to 15 dB
below it. Half of the copies are upright: the picture over a blurred one. Validation and test are copied as they are.

    python benchmarks/varied_clips.py --data ../shared/ave-composed --out varied --under "Piano" "Violin, fiddle"
    ccln-extract varied --cache F
    ccln-train --data varied/clips.csv --cache F
"""

import argparse
import csv
import functools
import shutil
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from mismatched import muxed, read_content, with_sound
from tqdm import tqdm

from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import AnnotatedClip

LEVELS_DB = (-15.0, -5.0)
HEIGHT, WIDTH = 320, 180
BLURRED_HEIGHT, BLURRED_WIDTH = 16, 9
SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data set")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--under", nargs="+", required=True, metavar="CLASS", help="classes that are laid under others")
    parser.add_argument("--seed", type=int, default=0, help="of sounds, levels and formats (default: %(default)s)")
    arguments = parser.parse_args()
    dataset = read_dataset(arguments.data)
    clips = [clip for clip in dataset.clips if clip.path is not None]
    training = [clip for clip in clips if clip.split == "train"]
    whole = [clip for clip in training if clip.label in arguments.under and clip.spans == ((0, 10),)]
    arguments.out.mkdir(parents=True)
    with (arguments.out / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "start", "end", "label", "split"))
        for clip in clips:
            assert clip.path is not None
            shutil.copyfile(clip.path, arguments.out / clip.path.name)
            rows.writerows(_rows(clip, clip.path.name))
        for number, clip in enumerate(tqdm(training, unit="clip")):
            rng = np.random.default_rng([arguments.seed, number])
            others = [other for other in whole if other.label != clip.label]
            copy = varied(clip, others[rng.integers(len(others))], arguments.out, rng)
            rows.writerows(_rows(clip, copy.name))


def varied(clip: AnnotatedClip, under: AnnotatedClip, folder: Path, rng: np.random.Generator) -> Path:
    """Write a clip's copy with the sound of another under it, upright or not; returns its path."""
    assert clip.path is not None
    assert under.path is not None
    own = read_content(clip.path).waveform
    other = np.resize(_sound(under.path), len(own))
    gain = 10 ** (rng.uniform(*LEVELS_DB) / 20) * _level(own) / max(_level(other), 1e-6)
    sound = (own + np.float32(gain) * other) / 2  # leaves room for both
    name = f"{clip.path.stem}-under-{under.path.stem}"
    if rng.random() < 0.5:
        return with_sound(clip.path, sound, folder / f"{name}.mkv")
    target = folder / f"{name}-upright.mkv"
    with av.open(str(clip.path)) as source, av.open(str(target), "w", format="matroska") as container:
        picture = source.streams.video[0]
        stream = container.add_stream("libx264", picture.average_rate, options={"preset": "ultrafast", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        muxed(container, _upright(source, picture, stream), sound)
    return target


@functools.cache  # the same few lie under many
def _sound(path: Path) -> np.ndarray:
    return read_content(path).waveform


def _level(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def _upright(source: InputContainer, picture: VideoStream, stream: VideoStream) -> Iterator[Packet]:
    assert picture.time_base is not None
    start = Fraction(picture.start_time or 0) * picture.time_base
    for frame in source.decode(picture):
        assert frame.pts is not None
        upright = VideoFrame.from_ndarray(_on_blurred(frame), "rgb24")
        upright.pts, upright.time_base = round((frame.pts * picture.time_base - start) * 1000), Fraction(1, 1000)
        yield from stream.encode(upright)
    yield from stream.encode()


def _on_blurred(frame: VideoFrame) -> np.ndarray:
    """uint8 RGB (height, width, channel): the frame across an upright picture, its own middle blurred behind it."""
    height = 2 * round(WIDTH * frame.height / frame.width / 2)
    columns = max(BLURRED_WIDTH, round(BLURRED_HEIGHT * frame.width / frame.height))
    coarse = frame.to_ndarray(format="rgb24", height=BLURRED_HEIGHT, width=columns, interpolation="AREA")
    left = (columns - BLURRED_WIDTH) // 2
    middle = VideoFrame.from_ndarray(np.ascontiguousarray(coarse[:, left : left + BLURRED_WIDTH], np.uint8), "rgb24")
    canvas = middle.to_ndarray(format="rgb24", height=HEIGHT, width=WIDTH)
    top = (HEIGHT - height) // 2
    canvas[top : top + height] = frame.to_ndarray(format="rgb24", height=height, width=WIDTH)
    return canvas


def _rows(clip: AnnotatedClip, name: str) -> Sequence[tuple[object, ...]]:
    labels = clip.labels or (clip.label,) * len(clip.spans)
    spans = [(name, *span, label, SPLIT_NAMES[clip.split]) for span, label in zip(clip.spans, labels, strict=True)]
    return spans or [(name, "", "", "", SPLIT_NAMES[clip.split])]


if __name__ == "__main__":
    main()
