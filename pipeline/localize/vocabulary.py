"""The open vocabulary: AudioSet's names for what is heard, ImageNet's for what is seen, and which go together.

The names and their order are YAMNet's class map, that is, 521 classes of the AudioSet ontology (Gemmeke et al.,
"Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017), and the 1,000 classes of ImageNet's
ILSVRC 2012 (Russakovsky et al., 2015; the first word or words of each WordNet synset). The table `vocabulary.csv` is
our own, written by hand: the parent of each class (the main one where the ontology has several; it follows the ontology
but is not a copy of it), whether it can name an event, and as which classes of ImageNet it can be seen. A class
without any of the latter (a helicopter, say) may well be visible: ImageNet just has no name for it. Nor has it one for
people: for their sounds, clothes and cradles are evidence, but that there are none is not evidence against.
The table also has things that look much like the source of a sound (a sitar may be taken for a guitar) or that go with
it in pictures (a crying baby has a diaper, a speaker a suit). None of this was measured.
"""

import csv
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import numpy as np

HEARD_COUNT = 521
SEEN_COUNT = 1000
_PEOPLE_COUNT = 67  # AudioSet begins with the sounds of people

_ALIASES = {
    "Male speech, man speaking": "Speech",
    "Female speech, woman speaking": "Speech",
    "Rodents": "Rodents, rats, mice",
    "Rooster": "Crowing, cock-a-doodle-doo",
    "Frying food": "Frying (food)",
    "Airplane": "Fixed-wing aircraft, airplane",
    "Violin": "Violin, fiddle",
    "Baby cry": "Baby cry, infant cry",
    "Race car": "Race car, auto racing",
}
"""Class names of AVE and of sets like it that are not names of YAMNet's classes, and the classes that they mean."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Names of what can be heard and seen, and what the table says of each heard one."""

    heard_names: tuple[str, ...]
    """The 521 AudioSet display names, in YAMNet's order."""
    seen_names: tuple[str, ...]
    """The 1,000 ImageNet names, in the usual order."""
    parents: np.ndarray
    """Index of each heard class's parent, shape (521,), int64; -1 at the top."""
    depths: np.ndarray
    """Number of each heard class's ancestors, shape (521,), int64."""
    generic: np.ndarray
    """Whether a heard class names an event only if no specific one does, shape (521,), bool."""
    never: np.ndarray
    """Whether a heard class never names an event, shape (521,), bool."""
    group: np.ndarray
    """Whether a heard class is a family of alike sources (percussion), which names an event where none of its members
    stands out, shape (521,), bool."""
    visible: np.ndarray
    """Whether a heard class (rows) can be seen as an ImageNet class (columns), shape (521, 1000), bool."""
    _index: dict[str, int] = field(repr=False)

    @property
    def specific(self) -> np.ndarray:
        """Whether a heard class names an event by itself: no group, generic or never, shape (521,), bool."""
        return ~(self.group | self.generic | self.never)

    @property
    def seeable(self) -> np.ndarray:
        """Whether ImageNet has names for what makes the sound, shape (521,), bool; it has none for people."""
        return self.visible.any(axis=1) & (np.arange(HEARD_COUNT) >= _PEOPLE_COUNT)

    def is_akin(self, one: int, other: int) -> bool:
        """Whether two heard classes can be the same sound: equal, siblings, or one an ancestor of the other."""
        lines = self._line(one), self._line(other)
        return one in lines[1] or other in lines[0] or self.parents[one] == self.parents[other] >= 0

    def _line(self, index: int) -> set[int]:
        line = set()
        while index >= 0:
            line.add(index)
            index = int(self.parents[index])
        return line

    def index_of(self, name: str) -> int | None:
        """Index of the heard class that a class name means, whatever its case and punctuation; None if none is."""
        return self._index.get(_normalised(name))


@cache
def load_vocabulary() -> Vocabulary:
    """Read the vocabulary from the package; later calls return the same object, whose arrays are read-only."""
    folder = files("ccln.pipeline.localize")
    rows = list(csv.DictReader((folder / "vocabulary.csv").read_text("utf-8").splitlines()))
    names = tuple(row["name"] for row in rows)
    exact = {name: index for index, name in enumerate(names)}
    parents = np.array([exact[row["parent"]] if row["parent"] else -1 for row in rows], np.int64)
    visible = np.zeros((HEARD_COUNT, SEEN_COUNT), bool)
    for row, seen in zip(rows, visible, strict=True):
        for part in row["seen"].split():
            first, _, last = part.partition("-")
            seen[int(first) : int(last or first) + 1] = True
    index = {_normalised(name): number for name, number in exact.items()}
    index |= {_normalised(alias): exact[name] for alias, name in _ALIASES.items()}
    vocabulary = Vocabulary(
        heard_names=names,
        seen_names=tuple((folder / "imagenet_names.txt").read_text("utf-8").splitlines()),
        parents=parents,
        depths=_depths(parents),
        generic=np.array([row["kind"] == "generic" for row in rows]),
        never=np.array([row["kind"] == "never" for row in rows]),
        group=np.array([row["kind"] == "group" for row in rows]),
        visible=visible,
        _index=index,
    )
    for array in (parents, vocabulary.depths, vocabulary.generic, vocabulary.never, vocabulary.group, visible):
        array.flags.writeable = False
    return vocabulary


def _depths(parents: np.ndarray) -> np.ndarray:
    depths = np.zeros(len(parents), np.int64)
    above = parents
    while (above >= 0).any():
        depths += above >= 0
        above = np.where(above >= 0, parents[above], -1)
    return depths


def _normalised(name: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", name.casefold()))
