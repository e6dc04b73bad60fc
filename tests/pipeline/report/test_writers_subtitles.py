"""WebVTT and SubRip, read back by webvtt-py and pysubs2."""

import html
import io

import pysubs2
import webvtt
from hypothesis import given, settings
from support.timelines import CLIP, NASTY, Plain, as_one_line, expected, timelines

from ccln.pipeline.events import Event
from ccln.pipeline.report.writers import WRITERS

to_webvtt, to_srt = WRITERS["webvtt"].to_text, WRITERS["srt"].to_text


def milliseconds(stamp: str) -> int:
    hours, minutes, seconds = stamp.replace(",", ".").split(":")
    return round(1000 * (3600 * int(hours) + 60 * int(minutes) + float(seconds)))


def label_of(text: str) -> str:
    return text[: text.rindex("(")].removesuffix(" ")


def read_webvtt(text: str) -> list[tuple[int, int, str]]:
    captions = webvtt.from_string(text, strict=True)
    return sorted((milliseconds(c.start), milliseconds(c.end), html.unescape(label_of(c.raw_text))) for c in captions)


def test_webvtt_of_a_clip():
    assert to_webvtt(CLIP) == (
        "WEBVTT\n"
        "\n00:00:01.000 --> 00:00:04.000\nChurch bell (0.88)\n"
        "\n00:00:02.500 --> 00:00:06.006\nDog (0.50)\n"
        "\n00:00:05.000 --> 00:00:06.000\nChurch bell (0.25)\n"
    )


def test_srt_of_a_clip():
    assert to_srt(CLIP) == (
        "1\n00:00:01,000 --> 00:00:04,000\nChurch bell (0.88)\n"
        "\n2\n00:00:02,500 --> 00:00:06,006\nDog (0.50)\n"
        "\n3\n00:00:05,000 --> 00:00:06,000\nChurch bell (0.25)\n"
    )


@settings(deadline=None, max_examples=40)
@given(timeline=timelines())
def test_webvtt_comes_back(timeline: Plain):
    assert read_webvtt(to_webvtt(timeline)) == expected(timeline, as_one_line)


def test_a_label_cannot_style_or_end_a_webvtt_cue():
    timeline = Plain(CLIP.path, 5.0, (Event("<b>a</b> &lt; b\n\n00:01.000 --> 00:02.000\nc", 1.0, 2.0, 0.5),))
    (caption,) = webvtt.from_string(to_webvtt(timeline), strict=True)
    assert caption.raw_text == "&lt;b&gt;a&lt;/b&gt; &amp;lt; b 00:01.000 --&gt; 00:02.000 c (0.50)"


@settings(deadline=None, max_examples=40)
@given(timeline=timelines(most_milliseconds=100 * 3600 * 1000 - 1))
def test_srt_comes_back_from_pysubs2(timeline: Plain):
    text = to_srt(timeline)
    subtitles = pysubs2.SSAFile.from_file(io.StringIO(text, newline=None), "srt", keep_html_tags=True)
    read = sorted((s.start, s.end, label_of(s.text)) for s in subtitles)
    # pysubs2 strips lines.
    assert read == expected(timeline, lambda label: as_one_line(label).replace("-->", "->").lstrip())


@settings(deadline=None, max_examples=40)
@given(timeline=timelines())
def test_srt_comes_back_from_webvtt_py(timeline: Plain):
    # An empty file is none to webvtt-py.
    captions = webvtt.from_buffer(io.StringIO(to_srt(timeline)), format="srt") if timeline.events else []
    read = sorted((milliseconds(c.start), milliseconds(c.end), label_of(c.raw_text)) for c in captions)
    assert read == expected(timeline, lambda label: as_one_line(label).replace("-->", "->"))


def test_hours_above_99():
    timeline = Plain(CLIP.path, 400_000.0, (Event("Dog", 399_999.25, 400_000.0, 1.0),))
    assert "111:06:39.250 --> 111:06:40.000\n" in to_webvtt(timeline)
    assert "111:06:39,250 --> 111:06:40,000\n" in to_srt(timeline)


def test_nothing_found_is_an_empty_file_of_the_format():
    nothing = Plain(CLIP.path, 6.0, ())
    assert webvtt.from_string(to_webvtt(nothing), strict=True).captions == []
    assert to_srt(nothing) == ""


def test_labels_stay_as_they_are_where_a_line_can_hold_them():
    events = tuple(Event(label, 1.0, 2.0, 0.5) for label in NASTY)
    timeline = Plain(CLIP.path, 5.0, events)
    assert read_webvtt(to_webvtt(timeline)) == expected(timeline)
