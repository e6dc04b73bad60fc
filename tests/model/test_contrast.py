"""WCCL: the contrastive loss between views of clips."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor
from torch.nn import functional as F

from ccln.model.losses import contrastive_loss, wccl_loss

pytestmark = pytest.mark.usefixtures("one_core")


batches = st.lists(st.integers(-1, 2), min_size=1, max_size=8)
with_negative = batches.map(lambda labels: [*labels, -1])
seeds = st.integers(0, 10**6)


def unit_vectors(count: int, seed: int, how_many: int, width: int = 6) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [
        F.normalize(torch.randn(count, width, generator=random, dtype=torch.float64), dim=-1) for _ in range(how_many)
    ]


def oracle(anchors: Tensor, others: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """pytorch-metric-learning's loss from one view to another; a clip without event matches nothing, not even itself.

    It returns zero for a batch without any negative, so the batches compared hold one.
    """
    ranks = torch.arange(len(labels))
    as_anchor = torch.where(labels < 0, 1000 + ranks, labels)
    as_other = torch.where(labels < 0, 2000 + ranks, labels)
    return SupConLoss(temperature=temperature)(anchors, as_anchor, ref_emb=others, ref_labels=as_other)


@settings(max_examples=40, deadline=None)
@given(labels=with_negative, seed=seeds, temperature=st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_contrastive_loss_agrees_with_pytorch_metric_learning(labels: list[int], seed: int, temperature: float):
    anchors, others = unit_vectors(len(labels), seed, 2)
    loss = contrastive_loss(anchors, others, torch.tensor(labels), temperature)
    torch.testing.assert_close(loss, oracle(anchors, others, torch.tensor(labels), temperature).to(loss))


@settings(max_examples=15, deadline=None)
@given(labels=with_negative, seed=seeds)
def test_wccl_is_the_mean_over_the_six_directions(labels: list[int], seed: int):
    label = torch.tensor(labels)
    audio, visual, branch_audio, branch_visual = unit_vectors(len(labels), seed, 4)
    directions = [
        oracle(audio, visual, label, 0.1),
        oracle(visual, audio, label, 0.1),
        oracle(audio, branch_visual, label, 0.1),
        oracle(visual, branch_audio, label, 0.1),
        oracle(branch_audio, audio, label, 0.1),
        oracle(branch_visual, visual, label, 0.1),
    ]
    loss = wccl_loss((audio, visual), (branch_audio, branch_visual), label, 0.1)
    torch.testing.assert_close(loss, torch.stack(directions).mean().to(loss))


@settings(max_examples=30, deadline=None)
@given(labels=batches, seed=seeds, data=st.data())
def test_wccl_does_not_depend_on_the_order_of_the_batch(labels: list[int], seed: int, data: st.DataObject):
    order = data.draw(st.permutations(range(len(labels))))
    label = torch.tensor(labels)
    audio, visual, branch_audio, branch_visual = unit_vectors(len(labels), seed, 4)
    torch.testing.assert_close(
        wccl_loss((audio, visual), (branch_audio, branch_visual), label),
        wccl_loss((audio[order], visual[order]), (branch_audio[order], branch_visual[order]), label[order]),
    )


def test_a_clip_without_event_is_a_negative_only():
    anchors, others = unit_vectors(3, 0, 2)
    labels = torch.tensor([0, 1, -1])
    loss = contrastive_loss(anchors, others, labels, 0.1)
    moved = torch.stack([anchors[0], anchors[1], -anchors[2]])
    torch.testing.assert_close(contrastive_loss(moved, others, labels, 0.1), loss)  # it is no anchor
    nearer = torch.stack([others[0], others[1], anchors[0]])
    assert contrastive_loss(anchors, nearer, labels, 0.1) > loss + 0.1  # but it pushes others away
    event_elsewhere = contrastive_loss(anchors, others, torch.tensor([0, 1, 2]), 0.1)
    assert not torch.isclose(event_elsewhere, loss)


@pytest.mark.parametrize("count", [1, 5])
def test_wccl_is_zero_when_no_clip_has_an_event(count: int):
    audio, visual, branch_audio, branch_visual = (x.requires_grad_() for x in unit_vectors(count, 0, 4))
    loss = wccl_loss((audio, visual), (branch_audio, branch_visual), torch.full((count,), -1))
    loss.backward()
    assert loss.item() == 0
    assert audio.grad is not None
    assert torch.equal(audio.grad, torch.zeros_like(audio))


def test_contrastive_loss_is_lowest_where_classes_are_apart():
    labels = torch.tensor([0, 0, 1, 1])
    ideal = torch.eye(2)[labels]
    swapped = torch.eye(2)[1 - labels]
    blurred = torch.ones(4, 2) / 2**0.5
    best, worst, undecided = (contrastive_loss(ideal, others, labels, 0.1) for others in (ideal, swapped, blurred))
    assert best < undecided < worst
    torch.testing.assert_close(undecided, torch.tensor(4.0).log())
    torch.testing.assert_close(best, torch.tensor(2.0).log() + torch.tensor(-10.0).exp(), atol=1e-4, rtol=0)


def test_a_batch_of_one_class_still_draws_views_together():
    anchors, others = unit_vectors(4, 0, 2)
    log_share = np.log(softmax_rows((anchors @ others.T / 0.5).numpy()))
    loss = contrastive_loss(anchors, others, torch.zeros(4, dtype=torch.long), 0.5)
    assert loss.item() == pytest.approx(-log_share.mean())


def softmax_rows(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x)
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1e-6, 0.1, 1e6])
def test_contrastive_loss_is_finite_for_extreme_similarities(temperature: float):
    anchors = torch.eye(3).requires_grad_()
    for others in (torch.eye(3), -torch.eye(3), torch.eye(3).flip(0)):
        loss = contrastive_loss(anchors, others, torch.tensor([0, 1, 0]), temperature)
        (gradient,) = torch.autograd.grad(loss, anchors)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
