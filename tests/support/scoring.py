"""Labels to score: written by hand, drawn, and as the events that they make."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


def labels(*clips: str) -> np.ndarray:
    """Clips written a character a segment: letters are classes, a dot is the background, which is 2."""
    return np.array([["AB.".index(character) for character in clip] for clip in clips])


@st.composite
def label_pairs(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    """Class count, predicted and true labels of one shape, with runs long enough to be nearly right now and then."""
    class_count = draw(st.integers(1, 3))
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 10)))
    values = arrays(np.int64, shape, elements=st.integers(0, class_count))
    truth = draw(values)
    predicted = np.where(draw(arrays(np.bool_, shape)), draw(values), np.roll(truth, draw(st.integers(-1, 1)), axis=1))
    return class_count, predicted, truth


def random_pair(random: np.random.Generator) -> tuple[int, np.ndarray, np.ndarray]:
    """Class count, predicted and true labels: random ones, and the truth moved by a second or two."""
    class_count = int(random.integers(1, 4))
    truth = random.integers(0, class_count + 1, size=(2, 10))
    moved = np.roll(truth, random.integers(-2, 3), axis=1)
    noise = random.integers(0, class_count + 1, truth.shape)
    return class_count, np.where(random.random(truth.shape) < random.random(), noise, moved), truth


def events_of(clip: np.ndarray, background: int) -> list[dict]:
    """The events of a clip, found segment by segment, as sed_eval takes them."""
    events: list[dict] = []
    for second, label in enumerate(clip.tolist()):
        if label == background:
            continue
        if events and events[-1]["offset"] == second and events[-1]["event_label"] == str(label):
            events[-1]["offset"] = float(second + 1)
        else:
            events.append({"event_label": str(label), "onset": float(second), "offset": float(second + 1)})
    return events
