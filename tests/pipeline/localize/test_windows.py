"""Windows over a video, merged as they come, against all windows at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import SMALL, clips, network

from ccln.model import CCLN, ModelConfig, Output
from ccln.pipeline.localize.windows import WindowedNetwork

TEN = 10
CONFIG = ModelConfig(**{**vars(SMALL), "segment_count": TEN})
FIELDS = ("event_logits", "class_logits", "visual_logits", "audio_logits", "attention")


@pytest.fixture(scope="module")
def reader() -> CCLN:
    return network(CONFIG).eval()


def video(segments: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of that many segments."""
    visual, audio = clips(CONFIG, count=segments // TEN + 1)
    return visual.flatten(0, 1)[:segments], audio.flatten(0, 1)[:segments]


def fed(reader: CCLN, visual: torch.Tensor, audio: torch.Tensor, hop: int) -> WindowedNetwork:
    """Ten segments at a time, the last piece filled up with values that must have no effect."""
    windows = WindowedNetwork(reader, hop)
    for start in range(0, len(visual), TEN):
        piece = visual[start : start + TEN], audio[start : start + TEN]
        covered = len(piece[0])
        if start:
            piece = [torch.cat([part, 9 * torch.ones(TEN - covered, *part.shape[1:])]) for part in piece]
        windows.add(*piece, covered)
    return windows


def named(output: Output) -> torch.Tensor:
    """The classes of each second: its own logits, and half those of the branch network for the whole window."""
    assert output.segment_class_logits is not None
    assert output.branch is not None
    audio, visual = output.branch.class_logits
    return output.segment_class_logits.log_softmax(-1) + 0.5 * (audio + visual)[:, None]


@torch.inference_mode()
def merged_at_once(reader: CCLN, visual: torch.Tensor, audio: torch.Tensor, hop: int) -> dict[str, np.ndarray]:
    """The formula of the docstring, computed from all windows at once."""
    segments = len(visual)
    starts = sorted({*range(0, segments - TEN + 1, hop), segments - TEN})
    sums: dict[str, np.ndarray] = {}
    weights = np.zeros(segments)
    for start in starts:
        output = reader(visual[None, start : start + TEN], audio[None, start : start + TEN])
        predictions = {name: getattr(output, name)[0] for name in FIELDS}
        predictions["class_logits"] = named(output)[0]
        for place in range(TEN):
            weight = min(place + 1, TEN - place)
            weights[start + place] += weight
            for name, value in predictions.items():
                total = sums.setdefault(name, np.zeros((segments, *value.shape[1:])))
                total[start + place] += weight * value[place].numpy()
    return {name: (total.T / weights).T for name, total in sums.items()}


@settings(deadline=None, max_examples=25)
@given(st.integers(TEN + 1, 47), st.integers(1, TEN))
def test_a_second_gets_the_weighted_mean_of_all_its_windows(segments: int, hop: int):
    reader = network(CONFIG).eval()
    visual, audio = video(segments)
    predictions = fed(reader, visual, audio, hop).predictions()
    for name, expected in merged_at_once(reader, visual, audio, hop).items():
        np.testing.assert_allclose(getattr(predictions, name), expected, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("covered", [1, 6, TEN])
def test_ten_seconds_or_less_are_one_window_named_as_longer_ones(reader: CCLN, covered: int):
    visual, audio = video(TEN)
    windows = WindowedNetwork(reader)
    windows.add(visual, audio, covered)
    predictions = windows.predictions()
    with torch.inference_mode():
        output = reader(visual[None], audio[None])
    for name in ("event_logits", "visual_logits", "audio_logits", "attention"):
        np.testing.assert_allclose(getattr(predictions, name), getattr(output, name)[0, :covered], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(predictions.class_logits, named(output)[0, :covered], rtol=1e-5, atol=1e-5)


def test_attention_still_adds_up_to_one(reader: CCLN):
    predictions = fed(reader, *video(33), 3).predictions()
    np.testing.assert_allclose(predictions.attention.sum((1, 2)), 1, atol=1e-5)


def test_features_in_memory_do_not_grow_with_the_video(reader: CCLN):
    visual, audio = video(300)
    windows = WindowedNetwork(reader, 3)
    for start in range(0, 300, TEN):
        windows.add(visual[start : start + TEN], audio[start : start + TEN])
        assert len(windows._features) <= 2 * TEN
    assert len(windows.predictions().event_logits) == 300


def test_predictions_can_be_computed_twice(reader: CCLN):
    windows = fed(reader, *video(37), 4)
    first = windows.predictions()
    np.testing.assert_array_equal(windows.predictions().event_logits, first.event_logits)


def test_a_hop_that_leaves_seconds_out_is_refused(reader: CCLN):
    for hop in (0, TEN + 1):
        with pytest.raises(ValueError, match=f"hop of {hop} segments"):
            WindowedNetwork(reader, hop)
    with pytest.raises(ValueError, match="no segment yet"):
        WindowedNetwork(reader).predictions()
