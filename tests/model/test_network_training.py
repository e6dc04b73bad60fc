"""The network in training: gradients, repeatability, noise, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import SMALL, clips, each_ablation, members_of, network, tensors, truth
from torch import Tensor, nn

from ccln.model import CCLN, LossConfig, ModelConfig, Output, Part, supervised_loss
from ccln.model.network import GuidedAttention

pytestmark = pytest.mark.usefixtures("one_core")


def total_loss(output: Output, config: ModelConfig = SMALL) -> Tensor:
    event, labels = truth(config, len(output.event_logits))
    return supervised_loss(output, event, labels, LossConfig())["total"]


@each_ablation
def test_the_total_loss_reaches_every_parameter(without: tuple[Part, ...]):
    config = replace(SMALL, without=without)
    model = network(config).train()
    total_loss(model(*clips(count=8)), config).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e4])
def test_silent_dark_and_bright_inputs_give_finite_outputs(scale: float):
    model = network().train()
    visual, audio = clips()
    output = model(scale * visual, scale * audio)
    assert all(torch.isfinite(tensor).all() for tensor in tensors(output).values())
    total_loss(output).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_evaluation_is_deterministic_and_does_not_change_the_random_state():
    model = network().eval()
    state = torch.get_rng_state()
    first, second = tensors(model(*clips())), tensors(model(*clips()))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)


def trained(seed: int, steps: int = 3) -> dict[str, Tensor]:
    model = network(seed=seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        total_loss(model(*clips())).backward()
        optimizer.step()
    return model.state_dict()


def test_the_same_seed_gives_the_same_training():
    first, second, other = trained(7), trained(7), trained(8)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_dropout_and_noise_act_in_training_only():
    model = network().train()
    first, second = tensors(model(*clips())), tensors(model(*clips()))
    assert not torch.equal(first["event_logits"], second["event_logits"])
    quiet = network(replace(SMALL, dropout=0.0, channel_dropout=0.0, branch_noise=0.1)).train()
    first, second = tensors(quiet(*clips())), tensors(quiet(*clips()))
    differ = {name for name in first if not torch.equal(first[name], second[name])}
    assert differ == {f"branch.{what}.{modality}" for what in ("views", "class_logits") for modality in (0, 1)} | {
        "class_logits"
    }


def test_the_branch_is_deterministic_in_evaluation():
    branch = network().eval().branch
    assert branch is not None
    visual, audio = clips()
    views_of_branch = [branch(visual.mean((2, 3)), audio, torch.ones(4, 5)) for _ in range(2)]
    assert torch.equal(views_of_branch[0][0], views_of_branch[1][0])
    assert torch.equal(views_of_branch[0][1], views_of_branch[1][1])


# --- Which loss reaches which parameters ------------------------------------------------------------------------------


def reached(loss: Tensor, model: CCLN) -> set[str]:
    """Names of the parameters that a loss's gradient reaches, also where it is zero."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}


def of_branch(model: CCLN) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith("branch.")}


@pytest.mark.parametrize("without", [(), ("fee",)])
def test_losses_of_the_branch_reach_only_the_branch(without: tuple[Part, ...]):
    """Neither the visual attention nor the event probabilities with which its views are pooled."""
    model = network(replace(SMALL, without=without)).train()
    branch = model(*clips()).branch
    assert branch is not None
    logits, views = (torch.cat(pair).square().sum() for pair in (branch.class_logits, [v[:, :4] for v in branch.views]))
    assert reached(logits, model) == of_branch(model)
    assert reached(views, model) == of_branch(model) - {"branch.prototypes", "branch.scale"}


