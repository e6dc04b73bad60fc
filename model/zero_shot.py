"""Zero-shot localization: seconds in which both the sound and the picture agree with the name of a class."""

import torch
from torch import Tensor, nn

from ccln.model.config import ModelConfig
from ccln.model.network import LocalizationNetwork, Output
from ccln.model.texts import Space, Texts


class ZeroShot(LocalizationNetwork, kind="zero-shot"):
    """Compares the encoders' vectors of each second with those of texts; nothing in it is trained (our reading).

    P(heard c) is the softmax of s <a, t_c> over the texts of all classes and "other" texts, which stand for the
    background: a the vector of the second's sound, t_c that of the class's name, both as long as the encoders make them
    (CLIP's and CLAP's are of length 1, PE-AV's are not), s the encoders' own scale, or one chosen on a data set.
    P(seen c) likewise. P(event of c) = sqrt(P(heard c) P(seen c)), and the second's event is that of the class where it
    is highest. The root leaves one half where both modalities are just as sure of the class as not, and a modality that
    gives a class little keeps it from being an event, however sure the other is. OV-AVEL (Zhou et al. 2025) compares
    with class names and an "other" text, too; it takes a second for an event where both modalities have the same best
    class, which has no threshold to choose.

    It looks at the picture as a whole: the attention is the same everywhere.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Make it, with texts of zeros.

        Raises:
            ValueError: the config has no text space.
        """
        super().__init__(config)
        self.texts = Texts(config, config.class_count)
        self.others = Texts(config, config.other_texts)
        self.audio_scale, self.visual_scale = (nn.Parameter(torch.tensor(1.0)) for _ in range(2))

    def forward(self, visual: Tensor, audio: Tensor) -> Output:
        """Locate the events of a batch of clips.

        Args:
            visual: (batch, segment, height, width, channel), floating point.
            audio: (batch, segment, channel), floating point.

        Raises:
            ValueError: shapes that the config does not allow.
        """
        # 1. Each modality's class, the background among them.
        heard, seen = self.products(visual, audio)  # (B, T, n + o)
        classes = self.config.class_count
        log_heard = (self.audio_scale * heard).log_softmax(-1)[..., :classes]  # (B, T, n)
        log_seen = (self.visual_scale * seen).log_softmax(-1)[..., :classes]
        # 2. Both at once: in each second the best class decides whether there is an event.
        log_both = log_heard + log_seen
        event_logits = _logit(log_both.amax(-1) / 2)  # (B, T)
        # 3. The clip's class: what is heard and seen in most of it.
        height, width = visual.shape[2:4]
        return Output(
            event_logits=event_logits if self.training else event_logits + self.event_shift,
            class_logits=log_both.logsumexp(1),
            segment_class_logits=log_both,
            audio_logits=_logit(log_heard),
            visual_logits=_logit(log_seen),
            attention=visual.new_full(visual.shape[:4], 1 / (height * width)),
            members=(),
            branch=None,
        )

    def products(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Dot products of each second's sound and picture with the texts of the classes and then of the others.

        Args:
            visual: as of `forward`.
            audio: as of `forward`.

        Returns:
            Each (batch, segment, class and other text).
        """
        self._check_shapes(visual, audio)
        assert self.texts is not None
        classes, others = self.texts(visual, audio), self.others(visual, audio)
        heard, seen = (
            Space(of_class.vectors, torch.cat([of_class.texts, of_other.texts])).products()
            for of_class, of_other in zip(classes, others, strict=True)
        )
        return heard, seen


def _logit(log_probability: Tensor) -> Tensor:
    """The logit of a probability, of which the logarithm is given; bounded where it is one."""
    return log_probability - torch.log((-torch.expm1(log_probability)).clamp_min(1e-7))
