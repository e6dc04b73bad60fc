from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccln.extractors.classes import HeardAndSeen, has_classes
from ccln.extractors.contract import ExtractorError
from ccln.extractors.efficientnet_lite0 import packaged_file
from ccln.extractors.presets import AUDIO_CHOICES, PRESETS
from ccln.extractors.registry import preset_with
from ccln.extractors.weights import read_weights
from ccln.extractors.yamnet import build, load_yamnet
from ccln.model import EventDecoding
from ccln.pipeline.localize.events import Tracks, long_enough, segments_of
from ccln.pipeline.localize.naming import LEAST_EVIDENCE
from ccln.pipeline.localize.open_events import (
    LEAST_SUPPORT,
    LEAST_USUAL_SUPPORT,
    UNKNOWN,
    UNNAMED,
    OpenEvidence,
    OpenVocabulary,
    named_events,
    shown_tracks,
    unnamed_events,
)
from ccln.pipeline.localize.result import Event
from ccln.pipeline.localize.vocabulary import load_vocabulary

BARK, SILENCE, SPEECH, HELICOPTER = map(
    load_vocabulary().heard_names.index, ("Bark", "Silence", "Speech", "Helicopter")
)
RETRIEVER, PIANO = 207, 579


def evidence(
    heard: dict[int, float], seen: dict[int, float], seconds: int = 4, level_db: float = -20.0
) -> OpenEvidence:
    """The same in every second."""
    of_heard, of_seen = np.zeros((seconds, 521), np.float32), np.zeros((seconds, 1000), np.float32)
    for index, probability in heard.items():
        of_heard[:, index] = probability
    for index, probability in seen.items():
        of_seen[:, index] = probability
    seen_as = (load_vocabulary().visible[None] * of_seen[:, None]).max(2)
    return OpenEvidence(of_heard, of_seen, seen_as, np.full(seconds, level_db, np.float32))


def tracks(seen: float, heard: float, seconds: int = 4) -> Tracks:
    seconds_of = np.ones(seconds, np.float32)
    return Tracks(np.zeros(seconds, np.int64), seen * seconds_of, heard * seconds_of, 0.9 * seconds_of)


def named(
    events: Sequence[Event],
    seen: float,
    heard: float,
    found: OpenEvidence | None,
    *,
    trained: bool = True,
    class_threshold: float = 0.0,
) -> tuple[Event, ...]:
    return named_events(events, tracks(seen, heard), found, trained=trained, class_threshold=class_threshold)


CLOCK = [Event("Clock", 0.0, 4.0, 0.5)]
DOG = evidence({BARK: 0.9, SPEECH: 0.2}, {RETRIEVER: 0.8})
MAYBE_DOG = evidence({BARK: 0.4, SPEECH: 0.2}, {RETRIEVER: 0.8})
DOG_OF_A_MINUTE = evidence({BARK: 0.9, SPEECH: 0.2}, {RETRIEVER: 0.8}, 60)


def test_a_class_that_both_modalities_support_keeps_its_name():
    (event,) = named(CLOCK, 0.9, 0.8, MAYBE_DOG)
    assert (event.label, event.named_by, event.confidence) == ("Clock", "trained", 0.5)
    assert event.heard[0].name == "Bark"
    assert event.seen[0].probability == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("label", "found", "expected"),
    [
        ("Clock", DOG, "Bark"),
        ("Clock", evidence({BARK: 0.9}, {RETRIEVER: 0.4}), "Clock"),  # heard for sure, and not seen
        ("Dog", DOG, "Dog"),  # which a bark can be of
        ("Howl", DOG, "Howl"),  # another sound of the same
        ("Goal", DOG, "Goal"),  # nobody knows what that sounds like
    ],
)
def test_a_supported_class_gives_way_to_another_thing_that_is_surely_seen_and_heard(
    label: str, found: OpenEvidence, expected: str
):
    (event,) = named([Event(label, 0.0, 4.0, 0.5)], 0.9, 0.8, found)
    assert event.label == expected


