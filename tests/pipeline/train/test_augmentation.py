import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccln.pipeline.train.tasks import exchange_audio, main_classes, mismatch

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


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.5, 1.0]), classes=st.integers(1, 4))
def test_foreign_audio_is_laid_over_spans_that_are_then_background(seed: int, share: float, classes: int):
    random = torch.Generator().manual_seed(seed)
    clips = 12
    labels = torch.randint(-1, classes, (clips,), generator=random)
    event = ((torch.rand(clips, 10, generator=random) < 0.7) & (labels >= 0)[:, None]).float()
    audio = torch.arange(clips * 10.0).view(clips, 10, 1)  # each second its own number
    batch = {"visual": audio.clone(), "audio": audio, "event": event, "label": torch.where(event.any(1), labels, -1)}
    new = mismatch(batch, share, random)
    changed = (new["audio"] != audio)[..., 0]
    lender = new["audio"][..., 0].long() // 10
    for clip in range(clips):
        seconds = changed[clip].nonzero()[:, 0]
        assert len(seconds) <= 5
        if not len(seconds):
            continue
        assert len(seconds) == seconds[-1] - seconds[0] + 1  # one span
        assert (new["audio"][clip, seconds, 0].long() % 10 == seconds).all()  # the same seconds of one clip
        (of,) = set(lender[clip, seconds].tolist())
        assert batch["label"][of] >= 0
        assert batch["label"][of] != batch["label"][clip]
    assert torch.equal(new["visual"], batch["visual"])
    assert torch.equal(new["event"], event * ~changed)
    assert torch.equal(new["label"], torch.where(new["event"].any(1), batch["label"], -1))
    if share == 0:
        assert not changed.any()


def test_the_share_is_that_of_clips_with_foreign_audio():
    audio, labels = torch.randn(400, 10, 2), torch.arange(400) % 4
    batch = {"visual": audio, "audio": audio, "event": torch.ones(400, 10), "label": labels}
    new = mismatch(batch, 0.5, torch.Generator().manual_seed(0))
    assert 0.4 < (new["event"] == 0).any(1).float().mean() < 0.6


def test_the_class_of_a_clip_is_that_of_most_of_its_event_seconds():
    event = torch.tensor([[1.0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 1], [1, 1, 0, 0, 0]])
    classes = torch.tensor([[2, 1, 1, 2, 2], [0, 0, 0, 0, 0], [0, 3, 0, 0, 3], [2, 1, 0, 0, 0]])
    assert main_classes(event, classes).tolist() == [1, -1, 3, 1]
