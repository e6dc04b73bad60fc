"""WebVTT and SubRip, read back by webvtt-py and pysubs2."""

import html
import io
from pathlib import Path

import av
import pysubs2
import webvtt
from hypothesis import given, settings
from support.located import NASTY, VIDEO, as_one_line, expected, located_video, located_videos

from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report.writers.text import to_srt, to_webvtt


def milliseconds(stamp: str) -> int:
    hours, minutes, seconds = stamp.replace(",", ".").split(":")
    return round(1000 * (3600 * int(hours) + 60 * int(minutes) + float(seconds)))


def label_of(text: str) -> str:
    return text[: text.rindex("(")].removesuffix(" ")


def read_webvtt(text: str) -> list[tuple[int, int, str]]:
    captions = webvtt.from_string(text, strict=True)
    return sorted((milliseconds(c.start), milliseconds(c.end), html.unescape(label_of(c.raw_text))) for c in captions)


def test_webvtt_of_a_video():
    assert to_webvtt(VIDEO) == (
        "WEBVTT\n"
        "\n00:00:01.000 --> 00:00:04.000\nChurch bell (0.88)\n"
        "\n00:00:02.500 --> 00:00:06.006\nDog (0.50)\n"
        "\n00:00:05.000 --> 00:00:06.000\nChurch bell (0.25)\n"
    )


def test_srt_of_a_video():
    assert to_srt(VIDEO) == (
        "1\n00:00:01,000 --> 00:00:04,000\nChurch bell (0.88)\n"
        "\n2\n00:00:02,500 --> 00:00:06,006\nDog (0.50)\n"
        "\n3\n00:00:05,000 --> 00:00:06,000\nChurch bell (0.25)\n"
    )


@settings(deadline=None, max_examples=40)
@given(located=located_videos())
def test_webvtt_is_read_back_unchanged(located: LocatedVideo):
    assert read_webvtt(to_webvtt(located)) == expected(located, as_one_line)


def test_a_label_cannot_style_or_end_a_webvtt_cue():
    located = located_video(VIDEO.path, 5.0, (Event("<b>a</b> &lt; b\n\n00:01.000 --> 00:02.000\nc", 1.0, 2.0, 0.5),))
    (caption,) = webvtt.from_string(to_webvtt(located), strict=True)
    assert caption.raw_text == "&lt;b&gt;a&lt;/b&gt; &amp;lt; b 00:01.000 --&gt; 00:02.000 c (0.50)"


@settings(deadline=None, max_examples=40)
@given(located=located_videos(most_milliseconds=100 * 3600 * 1000 - 1))
def test_pysubs2_reads_srt_back(located: LocatedVideo):
    text = to_srt(located)
    subtitles = pysubs2.SSAFile.from_file(io.StringIO(text, newline=None), "srt", keep_html_tags=True)
    read = sorted((s.start, s.end, label_of(s.text)) for s in subtitles if s.text)
    # pysubs2 strips lines.
    assert read == expected(located, lambda label: as_one_line(label).replace("-->", "->").lstrip())


@settings(deadline=None, max_examples=40)
@given(located=located_videos())
def test_webvtt_py_reads_srt_back(located: LocatedVideo):
    captions = webvtt.from_buffer(io.StringIO(to_srt(located)), format="srt")
    read = sorted((milliseconds(c.start), milliseconds(c.end), label_of(c.raw_text)) for c in captions)
    assert read == expected(located, lambda label: as_one_line(label).replace("-->", "->"))


def test_hours_above_99_are_written():
    located = located_video(VIDEO.path, 400_000.0, (Event("Dog", 399_999.25, 400_000.0, 1.0),))
    assert "111:06:39.250 --> 111:06:40.000\n" in to_webvtt(located)
    assert "111:06:39,250 --> 111:06:40,000\n" in to_srt(located)


def test_a_file_without_events_is_still_valid(tmp_path: Path):
    nothing = located_video(VIDEO.path, 6.0, ())
    assert webvtt.from_string(to_webvtt(nothing), strict=True).captions == []
    path = tmp_path / "nothing.srt"
    path.write_text(to_srt(nothing))
    with av.open(str(path)) as subtitles:  # FFmpeg's readers
        assert subtitles.format.name == "srt"
    assert webvtt.from_srt(str(path)).captions == []
    assert [subtitle.text for subtitle in pysubs2.load(str(path))] == [""]


def test_labels_that_fit_a_line_are_unchanged():
    events = tuple(Event(label, 1.0, 2.0, 0.5) for label in NASTY)
    located = located_video(VIDEO.path, 5.0, events)
    assert read_webvtt(to_webvtt(located)) == expected(located)
