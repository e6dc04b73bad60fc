"""How the network's answers become events."""

from dataclasses import dataclass

TEMPERATURES = (0.001, 1000.0)
"""The lowest and the highest: beyond, logits that are divided by one can leave the range of float32."""


@dataclass(frozen=True)
class EventDecoding:
    """What turns logits into events; chosen on validation and saved with the weights that it was chosen for."""

    event_threshold: float = 0.5
    """Least probability of an event's segments, between 0 and 1."""
    minimum_duration_seconds: int = 1
    """Whole segments; what is shorter is no event."""
    event_temperature: float = 1.0
    """The event logits are divided by it."""
    class_temperature: float = 1.0
    """The class logits are divided by it."""

    def __post_init__(self) -> None:
        # Written so that NaN, which is in no order with any number, is refused with the rest.
        if not _is_number(self.event_threshold) or not 0 < self.event_threshold < 1:
            raise ValueError(f"event_threshold = {self.event_threshold!r:.30}: expected a number between 0 and 1")
        seconds = self.minimum_duration_seconds
        if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 1:
            raise ValueError(f"minimum_duration_seconds = {seconds!r:.30}: expected a whole number of at least 1")
        lowest, highest = TEMPERATURES
        for name in ("event_temperature", "class_temperature"):
            value = getattr(self, name)
            if not _is_number(value) or not lowest <= value <= highest:
                raise ValueError(f"{name} = {value!r:.30}: expected a number from {lowest} to {highest}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
