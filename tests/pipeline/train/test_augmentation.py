import torch
from hypothesis import given
from hypothesis import strategies as st

from ccln.pipeline.train.tasks import exchange_audio

clips = st.lists(st.tuples(st.integers(-1, 2), st.booleans()), min_size=1, max_size=12)


def batch_of(kinds: list[tuple[int, bool]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Audio that holds each clip's number, events that fill a clip or leave out a second, and labels."""
    labels = torch.tensor([label for label, _ in kinds])
    event = torch.tensor(
        [[float(label >= 0 and (full or second != 2)) for second in range(5)] for label, full in kinds]
    )
    return torch.arange(len(kinds)).float()[:, None, None].expand(-1, 5, 3), event, labels


@given(clips, st.integers(0, 1000))
def test_audio_is_exchanged_whole_between_full_events_of_one_class(kinds: list[tuple[int, bool]], seed: int) -> None:
    audio, event, labels = batch_of(kinds)
    exchanged = exchange_audio(audio, event, labels, 1.0, torch.Generator().manual_seed(seed))
    source = exchanged[:, 0, 0].long()
    assert torch.equal(exchanged, audio[source])
    for taker, giver in enumerate(source.tolist()):
        if taker != giver:
            assert kinds[taker][0] == kinds[giver][0]
            assert bool(event[taker].all())
            assert bool(event[giver].all())


def test_share_is_the_fraction_of_audio_that_is_exchanged() -> None:
    audio, event, labels = batch_of([(1, True)] * 400)
    moved = {}
    for share in (0.0, 0.5, 1.0):
        source = exchange_audio(audio, event, labels, share, torch.Generator().manual_seed(0))[:, 0, 0]
        moved[share] = (source != audio[:, 0, 0]).float().mean().item()
    assert moved[0.0] == 0
    assert 0.4 < moved[0.5] < 0.6
    assert moved[1.0] > 0.95
