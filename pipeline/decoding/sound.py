"""From decoded pieces of sound at any rate, in any layout, to ten seconds of one waveform."""

import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from ccln.pipeline.segments import CLIP_SECONDS

SAMPLE_RATE_HZ = 16_000

# Matroska and WebM round timestamps to a millisecond; less than two of them apart is the same continuous sound.
_CONTINUITY_SECONDS = 0.002
_MAX_SAMPLE_RATE_HZ = 768_000
# PyAV 18 reads beyond the end of planar sound with eight channels or more; those are interleaved first.
_PLANES_AT_HAND = 7


class WaveformBuilder:
    """Lays decoded sound onto the clock at its own rate, then resamples the ten seconds in one piece."""

    def __init__(self) -> None:
        self._source = ("", "")  # sample format and channel layout of the sound that is being converted
        self._floats = AudioResampler(format="flt")
        self._samples: np.ndarray | None = None
        self._rate_hz = 0
        self._heard = False
        self._position = 0  # where the next sample goes if the sound is continuous; may be negative or past the end

    @property
    def seen_any(self) -> bool:
        """Whether any sound in the ten seconds has come."""
        return self._heard

    @property
    def complete(self) -> bool:
        """Whether the ten seconds are full."""
        return self._samples is not None and self._position >= len(self._samples)

    @property
    def end_seconds(self) -> float:
        """End of the last sound seen."""
        return self._position / self._rate_hz if self._heard else 0.0

    def accepts(self, rate_hz: int) -> bool:
        """Whether sound at this rate can be added: any sane rate, but one a file."""
        return rate_hz == self._rate_hz if self._rate_hz else 0 < rate_hz <= _MAX_SAMPLE_RATE_HZ

    def add(self, frame: AudioFrame, start: float) -> None:
        """Take the next piece of sound, heard from ``start`` seconds."""
        if self._samples is None:
            self._rate_hz = frame.sample_rate
            self._samples = np.zeros(CLIP_SECONDS * self._rate_hz, np.float32)
            self._position = round(start * self._rate_hz)
        stated = round(start * self._rate_hz)
        if abs(stated - self._position) > _CONTINUITY_SECONDS * self._rate_hz:
            self._position = stated
        self._place(self._mono(frame))

    def _mono(self, frame: AudioFrame) -> np.ndarray:
        """Float32 (sample,): the mean of all channels."""
        if frame.format.name == "fltp" and len(frame.planes) <= _PLANES_AT_HAND:  # AAC and others: nothing to convert
            channels = [np.frombuffer(memoryview(plane), np.float32, frame.samples) for plane in frame.planes]
            return sum(channels[1:], start=channels[0]) / np.float32(len(channels))
        source = (frame.format.name, frame.layout.name)
        if source != self._source:  # broadcasts switch between stereo and 5.1
            self._source, self._floats = source, AudioResampler(format="flt")
        pieces = [
            converted.to_ndarray().reshape(-1, converted.layout.nb_channels).mean(axis=1)
            for converted in self._floats.resample(frame)
        ]
        return np.concatenate(pieces)

    def _place(self, mono: np.ndarray) -> None:
        assert self._samples is not None
        begin, end = max(self._position, 0), min(self._position + len(mono), len(self._samples))
        if begin < end:
            self._heard = True
            self._samples[begin:end] = mono[begin - self._position : end - self._position]
        self._position += len(mono)

    def result(self) -> np.ndarray:
        """Float32 (sample,) at 16 kHz, exactly ten seconds; silence where no sound has come."""
        waveform = np.zeros(CLIP_SECONDS * SAMPLE_RATE_HZ, np.float32)
        if self._samples is not None:
            resampled = soxr.resample(self._samples, self._rate_hz, SAMPLE_RATE_HZ)
            kept = min(len(waveform), len(resampled))
            waveform[:kept] = resampled[:kept]
        return waveform
