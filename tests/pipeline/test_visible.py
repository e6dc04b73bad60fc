"""Controls in texts from outside become escapes that are seen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from ccln.pipeline.visible import ENCODING_ERRORS, is_control, shown, visible

DANGERS = "\x00\a\b\x1b\x7f\x9b\r\u202e\u2066\u2028\udcff"
texts = st.text(st.characters() | st.sampled_from(DANGERS + "\n\tä犬👩\u200d🚀"))  # surrogates too


@given(texts)
def test_what_is_shown_holds_no_control_and_says_the_same_in_json(text: str) -> None:
    line = visible(text)
    assert not any(map(is_control, line))
    assert json.loads(f'"{visible(json.dumps(text, ensure_ascii=False)[1:-1])}"') == text
    assert all(not is_control(letter) or letter in "\n\t" for letter in visible(text, keep="\n\t"))


@given(texts, st.sampled_from(["ascii", "latin-1", "utf-8"]))
def test_what_an_encoding_lacks_says_the_same_in_json(text: str, encoding: str) -> None:
    document = json.dumps(text, ensure_ascii=False).encode(encoding, ENCODING_ERRORS)
    assert json.loads(document.decode(encoding)) == text


@pytest.mark.parametrize("text", ["Grüße", "教会の鐘　🔔👩\u200d🚀", "פעמון", "می\u200cخواهم", 'back\\slash "%"', ""])
def test_text_in_any_script_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_every_danger_is_escaped() -> None:
    assert visible(DANGERS) == r"\u0000\u0007\u0008\u001b\u007f\u009b\r\u202e\u2066\u2028\udcff"


def test_markup_stays_markup_and_lines_stay_lines() -> None:
    assert shown(Markup("<b>\n\x1b</b>")) == Markup("<b>\n\\u001b</b>")
    assert isinstance(shown(Markup("<b>")), Markup)
    assert shown(3) == 3
