import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ccln.pipeline.localize.naming import LEAST_EVIDENCE, open_name, top_heard, top_seen
from ccln.pipeline.localize.vocabulary import load_vocabulary


def heard(**probabilities: float) -> np.ndarray:
    vector = np.zeros(521)
    for name, probability in probabilities.items():
        index = load_vocabulary().index_of(name)
        assert index is not None
        vector[index] = probability
    return vector


def seen_as(**probabilities: float) -> np.ndarray:
    """Of every class the highest probability of anything that it can be seen as."""
    of_things = np.zeros(1000)
    for name, probability in probabilities.items():
        of_things[load_vocabulary().seen_names.index(name.replace("_", " "))] = probability
    return (load_vocabulary().visible * of_things).max(1)


DOG, PIANO, DRUM = seen_as(beagle=0.9), seen_as(grand_piano=0.9), seen_as(drum=0.9)


def test_a_child_with_enough_of_its_parents_score_is_preferred():
    assert open_name(heard(Animal=0.9, Dog=0.8, Bark=0.6), DOG) == "Bark"
    assert open_name(heard(Animal=0.9, Dog=0.8, Bark=0.1), DOG) == "Dog"


def test_a_grandchild_needs_enough_of_the_score_that_the_name_began_with():
    assert open_name(heard(Drum=0.4, Snare_drum=0.3, Rimshot=0.16), DRUM) == "Snare drum"


def test_siblings_that_are_alike_give_way_to_their_parent():
    assert open_name(heard(Dog=0.8, Bark=0.6, Yip=0.2), DOG) == "Bark"
    assert open_name(heard(Dog=0.8, Bark=0.6, Yip=0.5), DOG) == "Dog"
    van = seen_as(moving_van=0.8, trolleybus=0.8)
    assert open_name(heard(Motor_vehicle_road=0.2, Truck=0.21, Bus=0.2), van) == "Motor vehicle (road)"


def test_a_generic_name_is_used_only_if_no_specific_one_is_supported():
    assert open_name(heard(Music=0.9, Piano=0.2), PIANO) == "Piano"
    assert open_name(heard(Music=0.9, Piano=0.01), PIANO) == "Music"
    assert open_name(heard(Music=0.1), PIANO) is None


def test_some_classes_never_name_an_event():
    assert open_name(heard(Silence=0.9, Cough=0.3), seen_as()) == "Cough"
    assert open_name(heard(Silence=0.9, Echo=0.8), seen_as()) is None


def test_what_is_seen_decides_between_similar_sounds():
    sound = heard(Explosion=0.3, Fireworks=0.3, Gunshot_gunfire=0.22)
    assert open_name(sound, seen_as()) == "Fireworks"
    assert open_name(sound, seen_as(rifle=0.9)) == "Gunshot, gunfire"
    pet = heard(Domestic_animals_pets=0.9, Dog=0.2, Cat=0.15)
    assert open_name(pet, seen_as(tabby=0.8)) == "Cat"
    assert open_name(pet, DOG) == "Dog"


def test_what_could_be_seen_and_is_not_names_nothing():
    bark = heard(Animal=0.9, Dog=0.9, Bark=0.9)
    assert open_name(bark, PIANO) is None
    assert open_name(bark, seen_as(hog=0.9)) == "Animal"
    assert open_name(heard(Helicopter=0.9), PIANO) == "Helicopter"  # ImageNet has no name for it
    assert open_name(heard(Cough=0.9), PIANO) == "Cough"  # nor for people


def test_what_is_seen_alone_names_nothing():
    assert open_name(heard(), seen_as(beagle=1.0)) is None


def test_nothing_is_named_without_support():
    assert open_name(np.full(521, 0.01), np.full(521, 0.001)) is None


probabilities = arrays(np.float64, 521, elements=st.floats(0, 1))


@given(heard=probabilities, seen_as=probabilities)
def test_every_name_is_supported_by_both_modalities(heard: np.ndarray, seen_as: np.ndarray):
    name, vocabulary = open_name(heard, seen_as), load_vocabulary()
    if name is not None:
        index = vocabulary.heard_names.index(name)
        assert not vocabulary.never[index]
        assert heard[index] >= LEAST_EVIDENCE
        assert seen_as[index] >= LEAST_EVIDENCE or not vocabulary.seeable[index]


def test_the_most_probable_come_first():
    assert top_heard(heard(Dog=0.8, Bark=0.6, Cat=0.1), 2) == [("Dog", 0.8), ("Bark", 0.6)]
    things = np.zeros(1000)
    things[[162, 254]] = 0.5, 0.75
    assert top_seen(things, 2) == [("pug", 0.75), ("beagle", 0.5)]
    assert len(top_heard(heard())) == len(top_seen(things)) == 5


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(521,\), not \(520,\)"):
        open_name(np.zeros(520), np.zeros(521))
    with pytest.raises(ValueError, match=r"\(1000,\), not \(10, 1000\)"):
        top_seen(np.zeros((10, 1000)))
