"""What turns logits into events, chosen on validation: the event shift, temperatures and the class threshold."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from ccln.model import EventDecoding, LocalizationNetwork
from ccln.pipeline.data.features import LabelledClips
from ccln.pipeline.metrics.evaluation import ratio
from ccln.pipeline.metrics.localization import Predictions, predict
from ccln.pipeline.metrics.segments import score
from ccln.pipeline.segments import equal_runs, sigmoid

_BINS = 15
_LOST_SHARE = 0.01
_SHIFTS = np.arange(-100, 151) / 10  # logits; 0 is one of them. Networks trained on few clips need 6 to 8
_BACKGROUND_WEIGHT = 2
_SMOOTHED = 5  # shifts that are averaged, an odd number
_TEMPERATURES = (0.1, 10.0)  # a network that makes no mistake on validation would have none at all


@dataclass(frozen=True)
class DecodingScores:
    """What the decoding of a checkpoint makes of a split."""

    event_f1: float
    """F1 of the events as `ccln-localize` decodes them (`Scores.event_f1`)."""
    calibration_error: float
    """Expected calibration error of the segments' labels, see `expected_calibration_error`."""
    uncalibrated_error: float
    """The same with temperatures of one."""


def choose_decoding(predictions: Predictions, truth: np.ndarray) -> EventDecoding:
    """Choose temperatures and class threshold of a network on the validation split.

    The temperatures minimise the negative log-likelihood (Guo et al. 2017): the events' of all segments, the classes'
    of the clips with an event. The class threshold is the highest at which at most one in a hundred of the clips
    that are named rightly is taken for something unknown.

    The event threshold is one half, which the network's shift was chosen for, and an event may last a second: what
    these would gain on clips whose events all last longer, they lose on others, see docs/experiments.md.

    Args:
        predictions: of the split.
        truth: its labels (clip, segment); the number of classes is background.
    """
    class_count = predictions.class_logits.shape[1]
    is_event = truth != class_count
    logits = predictions.event_logits.astype(np.float64)
    signed = np.where(is_event, logits, -logits)
    decoding = EventDecoding(event_temperature=_best_temperature(lambda t: np.logaddexp(0, -signed / t).mean()))
    labels = np.where(is_event, truth, class_count).min(axis=1)
    has_event = labels != class_count
    if has_event.any():
        of_clips = predictions.class_logits[has_event].astype(np.float64)
        right = np.arange(len(of_clips)), labels[has_event]
        decoding = replace(
            decoding, class_temperature=_best_temperature(lambda t: -_log_share(of_clips / t)[right].mean())
        )
    named_rightly = predictions.clip_labels() == labels
    if named_rightly.any():
        lowest = np.quantile(clearest(predictions, is_event)[named_rightly], _LOST_SHARE, method="lower")
        decoding = replace(decoding, class_threshold=float(lowest))
    return decoding


def choose_event_shift(network: LocalizationNetwork, clips: LabelledClips) -> None:
    """Set the network's event shift so that most segments of the clips are on the right side of one half.

    A background segment counts `_BACKGROUND_WEIGHT` times: there are few, and an event that is none is the worse error.
    The count is averaged with those of the neighbouring shifts; of equals the smallest shift is taken.

    Args:
        network: its `event_shift` is set.
        clips: of the validation split.
    """
    network.event_shift.zero_()
    logits, is_event = predict(network, clips).event_logits, clips.event.numpy() > 0
    weights = np.where(is_event, 1, _BACKGROUND_WEIGHT)
    right = np.array([(((logits + shift >= 0) == is_event) * weights).sum() for shift in _SHIFTS], dtype=np.float64)
    smooth = np.convolve(np.pad(right, _SMOOTHED // 2, mode="edge"), np.ones(_SMOOTHED), mode="valid")
    best = np.flatnonzero(smooth >= smooth.max() - 1e-9)
    network.event_shift.fill_(float(min(_SHIFTS[best], key=abs)))


def decode_labels(predictions: Predictions, decoding: EventDecoding) -> np.ndarray:
    """Labels (clip, segment) as `ccln-localize` decodes clips of one window.

    The number of classes is background, and so are events of which the network does not know the class.
    """
    class_count = predictions.class_logits.shape[1]
    is_event = sigmoid(predictions.event_logits / decoding.event_temperature) >= decoding.event_threshold
    for clip in is_event:
        for start, end in equal_runs(clip):
            if end - start < decoding.minimum_duration_seconds:
                clip[start:end] = False
    is_event[clearest(predictions, is_event) < decoding.class_threshold] = False
    return np.where(is_event, predictions.clip_labels()[:, np.newaxis], class_count)


def clearest(predictions: Predictions, is_event: np.ndarray) -> np.ndarray:
    """The highest visual probability of each clip's class in its event segments (clip,); 0 where there are none."""
    seen = predictions.visual_logits[np.arange(len(is_event)), :, predictions.clip_labels()]  # (clip, segment)
    return np.where(is_event, sigmoid(seen), 0).max(axis=1)


def score_decoding(predictions: Predictions, truth: np.ndarray, decoding: EventDecoding) -> DecodingScores:
    """Evaluate a decoding on a split, whose labels are (clip, segment)."""
    plain = replace(decoding, event_temperature=1.0, class_temperature=1.0)
    return DecodingScores(
        event_f1=score(decode_labels(predictions, decoding), truth, predictions.class_logits.shape[1]).event_f1,
        calibration_error=expected_calibration_error(*_confidence(predictions, truth, decoding)),
        uncalibrated_error=expected_calibration_error(*_confidence(predictions, truth, plain)),
    )


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """How far confidence is from accuracy: the mean over 15 bins of their distance, by size (Guo et al. 2017).

    The bins are equally wide and closed above.

    Args:
        confidence: (prediction,), each 0 to 1.
        right: (prediction,), whether it is.

    Returns:
        0 to 1, NaN where there is no prediction.
    """
    number = np.ceil(confidence * _BINS).clip(1, _BINS).astype(np.int64) - 1
    gaps = np.bincount(number, weights=right - confidence.astype(np.float64), minlength=_BINS)
    return ratio(float(np.abs(gaps).sum()), len(confidence))


def _confidence(predictions: Predictions, truth: np.ndarray, decoding: EventDecoding) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each segment's most probable label, a class or background, and whether it is right."""
    event = sigmoid(predictions.event_logits.astype(np.float64) / decoding.event_temperature)  # (N, T)
    classes = np.exp(_log_share(predictions.class_logits.astype(np.float64) / decoding.class_temperature))  # (N, n)
    joint = np.concatenate([event[:, :, None] * classes[:, None], 1 - event[:, :, None]], axis=2)  # (N, T, n + 1)
    return joint.max(axis=2).ravel(), (joint.argmax(axis=2) == truth).ravel()


def _best_temperature(loss: Callable[[float], float]) -> float:
    found = minimize_scalar(lambda log: loss(np.exp(log)), bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def _log_share(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
