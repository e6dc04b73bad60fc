import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ccln.model import LossConfig, ModelConfig
from ccln.model.losses import wccl_loss
from ccln.model.matching import (
    MatchingNetwork,
    is_findable,
    matching_loss,
    window_contrast,
    window_distances,
)

CONFIG = ModelConfig(
    visual_height=2, visual_width=3, visual_channels=8, audio_channels=6, class_count=3, width=16, embedding_width=4
)
LOSS = LossConfig()


def network(**changes) -> MatchingNetwork:
    torch.manual_seed(0)
    return MatchingNetwork(replace(CONFIG, **changes))


def features(clips: int = 4, segments: int = 10) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    visual = torch.randn(clips, segments, 2, 3, 8, generator=random)
    return visual, torch.randn(clips, segments, 6, generator=random)


def events(*spans: tuple[int, int], segments: int = 10) -> Tensor:
    """float32 (clip, segment): 1 from start to end."""
    time = torch.arange(segments)
    return torch.stack([(start <= time) & (time < end) for start, end in spans]).float()


def unit(*shape: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


spans = st.tuples(st.integers(0, 9), st.integers(1, 10)).map(lambda s: (s[0], min(10, s[0] + s[1])))


def test_embeddings_are_unit_vectors():
    output = network().eval()(*features())
    for embeddings in (output.audio, output.visual):
        assert embeddings.shape == (4, 10, 4)
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(4, 10))


def test_embeddings_of_a_modality_do_not_depend_on_the_other():
    visual, audio = features()
    model = network().eval()
    plain = model(visual, audio)
    torch.testing.assert_close(model(visual.flip(0), audio).audio, plain.audio)
    torch.testing.assert_close(model(visual, audio.flip(0)).visual, plain.visual)
    assert not torch.allclose(model(visual, audio.flip(0)).audio, plain.audio)
    assert not torch.allclose(model(visual.flip(0), audio).visual, plain.visual)


@settings(max_examples=20, deadline=None)
@given(spans)
def test_a_query_has_the_same_embedding_alone_and_in_its_clip(span: tuple[int, int]):
    """Nothing outside of the query, not even how much of it there is before and after, has an effect on it."""
    visual, audio = features()
    model = network().eval()
    whole, alone = model(visual, audio), model(visual[:, slice(*span)], audio[:, slice(*span)])
    torch.testing.assert_close(alone.audio, whole.audio[:, slice(*span)])
    torch.testing.assert_close(alone.visual, whole.visual[:, slice(*span)])


def test_shuffled_seconds_give_shuffled_embeddings():
    visual, audio = features()
    model, order = network().eval(), torch.randperm(10, generator=torch.Generator().manual_seed(0))
    shuffled, plain = model(visual[:, order], audio[:, order]), model(visual, audio)
    torch.testing.assert_close(shuffled.audio, plain.audio[:, order])
    torch.testing.assert_close(shuffled.visual, plain.visual[:, order])


def test_embeddings_depend_only_on_the_mean_of_a_visual_map():
    visual, audio = features()
    model = network().eval()
    mean = visual.mean((2, 3), keepdim=True)
    torch.testing.assert_close(model(mean, audio).visual, model(visual, audio).visual)


def test_a_clip_loses_the_same_visual_channels_in_all_its_seconds():
    model = network(channel_dropout=0.5, dropout=0.0).train()
    visual, audio = features(clips=1)
    seen = model(visual[:, :1].expand(-1, 10, -1, -1, -1), audio).visual
    torch.testing.assert_close(seen, seen[:, :1].expand_as(seen))


def test_branch_views_are_for_training_only_and_only_with_wccl():
    visual, audio = features()
    event = events((0, 3), (2, 9), (0, 10), (4, 5))
    assert network().eval()(visual, audio, event).branch is None
    assert network(without=("wccl",)).train()(visual, audio, event).branch is None
    branch = network().train()(visual, audio, event).branch
    assert branch is not None
    assert [view.shape for view in branch] == [(4, 4), (4, 4)]


def test_a_part_that_a_matching_network_lacks_cannot_be_left_out():
    with pytest.raises(ValueError, match=r"\['sbi'\].*only wccl"):
        network(without=("sbi", "wccl"))


