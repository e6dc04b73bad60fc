from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import SHARED
from torch import Tensor

from ccln.model import ModelConfig
from ccln.model.matching import MatchingNetwork
from ccln.pipeline.cml.metrics import (
    CmlDetails,
    CmlScores,
    EmbeddedClips,
    cml_baselines,
    embed_clips,
    evaluate_cml,
    predicted_starts,
    score_queries,
    score_shuffled,
)
from ccln.pipeline.cml.task import CrossModalityLocalization
from ccln.pipeline.data.clips import AnnotatedClip, Split
from ccln.pipeline.data.features import DatasetFeatures, LabelledClips
from ccln.pipeline.train.config import RunConfig, TrainingConfig
from ccln.pipeline.train.loop import train_network
from ccln.pipeline.train.tasks import surround

AVE = SHARED / "ave"

short_spans = st.tuples(st.integers(0, 9), st.integers(1, 9)).map(lambda s: (min(s[0], 10 - s[1]), s[1]))
"""Start and length of events shorter than the clip."""


def events(starts_and_lengths: list[tuple[int, int]]) -> Tensor:
    time = torch.arange(10)
    return torch.stack([(start <= time) & (time < start + length) for start, length in starts_and_lengths]).float()


def unit(*shape: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def many_events(count: int, seed: int) -> Tensor:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 10, count)
    return events([(int(random.integers(0, 11 - length)), int(length)) for length in lengths])


@settings(max_examples=30, deadline=None)
@given(st.lists(short_spans, min_size=1, max_size=6), st.integers(0, 99))
def test_scores_are_those_of_a_plain_loop(spans: list[tuple[int, int]], seed: int):
    heard, seen = unit(len(spans), 10, 3, seed=seed), unit(len(spans), 10, 3, seed=seed + 100)
    scores = score_queries(EmbeddedClips(heard, seen, events(spans)))
    for found, queries, searched in ((scores.a2v, heard, seen), (scores.v2a, seen, heard)):
        hits = 0
        for clip, (start, length) in enumerate(spans):
            query = queries[clip, start : start + length]
            sums = [
                float((query - searched[clip, at : at + length]).square().sum(1).sum()) for at in range(11 - length)
            ]
            hits += sums.index(min(sums)) == start
        assert found == hits / len(spans)
    assert scores.clips == len(spans)


@settings(max_examples=30, deadline=None)
@given(st.lists(short_spans, min_size=1, max_size=6), st.integers(0, 99))
def test_perfect_embeddings_always_hit(spans: list[tuple[int, int]], seed: int):
    same = unit(len(spans), 10, 8, seed=seed)
    assert score_queries(EmbeddedClips(same, same, events(spans))) == CmlScores(1.0, 1.0, len(spans))


def test_embeddings_without_content_hit_about_as_often_as_chance():
    event = many_events(4000, seed=0)
    expected = float((1 / (11 - event.sum(1))).mean())
    scores = score_queries(EmbeddedClips(unit(4000, 10, 8, seed=1), unit(4000, 10, 8, seed=2), event))
    assert scores.a2v == pytest.approx(expected, abs=0.03)
    assert scores.v2a == pytest.approx(expected, abs=0.03)


@settings(max_examples=20, deadline=None)
@given(st.lists(short_spans, min_size=1, max_size=6), st.integers(0, 99))
def test_segments_outside_the_query_do_not_change_its_prediction(spans: list[tuple[int, int]], seed: int):
    event = events(spans)
    heard, seen = unit(len(spans), 10, 3, seed=seed), unit(len(spans), 10, 3, seed=seed + 100)
    other = torch.where(event[..., None] > 0, heard, unit(len(spans), 10, 3, seed=seed + 200))
    before, after = (score_queries(EmbeddedClips(audio, seen, event)) for audio in (heard, other))
    assert before.a2v == after.a2v


