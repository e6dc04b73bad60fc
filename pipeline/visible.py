r"""Text from outside as it may be shown: what moves a cursor, rings or reorders a line becomes a visible escape.

Names of files and classes, the metadata of videos and checkpoints, and messages that quote them may hold anything. The
escapes are those of JSON, `\u001b`, so that a JSON document says the same with them.
"""

import codecs
import re
import unicodedata
from typing import Any

ENCODING_ERRORS = "ccln-visible"
"""For `str.encode` and files: what an encoding has no place for is escaped in the same way."""

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_BIDIRECTIONAL_CONTROLS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
_PERHAPS = re.compile(r"[^\x20-\x7e]")


def is_control(letter: str) -> bool:
    """Whether a character is a control, a line's or a paragraph's end, a direction's override, or half of one."""
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in _BIDIRECTIONAL_CONTROLS


def visible(text: str, *, keep: str = "") -> str:
    """The text with all controls escaped, on one line; what is not text at all in a file's name, too.

    Args:
        text: Any text.
        keep: Controls to leave as they are.
    """

    def of(found: re.Match[str]) -> str:
        letter = found[0]
        return _escaped(letter) if is_control(letter) and letter not in keep else letter

    return _PERHAPS.sub(of, text)


def shown(value: Any) -> Any:
    """What a template shows of a value, which its texts and its markup of several lines pass on their way to a page."""
    if not isinstance(value, str):
        return value
    return type(value)(visible(value, keep="\n\t"))  # markup stays markup


def _escaped(letter: str) -> str:
    if letter in _SHORT:
        return _SHORT[letter]
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escaped, error.object[error.start : error.end])), error.end


codecs.register_error(ENCODING_ERRORS, _replacement)