@pytest.mark.parametrize(("seen", "heard"), [(0.02, 0.12), (0.9, 0.1), (0.1, 0.9)])
def test_a_class_that_they_do_not_support_gives_way_to_what_is_heard(seen: float, heard: float):
    (event,) = named(CLOCK, seen, heard, DOG)
    assert (event.label, event.named_by) == ("Bark", "open")
    assert event.confidence == pytest.approx(0.9)


def test_one_second_that_shows_a_class_and_one_that_sounds_it_support_it():
    of_seconds = tracks(0.02, 0.05)
    of_seconds.seen[1], of_seconds.heard[2] = 0.9, 0.8
    assert named_events(CLOCK, of_seconds, MAYBE_DOG, class_threshold=0.5) == named(CLOCK, 0.9, 0.8, MAYBE_DOG)
    of_seconds.heard[2] = 0.05
    assert named_events(CLOCK, of_seconds, MAYBE_DOG, class_threshold=0.5)[0].named_by == "open"


def test_one_second_does_not_name_many_others_that_do_not_support_it():
    of_seconds = tracks(0.9, 0.01, seconds=10)
    of_seconds.heard[4] = 0.8
    (event,) = named_events([Event("Clock", 0.0, 10.0, 0.5)], of_seconds, class_threshold=0.0)
    assert event.label == UNKNOWN


def test_a_class_that_the_network_does_not_know_is_unknown_however_well_it_is_supported():
    assert named(CLOCK, 0.7, 0.9, None, class_threshold=0.69) == tuple(CLOCK)
    (event,) = named(CLOCK, 0.7, 0.9, None, class_threshold=0.71)
    assert (event.label, event.named_by) == (UNKNOWN, "none")


def test_where_nothing_is_heard_the_event_is_unknown():
    (event,) = named(CLOCK, 0.1, 0.1, evidence({SILENCE: 0.9}, {PIANO: 0.9}))
    assert (event.label, event.named_by) == (UNKNOWN, "none")


def test_without_an_open_vocabulary_a_class_that_is_not_supported_is_unknown():
    (event,) = named(CLOCK, 0.02, 0.12, None)
    assert (event.label, event.named_by, event.heard, event.seen) == (UNKNOWN, "none", (), ())
    assert event.confidence == pytest.approx(0.9)
    assert named(CLOCK, 0.9, 0.8, None) == tuple(CLOCK)


def test_open_alone_never_gives_the_trained_name():
    (event,) = named(CLOCK, 0.9, 0.9, DOG, trained=False)
    assert event.named_by == "open"


def test_events_that_touch_and_have_one_open_name_are_one():
    parts = [Event("Clock", 0.0, 2.0, 0.5), Event("Cat", 2.0, 3.0, 0.5), Event("Cat", 3.5, 4.0, 0.5)]
    found = named(parts, 0.1, 0.1, DOG)
    assert [(event.label, event.start_seconds, event.end_seconds) for event in found] == [
        ("Bark", 0.0, 3.0),
        ("Bark", 3.5, 4.0),
    ]
    kept = named(parts, 0.9, 0.9, MAYBE_DOG)
    assert [event.label for event in kept] == ["Clock", "Cat", "Cat"]


def test_what_is_said_of_a_joined_event_is_of_all_its_seconds():
    found = evidence({BARK: 0.9}, {RETRIEVER: 0.8})
    found.heard[:2, BARK], found.seen[:2, RETRIEVER] = 0.5, 0.4
    parts = [Event("Clock", 0.0, 2.0, 0.5), Event("Cat", 2.0, 4.0, 0.5)]
    (event,) = named(parts, 0.1, 0.1, found)
    assert (event.heard[0].probability, event.seen[0].probability) == (pytest.approx(0.7), pytest.approx(0.6))


def test_without_names_events_that_touch_are_one_of_whatever_kind():
    parts = [Event("Clock", 0.0, 2.0, 0.5), Event("Cat", 2.0, 4.0, 0.5)]
    (event,) = unnamed_events(parts, tracks(0.9, 0.9))
    assert (event.label, event.named_by, event.start_seconds, event.end_seconds) == (UNNAMED, "none", 0.0, 4.0)


