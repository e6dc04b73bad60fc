"""What the page says of cross-modality localization: queries that were found and that were not."""

import numpy as np

from ccln.pipeline.cml.metrics import CmlDetails, FoundStarts
from ccln.pipeline.report.run.charts import histogram
from ccln.pipeline.report.run.document import section
from ccln.pipeline.report.run.localization import SHOWN_CLIPS
from ccln.pipeline.report.run.markup import Markup, element, table
from ccln.pipeline.report.run.timelines import query_timeline

GLOSSARY = {
    "A2V": "an event's sound is cut out and looked for in the picture; share of the sounds found to the very second",
    "V2A": "an event's picture is cut out and looked for in the sound; share of the pictures found to the very second",
    "searched seconds shuffled": "the same network, the seconds of what it searches in random order: what is left is "
    "found by luck or by position, not by what is seen and heard",
}

_DIRECTIONS = (("Sound looked for in the picture (A2V)", "a2v"), ("Picture looked for in the sound (V2A)", "v2a"))


def matching_sections(details: CmlDetails, segments: int) -> list[Markup]:
    """Starts, classes, and single clips, all of the test split, whose clips have that many seconds."""
    return [_starts(details.found), _classes(details), *_clips(details.found, segments)]


def ranked_queries(answers: FoundStarts) -> np.ndarray:
    """Positions of the clips by falling number of queries found, of equals by rising seconds that they are off."""
    off = [np.abs(getattr(answers, name) - answers.starts) for _, name in _DIRECTIONS]
    found = sum((one == 0).astype(int) for one in off)
    return np.lexsort((sum(off), -found))


def _starts(answers: FoundStarts) -> Markup:
    cards = []
    for heading, name in _DIRECTIONS:
        errors = (getattr(answers, name) - answers.starts).tolist()
        exact = f"{errors.count(0)} of {len(errors)} are found to the very second."
        plot = histogram(errors, label=f"{heading}: {exact}", before="answer early", after="answer late")
        cards.append(element("div", element("h3", heading), plot, element("p", exact), class_="card"))
    note = "How far the answered start lies from the true one. Zero is found; anything else counts as not found."
    return section("Where queries were found", element("div", *cards, class_="cards"), note=note)


def _classes(details: CmlDetails) -> Markup:
    named = [pair for pair in zip(details.class_names, details.classes, strict=True) if pair[1].rows]
    named.sort(key=lambda pair: (pair[1].a2v + pair[1].v2a) / pair[1].rows)
    rows = [[name, str(hits.rows), str(hits.a2v), str(hits.v2a)] for name, hits in named]
    note = "The classes that were found least come first; press a heading to sort by it."
    head = ["class", "test clips", "A2V found", "V2A found"]
    return section("Class by class", table([head, *rows], class_="sortable"), note=note)


def _lateness(seconds: int) -> str:
    return f"{abs(seconds)} s too {'late' if seconds > 0 else 'early'}" if seconds else "found"


def _clips(answers: FoundStarts, segments: int) -> list[Markup]:
    order = ranked_queries(answers)

    def card(position: int) -> Markup:
        clip, true = answers.clips[position], int(answers.starts[position])
        a2v, v2a = int(answers.a2v[position]), int(answers.v2a[position])
        found = f"{(a2v == true) + (v2a == true)} of 2 found"
        rows = (("truth", true), ("A2V", a2v), ("V2A", v2a))
        picture = query_timeline(segments, int(answers.lengths[position]), rows, label=f"{clip.video_id}: {found}")
        off = "; ".join(f"{name} {_lateness(start - true)}" for name, start in rows[1:])
        words = element("p", f"{found}. Class: {clip.label or 'none'}. {off}.")
        return element("div", element("h3", clip.video_id), picture, words, class_="card")

    note = (
        "First the true place of the event, then where its sound was found in the picture (A2V), then where its "
        "picture was found in the sound (V2A). A dashed edge is a wrong place. Clips are "
        "chosen by how many of the two queries were found, of equals by how far off they are."
    )
    shown = min(SHOWN_CLIPS, len(order))
    cards = [[card(int(position)) for position in some] for some in (order[:shown], order[::-1][:shown])]
    return [
        section(f"The {shown} best test clips", element("div", *cards[0], class_="cards"), note=note),
        section(f"The {shown} worst test clips", element("div", *cards[1], class_="cards")),
    ]
