"""Timestamps that restart or jump: what is seen and heard at the same time is always of the same moment."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.drawing import write_video
from support.located import located_video
from support.making import HEIGHT, WIDTH, Audio, Video, make_video, number_in, numbers_in, steady

from ccln.pipeline.decode.clip import decode_clips
from ccln.pipeline.decode.container import DecodeError
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.inspect import inspect_clip

REQUEST = FrameRequest(HEIGHT, WIDTH, 8)
RATE_HZ = 48_000
FRAMES = 200
"""Numbers that each recording has for its frames; at 25 a second, eight seconds."""
MOMENT_SECONDS = 0.4
"""How long each tone lasts."""
MOMENTS = 20
"""Of a recording."""
WRAP_SECONDS = 2**33 / 90_000


@dataclass(frozen=True)
class Recording:
    """Frames numbered from 200 n on, and in each 0.4 s another tone, all of them unlike another recording's."""

    number: int
    start_seconds: Fraction
    frame_count: int
    audio_seconds: float
    audio_late_seconds: Fraction = Fraction(0)
    options: Mapping[str, str] = field(default_factory=lambda: {"bf": "2"})

    def write(
        self, path: Path, container: str, codecs: tuple[str, str] = ("mpeg2video", "mp2"), **options: str
    ) -> bytes:
        time = np.arange(round(self.audio_seconds * RATE_HZ)) / RATE_HZ
        late = float(self.audio_late_seconds)
        moment = ((time + late) / MOMENT_SECONDS).astype(int).clip(max=MOMENTS - 1)
        samples = 0.5 * np.sin(2 * np.pi * pitch_hz(self.number * MOMENTS + moment) * time)
        video = Video(
            steady(self.frame_count, start_seconds=self.start_seconds),
            codecs[0],
            first_number=self.number * FRAMES,
            time_base=Fraction(1, 25),
            options={"qscale": "2", **self.options},
        )
        audio = Audio(
            samples.astype(np.float32),
            RATE_HZ,
            codec=codecs[1],
            start_seconds=self.start_seconds + self.audio_late_seconds,
        )
        return make_video(path, video, audio, container=container, options=options).read_bytes()


def pitch_hz(moment: np.ndarray) -> np.ndarray:
    return 500 + 90.0 * moment


