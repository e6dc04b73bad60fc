"""The other losses, and their sum."""

import itertools
import math
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ccln.model import LossConfig, Output, supervised_loss, weak_loss
from ccln.model.losses import each_modality_loss, scene_distance_loss, seen_and_heard_loss
from ccln.model.network import BranchOutput, MemberOutput

pytestmark = pytest.mark.usefixtures("one_core")


seeds = st.integers(0, 10**6)


# --- FEE --------------------------------------------------------------------------------------------------------------


def reference_distance_loss(enhanced: np.ndarray, weights: np.ndarray, event: np.ndarray, margin: float) -> float:
    """`scene_distance_loss` as its docstring has it, second by second in float64."""
    hinges = []
    for clip, (seconds, sure, is_event) in enumerate(zip(enhanced, weights, event, strict=True)):
        if is_event.min() == is_event.max():
            continue
        prototypes = np.zeros((2, enhanced.shape[-1]))
        for t, kind in enumerate(is_event.astype(int)):
            neighbours = [n for n in (t - 1, t + 1) if 0 <= n < len(is_event)]
            boundary = any(event[clip, n] != kind for n in neighbours)
            trust = max(0.1, sure[t] if kind else 1 - sure[t])
            prototypes[kind] += (2 if boundary else 1) * trust * seconds[t]
        cosine = prototypes[0] @ prototypes[1] / np.linalg.norm(prototypes[0]) / np.linalg.norm(prototypes[1])
        hinges.append(max(0.0, margin - (1 - cosine)))
    return float(np.mean(hinges)) if hinges else 0.0


def scenes(count: int, segments: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random g', w and labels."""
    random = torch.Generator().manual_seed(seed)
    enhanced = torch.randn(count, segments, 4, generator=random, dtype=torch.float64)
    weights = torch.rand(count, segments, generator=random, dtype=torch.float64)
    event = (torch.rand(count, segments, generator=random) < 0.5).double()
    return enhanced, weights, event


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 4), segments=st.integers(1, 8), seed=seeds, margin=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_scene_distance_agrees_with_its_formula(count: int, segments: int, seed: int, margin: float):
    enhanced, weights, event = scenes(count, segments, seed)
    expected = reference_distance_loss(enhanced.numpy(), weights.numpy(), event.numpy(), margin)
    assert scene_distance_loss(enhanced, weights, event, margin).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", [0.0, 1.0])
def test_scenes_of_one_kind_have_neither_loss_nor_gradient(kind: float):
    enhanced, weights, event = scenes(3, 6, 0)
    enhanced.requires_grad_()
    loss = scene_distance_loss(enhanced, weights, torch.full_like(event, kind))
    (gradient,) = torch.autograd.grad(loss, enhanced)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))
    event = torch.tensor([[0.0, 0, 1, 1, 0, 0]]).double().repeat(3, 1)
    mixed = torch.cat([event[:1], torch.full_like(event[1:], kind)])
    torch.testing.assert_close(
        scene_distance_loss(enhanced, weights, mixed), scene_distance_loss(enhanced[:1], weights[:1], event[:1])
    )


def test_scene_distance_is_zero_from_the_margin_on():
    event = torch.tensor([[0.0, 1, 1, 0]])
    weights = torch.full((1, 4), 0.5)
    direction = torch.tensor([1.0, 0.0])

    def loss(sine: float, cosine: float, margin: float = 1.0) -> float:
        other = torch.tensor([cosine, sine])
        enhanced = torch.where(event[..., None] > 0, direction, other)
        return scene_distance_loss(enhanced, weights, event, margin).item()

    assert loss(0.0, -1.0) == 0  # opposite
    assert loss(1.0, 0.0) == pytest.approx(0, abs=1e-6)  # at a right angle, a cosine distance of one
    assert loss(0.8, 0.6) == pytest.approx(0.6)
    assert loss(0.0, 1.0) == pytest.approx(1.0)  # alike
    assert loss(0.0, -1.0, margin=2.0) == pytest.approx(0, abs=1e-6)
    assert loss(1.0, 0.0, margin=2.0) == pytest.approx(1.0)


def test_a_second_at_a_boundary_weighs_double():
    """Event prototype = 1 far + 2 near a boundary, background likewise: the angle follows by hand."""
    event = torch.tensor([[1.0, 1, 0, 0]])
    far, near, background = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    enhanced = torch.stack([far, near, background, background])[None]
    loss = scene_distance_loss(enhanced, torch.full((1, 4), 0.5), event)
    assert loss.item() == pytest.approx(1 / 5**0.5)  # cosine of (1, 2) and (1, 0)


