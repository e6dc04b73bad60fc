"""The whole network: shapes, what each part's absence changes, and what may depend on what."""

from dataclasses import replace

import pytest
import torch
from networks import SMALL, clips, each_ablation, network, results_of, tensors, truth

from ccln.model import CCLN, LossConfig, ModelConfig, Part, supervised_loss

pytestmark = pytest.mark.usefixtures("one_core")


# --- Shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "channels", "audio_channels", "classes", "segments"),
    [(7, 7, 512, 128, 28, 10), (1, 1, 5, 1, 1, 1), (4, 6, 32, 64, 2, 3), (1, 9, 1, 7, 5, 12)],
)
def test_outputs_have_the_shapes_that_the_config_says(
    height: int, width: int, channels: int, audio_channels: int, classes: int, segments: int, batch: int
):
    config = ModelConfig(height, width, channels, audio_channels, classes, segments, width=32, embedding_width=12)
    output = network(config)(*clips(config, batch))
    assert output.event_logits.shape == (batch, segments)
    assert output.class_logits.shape == (batch, classes)
    assert output.heard_logits.shape == output.seen_logits.shape == (batch, segments, classes)
    assert output.attention.shape == (batch, segments, height, width)
    assert output.gate.shape == (batch, config.heads, segments, segments)
    assert output.foreground_logits.shape == (batch, segments)
    assert output.enhanced.shape == (batch, segments, config.width)
    assert output.embeddings is not None
    for vectors in (*output.embeddings.backbone, *output.embeddings.branch):
        assert vectors.shape == (batch, 12)
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(batch))
    assert all(torch.isfinite(tensor).all() for tensor in tensors(output).values())


def test_embeddings_are_for_training_only():
    assert network().train()(*clips()).embeddings is not None
    assert network().eval()(*clips()).embeddings is None


@pytest.mark.parametrize(
    ("visual_shape", "audio_shape"),
    [
        ((4, 5, 2, 3, 8), (4, 5, 7)),
        ((4, 5, 2, 3, 8), (4, 6, 6)),
        ((4, 5, 2, 3, 8), (3, 5, 6)),
        ((4, 5, 2, 3, 8), (4, 6)),
        ((4, 5, 3, 2, 8), (4, 5, 6)),
        ((4, 5, 2, 3, 9), (4, 5, 6)),
        ((4, 9, 2, 3, 8), (4, 9, 6)),
        ((5, 2, 3, 8), (5, 6)),
        ((), (4, 5, 6)),
    ],
)
def test_features_of_another_shape_are_refused(visual_shape: tuple[int, ...], audio_shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"this network reads \(batch, 5, 2, 3, 8\) and \(batch, 5, 6\)"):
        network()(torch.zeros(visual_shape), torch.zeros(audio_shape))


@pytest.mark.parametrize(
    "change",
    [
        {"visual_height": 0},
        {"audio_channels": -1},
        {"class_count": 2.0},
        {"segment_count": True},
        {"width": 18},
        {"heads": 3},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": float("nan")},
        {"channel_dropout": 1.0},
        {"branch_noise": float("inf")},
        {"foreground_gain": float("nan")},
        {"foreground_gain": "0.3"},
        {"without": ("lstm",)},
    ],
)
def test_a_config_that_cannot_work_is_refused_by_name(change: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SMALL, **change)


def test_the_order_of_the_parts_left_out_does_not_matter():
    assert replace(SMALL, without=("wccl", "sbi", "wccl")) == replace(SMALL, without=("sbi", "wccl"))


# --- Ablation ---------------------------------------------------------------------------------------------------------


@each_ablation
def test_every_ablation_trains_a_step(without: tuple[Part, ...]):
    model = network(replace(SMALL, without=without)).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)  # no weight decay, which would move idle parameters too
    event, labels = truth()
    losses = supervised_loss(model(*clips()), event, labels, LossConfig())
    assert losses.keys() == {"event", "class", "modality", "total"} | ({"fee", "wccl"} - set(without))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    losses["total"].backward()
    optimizer.step()
    after = list(model.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


@each_ablation
def test_an_ablation_leaves_out_that_part_and_nothing_else(without: tuple[Part, ...]):
    prefixes = {"sbi": "interaction.gate_", "fee": "enhancement.", "wccl": "branch."}
    whole = {name for name, _ in CCLN(SMALL).named_parameters()}
    left = {name for name, _ in CCLN(replace(SMALL, without=without)).named_parameters()}
    assert left == {name for name in whole if not name.startswith(tuple(prefixes[part] for part in without))}
    assert all(any(name.startswith(prefix) for name in whole) for prefix in prefixes.values())


def test_without_fee_the_joint_view_reaches_the_heads_as_it_is():
    model = network(replace(SMALL, without=("fee",))).eval()
    integrated = results_of(model.integration)
    output = model(*clips())
    assert torch.equal(output.enhanced, integrated[0])
    assert output.foreground_logits is output.event_logits


def test_without_wccl_there_are_no_embeddings():
    assert network(replace(SMALL, without=("wccl",))).train()(*clips()).embeddings is None


# --- What may depend on what ------------------------------------------------------------------------------------------


@each_ablation
def test_a_clip_is_read_alike_in_any_company(without: tuple[Part, ...]):
    model = network(replace(SMALL, without=without)).eval()
    visual, audio = clips(count=5)
    together = tensors(model(visual, audio))
    for index in range(5):
        for name, value in tensors(model(visual[index : index + 1], audio[index : index + 1])).items():
            torch.testing.assert_close(value[0], together[name][index], rtol=1e-4, atol=1e-5, msg=name)
    strangers_visual, strangers_audio = clips(count=5, seed=1)
    strangers_visual[2], strangers_audio[2] = visual[2], audio[2]
    for name, value in tensors(model(100 * strangers_visual, strangers_audio)).items():
        assert torch.isfinite(value).all(), name
    strangers_visual[:2] *= 100
    for name, value in tensors(model(strangers_visual, strangers_audio)).items():
        torch.testing.assert_close(value[2], together[name][2], rtol=1e-4, atol=1e-5, msg=name)


def test_what_is_heard_does_not_depend_on_the_picture():
    model = network().eval()
    visual, audio = clips()
    before, after = model(visual, audio), model(clips(seed=1)[0], audio)
    assert torch.equal(before.heard_logits, after.heard_logits)
    assert not torch.allclose(before.seen_logits, after.seen_logits, atol=1e-3)
    assert not torch.allclose(before.event_logits, after.event_logits, atol=1e-3)


def test_what_is_seen_depends_on_the_sound_through_attention_only():
    model = network().eval()
    visual, audio = clips()
    other_sound = clips(seed=1)[1]
    assert not torch.allclose(model(visual, audio).seen_logits, model(visual, other_sound).seen_logits, atol=1e-3)
    looked_at = model.attention(visual, audio)
    model.attention.register_forward_hook(lambda _module, _inputs, _result: looked_at)
    assert torch.equal(model(visual, audio).seen_logits, model(visual, other_sound).seen_logits)
