"""A video of any length through a network that takes ten seconds: overlapping windows, merged as they come."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ccln.model import LocalizationNetwork, Output
from ccln.pipeline.segments import SEGMENT_COUNT

HOP_SEGMENTS = 2
"""From one window's start to the next one's, if nothing else is asked for; chosen as docs/experiments.md says."""

BRANCH_WEIGHT = 0.5
"""Of the branch network's class logits, which are of a whole window, beside each second's own; docs/experiments.md."""


@dataclass(frozen=True, eq=False)
class SegmentPredictions:
    """A network's predictions for each segment of a video; all float32."""

    event_logits: np.ndarray
    """(segment,): is this second event?"""
    class_logits: np.ndarray
    """(segment, class): log-probabilities of its event's class, up to a constant."""
    visual_logits: np.ndarray
    """(segment, class): visual evidence for each class, in the region that the audio attends to."""
    audio_logits: np.ndarray
    """(segment, class): evidence for each class in the audio alone."""
    attention: np.ndarray
    """(segment, height, width): audio-guided visual attention; a segment's numbers add up to one."""


class WindowedNetwork:
    """Takes a video's features ten seconds at a time, runs the network over windows, and merges their predictions.

    The predictions for a second are the weighted mean of those of all windows that it lies in. The weight falls from
    the middle of a window to its ends, where the network knows one side only. A video of ten seconds or less is one
    window, padded as its features are; its classes come about as those of longer ones. Held are the features of some
    twenty seconds, and the sums of the predictions.
    """

    def __init__(self, network: LocalizationNetwork, hop_segments: int = HOP_SEGMENTS) -> None:
        """Begin a video.

        Args:
            network: in evaluation mode.
            hop_segments: from one window's start to the next one's.

        Raises:
            ValueError: windows that far apart would leave segments out, or would not move.
        """
        if not 1 <= hop_segments <= SEGMENT_COUNT:
            raise ValueError(f"a hop of {hop_segments} segments: expected 1 to {SEGMENT_COUNT}, a window's length")
        self._network, self._hop = network, hop_segments
        self._device = next(network.parameters()).device
        self._first: tuple[Tensor, Tensor] | None = None  # all ten seconds of it, with the padding
        self._features: list[tuple[Tensor, Tensor]] = []  # of each segment from self._kept_from on
        self._kept_from = self._count = self._next_start = 0
        places = torch.arange(SEGMENT_COUNT)
        self._weights = torch.minimum(places + 1, SEGMENT_COUNT - places).float()
        self._sums: list[np.ndarray] = []
        self._weight_sums = np.zeros(0, np.float32)

    def add(self, visual: Tensor, audio: Tensor, covered: int = SEGMENT_COUNT) -> None:
        """Take the next ten seconds.

        Args:
            visual: (segment, height, width, channel).
            audio: (segment, channel).
            covered: how many of the segments are the video's; all but in the last piece, the others are padding.
        """
        if self._first is None:
            self._first = visual, audio
        self._features += [(visual[i], audio[i]) for i in range(covered)]
        self._count += covered
        if self._count <= SEGMENT_COUNT:  # it may be the whole video, and then its padding is needed
            return
        self._run(range(self._next_start, self._count - SEGMENT_COUNT + 1, self._hop))
        kept_from = min(self._next_start, self._count - SEGMENT_COUNT)
        del self._features[: kept_from - self._kept_from]
        self._kept_from = kept_from

    @torch.inference_mode()
    def predictions(self) -> SegmentPredictions:
        """The merged predictions for all segments so far.

        Raises:
            ValueError: there are none.
        """
        if self._first is None:
            raise ValueError("there is no segment yet: add some")
        if self._count <= SEGMENT_COUNT:
            visual, audio = self._first
            predictions = _by_segment(self._forward(visual[None], audio[None]))
            merged = [tensor[0, : self._count].float().cpu().numpy() for tensor in predictions]
        else:
            if self._next_start - self._hop < self._count - SEGMENT_COUNT:  # the end is in no window yet
                self._run([self._count - SEGMENT_COUNT])
            merged = [sums / self._weight_sums.reshape(-1, *[1] * (sums.ndim - 1)) for sums in self._sums]
        return SegmentPredictions(*merged)

    @torch.inference_mode()
    def _run(self, starts: Sequence[int]) -> None:
        """Run the network over the windows that start there, and add up its predictions."""
        if not len(starts):
            return
        windows = [self._features[start - self._kept_from :][:SEGMENT_COUNT] for start in starts]
        visual = torch.stack([torch.stack([segment[0] for segment in window]) for window in windows])
        audio = torch.stack([torch.stack([segment[1] for segment in window]) for window in windows])
        predictions = _by_segment(self._forward(visual, audio))
        self._grow(predictions)
        for window, start in enumerate(starts):
            place = slice(start, start + SEGMENT_COUNT)
            self._weight_sums[place] += self._weights.numpy()
            for sums, tensor in zip(self._sums, predictions, strict=True):
                weights = self._weights.view(-1, *[1] * (tensor.ndim - 2))
                sums[place] += (weights * tensor[window].float().cpu()).numpy()
        self._next_start = starts[-1] + self._hop

    def _forward(self, visual: Tensor, audio: Tensor) -> Output:
        return self._network(visual.to(self._device).float(), audio.to(self._device))

    def _grow(self, predictions: Sequence[Tensor]) -> None:
        """Make room for the sums of the segments so far."""
        more = self._count - len(self._weight_sums)
        self._sums = self._sums or [np.zeros((0, *tensor.shape[2:]), np.float32) for tensor in predictions]
        self._sums = [np.concatenate([sums, np.zeros((more, *sums.shape[1:]), np.float32)]) for sums in self._sums]
        self._weight_sums = np.concatenate([self._weight_sums, np.zeros(more, np.float32)])


def _by_segment(output: Output) -> list[Tensor]:
    """The fields of `SegmentPredictions` of a batch of windows, each (window, segment, ...)."""
    assert output.segment_class_logits is not None
    classes = output.segment_class_logits.log_softmax(-1)  # (window, segment, class)
    if output.branch is not None:
        audio, visual = output.branch.class_logits
        classes = classes + BRANCH_WEIGHT * (audio + visual)[:, None]
    return [output.event_logits, classes, output.visual_logits, output.audio_logits, output.attention]