def moment_heard(waveform: np.ndarray) -> int | None:
    """Number of the tone in a few samples at 16 kHz; None for silence, or two tones."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 16_000))
    if spectrum.max() < 0.2 * 0.5 * len(waveform) / 2:
        return None
    return round((int(np.argmax(spectrum)) - 500) / 90)


def assert_in_step(path: Path, recordings: Sequence[Recording], *, whole: bool = True) -> None:
    """No frame is shown with the sound of another moment; and if they are whole, all of the recordings is there."""
    shown: set[int] = set()
    heard: set[int] = set()
    pairs = []
    for clip in decode_clips(path, REQUEST):
        for place, number in enumerate(numbers_in(clip.frames).ravel()):
            seconds = (place + 0.5) / 8
            if seconds >= clip.duration_seconds:
                break
            shown.add(int(number))
            middle = round(seconds * 16_000)
            moment, after = (moment_heard(clip.waveform[begin : begin + 640]) for begin in (middle - 640, middle))
            if moment is not None and moment == after:  # else one sound just ends
                heard.add(moment)
                pairs.append((*divmod(int(number), FRAMES), *divmod(moment, MOMENTS)))
    for seen_recording, frame, heard_recording, moment in pairs:
        last = max(number for number in shown if number // FRAMES == seen_recording) % FRAMES
        # The last frame is displayed until the next begins; where a recording begins less than a tenth of a second
        # before the end of the other, they overlap.
        if frame >= last - 3 and heard_recording in (seen_recording, seen_recording + 1):
            continue
        assert heard_recording == seen_recording
        assert abs(frame / 25 - (moment + 0.5) * MOMENT_SECONDS) < MOMENT_SECONDS / 2 + 0.1
    for recording in recordings if whole else ():
        begin = recording.number * FRAMES
        seen = [number for number in shown if begin <= number < begin + FRAMES]
        assert len(seen) >= recording.frame_count / 25 * 8 - 4
        moments = {moment for moment in heard if moment // MOMENTS == recording.number}
        assert len(moments) >= recording.audio_seconds / MOMENT_SECONDS - 2


starts = st.one_of(
    st.integers(1, 30), st.integers(31, 95_000), st.integers(int(WRAP_SECONDS) - 40, int(WRAP_SECONDS) - 1)
)


@st.composite
def recordings(draw: st.DrawFn, number: int) -> Recording:
    frames = draw(st.integers(40, 150))
    late = Fraction(draw(st.integers(-4, 6)), 25)
    ends = draw(st.floats(-0.4, 0.4))
    return Recording(
        number,
        Fraction(draw(starts)) + Fraction(draw(st.integers(0, 24)), 25),
        frames,
        frames / 25 + ends,
        max(late, Fraction(0)),
    )


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.tuples(recordings(0), recordings(1)), st.sampled_from(["mpegts", "vob"]))
def test_joined_recordings_stay_in_step(
    tmp_path_factory: pytest.TempPathFactory, parts: tuple[Recording, Recording], container: str
) -> None:
    folder = tmp_path_factory.mktemp("joined")
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.write(folder / f"{part.number}", container) for part in parts))
    assert_in_step(path, parts)


@pytest.mark.parametrize("container", ["mpegts", "vob"])
def test_parts_follow_each_other_without_a_gap(tmp_path: Path, container: str) -> None:
    parts = Recording(0, Fraction(2), 100, 4.0), Recording(1, Fraction(1), 75, 3.0), Recording(2, Fraction(20), 60, 2.4)
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.write(tmp_path / f"{part.number}", container) for part in parts))
    assert_in_step(path, parts)
    assert inspect_clip(path).covered_seconds == pytest.approx(9.4, abs=0.1)
    assert inspect_clip(path).restart_seconds == pytest.approx([4, 7], abs=0.05)


@pytest.mark.parametrize("name", ["joined.mkv", "joined.webm"])
def test_recordings_of_matroska_with_the_same_tracks_follow_each_other(tmp_path: Path, name: str) -> None:
    codecs = ("libvpx-vp9", "libopus") if name == "joined.webm" else ("mpeg2video", "mp2")
    parts = Recording(0, Fraction(0), 100, 4.0), Recording(1, Fraction(0), 75, 3.0)
    for part in parts:
        part.write(tmp_path / f"{part.number}.mkv", "matroska", codecs=codecs)
    path = tmp_path / name
    path.write_bytes(b"".join((tmp_path / f"{part.number}.mkv").read_bytes() for part in parts))
    assert_in_step(path, parts)
    assert inspect_clip(path).restart_seconds == pytest.approx([4], abs=0.05)
    path.write_bytes(path.read_bytes() + (tmp_path / "0.mkv").read_bytes())
    with pytest.raises(DecodeError, match=r"at 7\.0. s another recording follows, which FFmpeg cannot read"):
        list(decode_clips(path, REQUEST))


PLAIN_VIDEO = Video(steady(100), "mpeg4", time_base=Fraction(1, 25))
PLAIN_AUDIO = Audio(np.zeros(4 * RATE_HZ, np.float32), RATE_HZ, codec="pcm_s16le")


@pytest.mark.parametrize(
    "other",
    [
        (replace(PLAIN_VIDEO, height=96, width=128), PLAIN_AUDIO),
        (replace(PLAIN_VIDEO, codec="libx264"), PLAIN_AUDIO),
        (replace(PLAIN_VIDEO, options={"bf": "2"}), PLAIN_AUDIO),
        (PLAIN_VIDEO, replace(PLAIN_AUDIO, rate_hz=44_100)),
        (PLAIN_VIDEO, replace(PLAIN_AUDIO, layout="stereo")),
        (PLAIN_VIDEO, replace(PLAIN_AUDIO, codec="flac")),
        (PLAIN_VIDEO, None),
        (None, PLAIN_AUDIO),
    ],
    ids=["size", "codec", "settings", "rate", "layout", "audio codec", "no audio", "no video"],
)
def test_recordings_of_matroska_with_other_tracks_are_refused(
    tmp_path: Path, other: tuple[Video | None, Audio | None]
) -> None:
    path = tmp_path / "joined.mkv"
    parts = [make_video(tmp_path / "one.mkv", PLAIN_VIDEO, PLAIN_AUDIO), make_video(tmp_path / "other.mkv", *other)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(DecodeError, match=r"joined\.mkv: at 4\.00 s another recording follows, which") as raised:
        list(decode_clips(path, REQUEST, on_missing="zeros"))
    assert inspect_clip(path).problems == (str(raised.value),)


def two(folder: Path) -> tuple[Path, tuple[Recording, Recording]]:
    parts = Recording(0, Fraction(7), 100, 4.0), Recording(1, Fraction(3), 75, 3.0)
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.write(folder / f"{part.number}", "mpegts") for part in parts))
    return path, parts


def test_inspection_says_where_timestamps_restart(tmp_path: Path) -> None:
    path, _ = two(tmp_path)
    report = inspect_clip(path)
    assert report.problems == ()
    assert report.covered_seconds == pytest.approx(7, abs=0.1)
    assert report.restart_seconds == pytest.approx([4], abs=0.05)
    assert any("timestamps restart at 4.0" in remark for remark in report.remarks)
    assert report.video is not None
    assert report.video.rate_hz == pytest.approx(25, abs=0.3)


def test_a_joined_recording_is_written_again_in_step(tmp_path: Path) -> None:
    path, _ = two(tmp_path)
    written = write_video(located_video("joined.ts", 7.0), path, tmp_path / "written")
    numbers: list[int] = []
    seconds: list[float] = []
    with av.open(str(written)) as container:
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            numbers.append(number_in(image[: image.shape[1] * HEIGHT // WIDTH]))
            seconds.append(frame.time or 0)
    assert numbers == [*range(100), *range(FRAMES, FRAMES + 75)]
    assert np.diff(seconds) == pytest.approx(0.04, abs=0.03)
    with av.open(str(written)) as container:
        times = [frame.time or 0.0 for frame in container.decode(audio=0)]
    assert np.diff(times) == pytest.approx(1152 / RATE_HZ, abs=0.03)
    assert times[-1] == pytest.approx(7, abs=0.1)


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.tuples(recordings(0), recordings(1)), st.tuples(st.floats(0.5, 1), st.floats(0, 0.5)))
def test_spliced_recordings_stay_in_step(
    tmp_path_factory: pytest.TempPathFactory, parts: tuple[Recording, Recording], cut: tuple[float, float]
) -> None:
    folder = tmp_path_factory.mktemp("spliced")
    parts = replace(parts[0], options={"g": "1"}), replace(parts[1], options={"g": "1"})
    one, other = (part.write(folder / f"{part.number}", "mpegts") for part in parts)
    end, begin = (round(len(content) * share / 188) * 188 for content, share in zip((one, other), cut, strict=True))
    path = folder / "spliced.ts"
    path.write_bytes(one[:end] + other[begin:])
    with suppress(DecodeError):  # where the packets that were cut are damaged
        assert_in_step(path, parts, whole=False)