@pytest.mark.parametrize(("visual", "audio"), [((2, 10, 2, 3, 7), (2, 10, 6)), ((2, 10, 2, 3, 8), (2, 10, 5))])
def test_other_channels_are_refused(visual: tuple[int, ...], audio: tuple[int, ...]):
    with pytest.raises(ValueError, match="reads 8 and 6 channels"):
        network()(torch.zeros(visual), torch.zeros(audio))


def test_a_network_for_published_features_has_under_a_million_parameters():
    model = MatchingNetwork(ModelConfig(7, 7, 512, 128, 28))
    assert sum(parameter.numel() for parameter in model.parameters()) < 1e6


def test_a_query_is_one_unbroken_event_shorter_than_the_clip():
    event = events((0, 3), (7, 10), (4, 5), (0, 10), (3, 3), (1, 9))
    event[5, 4] = 0  # two events
    assert is_findable(event).tolist() == [True, True, True, False, False, False]


@settings(max_examples=50, deadline=None)
@given(st.lists(spans, min_size=1, max_size=5), st.integers(0, 9))
def test_window_distances_are_those_of_a_plain_loop(some: list[tuple[int, int]], seed: int):
    queries, searched = unit(len(some), 10, 3, seed=seed), unit(len(some), 10, 3, seed=seed + 100)
    found = window_distances(queries, searched, events(*some))
    for clip, (start, end) in enumerate(some):
        length = end - start
        for at in range(10):
            if at + length > 10:
                assert found[clip, at] == math.inf
                continue
            expected = sum(
                float((queries[clip, start + k] - searched[clip, at + k]).square().sum()) / 2 for k in range(length)
            )
            assert found[clip, at].item() == pytest.approx(expected, abs=1e-5)


def test_segments_outside_the_query_have_no_effect():
    event = events((2, 5), (6, 10))
    queries, searched = unit(2, 10, 3), unit(2, 10, 3, seed=1)
    other = torch.where(event[..., None] > 0, queries, unit(2, 10, 3, seed=2))
    assert torch.equal(window_distances(other, searched, event), window_distances(queries, searched, event))


def test_window_contrast_is_the_cross_entropy_of_the_true_start():
    event = events((2, 5), (6, 10), (0, 10), (4, 4))
    queries, searched = unit(4, 10, 3), unit(4, 10, 3, seed=1)
    expected = []
    for clip, (start, length) in enumerate([(2, 3), (6, 4)]):
        similarity = [
            sum(float(queries[clip, start + k] @ searched[clip, at + k]) for k in range(length)) / length / 0.2
            for at in range(11 - length)
        ]
        expected.append(math.log(sum(map(math.exp, similarity))) - similarity[start])
    assert window_contrast(queries, searched, event, 0.2).item() == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_losses_are_finite_and_reach_every_weight():
    visual, audio = features()
    event, labels = events((0, 3), (2, 9), (0, 10), (4, 4)), torch.tensor([0, 1, 0, -1])
    model = network().train()
    losses = matching_loss(model(visual, audio, event), event, labels, LOSS)
    losses["total"].backward()
    assert set(losses) == {"a2v", "v2a", "wccl", "total"}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("span", [(0, 10), (4, 4)])
def test_a_batch_without_queries_has_zero_loss_in_both_directions(span: tuple[int, int]):
    visual, audio = features()
    event = events(*[span] * 4)
    model = network(without=("wccl",)).train()
    losses = matching_loss(model(visual, audio, event), event, torch.zeros(4, dtype=torch.long), LOSS)
    losses["total"].backward()
    assert losses["total"].item() == 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_total_is_the_weighted_sum_and_wccl_that_of_the_event_seconds():
    visual, audio = features()
    event, labels = events((0, 3), (2, 9), (0, 10), (4, 4)), torch.tensor([0, 1, 0, -1])
    output = network().train()(visual, audio, event)
    losses = matching_loss(output, event, labels, LOSS, wccl_warmth=0.5)
    expected = (losses["a2v"] + losses["v2a"]) / 2 + 0.5 * LOSS.wccl_weight * losses["wccl"]
    torch.testing.assert_close(losses["total"], expected)
    pooled = [
        torch.stack([z[0, 0:3].mean(0), z[1, 2:9].mean(0), z[2].mean(0), z[3].mean(0)])
        for z in (output.audio, output.visual)
    ]
    audio_view, visual_view = (torch.nn.functional.normalize(z, dim=-1) for z in pooled)
    views = audio_view, visual_view
    assert output.branch is not None
    torch.testing.assert_close(losses["wccl"], wccl_loss(views, output.branch, labels, LOSS.temperature))
