"""Features and texts that agree by construction: a second's sound and picture lie near the text of what they are of."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ccln.model import ModelConfig, ZeroShot

AUDIO_CHANNELS, TEXT_CHANNELS, PATCH_CHANNELS = 12, 10, 3
OTHERS = 2
OTHER = -1
"""What is heard or seen where it is of no class."""
SCALE = 40.0


def config(class_count: int, segment_count: int = 10) -> ModelConfig:
    return ModelConfig(
        visual_height=2,
        visual_width=2,
        visual_channels=PATCH_CHANNELS + TEXT_CHANNELS,
        audio_channels=AUDIO_CHANNELS,
        class_count=class_count,
        segment_count=segment_count,
        width=16,
        members=2,
        heads=2,
        embedding_width=8,
        text_channels=TEXT_CHANNELS,
    )


def texts(count: int) -> tuple[Tensor, Tensor]:
    """Texts of each space, visual and audio, at right angles to each other: (text, channel), at most 8.

    Longer ones begin with the shorter.
    """
    random = torch.Generator().manual_seed(7)
    bases = (torch.linalg.qr(torch.randn(size, size, generator=random))[0] for size in (TEXT_CHANNELS, AUDIO_CHANNELS))
    visual, audio = (basis[:count] for basis in bases)
    return visual, audio


def network(class_count: int, segment_count: int = 10) -> ZeroShot:
    """Zero-shot localization that knows the first texts as classes and two more, the last of eight, as others."""
    shape = config(class_count, segment_count)
    found = ZeroShot(ModelConfig(**{**vars(shape), "other_texts": OTHERS})).eval()
    visual, audio = texts(8)
    named = found.with_classes(visual[:class_count], audio[:class_count])
    state = {"others.visual": visual[-OTHERS:], "others.audio": audio[-OTHERS:]}
    scales = {"visual_scale": torch.tensor(SCALE), "audio_scale": torch.tensor(SCALE)}
    named.load_state_dict(named.state_dict() | state | scales)
    return named


def features(heard: Sequence[int], seen: Sequence[int], noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Visual (segment, 2, 2, channel) and audio (segment, channel) of what is heard and seen in each second.

    Args:
        heard: class of each second, or `OTHER`.
        seen: likewise.
        noise: of each vector, in lengths of it.
        seed: of noise and patches.
    """
    random = torch.Generator().manual_seed(seed)
    of_visual, of_audio = texts(8)

    def vectors(of_texts: Tensor, kinds: Sequence[int]) -> Tensor:
        found = of_texts[list(kinds)]  # the last text, of no class, for OTHER
        disturbed = found + noise * torch.randn(found.shape, generator=random) / found.shape[1] ** 0.5
        return disturbed / disturbed.norm(dim=1, keepdim=True)

    pooled = vectors(of_visual, seen)[:, None, None].expand(-1, 2, 2, -1)
    patches = torch.randn(len(seen), 2, 2, PATCH_CHANNELS, generator=random)
    return torch.cat([patches, pooled], -1), vectors(of_audio, heard)
