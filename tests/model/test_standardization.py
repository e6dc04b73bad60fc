"""Features standardized with the mean and deviation of the training split."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.training_clips import made_up_set, prepared

from ccln.model import CCLN, MatchingNetwork, ModelConfig
from ccln.model.layers import Standardization
from ccln.pipeline.commands.train import TaskName


def test_standardization_changes_nothing_before_it_has_statistics() -> None:
    features = torch.randn(3, 10, 5)
    assert torch.equal(Standardization(5)(features), features)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_training_features_get_mean_zero_and_deviation_one(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    scale = 1 + torch.rand(4, generator=random)
    features = torch.randn(6, 10, 4, generator=random) * scale + 7
    standardization = Standardization(4)
    standardization.learn(features)
    standard = standardization(features).flatten(0, 1)
    torch.testing.assert_close(standard.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_standardization_keeps_differences_in_loudness() -> None:
    """A norm over the channels of each second would remove them."""
    quiet, loud = torch.linspace(0, 1, 5).expand(10, 5), torch.linspace(0, 1, 5).expand(10, 5) + 3
    standardization = Standardization(5)
    standardization.learn(torch.stack([quiet, loud]))
    assert (standardization(loud) - standardization(quiet) > 1).all()


def test_a_channel_constant_in_training_does_not_dominate_the_others() -> None:
    features = torch.randn(6, 10, 4)
    features[..., 0] = 0
    standardization = Standardization(4)
    standardization.learn(features)
    assert standardization(torch.ones(1, 10, 4)).abs().max() < 20
    standardization.learn(torch.zeros(6, 10, 4))  # the audio features of a data set without audio
    assert torch.equal(standardization(torch.zeros(1, 10, 4)), torch.zeros(1, 10, 4))


@pytest.mark.parametrize("task", ["supervised", "weak", "cml"])
def test_a_run_standardizes_with_statistics_of_its_training_split(task: TaskName, tmp_path: Path) -> None:
    data, cache, config = made_up_set(tmp_path)
    experiment = prepared(data, task=task, cache=cache, config=config)
    train = torch.stack(experiment.features.splits["train"].audio)
    network = experiment.new_network()
    assert isinstance(network, CCLN | MatchingNetwork)
    standard = network.standardization(train).flatten(0, 1)
    torch.testing.assert_close(standard.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std(0), torch.ones(5), atol=1e-2, rtol=0)


def test_statistics_are_saved_with_the_weights() -> None:
    config = ModelConfig(2, 2, 3, 5, 2, width=16, heads=2, embedding_width=8)
    taught, loaded = CCLN(config).eval(), CCLN(config).eval()
    taught.standardization.learn(5 * torch.randn(4, 10, 5) + 2)
    loaded.load_state_dict(taught.state_dict())
    visual, audio = torch.randn(1, 10, 2, 2, 3), torch.randn(1, 10, 5)
    assert torch.equal(taught(visual, audio).event_logits, loaded(visual, audio).event_logits)
