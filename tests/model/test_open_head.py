"""CCLN with an open head: classes by the vectors of their names."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import planted
from support.networks import SMALL, network
from torch import Tensor, nn

from ccln.model import CCLN, Checkpoint, LossConfig, load_checkpoint, save_checkpoint, supervised_loss, weak_loss
from ccln.model.texts import ClassHead

CLASSES = 4


def open_network(class_count: int = CLASSES, seed: int = 0) -> CCLN:
    torch.manual_seed(seed)
    return CCLN(planted.config(class_count)).with_classes(*planted.texts(class_count))


def batch(count: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Visual, audio, event and labels of clips with five seconds of their class, and then the sound of another."""
    labels = torch.arange(count) % CLASSES
    pairs = [planted.features([c] * 5 + [(c + 1) % CLASSES] * 5, [c] * 10, seed=c) for c in labels.tolist()]
    event = (torch.arange(10) < 5).float().expand(count, 10)
    return torch.stack([v for v, _ in pairs]), torch.stack([a for _, a in pairs]), event, labels


def test_an_untrained_head_is_zero_shot_classification() -> None:
    model = open_network().eval()
    visual, audio, _, labels = batch()
    output = model(visual, audio)
    assert output.segment_class_logits is not None
    assert (output.visual_logits.argmax(-1) == labels[:, None]).all()
    assert (output.audio_logits.argmax(-1)[:, :5] == labels[:, None]).all()
    assert (output.audio_logits.argmax(-1)[:, 5:] == (labels[:, None] + 1) % CLASSES).all()
    assert (output.segment_class_logits.argmax(-1)[:, :5] == labels[:, None]).all()


def test_heads_begin_with_the_encoders_scales_whatever_the_length_of_their_vectors() -> None:
    visual, audio, _, _ = batch()
    heads = []
    for length, scale in ((1, 1.0), (4, 1 / 16), (4, 0.0)):
        network = open_network().with_classes(*(of * length for of in planted.texts(CLASSES)))
        network.start_heads(visual * length, audio * length, 40 * scale, 20 * scale)
        found = network.state_dict()
        heads.append({name: found[name] for name in found if name.endswith(("log_scale", "usual_cosine"))})
    unit, long, untrained = heads
    for modality, scale in (("visual", 40), ("audio", 20), ("class", 60)):
        assert unit[f"members.0.{modality}_head.log_scale"].exp().item() == pytest.approx(scale)
    torch.testing.assert_close(long, unit)
    assert all(value == 3 for name, value in untrained.items() if name.endswith("log_scale"))  # as without encoders


@pytest.mark.parametrize("loss", ["supervised", "weak"])
def test_every_weight_learns_and_the_texts_do_not(loss: str) -> None:
    model = open_network().train()
    visual, audio, event, labels = batch()
    output = model(visual, audio)
    if loss == "supervised":
        losses = supervised_loss(output, event, labels, LossConfig())
    else:
        losses = weak_loss(output, labels, LossConfig())
    losses["total"].backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert not any("texts" in name for name, _ in model.named_parameters())


def test_training_finds_events_and_names_of_classes_it_was_not_trained_on() -> None:
    model = open_network().train()
    visual, audio, event, labels = batch(8)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        supervised_loss(model(visual, audio), event, labels, LossConfig())["total"].backward()
        optimizer.step()
    model.eval()
    unseen = range(CLASSES, CLASSES + 2)
    texts = planted.texts(CLASSES + 2)
    clips = [planted.features([c] * 5 + [0] * 5, [c] * 10, seed=c) for c in unseen]
    output = model.with_classes(*texts)(torch.stack([v for v, _ in clips]), torch.stack([a for _, a in clips]))
    assert output.class_logits.argmax(-1).tolist() == list(unseen)
    trained = model(visual, audio)
    assert trained.class_logits.argmax(-1).tolist() == labels.tolist()
    assert ((trained.event_logits > 0) == event.bool()).float().mean() > 0.95


def test_other_classes_change_nothing_else() -> None:
    model = open_network().eval()
    visual, audio, _, _ = batch()
    order = [2, 0, 3, 1]
    other = model.with_classes(*(vectors[order] for vectors in planted.texts(CLASSES)))
    before, after = model(visual, audio), other(visual, audio)
    torch.testing.assert_close(before.visual_logits[..., order], after.visual_logits)
    torch.testing.assert_close(before.event_logits, after.event_logits, atol=1e-5, rtol=1e-5)
    assert other.with_classes(*planted.texts(1))(visual, audio).class_logits.shape == (6, 1)
    with pytest.raises(ValueError, match="learnt"):
        network().with_classes(*planted.texts(2))


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    model = open_network().eval()
    save_checkpoint(tmp_path, Checkpoint(model, tuple("abcd"), {}, {}))
    loaded = load_checkpoint(tmp_path).model
    assert loaded.config.text_channels == planted.TEXT_CHANNELS
    visual, audio, _, _ = batch()
    torch.testing.assert_close(loaded(visual, audio).class_logits, model(visual, audio).class_logits)


def test_a_closed_checkpoint_says_nothing_of_texts(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Checkpoint(network().eval(), tuple("abcd"), {}, {}))
    assert "text" not in (tmp_path / "config.json").read_text()
    assert load_checkpoint(tmp_path).model.config == SMALL


def test_a_closed_head_is_a_linear_layer() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(5, 3)
    torch.manual_seed(0)
    head = ClassHead(5, 3)
    assert head.state_dict().keys() == linear.state_dict().keys()
    x = torch.randn(2, 5)
    assert torch.equal(head(x), linear(x))


def test_parts_can_be_left_out_of_an_open_network_too() -> None:
    torch.manual_seed(0)
    model = CCLN(replace(planted.config(CLASSES), without=("sbi", "fee", "wccl"))).with_classes(*planted.texts(CLASSES))
    visual, audio, _, labels = batch()
    assert (model.eval()(visual, audio).class_logits.argmax(-1) == labels).all()
