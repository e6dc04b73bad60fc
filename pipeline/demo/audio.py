"""The audio of the demo's clips: a noise bed, and five classes of synthetic sounds on it."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ccln.pipeline.demo.plan import CLASS_BEAT_HZ, CLASS_NAMES, Span, clip_generator
from ccln.pipeline.segments import CLIP_SECONDS

SAMPLE_RATE_HZ = 44_100

Waveform = NDArray[np.float64]
_SAMPLES = CLIP_SECONDS * SAMPLE_RATE_HZ
_BED_STREAM, _VOICE_STREAM = 10, 11
_PEAK = 0.7  # leaves room for the bed, so that nothing ever clips
_FADE_SECONDS = 0.01


def render_samples(heard: Sequence[Span], *, pace: float, entropy: tuple[int, int, int]) -> NDArray[np.float32]:
    """Synthesise the audio of one clip.

    The noise bed does not depend on `heard`: two renders of the same clip differ only where their spans do.

    Args:
        heard: Which class is heard when; spans must not overlap.
        pace: Factor on the classes' beats per second.
        entropy: The clip's `(seed, split, index)`.

    Returns:
        float32 (sample,), -1 to 1: ten seconds of mono at 44.1 kHz.
    """
    bed = _noise_bed(clip_generator(entropy, _BED_STREAM))
    samples = bed.copy()
    for class_name in sorted({span.class_name for span in heard}):
        rng = clip_generator(entropy, _VOICE_STREAM, CLASS_NAMES.index(class_name))
        voice = _VOICES[class_name](CLASS_BEAT_HZ[class_name] * pace, rng)
        ratio_db = rng.uniform(5, 20)
        voice *= _rms(bed) * 10 ** (ratio_db / 20) / _rms(voice)
        voice *= min(1.0, _PEAK / np.abs(voice).max())
        for span in heard:
            if span.class_name == class_name:
                begin, end = (seconds * SAMPLE_RATE_HZ for seconds in span[1:])
                samples[begin:end] += voice[begin:end] * _fade(end - begin)
    return samples.astype(np.float32)


def _rms(samples: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def _fade(length: int) -> Waveform:
    """A gate that opens and closes within the span: no click, and not a sample outside."""
    ramp = np.linspace(0, 1, int(_FADE_SECONDS * SAMPLE_RATE_HZ))
    return np.concatenate([ramp, np.ones(length - 2 * len(ramp)), ramp[::-1]])


def _coloured_noise(rng: np.random.Generator, gain: Callable[[NDArray[np.floating]], NDArray[np.floating]]) -> Waveform:
    """Gaussian noise filtered by `gain`, a function of the frequency in Hz, scaled to an RMS of one."""
    spectrum = np.fft.rfft(rng.standard_normal(_SAMPLES))
    noise = np.fft.irfft(spectrum * gain(np.fft.rfftfreq(_SAMPLES, 1 / SAMPLE_RATE_HZ)), _SAMPLES)
    return np.asarray(noise / _rms(noise), np.float64)


def _noise_bed(rng: np.random.Generator) -> Waveform:
    """Noise between white and pink whose level wanders a little."""
    slope, level, rate_hz, phase = rng.uniform((0, 0.006, 0.05, 0), (0.5, 0.02, 0.3, 2 * np.pi))
    noise = _coloured_noise(rng, lambda hertz: np.maximum(hertz, 40) ** -slope)
    return level * noise * (1 + 0.2 * np.sin(2 * np.pi * rate_hz * _times() + phase))


def _times(seconds: float = CLIP_SECONDS) -> Waveform:
    return np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def _on_beats(beat_hz: float, grain: Callable[[int], Waveform]) -> Waveform:
    """A voice of grains, one a beat by its number, from one second before the clip: that ringing is heard in it."""
    voice = np.zeros(_SAMPLES)
    for number in range(-int(beat_hz), int(CLIP_SECONDS * beat_hz) + 1):
        first, samples = round(number / beat_hz * SAMPLE_RATE_HZ), grain(number)
        begin, end = max(first, 0), min(first + len(samples), len(voice))
        if begin < end:
            voice[begin:end] += samples[begin - first : end - first]
    return voice


def _bell(beat_hz: float, rng: np.random.Generator) -> Waveform:
    """Inharmonic partials (hum, prime, tierce, quint, nominal and above); the high ones die first."""
    ratios = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.53, 3.01, 4.1])
    gains = np.array([0.5, 0.8, 0.6, 0.3, 1.0, 0.4, 0.35, 0.2])
    pitch_hz = rng.uniform(330, 620)
    times = _times(2.5)[:, None]
    strike = np.sin(2 * np.pi * pitch_hz * ratios * times) * np.exp(-times * (1 + 1.2 * ratios)) @ gains
    return _on_beats(beat_hz, lambda number: strike * rng.uniform(0.8, 1))


def _bird(beat_hz: float, rng: np.random.Generator) -> Waveform:
    """One chirp a beat; each rises, falls or warbles from pitch to pitch."""
    low_hz = rng.uniform(2300, 3600)

    def chirp(number: int) -> Waveform:
        times = _times(rng.uniform(0.09, 0.16))
        place = times / times[-1]
        bend = (place, 1 - place, 0.5 + 0.5 * np.sin(6 * np.pi * place))[rng.integers(3)]
        phase = _phase(low_hz * (1 + rng.uniform(0.25, 0.5) * bend))
        return (np.sin(phase) + 0.2 * np.sin(2 * phase)) * np.sin(np.pi * place) ** 2

    return _on_beats(beat_hz, chirp)


def _drum(beat_hz: float, rng: np.random.Generator) -> Waveform:
    """A low thump whose pitch drops, with the noise of the stick; every second beat is weaker."""
    times = _times(0.4)
    pitch_hz = rng.uniform(65, 100)
    thump = np.sin(_phase(pitch_hz * (1 + 1.2 * np.exp(-times * 30)))) * np.exp(-times * 10)

    def stroke(number: int) -> Waveform:
        rattle = rng.standard_normal(len(times)) * np.exp(-times * 35)
        return (thump + 0.3 * rattle) * (1 - 0.3 * (number % 2))

    return _on_beats(beat_hz, stroke)


def _siren(beat_hz: float, rng: np.random.Generator) -> Waveform:
    """Two tones a fourth apart, one a beat, bright with harmonics."""
    pitch_hz = rng.uniform(480, 720)
    steps = 0.5 - 0.5 * np.tanh(40 * np.sin(np.pi * beat_hz * _times()))  # 0 and 1 by turns, without a click
    phase = _phase(pitch_hz * (1 + steps / 3))
    return sum((np.sin(order * phase) / order for order in range(1, 7)), np.zeros(_SAMPLES))


def _steam(beat_hz: float, rng: np.random.Generator) -> Waveform:
    """Chuffs of filtered noise, the first of four the loudest, and a chord whistled in every other four."""
    centre_hz, pitch_hz = rng.uniform((700, 560), (1300, 760))
    noise = _coloured_noise(rng, lambda hertz: np.exp(-((np.log2(np.maximum(hertz, 1) / centre_hz)) ** 2)))
    times = _times(0.3)
    puff = np.minimum(times / 0.02, 1) * np.exp(-times * 14)
    blow = np.sin(np.pi * np.linspace(0, 1, round(2.2 / beat_hz * SAMPLE_RATE_HZ))) ** 0.5
    chuffs = _on_beats(beat_hz, lambda number: puff * (1.5 if number % 4 == 0 else 1))
    whistle = _on_beats(beat_hz, lambda number: blow[: 0 if number % 8 else None])
    chord = sum((np.sin(2 * np.pi * pitch_hz * ratio * _times()) for ratio in (1, 1.26, 1.5)), np.zeros(_SAMPLES))
    return noise * chuffs + 0.2 * chord * whistle


def _phase(pitch_hz: Waveform) -> Waveform:
    """Phase (sample,) in radians of a tone whose pitch changes from sample to sample."""
    return 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ


_VOICES: dict[str, Callable[[float, np.random.Generator], Waveform]] = {
    "Bell": _bell,
    "Bird": _bird,
    "Drum": _drum,
    "Police car": _siren,
    "Steam train": _steam,
}