def test_the_earliest_of_equal_windows_is_taken():
    """In a clip of equal seconds all sums differ only by rounding: the prediction is 0."""
    alike = unit(1, 1, 64, seed=0).expand(9, 10, 64)
    event = events([(start, 2) for start in range(9)])
    scores = score_queries(EmbeddedClips(unit(9, 10, 64, seed=1), alike, event))
    assert scores.a2v == 1 / 9
    assert predicted_starts(np.array([[2.0, 1.0000001, 1.0, np.inf], [3.0, 2.0, 1.0, np.inf]])).tolist() == [1, 2]


def test_shuffled_seconds_score_no_more_than_chance():
    event = many_events(300, seed=0)
    same = unit(300, 10, 8, seed=1)
    shuffled = score_shuffled(EmbeddedClips(same, same, event))
    chance = float((1 / (11 - event.sum(1))).mean())
    assert shuffled.a2v == pytest.approx(chance, abs=0.05)
    assert shuffled.v2a == pytest.approx(chance, abs=0.05)
    assert shuffled.clips == 300
    assert score_shuffled(EmbeddedClips(same, same, event)) == shuffled


def test_baselines_by_hand():
    train = events([(0, 3), (7, 3), (7, 3), (2, 5), (1, 5), (0, 10)])
    scored = events([(7, 3), (0, 3), (1, 5), (4, 2), (0, 2), (0, 10), (0, 0)])
    baselines = {name: scores.a2v for name, scores in cml_baselines(train, scored).items()}
    assert baselines == {
        "random start": pytest.approx((1 / 8 + 1 / 8 + 1 / 6 + 1 / 9 + 1 / 9) / 5),
        "always start 0": pytest.approx(2 / 5),
        # Length 3: 7. Length 5: 1 and 2 once each, so 1. Length 2 is not in training: 0.
        "most frequent start for the length": pytest.approx(3 / 5),
    }
    assert {scores.clips for scores in cml_baselines(train, scored).values()} == {5}


@pytest.mark.skipif(not (AVE / "test_order_match.h5").exists(), reason="AVE's published files are not here")
def test_baselines_of_the_published_split():
    with h5py.File(AVE / "labels_closs.h5") as file:
        event = torch.from_numpy(np.asarray(file["avadataset"]))
    orders = {}
    for split in ("train", "val", "test"):
        with h5py.File(AVE / f"{split}_order_match.h5") as file:
            orders[split] = torch.from_numpy(np.asarray(file["order"]))
    baselines = cml_baselines(event[orders["train"]], event[orders["test"]])
    assert {name: round(100 * scores.v2a, 1) for name, scores in baselines.items()} == {
        "random start": 20.8,
        "always start 0": 35.3,
        "most frequent start for the length": 47.0,
    }
    assert baselines["random start"].clips == 402
    assert (
        cml_baselines(event[orders["train"]], event[orders["val"]])["random start"].clips == 198
    )  # one row has no event


def labelled(count: int, seed: int, split: Split = "train") -> LabelledClips:
    """Clips whose event is found in either modality: its class has a direction there, the background is noise."""
    random = np.random.default_rng(seed)
    directions = np.random.default_rng(0).normal(size=(3, 8)) * 3
    clips, visual, audio, labels = [], [], [], []
    for number in range(count):
        length = int(random.integers(1, 10))
        start = int(random.integers(0, 11 - length))
        label = number % 3
        event = (np.arange(10) >= start) & (np.arange(10) < start + length)
        content = event[:, None] * directions[label]
        visual.append(torch.tensor(random.normal(size=(10, 2, 2, 8)) + content[:, None, None], dtype=torch.float16))
        audio.append(torch.tensor(random.normal(size=(10, 8)) + content, dtype=torch.float32))
        labels.append(np.where(event, label, 3))
        clips.append(AnnotatedClip(number, "abc"[label], f"v{number}", ((start, start + length),), split))
    class_labels, keys = np.arange(count) % 3, tuple(clip.video_id for clip in clips)
    lengths = (10.0,) * count
    return LabelledClips(
        tuple(clips), tuple(visual), tuple(audio), np.stack(labels), class_labels, 3, keys, (), lengths
    )