def test_scene_distance_has_a_finite_gradient_for_a_scene_of_zeros():
    enhanced = torch.zeros(1, 4, 3, requires_grad=True)
    loss = scene_distance_loss(enhanced, torch.full((1, 4), 0.5), torch.tensor([[0.0, 1, 1, 0]]))
    (gradient,) = torch.autograd.grad(loss, enhanced)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


# --- Seen and heard ---------------------------------------------------------------------------------------------------
LOGITS = (-50.0, -17.0, -3.0, -0.5, 0.0, 1.0, 8.0, 17.0, 50.0)


def exact(heard: float, seen: float, target: int) -> tuple[float, float]:
    """The loss of one class in one second, and its slope in the heard logit, with 80 decimal digits."""
    with localcontext() as context:
        context.prec = 80
        heard_probability, seen_probability = (1 / (1 + (-Decimal(logit)).exp()) for logit in (heard, seen))
        both = heard_probability * seen_probability
        if target:
            return float(-both.ln()), float(-(1 - heard_probability))
        return float(-(1 - both).ln()), float(both * (1 - heard_probability) / (1 - both))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("target", [0, 1])
def test_seen_and_heard_is_exact_at_any_logit(target: int, dtype: torch.dtype):
    digits = 4 * torch.finfo(dtype).eps
    event, label = torch.full((1, 1), float(target), dtype=dtype), torch.tensor([0])
    for heard, seen in itertools.product(LOGITS, LOGITS):
        heard_logit, seen_logit = (
            torch.tensor([[[value]]], dtype=dtype, requires_grad=True) for value in (heard, seen)
        )
        loss = seen_and_heard_loss(heard_logit, seen_logit, event, label[:, None])
        slopes = [slope.item() for slope in torch.autograd.grad(loss, [heard_logit, seen_logit])]
        (value, heard_slope), (_, seen_slope) = exact(heard, seen, target), exact(seen, heard, target)
        assert loss.dtype == dtype
        assert loss.item() == pytest.approx(value, rel=digits, abs=digits), (heard, seen)
        assert slopes == pytest.approx([heard_slope, seen_slope], rel=digits, abs=digits), (heard, seen)


