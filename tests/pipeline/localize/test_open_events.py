from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccln.extractors.classes import HeardAndSeen, has_classes
from ccln.extractors.efficientnet_lite0 import packaged_file
from ccln.extractors.presets import AUDIO_CHOICES, PRESETS
from ccln.extractors.registry import preset_with
from ccln.extractors.weights import read_weights
from ccln.extractors.yamnet import build, load_yamnet
from ccln.pipeline.localize.events import Tracks
from ccln.pipeline.localize.open_events import (
    LEAST_SUPPORT,
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

BARK, SILENCE, SPEECH = (load_vocabulary().heard_names.index(name) for name in ("Bark", "Silence", "Speech"))
RETRIEVER, PIANO = 207, 579


def evidence(heard: dict[int, float], seen: dict[int, float], seconds: int = 4) -> OpenEvidence:
    """The same in every second."""
    of_heard, of_seen = np.zeros((seconds, 521), np.float32), np.zeros((seconds, 1000), np.float32)
    for index, probability in heard.items():
        of_heard[:, index] = probability
    for index, probability in seen.items():
        of_seen[:, index] = probability
    seen_as = (load_vocabulary().visible[None] * of_seen[:, None]).max(2)
    return OpenEvidence(of_heard, of_seen, seen_as)


def tracks(seen: float, heard: float, seconds: int = 4) -> Tracks:
    seconds_of = np.ones(seconds, np.float32)
    return Tracks(np.zeros(seconds, np.int64), seen * seconds_of, heard * seconds_of, 0.9 * seconds_of)


def named(events: Sequence[Event], seen: float, heard: float, found: OpenEvidence, *, trained: bool = True):
    return named_events(events, tracks(seen, heard), found, trained=trained)


CLOCK = [Event("Clock", 0.0, 4.0, 0.5)]
DOG = evidence({BARK: 0.9, SPEECH: 0.2}, {RETRIEVER: 0.8})


def test_a_class_that_both_modalities_support_keeps_its_name():
    (event,) = named(CLOCK, 0.9, 0.8, DOG)
    assert (event.label, event.named_by, event.confidence) == ("Clock", "trained", 0.5)
    assert event.heard[0].name == "Bark"
    assert event.seen[0].probability == pytest.approx(0.8)


@pytest.mark.parametrize(("seen", "heard"), [(0.02, 0.12), (0.9, 0.1), (0.1, 0.9)])
def test_a_class_that_they_do_not_support_gives_way_to_what_is_heard(seen: float, heard: float):
    (event,) = named(CLOCK, seen, heard, DOG)
    assert (event.label, event.named_by) == ("Bark", "open")
    assert event.confidence == pytest.approx(0.9)


def test_where_nothing_is_heard_the_event_is_unknown():
    (event,) = named(CLOCK, 0.1, 0.1, evidence({SILENCE: 0.9}, {PIANO: 0.9}))
    assert (event.label, event.named_by) == (UNKNOWN, "none")


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
    kept = named(parts, 0.9, 0.9, DOG)
    assert [event.label for event in kept] == ["Clock", "Cat", "Cat"]


def test_without_names_events_that_touch_are_one_of_whatever_kind():
    parts = [Event("Clock", 0.0, 2.0, 0.5), Event("Cat", 2.0, 4.0, 0.5)]
    (event,) = unnamed_events(parts, tracks(0.9, 0.9))
    assert (event.label, event.named_by, event.start_seconds, event.end_seconds) == (UNNAMED, "none", 0.0, 4.0)


@settings(max_examples=50, deadline=None)
@given(seen=st.floats(0, 1, width=32), heard=st.floats(0, 1, width=32))
def test_no_row_contradicts_its_name(seen: float, heard: float):
    labels = np.array(["Clock"] * 4, object)
    events = named(CLOCK, seen, heard, DOG)
    shown_seen, shown_heard = shown_tracks(events, labels, tracks(seen, heard), DOG)
    if events[0].named_by == "trained":
        assert min(shown_seen.mean(), shown_heard.mean()) >= LEAST_SUPPORT - 1e-6
        assert set(labels) == {"Clock"}
    else:
        assert set(labels) == {"Bark"}
        assert shown_heard == pytest.approx(0.9)
        assert shown_seen == pytest.approx(0.8)


def test_what_is_seen_and_heard_raises_the_event_and_another_thing_or_silence_lowers_it():
    alike = DOG.event_logits
    other = evidence({BARK: 0.9}, {PIANO: 0.8}).event_logits
    silent = evidence({BARK: 0.01, SILENCE: 0.99}, {RETRIEVER: 0.8}).event_logits
    assert (alike > 2).all()
    assert (other < -2).all()
    assert (silent < -3).all()


def test_the_head_is_that_of_timm_and_the_classes_those_of_yamnet():
    torch.manual_seed(0)
    classifiers = HeardAndSeen(build(AUDIO_CHOICES["yamnet"], None))
    maps, embedding = torch.rand(2, 7, 7, 320) * 3, torch.rand(2, 1024)
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
    found = OpenVocabulary(classifiers).evidence(maps, embedding)
    assert (found.heard.shape, found.seen.shape, found.seen_as.shape) == ((2, 521), (2, 1000), (2, 521))
    assert found.seen.sum(1) == pytest.approx([1, 1], abs=1e-4)


def test_only_features_of_both_extractors_can_be_named():
    assert not has_classes(PRESETS["ave"])
    assert not has_classes(preset_with(PRESETS["ave"], audio="yamnet"))
    assert has_classes(preset_with(PRESETS["ave"], audio="yamnet", visual="efficientnet-lite0"))