def test_events_are_joined_before_short_ones_are_left_out():
    parts = [Event("Clock", 0.0, 1.0, 0.5), Event("Cat", 1.0, 2.0, 0.5), Event("Cat", 3.0, 4.0, 0.5)]
    decoding = EventDecoding(minimum_duration_seconds=2)
    for found in (unnamed_events(parts, tracks(0.9, 0.9)), named(parts, 0.1, 0.1, DOG), named(parts, 0.1, 0.1, None)):
        (event,) = long_enough(found, decoding, 4)
        assert (event.start_seconds, event.end_seconds) == (0.0, 2.0)


def test_a_name_that_no_picture_can_show_has_nothing_seen():
    (event,) = named(CLOCK, 0.1, 0.1, evidence({HELICOPTER: 0.9}, {PIANO: 0.9}))
    shown = shown_tracks([event], ["Clock"], tracks(0.1, 0.1), evidence({HELICOPTER: 0.9}, {PIANO: 0.9}))
    assert event.label == "Helicopter"
    assert not shown.seeable.any()
    assert not shown.seen.any()


probabilities = st.floats(0, 1, width=32)


@settings(max_examples=200, deadline=None)
@given(
    support=st.lists(st.tuples(probabilities, probabilities), min_size=4, max_size=4),
    heard=st.dictionaries(st.integers(0, 520), probabilities, max_size=5),
    seen=st.dictionaries(st.sampled_from([RETRIEVER, PIANO, 834, 569, 344]), probabilities, max_size=3),
    classes=st.sampled_from(["trained", "both", "open"]),
    cuts=st.sets(st.integers(1, 3)),
)
def test_no_row_contradicts_its_name(
    support: list[tuple[float, float]],
    heard: dict[int, float],
    seen: dict[int, float],
    classes: str,
    cuts: set[int],
):
    seen_track, heard_track = np.array(support, np.float32).T
    given_tracks = Tracks(np.arange(4) % 2, seen_track, heard_track, np.full(4, 0.96, np.float32))
    found = None if classes == "trained" else evidence(heard, seen)
    edges = [0, *sorted(cuts), 4]
    runs = [Event("Clock", float(start), float(end), 0.9) for start, end in pairwise(edges)]
    events = named_events(runs, given_tracks, found, trained=classes != "open", class_threshold=0.0)
    shown = shown_tracks(events, ["Clock", "Cat"], given_tracks, found)
    for event in events:
        place = segments_of(event)
        assert set(shown.labels[place]) == {event.label}
        seen_of, heard_of = shown.seen[place].mean(), shown.heard[place].mean()
        if event.named_by == "trained":
            assert event.label == "Clock"
            assert min(shown.seen[place].max(), shown.heard[place].max()) >= LEAST_SUPPORT
            assert min(seen_of, heard_of) >= LEAST_USUAL_SUPPORT - 1e-6
        elif event.named_by == "open":
            assert heard_of >= LEAST_EVIDENCE - 1e-6
            assert seen_of >= LEAST_EVIDENCE - 1e-6 or not shown.seeable[place].any()
        else:
            assert event.label == UNKNOWN


def test_what_is_seen_and_heard_raises_the_event_and_another_thing_or_silence_lowers_it():
    alike = DOG.event_logits
    other = evidence({BARK: 0.9}, {PIANO: 0.8}).event_logits
    silent = evidence({BARK: 0.01, SILENCE: 0.99}, {RETRIEVER: 0.8}).event_logits
    assert (alike > 2).all()
    assert (other < -1).all()
    assert (silent < -3).all()