def test_seen_and_heard_sums_over_classes_and_means_over_segments():
    random = torch.Generator().manual_seed(0)
    heard, seen = (3 * torch.randn(3, 4, 5, generator=random) for _ in range(2))
    event = torch.tensor([[0.0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    labels = torch.tensor([2, 0, -1])
    expected = 0.0
    for clip, segment, index in np.ndindex(3, 4, 5):
        is_target = bool(event[clip, segment]) and labels[clip] == index
        expected += exact(heard[clip, segment, index].item(), seen[clip, segment, index].item(), is_target)[0]
    assert seen_and_heard_loss(heard, seen, event, labels[:, None]).item() == pytest.approx(expected / 12, rel=1e-5)


def test_one_modality_may_be_high_where_the_other_is_low():
    low, high = torch.full((1, 1, 1), -20.0), torch.full((1, 1, 1), 20.0)
    nothing, label = torch.zeros(1, 1), torch.tensor([0])
    assert seen_and_heard_loss(low, high, nothing, label[:, None]) < 1e-6
    assert seen_and_heard_loss(high, low, nothing, label[:, None]) < 1e-6
    assert seen_and_heard_loss(high, high, nothing, label[:, None]) > 15


def test_each_segment_of_a_clip_with_several_classes_has_its_own():
    random = torch.Generator().manual_seed(0)
    heard, seen = (torch.randn(1, 4, 3, generator=random) for _ in range(2))
    event, classes = torch.ones(1, 4), torch.tensor([[2, 0, 0, 1]])
    for loss in (seen_and_heard_loss, each_modality_loss):
        alone = [
            loss(heard[:, t : t + 1], seen[:, t : t + 1], event[:, :1], classes[:, t : t + 1]).item() for t in range(4)
        ]
        assert loss(heard, seen, event, classes).item() == pytest.approx(np.mean(alone), rel=1e-5)


# --- The sum ----------------------------------------------------------------------------------------------------------


def output(count: int = 3, segments: int = 4, classes: int = 5, seed: int = 0) -> Output:
    """Outputs of two members and a branch; the averaged output is noise, since no loss uses it."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=random).requires_grad_()

    def unit() -> tuple[Tensor, Tensor]:
        return F.normalize(draw(6), dim=-1), F.normalize(draw(6), dim=-1)

    members = [
        MemberOutput(
            event_logits=draw(segments),
            class_logits=draw(classes),
            segment_class_logits=None,
            audio_logits=draw(segments, classes),
            visual_logits=draw(segments, classes),
            gate=draw(2, segments, segments),
            foreground_logits=draw(segments),
            enhanced=draw(segments, 8),
            views=unit(),
        )
        for _ in range(2)
    ]
    return Output(
        event_logits=draw(segments),
        class_logits=draw(classes),
        segment_class_logits=None,
        audio_logits=draw(segments, classes),
        visual_logits=draw(segments, classes),
        attention=draw(segments, 2, 2),
        members=tuple(members),
        branch=BranchOutput(unit(), (draw(classes), draw(classes))),
    )


EVENT = torch.tensor([[0.0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
LABELS = torch.tensor([2, 0, -1])
CONFIG = LossConfig(fee_weight=0.5, wccl_weight=0.7, modality_weight=0.2)


def mean_log_share(logits: Tensor) -> float:
    """Minus the mean log-probability of the labels of the clips that have one."""
    x = logits.detach().double().numpy()
    log_share = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return -np.mean([log_share[clip, label] for clip, label in enumerate(LABELS.tolist()) if label >= 0]).item()


def binary_cross_entropy(logits: Tensor) -> float:
    share = logits.detach().double().sigmoid()
    return -(1 - (share - EVENT).abs()).log().mean().item()


def contrast(anchors: Tensor, others: Tensor, temperature: float) -> float:
    """Every label of LABELS occurs once: the only positive of a clip is the clip itself."""
    similarity = (anchors @ others.T).detach().double().numpy() / temperature
    log_share = similarity - np.log(np.exp(similarity).sum(-1, keepdims=True))
    return -np.mean([log_share[clip, clip] for clip, label in enumerate(LABELS.tolist()) if label >= 0]).item()


def reference_wccl(result: Output, temperature: float) -> float:
    """Half the contrast between each member's and the branch's views, half the branch's cross-entropy of classes."""
    assert result.branch is not None
    branch_heard, branch_seen = result.branch.views
    directions = []
    for member in result.members:
        assert member.views is not None
        heard, seen = member.views
        pairs = [(heard, seen), (seen, heard), (heard, branch_seen)]
        pairs += [(seen, branch_heard), (branch_heard, heard), (branch_seen, seen)]
        directions += [contrast(one, other, temperature) for one, other in pairs]
    return float((np.mean(directions) + np.mean([mean_log_share(logits) for logits in result.branch.class_logits])) / 2)


@pytest.mark.parametrize("warmth", [0.0, 0.25, 1.0])
def test_the_total_is_the_weighted_sum_of_its_parts(warmth: float):
    result = output()
    losses = supervised_loss(result, EVENT, LABELS, CONFIG, warmth)
    expected = {
        "event": np.mean([binary_cross_entropy(one.event_logits) for one in result.members]),
        "class": np.mean([mean_log_share(one.class_logits) for one in result.members]),
        "modality": np.mean(
            [
                loss(one.audio_logits, one.visual_logits, EVENT, LABELS[:, None]).item()
                for one in result.members
                for loss in (seen_and_heard_loss, each_modality_loss)
            ]
        )
        * 2,
        "fee": np.mean(
            [
                reference_distance_loss(
                    one.enhanced.detach().numpy(), one.foreground_logits.sigmoid().detach().numpy(), EVENT.numpy(), 1.0
                )
                + binary_cross_entropy(one.foreground_logits)
                for one in result.members
                if one.foreground_logits is not None
            ]
        ),
        "wccl": reference_wccl(result, CONFIG.temperature),
    }
    weights = {"event": 1, "class": 1, "modality": 0.2, "fee": 0.5, "wccl": 0.7 * warmth}
    expected["total"] = sum(weights[name] * expected[name] for name in weights)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_wccl_uses_no_segment_labels_and_is_equal_in_both_tasks(temperature: float):
    result, config = output(), replace(CONFIG, temperature=temperature)
    for event in (EVENT, 1 - EVENT, torch.zeros_like(EVENT)):
        loss = supervised_loss(result, event, LABELS, config)["wccl"]
        assert loss.item() == pytest.approx(reference_wccl(result, temperature), rel=1e-5)
    assert torch.equal(weak_loss(result, LABELS, config)["wccl"], loss)


def test_losses_do_not_use_the_averaged_output():
    result = output()
    whole = [result.event_logits, result.class_logits, result.audio_logits, result.visual_logits, result.attention]
    for losses in (supervised_loss(result, EVENT, LABELS, CONFIG), weak_loss(result, LABELS, CONFIG)):
        assert torch.autograd.grad(losses["total"], whole, allow_unused=True) == (None,) * len(whole)


def test_parts_that_the_network_lacks_are_not_in_the_losses():
    whole = output()
    members = tuple(one._replace(foreground_logits=None, views=None) for one in whole.members)
    bare = whole._replace(members=members, branch=None)
    losses = supervised_loss(bare, EVENT, LABELS, CONFIG)
    assert losses.keys() == {"event", "class", "modality", "total"}
    torch.testing.assert_close(losses["total"], losses["event"] + losses["class"] + 0.2 * losses["modality"])


def test_a_clip_without_event_has_no_class_to_learn():
    result = output()
    assert result.branch is not None
    losses = supervised_loss(result, EVENT, LABELS, CONFIG)
    of_members = torch.autograd.grad(losses["class"], [one.class_logits for one in result.members])
    of_branch = torch.autograd.grad(losses["wccl"], result.branch.class_logits)
    for gradient in (*of_members, *of_branch):
        assert torch.equal(gradient[2], torch.zeros(5))
        assert (gradient[:2] != 0).all()


def test_a_batch_without_any_event_is_finite():
    result = output()
    losses = supervised_loss(result, torch.zeros(3, 4), torch.full((3,), -1), CONFIG)
    losses["total"].backward()
    assert losses["class"] == losses["wccl"] == 0
    assert torch.isfinite(losses["total"])
    for member in result.members:
        assert member.event_logits.grad is not None
        assert torch.isfinite(member.event_logits.grad).all()


@pytest.mark.parametrize("scale", [50.0, 1e4])
def test_the_total_is_finite_for_extreme_logits(scale: float):
    result = output()
    assert result.branch is not None

    def extreme(logits: Tensor) -> Tensor:
        return (scale * logits.detach().sign()).requires_grad_()

    names = ("event_logits", "class_logits", "audio_logits", "visual_logits", "foreground_logits")
    leaves = [{name: extreme(getattr(one, name)) for name in names} for one in result.members]
    of_branch = (extreme(result.branch.class_logits[0]), extreme(result.branch.class_logits[1]))
    members = tuple(one._replace(**of_one) for one, of_one in zip(result.members, leaves, strict=True))
    sure = result._replace(members=members, branch=result.branch._replace(class_logits=of_branch))
    total = supervised_loss(sure, EVENT, LABELS, CONFIG)["total"]
    assert torch.isfinite(total)
    changed = [*of_branch, *(leaf for of_one in leaves for leaf in of_one.values())]
    assert all(torch.isfinite(slope).all() for slope in torch.autograd.grad(total, changed))


def test_the_branch_network_is_always_trained():
    with pytest.raises(ValueError, match=r"wccl_weight = 0: .* leave the part out"):
        LossConfig(wccl_weight=0)


@pytest.mark.parametrize("name", ["fee_weight", "wccl_weight", "modality_weight", "margin", "temperature"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_loss_config_that_cannot_work_is_refused_by_name(name: str, value: float):
    with pytest.raises(ValueError, match=name):
        replace(LossConfig(), **{name: value})


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        LossConfig(temperature=0.0)


def test_the_modality_loss_uses_event_seconds_only():
    generator = torch.Generator().manual_seed(0)
    heard, seen = torch.randn(3, 4, 2, generator=generator), torch.randn(3, 4, 2, generator=generator)
    event = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
    labels = torch.tensor([1, -1, 0])
    expected = 0.0
    for clip, segment in zip(*np.nonzero(event.numpy()), strict=True):
        for logits in (heard, seen):
            for name, logit in enumerate(logits[clip, segment].tolist()):
                probability = 1 / (1 + math.exp(-logit))
                expected -= math.log(probability if name == labels[clip] else 1 - probability)
    assert each_modality_loss(heard, seen, event, labels[:, None]).item() == pytest.approx(expected / 5, rel=1e-5)
    assert each_modality_loss(heard, seen, torch.zeros(3, 4), torch.full((3, 1), -1)) == 0
