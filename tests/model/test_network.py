"""The whole network: shapes, what each part's absence changes, and what may depend on what."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d
from support.networks import SMALL, clips, each_ablation, integrated_and_outputs, members_of, network, tensors, truth
from torch import Tensor

from ccln.model import CCLN, LossConfig, ModelConfig, Part, supervised_loss

pytestmark = pytest.mark.usefixtures("one_core")


# --- Shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "channels", "audio_channels", "classes", "segments"),
    [(7, 7, 512, 128, 28, 10), (1, 1, 5, 1, 1, 1), (4, 6, 32, 64, 2, 3), (1, 9, 1, 7, 5, 12)],
)
def test_outputs_have_the_shapes_of_the_config(
    height: int, width: int, channels: int, audio_channels: int, classes: int, segments: int, batch: int
):
    config = ModelConfig(
        *(height, width, channels, audio_channels, classes, segments), width=32, members=2, embedding_width=12
    )
    output = network(config)(*clips(config, batch))
    assert len(output.members) == 2
    for one in (output, *output.members):
        assert one.event_logits.shape == (batch, segments)
        assert one.class_logits.shape == (batch, classes)
        assert one.audio_logits.shape == one.visual_logits.shape == (batch, segments, classes)
    assert output.attention.shape == (batch, segments, height, width)
    assert output.branch is not None
    for one in output.members:
        assert one.gate.shape == (batch, config.heads, segments, segments)
        assert one.foreground_logits.shape == (batch, segments)
        assert one.enhanced.shape == (batch, segments, config.width)
        assert one.views is not None
        for vectors in (*one.views, *output.branch.views):
            assert vectors.shape == (batch, 12)
            torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(batch))
    assert [logits.shape for logits in output.branch.class_logits] == [(batch, classes)] * 2
    assert all(torch.isfinite(tensor).all() for tensor in tensors(output).values())


def test_members_have_views_in_training_only_but_the_branch_class_logits_always():
    training, evaluating = network().train()(*clips()), network().eval()(*clips())
    assert [one.views is None for one in (*training.members, *evaluating.members)] == [False, False, True, True]
    assert training.branch is not None
    assert evaluating.branch is not None


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
        {"members": 0},
        {"members": 2.0},
        {"members": 33},
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
def test_an_ablation_leaves_out_only_that_part(without: tuple[Part, ...]):
    patterns = {
        "sbi": r"members\.\d\.interaction\.(gate_|event_agreement)",
        "fee": r"members\.\d\.enhancement\.",
        "wccl": r"branch\.|members\.\d\.(audio|visual)_projection\.",
    }
    whole = {name for name, _ in CCLN(SMALL).named_parameters()}
    left = {name for name, _ in CCLN(replace(SMALL, without=without)).named_parameters()}
    assert left == {name for name in whole if not any(re.match(patterns[part], name) for part in without)}
    assert all(any(re.match(pattern, name) for name in whole) for pattern in patterns.values())


def test_without_fee_the_joint_view_reaches_the_heads_as_it_is():
    model = network(replace(SMALL, without=("fee",))).eval()
    for integrated, one in zip(*integrated_and_outputs(model), strict=True):
        assert torch.equal(one.enhanced, integrated)
        assert one.foreground_logits is None


def test_without_wccl_there_are_no_views_and_no_class_logits_of_a_branch():
    for model in (
        network(replace(SMALL, without=("wccl",))).train(),
        network(replace(SMALL, without=("wccl",))).eval(),
    ):
        output = model(*clips())
        assert output.branch is None
        assert [one.views for one in output.members] == [None, None]
        mean = torch.stack([one.class_logits.log_softmax(-1) for one in output.members]).mean(0)
        torch.testing.assert_close(output.class_logits, mean)


# --- Members and branch -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("training", [False, True])
def test_the_output_is_the_members_mean_and_the_branchs_class_logits(training: bool, count: int):
    output = network(replace(SMALL, members=count)).train(training)(*clips())
    assert len(output.members) == count
    for name in ("event_logits", "audio_logits", "visual_logits"):
        mean = np.stack([getattr(one, name).detach().double().numpy() for one in output.members]).mean(0)
        if name == "event_logits" and not training:
            mean = convolve1d(mean, [0.1, 0.8, 0.1], axis=1, mode="nearest")
        np.testing.assert_allclose(getattr(output, name).detach(), mean, atol=1e-5, err_msg=name)
    assert output.branch is not None
    expected = sum(logits.detach().double().numpy() for logits in output.branch.class_logits)
    for one in output.members:
        logits = one.class_logits.detach().double().numpy()
        expected = expected + (logits - np.log(np.exp(logits).sum(-1, keepdims=True))) / count
    np.testing.assert_allclose(output.class_logits.detach(), expected, atol=1e-5)


def test_members_differ_only_in_their_first_weights():
    model = network()
    first, second = (member.state_dict() for member in members_of(model))
    assert {name: weight.shape for name, weight in first.items()} == {name: w.shape for name, w in second.items()}
    drawn = [name for name, weight in first.items() if weight.unique().numel() > 1]
    assert len(drawn) > 20
    assert all(not torch.equal(first[name], second[name]) for name in drawn)
    one, other = model.eval()(*clips()).members
    for name in (
        "event_logits",
        "class_logits",
        "audio_logits",
        "visual_logits",
        "gate",
        "foreground_logits",
    ):
        assert not torch.allclose(getattr(one, name), getattr(other, name), atol=1e-3), name
    model.members[1].load_state_dict(first)
    same, again = model(*clips()).members
    assert all(torch.equal(value, tensors(again)[name]) for name, value in tensors(same).items())


def test_a_member_does_not_depend_on_the_others_nor_on_the_branch():
    model = network().eval()
    before = model(*clips())
    with torch.no_grad():
        for part in (model.members[1], model.branch):
            assert part is not None
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter))
    after = model(*clips())
    assert all(torch.equal(v, tensors(after.members[0])[name]) for name, v in tensors(before.members[0]).items())
    assert not torch.allclose(after.event_logits, before.event_logits, atol=1e-3)
    assert not torch.allclose(after.class_logits, before.class_logits, atol=1e-3)


def test_first_weights_of_a_member_do_not_depend_on_the_member_count():
    few, many = (members_of(network(replace(SMALL, members=count)))[1].state_dict() for count in (2, 3))
    assert all(torch.equal(few[name], many[name]) for name in few)


@pytest.mark.parametrize("training", [False, True])
def test_the_branch_reads_attended_features_pooled_with_the_event_probability(training: bool):
    model = network(replace(SMALL, branch_noise=0.0, dropout=0.0)).train(training)
    model.standardization.mean.fill_(0.5)
    assert model.branch is not None
    read: list[tuple[Tensor, Tensor, Tensor]] = []
    model.branch.register_forward_pre_hook(lambda _module, inputs: read.append(inputs))
    attended: list[Tensor] = []
    model.attention.register_forward_hook(lambda _module, _inputs, result: attended.append(result[0]))
    visual, audio = clips()
    output = model(visual, audio)
    ((branch_visual, branch_audio, weights),) = read
    torch.testing.assert_close(branch_audio, model.standardization(audio))
    assert torch.equal(branch_visual, attended[0])
    assert attended[0].requires_grad
    torch.testing.assert_close(weights, output.event_logits.sigmoid())
    assert not branch_visual.requires_grad
    assert not weights.requires_grad


# --- What may depend on what ------------------------------------------------------------------------------------------


@each_ablation
def test_outputs_of_a_clip_do_not_depend_on_its_batch(without: tuple[Part, ...]):
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


def test_audio_logits_do_not_depend_on_the_frames():
    model = network().eval()
    visual, audio = clips()
    before, after = model(visual, audio), model(clips(seed=1)[0], audio)
    assert torch.equal(before.audio_logits, after.audio_logits)
    assert not torch.allclose(before.visual_logits, after.visual_logits, atol=1e-3)
    assert not torch.allclose(before.event_logits, after.event_logits, atol=1e-3)


def test_visual_logits_depend_on_the_audio_through_attention_only():
    model = network().eval()
    visual, audio = clips()
    other_audio = clips(seed=1)[1]
    assert not torch.allclose(model(visual, audio).visual_logits, model(visual, other_audio).visual_logits, atol=1e-3)
    attended = model.attention(visual, audio)
    model.attention.register_forward_hook(lambda _module, _inputs, _result: attended)
    assert torch.equal(model(visual, audio).visual_logits, model(visual, other_audio).visual_logits)
