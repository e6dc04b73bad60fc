import csv
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

from ccln.pipeline.localize.vocabulary import load_vocabulary

AVE_NAMES = {
    "Church bell": "Church bell",
    "Male speech, man speaking": "Speech",
    "Bark": "Bark",
    "Fixed-wing aircraft, airplane": "Fixed-wing aircraft, airplane",
    "Race car, auto racing": "Race car, auto racing",
    "Female speech, woman speaking": "Speech",
    "Helicopter": "Helicopter",
    "Violin, fiddle": "Violin, fiddle",
    "Flute": "Flute",
    "Ukulele": "Ukulele",
    "Frying (food)": "Frying (food)",
    "Truck": "Truck",
    "Shofar": "Shofar",
    "Motorcycle": "Motorcycle",
    "Acoustic guitar": "Acoustic guitar",
    "Train horn": "Train horn",
    "Clock": "Clock",
    "Banjo": "Banjo",
    "Goat": "Goat",
    "Baby cry, infant cry": "Baby cry, infant cry",
    "Bus": "Bus",
    "Chainsaw": "Chainsaw",
    "Cat": "Cat",
    "Horse": "Horse",
    "Toilet flush": "Toilet flush",
    "Rodents, rats, mice": "Rodents, rats, mice",
    "Accordion": "Accordion",
    "Mandolin": "Mandolin",
}
COMPOSED_NAMES = {
    "Rooster": "Crowing, cock-a-doodle-doo",
    "Saxophone": "Saxophone",
    "Piano": "Piano",
    "Trombone": "Trombone",
}


def index(name: str) -> int:
    found = load_vocabulary().index_of(name)
    assert found is not None
    return found


def seen(name: str) -> set[str]:
    vocabulary = load_vocabulary()
    return {vocabulary.seen_names[column] for column in np.flatnonzero(vocabulary.visible[index(name)])}


def test_every_class_has_its_row():
    vocabulary = load_vocabulary()
    assert len(vocabulary.heard_names) == len(set(vocabulary.heard_names)) == 521
    assert len(vocabulary.seen_names) == 1000
    assert vocabulary.visible.shape == (521, 1000)
    places = {0: "Speech", 70: "Bark", 132: "Music", 333: "Helicopter", 494: "Silence", 520: "Field recording"}
    assert {place: vocabulary.heard_names[place] for place in places} == places
    assert [vocabulary.seen_names[place] for place in (0, 281, 402, 999)] == [
        *("tench", "tabby", "acoustic guitar", "toilet tissue")
    ]


def test_the_table_is_sound():
    rows = list(csv.DictReader((files("ccln.pipeline.localize") / "vocabulary.csv").read_text("utf-8").splitlines()))
    assert [int(row["index"]) for row in rows] == list(range(521))
    assert {row["kind"] for row in rows} == {"specific", "group", "generic", "never"}
    assert {row["parent"] for row in rows} - {""} <= {row["name"] for row in rows}
    for row in rows:
        bounds = [part.partition("-")[::2] for part in row["seen"].split()]
        places = [place for first, last in bounds for place in range(int(first), int(last or first) + 1)]
        assert places == sorted(set(places)), row["name"]
        assert all(int(last or first) >= int(first) for first, last in bounds), row["name"]
        assert set(places) <= set(range(1000)), row["name"]


def test_parents_lead_to_the_top():
    vocabulary = load_vocabulary()
    assert vocabulary.parents.min() == -1
    for child, parent in enumerate(vocabulary.parents):
        assert vocabulary.depths[child] == (0 if parent < 0 else vocabulary.depths[parent] + 1)


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        ("Bark", "Dog"),
        ("Acoustic guitar", "Guitar"),
        ("Guitar", "Plucked string instrument"),
        ("Helicopter", "Aircraft"),
        ("Chime", "Bell"),
        ("Drum kit", "Drum"),
        ("Change ringing (campanology)", "Bell"),
        ("Tuning fork", "Bell"),
        ("Pizzicato", "Violin, fiddle"),
        ("Sampler", "Synthesizer"),
        ("Steam whistle", "Whistle"),
    ],
)
def test_a_class_has_its_parent(child: str, parent: str):
    assert load_vocabulary().parents[index(child)] == index(parent)


def test_kinds():
    vocabulary = load_vocabulary()
    assert not (vocabulary.generic & vocabulary.never).any()
    assert all(vocabulary.generic[index(name)] for name in ("Music", "Speech", "Animal", "Vehicle", "Rock music"))
    assert all(vocabulary.never[index(name)] for name in ("Silence", "White noise", "Inside, small room"))
    assert all(vocabulary.group[index(name)] for name in ("Percussion", "Motor vehicle (road)", "Fowl"))
    assert all(vocabulary.specific[index(name)] for name in ("Bark", "Piano", "Cough"))


def test_imagenet_has_no_names_for_people():
    vocabulary = load_vocabulary()
    assert not any(vocabulary.seeable[index(name)] for name in ("Speech", "Baby cry", "Cough", "Crowd", "Helicopter"))
    assert all(vocabulary.seeable[index(name)] for name in ("Bark", "Piano", "Truck", "Animal"))


def test_what_a_class_can_be_seen_as():
    vocabulary = load_vocabulary()
    assert set(range(151, 269)) <= set(np.flatnonzero(vocabulary.visible[index("Bark")]))
    assert "tabby" in seen("Meow")
    assert "acoustic guitar" in seen("Acoustic guitar")
    assert {"airliner", "warplane", "wing"} == seen("Fixed-wing aircraft, airplane")
    assert seen("Helicopter") == set()
    assert {"microphone", "suit"} <= seen("Speech")
    assert "diaper" in seen("Baby cry, infant cry")


@pytest.mark.parametrize(("name", "means"), [*AVE_NAMES.items(), *COMPOSED_NAMES.items()])
def test_trained_names_are_in_the_vocabulary(name: str, means: str):
    vocabulary = load_vocabulary()
    for spelling in (name, name.upper(), name.replace(",", "").replace(" ", "_")):
        assert vocabulary.heard_names[index(spelling)] == means


def test_an_unknown_name_has_no_index():
    assert load_vocabulary().index_of("Unicorn") is None


def test_it_loads_without_torch():
    code = "from ccln.pipeline.localize.vocabulary import load_vocabulary as load; load(); import sys; "
    code += "assert not {'torch', 'timm', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        load_vocabulary().parents[0] = 1