def test_only_wccl_trains_the_branch_and_members_train_the_attention():
    model = network().train()
    event, labels = truth()
    output = model(*clips(count=4))
    losses = supervised_loss(output, event, labels, LossConfig())
    others = losses["event"] + losses["class"] + losses["modality"] + losses["fee"]
    assert not reached(others, model) & of_branch(model)
    by_wccl = reached(losses["wccl"], model)
    assert of_branch(model) < by_wccl
    for part in ("attention.query", "members.0.audio_projection", "members.1.visual_projection"):
        assert any(name.startswith(part) for name in by_wccl), part
    heads = {name for name, _ in model.named_parameters() if "_head." in name}
    assert heads
    assert not by_wccl & heads
    # With the members' views detached, WCCL reaches only the branch.
    fast = [one._replace(views=tuple(view.detach() for view in one.views or ())) for one in output.members]
    held = supervised_loss(output._replace(members=tuple(fast)), event, labels, LossConfig())["wccl"]
    assert reached(held, model) == of_branch(model)


def test_each_member_is_trained_by_its_own_loss():
    """The loss is the mean of the members' losses, not the loss of their mean: gradients do not mix members."""
    model = network(replace(SMALL, without=("wccl",))).train()
    output = model(*clips())
    event, labels = truth()

    def gradients(result: Output) -> list[Tensor]:
        total = supervised_loss(result, event, labels, LossConfig())["total"]
        return list(torch.autograd.grad(total, list(members_of(model)[0].parameters()), retain_graph=True))

    alone = gradients(output._replace(members=output.members[:1]))
    for half, whole in zip(gradients(output), alone, strict=True):
        torch.testing.assert_close(2 * half, whole)


def seen_and_heard_problem(count: int, config: ModelConfig, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Clips whose class is in one region and in the audio, each at its own random seconds; event = seen AND heard.

    Returns visual, audio, whether seen (clip, segment), whether heard (clip, segment), labels.
    """
    random = np.random.default_rng(seed)
    marks = np.eye(config.visual_channels)[: config.class_count], np.eye(config.audio_channels)[: config.class_count]
    classes = random.integers(config.class_count, size=count)
    seen, heard = random.random((2, count, config.segment_count)) < 0.5
    shape = (count, config.segment_count, config.visual_height, config.visual_width, config.visual_channels)
    visual = random.normal(scale=0.3, size=shape)
    audio = random.normal(scale=0.3, size=(*shape[:2], config.audio_channels))
    for clip, segment in np.ndindex(count, config.segment_count):
        row, column = random.integers(config.visual_height), random.integers(config.visual_width)
        visual[clip, segment, row, column] += 3.0 * seen[clip, segment] * marks[0][classes[clip]]
        audio[clip, segment] += 3.0 * heard[clip, segment] * marks[1][classes[clip]]
    labels = np.where((seen & heard).any(1), classes, -1)
    return (
        torch.tensor(visual, dtype=torch.float32),
        torch.tensor(audio, dtype=torch.float32),
        torch.tensor(seen),
        torch.tensor(heard),
        torch.tensor(labels),
    )


def test_training_finds_events_that_neither_modality_shows_alone():
    config = replace(SMALL, class_count=2, width=32, dropout=0.1)
    visual, audio, seen, heard, labels = seen_and_heard_problem(64, config, seed=0)
    event = seen & heard
    for alone in (
        seen,
        heard,
    ):  # the best rule on one of the two: predict the more frequent kind for each of its values
        best = sum(max((event == kind)[alone == value].sum().item() for kind in (0, 1)) for value in (0, 1))
        assert best / event.numel() < 0.8
    model = network(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        supervised_loss(model(visual, audio), event.float(), labels, LossConfig())["total"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.inference_mode():
        output = model.eval()(visual, audio)
    background = config.class_count
    predicted = torch.where(output.event_logits > 0, output.class_logits.argmax(1)[:, None], background)
    assert (predicted == torch.where(event, labels[:, None], background)).float().mean() > 0.95


def test_a_dropped_visual_channel_is_dropped_in_every_second_of_a_clip():
    attention = GuidedAttention(6, 3, 8, channel_dropout=0.5).train()
    visual, audio = torch.randn(16, 5, 2, 2, 6), torch.randn(16, 5, 3)
    attended, _ = attention(visual, audio)  # (clip, segment, channel)
    dropped = attended == 0
    assert torch.equal(dropped.any(1), dropped.all(1))
    assert 0.3 < dropped.all(1).float().mean() < 0.7
    assert not (attention.eval()(visual, audio)[0] == 0).any()