def made_features() -> DatasetFeatures:
    splits: dict[Split, LabelledClips] = {
        "train": labelled(60, 1),
        "validation": labelled(40, 2, "validation"),
        "test": labelled(40, 3, "test"),
    }
    return DatasetFeatures(splits, {}, ("a", "b", "c"), {"train": 0, "validation": 0, "test": 0})


def small_network() -> MatchingNetwork:
    torch.manual_seed(0)
    return MatchingNetwork(ModelConfig(2, 2, 8, 8, 3, width=16, embedding_width=8))


def test_clips_without_a_query_do_not_count():
    clips = labelled(6, 1)
    clips.segment_labels[0] = 0  # a full event
    clips.segment_labels[1] = 3  # none
    clips.segment_labels[2] = [3, 1, 3, 1, 3, 3, 3, 3, 3, 3]
    assert score_queries(embed_clips(small_network(), clips)).clips == 3
    clips.segment_labels[:] = 3
    nothing = score_queries(embed_clips(small_network(), clips))
    assert nothing.as_dict() == {"a2v": None, "v2a": None, "clips": 0}


def test_embeddings_do_not_depend_on_the_batch_and_keep_the_mode():
    network, clips = small_network().train(), labelled(7, 1)
    whole, pieces = embed_clips(network, clips), embed_clips(network, clips, batch_size=2)
    torch.testing.assert_close(pieces.audio, whole.audio)
    torch.testing.assert_close(pieces.visual, whole.visual)
    assert network.training


def test_the_training_loop_learns_to_find_queries(tmp_path: Path):
    features = made_features()
    task = CrossModalityLocalization(features, RunConfig())
    training = TrainingConfig(epochs=12, batch_size=16, learning_rate=5e-3)
    trained = train_network(small_network(), task, training, tmp_path)
    scores = task.scores(trained.model, "test")
    found = task.evaluate(trained.model, features, "test")
    assert found.scores == scores
    strongest = max(baseline.selection for baseline in found.baselines.values())
    assert min(scores.a2v, scores.v2a) > strongest + 0.3
    (shuffled,) = found.ablated.values()
    assert shuffled == score_shuffled(embed_clips(trained.model, features.splits["test"]))
    assert shuffled.selection < scores.selection - 0.3
    best = trained.history[trained.best_epoch - 1]
    assert best.selection == task.scores(trained.model, "validation").selection
    assert {"a2v", "v2a", "wccl", "total"} <= set(best.losses)


def test_training_on_mean_maps_equals_training_on_maps():
    features = made_features()
    clips = features.splits["train"]
    batch = CrossModalityLocalization(features, RunConfig()).clips.__getitems__([3, 1])
    network = small_network().eval()
    maps = torch.stack([clips.visual[3], clips.visual[1]]).float()
    torch.testing.assert_close(network(batch["visual"], batch["audio"]).visual, network(maps, batch["audio"]).visual)
    assert torch.equal(batch["event"], clips.event[[3, 1]])
    assert torch.equal(batch["label"], clips.labels[[3, 1]])


def numbered_batch(event: Tensor) -> dict[str, Tensor]:
    """Audio and visual features of each second hold the number of their clip and second."""
    clips = len(event)
    number = torch.arange(clips * 10.0).view(clips, 10)
    return {
        "visual": number.view(clips, 10, 1, 1, 1),
        "audio": number[..., None],
        "event": event,
        "label": number[:, 0],
    }