@given(st.lists(st.floats(-100, 0, width=32), min_size=1, max_size=40), st.integers(0, 39), st.floats(0, 20, width=32))
def test_a_second_counts_less_the_quieter_it_is_than_what_is_around(levels: list[float], at: int, quieter: float):
    at %= len(levels)
    constant = OpenEvidence(*(getattr(DOG_OF_A_MINUTE, each.name)[: len(levels)] for each in fields(OpenEvidence)))
    given_levels = np.array(levels, np.float32)
    lower = given_levels.copy()
    lower[at] -= quieter
    before, after = (replace(constant, level_db=level).event_logits for level in (given_levels, lower))
    louder = replace(constant, level_db=given_levels + 17).event_logits
    np.testing.assert_allclose(louder, before, atol=1e-4)  # nothing but differences counts
    assert after[at] <= before[at] + 1e-4
    assert (np.delete(after, at) >= np.delete(before, at) - 1e-4).all()
    far = abs(np.arange(len(levels)) - at) >= 10  # only the ten seconds on either side are around
    np.testing.assert_allclose(after[far], before[far], atol=1e-4)
    loudest = given_levels == given_levels.max()
    np.testing.assert_allclose(before[loudest], constant.event_logits[loudest], atol=1e-4)


def test_the_head_is_that_of_timm_and_the_classes_those_of_yamnet():
    import timm  # takes seconds, also of the processes that run no such test

    torch.manual_seed(0)
    classifiers = HeardAndSeen(build(AUDIO_CHOICES["yamnet"], None))
    maps, embedding = torch.rand(2, 7, 7, 320) * 3, torch.rand(2, 1024)
    waveform = np.repeat([0.1, -0.01], [16_000, 8_000]).astype(np.float32)
    model: Any = timm.create_model("tf_efficientnet_lite0").eval()
    state = read_weights(packaged_file())
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    with torch.inference_mode():
        for region in ((0, 0), (3, 6)):
            one = maps[:, region[0], region[1]][:, :, None, None]
            wanted = model.forward_head(model.bn2(model.conv_head(one))).softmax(-1)
            found = classifiers.seen(maps).unflatten(1, (7, 7))[:, region[0], region[1]]
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(classifiers.heard(embedding), load_yamnet().classifier(embedding).sigmoid())
    found = OpenVocabulary(classifiers).evidence(maps, embedding, waveform)
    assert (found.heard.shape, found.seen.shape, found.seen_as.shape) == ((2, 521), (2, 1000), (2, 521))
    assert found.level_db == pytest.approx([-20, -40], abs=1e-3)  # the second lasts half as long
    assert found.seen.sum(1) == pytest.approx([1, 1], abs=1e-4)


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's weights under timm's names."""
    import timm

    return dict(zip(timm.create_model("tf_efficientnet_lite0").state_dict(), state.values(), strict=True))


def test_what_is_seen_is_named_by_the_head_of_the_weights_that_are_given(tmp_path: Path):
    audio, maps = build(AUDIO_CHOICES["yamnet"], None), torch.rand(1, 7, 7, 320) * 3
    state = read_weights(packaged_file())
    wanted = HeardAndSeen(audio).seen(maps)
    torch.save(renamed(state), tmp_path / "timm.pth")
    torch.testing.assert_close(HeardAndSeen(audio, tmp_path / "timm.pth").seen(maps), wanted)
    torch.save({**state, "_fc.bias": state["_fc.bias"] + torch.arange(1000)}, tmp_path / "other.pth")
    assert HeardAndSeen(audio, tmp_path / "other.pth").seen(maps).argmax(-1).eq(999).all()


@pytest.mark.parametrize("damage", ["_fc.weight", "_conv_head.weight"])
def test_weights_without_their_head_are_refused_with_a_remedy(damage: str, tmp_path: Path):
    state = read_weights(packaged_file())
    for name, part in (("gone", {}), ("cut", {damage: state[damage][:10]})):
        torch.save({**{key: state[key] for key in state if key != damage}, **part}, tmp_path / f"{name}.pth")
        with pytest.raises(ExtractorError, match=rf"{name}\.pth has no classifier.*--classes trained"):
            HeardAndSeen(build(AUDIO_CHOICES["yamnet"], None), tmp_path / f"{name}.pth")


def test_only_features_of_both_extractors_can_be_named():
    assert not has_classes(PRESETS["ave"])
    assert not has_classes(preset_with(PRESETS["ave"], audio="yamnet"))
    assert has_classes(preset_with(PRESETS["ave"], audio="yamnet", visual="efficientnet-lite0"))
