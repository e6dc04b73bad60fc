"""Dropout that is the same in all seconds of a clip."""

import pytest
import torch

from ccln.model.layers import ClipDropout


def clips(count: int = 64, channels: int = 256) -> torch.Tensor:
    torch.manual_seed(0)
    return 1 + torch.rand(count, 10, channels)  # nowhere zero, so that what is dropped can be seen


def test_a_dropped_channel_is_dropped_in_all_seconds_of_its_clip():
    dropped = ClipDropout(0.3)(clips()) == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))


def test_each_clip_drops_its_own_channels_at_the_given_rate():
    dropped = (ClipDropout(0.3)(clips()) == 0)[:, 0]
    assert len(dropped.unique(dim=0)) == len(dropped)
    assert dropped.float().mean() == pytest.approx(0.3, abs=0.02)


def test_kept_channels_are_scaled_to_keep_the_mean():
    x = clips()
    dropped = ClipDropout(0.3)(x)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], x[kept] / 0.7)
    assert dropped.mean().item() == pytest.approx(x.mean().item(), rel=0.02)


def test_no_gradient_reaches_a_dropped_channel():
    x = clips(8).requires_grad_()
    dropped = ClipDropout(0.5)(x)
    dropped.sum().backward()
    assert torch.equal(x.grad == 0, dropped == 0)


@pytest.mark.parametrize(
    "layer", [ClipDropout(0.3).eval(), ClipDropout(0.0)], ids=["outside of training", "of nothing"]
)
def test_without_a_rate_or_training_nothing_is_dropped(layer: ClipDropout):
    x = clips()
    assert torch.equal(layer(x), x)