def test_full_events_are_surrounded_by_the_background_of_one_clip_of_the_batch():
    event = events([(0, 10), (2, 3), (0, 10), (6, 4), (0, 0), (0, 10)])
    event[4, [1, 5]] = 1  # two events: its background is not used
    batch = numbered_batch(event)
    lenders = set()
    for seed in range(10):
        new = surround(batch, 1.0, torch.Generator().manual_seed(seed))
        assert torch.equal(new["label"], batch["label"])
        assert torch.equal(new["visual"].flatten(1), new["audio"].flatten(1))
        for clip in (1, 3, 4):
            assert all(torch.equal(new[name][clip], batch[name][clip]) for name in batch)
        for clip in (0, 2, 5):
            own = new["event"][clip].bool()
            number = new["audio"][clip, :, 0]
            assert torch.equal(number[own], clip * 10 + torch.arange(10.0)[own])
            (lender,) = set((number[~own] // 10).int().tolist())
            assert torch.equal(new["event"][clip], event[lender])
            assert torch.equal(number[~own], lender * 10 + torch.arange(10.0)[~own])
            lenders.add(lender)
    assert lenders == {1, 3}


def test_a_batch_without_background_is_not_changed():
    batch = numbered_batch(events([(0, 10), (0, 10)]))
    new = surround(batch, 1.0, torch.Generator().manual_seed(0))
    assert all(torch.equal(new[name], batch[name]) for name in batch)


def test_share_is_the_fraction_of_full_events_that_are_surrounded():
    batch = numbered_batch(events([(2, 3)] + [(0, 10)] * 400))
    shorter = {}
    for share in (0.0, 0.3, 1.0):
        event = surround(batch, share, torch.Generator().manual_seed(0))["event"][1:]
        shorter[share] = (event.sum(1) < 10).float().mean().item()
    assert shorter[0.0] == 0
    assert 0.2 < shorter[0.3] < 0.4
    assert shorter[1.0] == 1


def test_scores_of_the_classes_differ_and_add_up_to_the_total():
    """A network that finds only the queries of the last class: the other clips are silent and black."""
    clips = labelled(30, 1)
    clips.segment_labels[5] = 2  # a full event: no query
    for row in range(30):
        if row % 3 != 2:
            clips.audio[row].zero_()
            clips.visual[row].zero_()
    splits: dict[Split, LabelledClips] = {"train": labelled(60, 1), "validation": clips, "test": clips}
    features = DatasetFeatures(splits, {}, ("a", "b", "c"), {"train": 0, "validation": 0, "test": 0})
    network = small_network()
    network.visual_encoder.load_state_dict(network.audio_encoder.state_dict())  # one space for both modalities
    found = evaluate_cml(network, features, "test")
    assert found.details == evaluate_cml(network, features, "validation").details
    scores = found.scores
    assert isinstance(found.details, CmlDetails)
    assert isinstance(scores, CmlScores)
    assert [hits.rows for hits in found.details.classes] == [10, 10, 9]
    for name in ("a2v", "v2a"):
        hits = [getattr(of, name) for of in found.details.classes]
        assert sum(hits) == pytest.approx(29 * getattr(scores, name))
        silent = sum(int(clips.event[row].argmax()) == 0 for row in range(30) if row % 3 == 0)
        assert hits[0] == silent  # where all seconds are alike, the earliest start
    worst, *_, total = found.details.tables()[0].splitlines()[1:]
    assert total.split() == ["all", "29", *(str(round(29 * share)) for share in (scores.a2v, scores.v2a))]
    rates = [(hits.a2v + hits.v2a) / hits.rows for hits in found.details.classes]
    assert worst.split()[0] == "abc"[rates.index(min(rates))]
    assert found.details.as_dict()["classes"][2] == {"name": "c", **asdict(found.details.classes[2])}


def test_selection_is_the_mean_of_both_directions():
    assert CmlScores(0.5, 0.7, 10).selection == pytest.approx(0.6)
    assert CmlScores(0.5, 0.7, 10).as_dict() == {"a2v": 0.5, "v2a": 0.7, "clips": 10}
