import numpy as np
import pytest

from ccln.pipeline.localize.naming import open_name, top_heard, top_seen
from ccln.pipeline.localize.vocabulary import load_vocabulary


def heard(**probabilities: float) -> np.ndarray:
    vector = np.zeros(521)
    for name, probability in probabilities.items():
        index = load_vocabulary().index_of(name)
        assert index is not None
        vector[index] = probability
    return vector


def seen(**probabilities: float) -> np.ndarray:
    vector = np.zeros(1000)
    for name, probability in probabilities.items():
        vector[load_vocabulary().seen_names.index(name.replace("_", " "))] = probability
    return vector


def test_a_child_with_enough_of_its_parents_score_is_preferred():
    assert open_name(heard(Animal=0.9, Dog=0.8, Bark=0.6), seen()) == "Bark"
    assert open_name(heard(Animal=0.9, Dog=0.8, Bark=0.1), seen()) == "Dog"


def test_a_generic_name_is_used_only_if_no_specific_one_is_supported():
    assert open_name(heard(Music=0.9, Piano=0.2), seen()) == "Piano"
    assert open_name(heard(Music=0.9, Piano=0.01), seen()) == "Music"


def test_some_classes_never_name_an_event():
    assert open_name(heard(Silence=0.9, Cough=0.1), seen()) == "Cough"
    assert open_name(heard(Silence=0.9, Echo=0.8), seen()) is None


def test_what_is_seen_decides_between_similar_sounds():
    sound = heard(Explosion=0.24, Fireworks=0.2, Gunshot_gunfire=0.15)
    assert open_name(sound, seen()) == "Fireworks"
    assert open_name(sound, seen(rifle=0.7)) == "Gunshot, gunfire"


def test_what_is_seen_alone_names_nothing():
    assert open_name(heard(), seen(beagle=1.0)) is None


def test_nothing_is_named_without_support():
    assert open_name(np.full(521, 0.01), np.full(1000, 0.001)) is None


def test_the_most_probable_come_first():
    assert top_heard(heard(Dog=0.8, Bark=0.6, Cat=0.1), 2) == [("Dog", 0.8), ("Bark", 0.6)]
    assert top_seen(seen(beagle=0.5, pug=0.75), 2) == [("pug", 0.75), ("beagle", 0.5)]
    assert len(top_heard(heard())) == len(top_seen(seen())) == 5


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(521,\), not \(520,\)"):
        open_name(np.zeros(520), np.zeros(1000))
    with pytest.raises(ValueError, match=r"\(1000,\), not \(10, 1000\)"):
        top_seen(np.zeros((10, 1000)))
