"""From decoded audio frames of any rate and layout to waveforms of ten seconds."""

from collections.abc import Iterable
from math import inf

import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from ccln.pipeline.segments import CLIP_SECONDS

SAMPLE_RATE_HZ = 16_000
"""What most networks take, and what is decoded where nothing else is asked for."""

# Live recordings state times that are some milliseconds off, and their audio is continuous all the same. More than this
# is a gap: Opus loses 20 ms with a packet, AAC and MP3 more.
_GAP_SECONDS = 0.018
# Matroska and WebM round timestamps to a millisecond; only what is more is drift.
_DRIFT_SECONDS = 0.002
_MAX_SAMPLE_RATE_HZ = 768_000
# PyAV 18 reads beyond the end of planar audio with eight channels or more; those are interleaved first.
_MAX_PLANES = 7
# Audio comes up to a clip before the frames it belongs to.
_MAX_OPEN_CLIPS = 3


class WaveformBuilder:
    """Places decoded audio on the clock at its own rate, then resamples each ten seconds in one piece.

    Audio is continuous unless its stated time is more than 18 ms from where it would go on. Where the stated times of a
    clip are off by more than 2 ms on average, the next clip begins by as much later, or earlier, in the audio.
    """

    def __init__(self, rate_hz: int) -> None:
        """Prepare for one track, to be resampled to ``rate_hz``."""
        self.first_seconds = inf
        """When the first audio starts that belongs to a clip."""
        self._to_hz = rate_hz
        self._source = ("", "")  # sample format and channel layout that is being converted
        self._floats = AudioResampler(format="flt")
        self._clip = 0  # the next to be taken
        self._open: dict[int, np.ndarray] = {}  # samples of each clip that has audio
        self._rate_hz = 0
        self._position = 0  # where the next sample goes if the audio is continuous; may be negative
        self._deviations: list[int] = []  # of the stated times from that, in samples, in the current clip
        self.kept_unbroken = False
        """Whether stated times were off by less than a gap, but more than rounding, which earlier rules followed."""
        self._broken_off = False

    @property
    def end_seconds(self) -> float:
        """End of the last audio so far."""
        return self._position / self._rate_hz if self._rate_hz else 0.0

    @property
    def overfull(self) -> bool:
        """Whether a clip must be taken now to keep memory bounded."""
        return len(self._open) > _MAX_OPEN_CLIPS

    def has_passed(self, seconds: float) -> bool:
        """Whether the last audio so far ends then or later."""
        return self._rate_hz > 0 and self._position >= seconds * self._rate_hz

    def accepts(self, rate_hz: int) -> bool:
        """Whether audio of this rate can be added: any sane rate, but only one in a file."""
        return rate_hz == self._rate_hz if self._rate_hz else 0 < rate_hz <= _MAX_SAMPLE_RATE_HZ

    def break_off(self) -> None:
        """Some audio is lost: what comes next is placed where it says, however short the gap."""
        self._broken_off = True

    def add(self, frame: AudioFrame, start: float) -> None:
        """Take the next frame, which starts at ``start`` seconds."""
        if not self._rate_hz:
            self._rate_hz = frame.sample_rate
            self._position = round(start * self._rate_hz)
        deviation = round(start * self._rate_hz) - self._position
        if self._broken_off or abs(deviation) > _GAP_SECONDS * self._rate_hz:
            self._broken_off = False
            self._position += deviation
            self._deviations.clear()
        else:
            self._deviations.append(deviation)
            self.kept_unbroken = self.kept_unbroken or abs(deviation) > _DRIFT_SECONDS * self._rate_hz
        mono = self._mono(frame)
        border = (self._position // self._clip_samples + 1) * self._clip_samples - self._position
        self._place(mono[:border])
        if len(mono) >= border:
            self._place(mono[border + self._follow_drift() :])

    @property
    def _clip_samples(self) -> int:
        return CLIP_SECONDS * self._rate_hz

    def _follow_drift(self) -> int:
        """Between two clips, where no seam is heard: move the position, or return how many samples to leave out."""
        drift = round(sum(self._deviations) / len(self._deviations)) if self._deviations else 0
        self._deviations.clear()
        if abs(drift) <= _DRIFT_SECONDS * self._rate_hz:
            return 0
        self._position += max(drift, 0)
        return max(-drift, 0)

    def _mono(self, frame: AudioFrame) -> np.ndarray:
        """float32 (sample,): the mean of all channels."""
        if frame.format.name == "fltp" and len(frame.planes) <= _MAX_PLANES:  # AAC and others: nothing to convert
            channels = [np.frombuffer(memoryview(plane), np.float32, frame.samples) for plane in frame.planes]
            return sum(channels[1:], start=channels[0]) / np.float32(len(channels))
        source = (frame.format.name, frame.layout.name)
        if source != self._source:  # broadcasts switch between stereo and 5.1
            self._source, self._floats = source, AudioResampler(format="flt")
        pieces = self._floats.resample(frame)
        return np.concatenate([p.to_ndarray().reshape(-1, p.layout.nb_channels).mean(axis=1) for p in pieces])

    def _place(self, mono: np.ndarray) -> None:
        """Put samples into the clips they belong to, without those for a clip that has been taken."""
        size = self._clip_samples
        position, self._position = self._position, self._position + len(mono)
        for clip in range(max(position // size, self._clip), -(-self._position // size)):
            begin, end = max(position, clip * size), min(self._position, (clip + 1) * size)
            self.first_seconds = min(self.first_seconds, begin / self._rate_hz)
            if clip not in self._open:
                self._open[clip] = np.zeros(size, np.float32)
            self._open[clip][begin - clip * size : end - clip * size] = mono[begin - position : end - position]

    def take(self) -> np.ndarray:
        """The next clip: float32 (sample,), exactly ten seconds, silence where no audio has come."""
        waveform = _silence(self._to_hz)
        if (samples := self._open.pop(self._clip, None)) is not None:
            resampled = soxr.resample(samples, self._rate_hz, self._to_hz)[: len(waveform)]
            waveform[: len(resampled)] = resampled
        self._clip += 1
        return waveform


class MixedAudio:
    """The audio of one track, or the mean of several; each comes at its own rate and with its own gaps."""

    def __init__(self, tracks: Iterable[int], rate_hz: int) -> None:
        """Prepare for tracks that go by these numbers, to be resampled to ``rate_hz``; none is silence."""
        self._to_hz = rate_hz
        self.tracks = {number: WaveformBuilder(rate_hz) for number in tracks}
        """Where the frames of each go."""

    @property
    def first_seconds(self) -> float:
        """When the first audio starts that belongs to a clip."""
        return min((track.first_seconds for track in self.tracks.values()), default=inf)

    @property
    def end_seconds(self) -> float:
        """End of the last audio so far."""
        return max((track.end_seconds for track in self.tracks.values()), default=0.0)

    @property
    def overfull(self) -> bool:
        """Whether a clip must be taken now to keep memory bounded."""
        return any(track.overfull for track in self.tracks.values())

    def take(self) -> np.ndarray:
        """The next clip: float32 (sample,), exactly ten seconds, silence where no audio has come."""
        waveforms = [track.take() for track in self.tracks.values()]
        return sum(waveforms, start=_silence(self._to_hz)) / np.float32(max(len(waveforms), 1))


def _silence(rate_hz: int) -> np.ndarray:
    return np.zeros(CLIP_SECONDS * rate_hz, np.float32)
