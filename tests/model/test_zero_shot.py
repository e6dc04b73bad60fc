"""Zero-shot localization on planted features: what is heard and seen in each second is known."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import planted
from support.checkpoints import change_config, refused
from support.planted import OTHER
from torch import Tensor

from ccln.model import Checkpoint, ZeroShot, load_checkpoint, save_checkpoint

CLASSES = 3
seconds = st.lists(st.integers(OTHER, CLASSES - 1), min_size=10, max_size=10)


def probabilities(heard: list[int], seen: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Event probability (segment,) and class (segment,)."""
    visual, audio = planted.features(heard, seen, seed=seed)
    output = planted.network(CLASSES)(visual[None], audio[None])
    return output.event_logits.sigmoid()[0], output.segment_class_logits[0].argmax(-1)


@settings(max_examples=60, deadline=None)
@given(seconds, seconds, st.integers(0, 99))
def test_an_event_is_where_sound_and_picture_agree_with_one_text(heard: list[int], seen: list[int], seed: int) -> None:
    event, classes = probabilities(heard, seen, seed)
    wanted = [a == b != OTHER for a, b in zip(heard, seen, strict=True)]
    assert (event >= 0.5).tolist() == wanted
    for second, is_event in enumerate(wanted):
        if is_event:
            assert classes[second] == heard[second]


def test_swapped_sound_or_swapped_picture_is_no_event() -> None:
    own, other = [0, 0, 0, 0, 1, 1, 1, OTHER, OTHER, OTHER], [2, 2, 1, OTHER, 0, 2, OTHER, OTHER, 1, 0]
    assert (probabilities(own, own)[0] >= 0.5).sum() == 7
    assert (probabilities(own, other)[0] < 0.5).all()
    assert (probabilities(other, own)[0] < 0.5).all()


@settings(max_examples=25, deadline=None)
@given(seconds, seconds, st.permutations(range(CLASSES)))
def test_the_order_of_classes_does_not_matter(heard: list[int], seen: list[int], order: list[int]) -> None:
    network = planted.network(CLASSES)
    visual, audio = planted.texts(CLASSES)
    other = network.with_classes(visual[order], audio[order])
    clip = [tensor[None] for tensor in planted.features(heard, seen)]
    before, after = network(*clip), other(*clip)
    torch.testing.assert_close(before.event_logits, after.event_logits)
    for name in ("class_logits", "segment_class_logits", "audio_logits", "visual_logits"):
        torch.testing.assert_close(getattr(before, name)[..., order], getattr(after, name), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 0.2])
def test_logits_are_those_of_the_probabilities_of_a_softmax_of_dot_products(length: float) -> None:
    network = planted.network(CLASSES)
    visual, audio = planted.features([0, 1, 2, OTHER, 0, 1, 2, OTHER, 0, 1], [0, 1, 2, 0, 1, 2, OTHER, OTHER, 2, 1])
    visual, audio = visual * length, audio * length
    texts = planted.texts(8)
    if length != 1:  # as the model that gives the features, the texts may have any length
        texts = tuple(of * torch.linspace(0.5, 2, len(of))[:, None] for of in texts)
        network = network.with_classes(*(of[:CLASSES] for of in texts))
        others = {"others.visual": texts[0][-planted.OTHERS :], "others.audio": texts[1][-planted.OTHERS :]}
        network.load_state_dict(network.state_dict() | others)
    output = network(visual[None], audio[None])
    heard, seen = (
        (planted.SCALE * vectors @ torch.cat([of[:CLASSES], of[-2:]]).T).softmax(-1)[:, :CLASSES]
        for vectors, of in ((audio, texts[1]), (visual[:, 0, 0, -planted.TEXT_CHANNELS :], texts[0]))
    )
    torch.testing.assert_close(output.audio_logits.sigmoid()[0], heard, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.visual_logits.sigmoid()[0], seen, atol=1e-5, rtol=1e-4)
    both = (heard * seen).amax(-1).sqrt()
    torch.testing.assert_close(output.event_logits.sigmoid()[0], both, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.class_logits[0].exp(), (heard * seen).sum(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.attention, torch.full((1, 10, 2, 2), 0.25))


def test_outputs_stay_finite_however_sure() -> None:
    network = planted.network(CLASSES)
    network.load_state_dict(
        network.state_dict() | {"audio_scale": torch.tensor(1e4), "visual_scale": torch.tensor(1e4)}
    )
    visual, audio = planted.features([0] * 5 + [OTHER] * 5, [0] * 5 + [1] * 5, noise=0)
    output = network(visual[None], audio[None])
    tensors = [value for value in output if isinstance(value, Tensor)]
    assert len(tensors) == 6
    assert all(tensor.isfinite().all() for tensor in tensors)


def test_it_is_saved_and_loaded_as_any_network(tmp_path: Path) -> None:
    network = planted.network(CLASSES)
    save_checkpoint(tmp_path, Checkpoint(network, ("a", "b", "c"), {}, {"task": "zero-shot"}))
    loaded = load_checkpoint(tmp_path)
    assert isinstance(loaded.model, ZeroShot)
    assert loaded.model.config == network.config
    clip = [tensor[None] for tensor in planted.features([0] * 10, [0] * 10)]
    assert torch.equal(loaded.model(*clip).event_logits, network(*clip).event_logits)
    assert ZeroShot.from_pretrained(tmp_path).checkpoint.class_names == ("a", "b", "c")


def test_autocast_and_half_precision_in_the_cache_change_next_to_nothing() -> None:
    network = planted.network(CLASSES)
    visual, audio = planted.features([0] * 5 + [OTHER] * 5, [0] * 5 + [1] * 5)
    output = network(visual[None], audio[None])
    with torch.autocast("cpu", torch.bfloat16):
        cast = network(visual[None], audio[None])
    kept = network(visual[None].half().float(), audio[None])
    for name in ("event_logits", "audio_logits", "visual_logits"):
        assert torch.equal(getattr(cast, name), getattr(output, name))
        torch.testing.assert_close(getattr(kept, name), getattr(output, name), atol=0.02, rtol=0)


def test_other_vectors_and_shapes_are_refused() -> None:
    network = planted.network(CLASSES)
    visual, audio = planted.texts(4)
    with pytest.raises(ValueError, match="compares with"):
        network.with_classes(audio, visual)
    with pytest.raises(ValueError, match="compares with"):
        network.with_classes(visual[:3], audio)
    seen, heard = planted.features([0] * 9, [0] * 9)
    with pytest.raises(ValueError, match="this network reads"):
        network(seen[None], heard[None])
    with pytest.raises(ValueError, match="text_channels = 99"):
        replace(network.config, text_channels=99)
    with pytest.raises(ValueError, match="text_channels = None"):
        ZeroShot(replace(network.config, text_channels=None))


def test_a_config_without_texts_is_no_zero_shot_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Checkpoint(planted.network(CLASSES), ("a", "b", "c"), {}, {}))
    change_config(tmp_path, lambda config: config["model"].pop("text_channels"))
    refused(tmp_path, "config.json", "text_channels = None")
