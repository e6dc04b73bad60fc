"""Times as text, for subtitles, tables, pictures and pages."""

from itertools import chain, count

_IN_SECONDS = 120  # times within shorter files are in seconds
_STEPS_SECONDS = (0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)


def timestamp(milliseconds: int, decimal_mark: str) -> str:
    """A time as subtitles have it, `00:00:01.500`; hours have two digits or more."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{milliseconds:03}"


def clock(seconds: float, decimals: int = 0, *, hours: bool = False) -> str:
    """A time as a player shows it: `0:07`, from an hour on `1:00:07`.

    Args:
        seconds: at least 0; rounded to the decimals.
        decimals: of the seconds.
        hours: whether to show them even if there are none.
    """
    units = round(seconds * 10**decimals)
    whole, fraction = divmod(units, 10**decimals)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour}:{minute:02}:{second:02}" if hour or hours else f"{minute}:{second:02}"
    return f"{text}.{fraction:0{decimals}}" if decimals else text


def moment(seconds: float) -> str:
    """A time to the tenth: `4.0 s`, from a minute on `1:04.0`."""
    return f"{seconds:.1f} s" if round(10 * seconds) < 600 else clock(seconds, 1)


def time_within(seconds: float, duration_seconds: float) -> str:
    """A time within a file of the given length: `2.5`, or in longer files `1:05`, or `1:00:05`."""
    return f"{seconds:.1f}" if duration_seconds < _IN_SECONDS else clock(seconds, hours=duration_seconds >= 3600)


def clock_unit(duration_seconds: float) -> str:
    """What `time_within` counts in."""
    if duration_seconds < _IN_SECONDS:
        return "seconds"
    return "minutes:seconds" if duration_seconds < 3600 else "hours:minutes:seconds"


def round_step(duration_seconds: float, most: int) -> float:
    """The least round number of seconds that divides a duration into no more than ``most`` parts."""
    hours = (3600.0 * 2**power for power in count())
    return next(step for step in chain(_STEPS_SECONDS, hours) if duration_seconds <= most * step)
