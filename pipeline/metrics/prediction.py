"""From a trained network and labelled clips to predictions and scores."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ccln.pipeline.data.features import LabelledClips
from ccln.pipeline.localize.events import sigmoid
from ccln.pipeline.metrics.segments import Scores, score

EVENT_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the network says of clips, as numpy arrays."""

    event_logits: np.ndarray
    """float32 (clip, segment): seen and heard."""
    class_logits: np.ndarray
    """float32 (clip, class): log-probabilities."""

    @property
    def event_probability(self) -> np.ndarray:
        """float32 (clip, segment), as the network says it: not calibrated."""
        return sigmoid(self.event_logits)

    def clip_labels(self) -> np.ndarray:
        """int64 (clip,): the clip's most probable class, whether or not there is an event."""
        return self.class_logits.argmax(1)

    def segment_labels(self) -> np.ndarray:
        """int64 (clip, segment): the clip's class where the event probability passes the threshold, else background."""
        class_count = self.class_logits.shape[1]
        is_event = self.event_probability >= EVENT_THRESHOLD
        return np.where(is_event, self.clip_labels()[:, None], class_count)


@torch.inference_mode()
def predict(model: nn.Module, clips: LabelledClips, batch_size: int = 128) -> Predictions:
    """Run the network over clips in their order, in evaluation mode, on the device it is on."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    events, classes = [], []
    for start in range(0, len(clips), batch_size):
        chosen = slice(start, start + batch_size)
        visual = torch.stack(clips.visual[chosen]).to(device).float()  # (B, T, H, W, C)
        audio = torch.stack(clips.audio[chosen]).to(device)  # (B, T, D)
        output = model(visual, audio)
        events.append(output.event_logits.float().cpu())
        classes.append(output.class_logits.log_softmax(-1).float().cpu())
    model.train(was_training)
    return Predictions(torch.cat(events).numpy(), torch.cat(classes).numpy())


def evaluate(model: nn.Module, clips: LabelledClips) -> Scores:
    """Predict and score."""
    return score(predict(model, clips).segment_labels(), clips.segment_labels, clips.class_count)
