"""What the page says of localization: seconds that were named right and wrong."""

from collections.abc import Iterable, Sequence

import numpy as np

from ccln.pipeline.metrics.evaluation import percent
from ccln.pipeline.metrics.events import events_by_class, with_partners
from ccln.pipeline.metrics.localization import PredictedClips, SegmentDetails, largest_confusions
from ccln.pipeline.metrics.segments import ClassScores
from ccln.pipeline.report.run.charts import histogram
from ccln.pipeline.report.run.document import section
from ccln.pipeline.report.run.markup import Markup, element, joined, table
from ccln.pipeline.report.run.matrix import confusion_matrix
from ccln.pipeline.report.run.timelines import segment_timeline

SHOWN_CLIPS = 6

GLOSSARY = {
    "accuracy": "share of all seconds that got the right label, one of the classes or background",
    "bg recall": "share of the background seconds that were called background",
    "bg precision": "share of the seconds called background that are",
    "event F1": "of whole events: 100 % if each was found with its class and both ends at most one second off, and "
    "nothing else was",
    "at tIoU 0.5": "the same, an event being found where it shares at least half of its joint time with the answer",
    "boundary error": "mean distance between the ends of true events and of the answered ones that overlap them",
}


def localization_sections(details: SegmentDetails) -> list[Markup]:
    """Confusions, classes, ends of events, and single clips, all of the test split."""
    sections = [_confusions(details), _classes(details)]
    if details.predicted is not None:
        names = (*details.class_names, "background")
        sections += [_boundaries(details.predicted, len(details.class_names)), *_clips(details.predicted, names)]
    return sections


def boundary_errors(answers: PredictedClips, class_count: int) -> tuple[list[int], list[int], int]:
    """Of true events that an answered one of their class overlaps, how late it starts and ends; and all true events.

    Returns:
        Whole seconds by which starts are late, early ones negative; the same of ends; the number of true events.
    """
    starts, ends, events = [], [], 0
    for predicted, truth in zip(answers.predictions.segment_labels(), answers.truth, strict=True):
        answered, true = events_by_class(predicted, class_count), events_by_class(truth, class_count)
        events += sum(map(len, true.values()))
        for label in answered.keys() & true.keys():
            for found, event in with_partners(answered[label], true[label]):
                starts.append(found[0] - event[0])
                ends.append(found[1] - event[1])
    return starts, ends, events


def ranked_clips(answers: PredictedClips) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips from the best answered to the worst.

    Returns:
        Positions of the clips, by falling number of right seconds. Of equals, where all is right, those come first in
        which an event begins or ends, for there was more to find, and of these the surest; where something is wrong the
        surest comes last, for to be sure and wrong is worse. Of every clip, by position: the right seconds; and the
        confidence, the mean probability that the network gave to its own answers, 0 to 1.
    """
    predicted, predictions = answers.predictions.segment_labels(), answers.predictions
    right = (predicted == answers.truth).sum(1)
    event = predictions.event_probability.astype(np.float64)
    named = np.exp(predictions.class_logits.max(1, keepdims=True).astype(np.float64))
    is_event = predicted != predictions.class_logits.shape[1]
    confidence = np.where(is_event, event * named, 1 - event).mean(1)
    perfect = right == answers.truth.shape[1]
    steady = perfect & (answers.truth == answers.truth[:, :1]).all(1)
    return np.lexsort((np.where(perfect, -confidence, confidence), steady, -right)), right, confidence


def _confusions(details: SegmentDetails) -> Markup:
    names, confusion = (*details.class_names, "background"), details.scores.confusion
    rows = [
        [f"{names[i]} → {names[j]}", str(confusion[i, j]), percent(confusion[i, j] / confusion[i].sum())]
        for i, j in largest_confusions(confusion)
    ]
    note = (
        "Each row is what a second truly is, each column what the network answered; the numbers are seconds of the "
        "test clips. All right would be numbers on the diagonal alone. The more a cell stands out, the larger its "
        "share of the row. The background has the last row and column: the last column holds "
        "what was missed, the last row what was found though nothing is there."
    )
    largest = [table([["what it is → taken for", "seconds", "of all of it"], *rows], "Most often taken for")]
    return section("What is taken for what", confusion_matrix(names, confusion), *(largest if rows else []), note=note)


def _classes(details: SegmentDetails) -> Markup:
    named = sorted(zip(details.class_names, details.scores.classes, strict=True), key=lambda of: _recall(of[1]))
    rows = [
        [
            name,
            str(scores.clips),
            str(scores.named_right),
            *map(percent, (scores.segment_recall, scores.segment_precision, scores.event_f1)),
        ]
        for name, scores in named
    ]
    note = (
        "The classes with the most missed seconds come first; press a heading to sort by it. “Named right” counts the "
        "clips whose class was named right; recall is the share of the class's seconds that were found, precision the "
        "share of the seconds called so that are; event F1 is as above."
    )
    head = ["class", "clips", "named right", "recall", "precision", "event F1"]
    return section("Class by class", table([head, *rows], class_="sortable"), note=note)


def _recall(scores: ClassScores) -> float:
    return 2.0 if np.isnan(scores.segment_recall) else scores.segment_recall


def _boundaries(answers: PredictedClips, class_count: int) -> Markup:
    starts, ends, events = boundary_errors(answers, class_count)
    note = (
        f"{len(starts)} of the {events} true events are overlapped by an answered event of their class. These are "
        "the distances of its ends from the true ones: zero is right to the second, to the left the answer comes too "
        "early, to the right too late. The other events, which were missed or taken for something else, are not in it."
    )
    cards = []
    for heading, errors in (("Starts", starts), ("Ends", ends)):
        exact = f"{sum(error == 0 for error in errors)} of {len(errors)} are right to the second."
        label = f"{heading} of events, seconds too early or late: {exact}"
        plot = histogram(errors, label=label, before="answer early", after="answer late")
        cards.append(element("div", element("h3", heading), plot, element("p", exact), class_="card"))
    return section("Where events begin and end", element("div", *cards, class_="cards"), note=note)


def _clips(answers: PredictedClips, names: Sequence[str]) -> list[Markup]:
    order, right, confidence = ranked_clips(answers)
    predicted, segments = answers.predictions.segment_labels(), answers.truth.shape[1]

    def card(position: int) -> Markup:
        clip, truth, answer = answers.clips[position], answers.truth[position], predicted[position]
        classes = np.exp(answers.predictions.class_logits[position])
        label = f"{clip.video_id}: {right[position]} of {segments} seconds right"
        return element(
            "div",
            element("h3", clip.video_id),
            segment_timeline(names, truth, answer, answers.predictions.event_probability[position], label=label),
            element(
                "p",
                f"{right[position]} of {segments} seconds right. True class: {clip.label or 'none'}. Most probable to "
                f"the network: {names[classes.argmax()]} ({classes.max():.2f}). Confidence {confidence[position]:.2f}.",
            ),
            class_="card",
        )

    note = (
        "Upper bar: the truth; lower bar: the answer, with a dashed edge and a cross under each second that is wrong. "
        "The line is the network's probability that the second holds an event, seen and heard; above the dotted "
        "middle it answers with the clip's most probable class. Clips are chosen by the number of right seconds; of "
        "equals those with a beginning or an end to find, and the surest. Confidence is the mean probability it gave "
        "to its own answers."
    )
    shown = min(SHOWN_CLIPS, len(order))
    return [
        section(f"The {shown} best test clips", _cards(card(position) for position in order[:shown]), note=note),
        section(f"The {shown} worst test clips", _cards(card(position) for position in order[::-1][:shown])),
    ]


def _cards(cards: Iterable[Markup]) -> Markup:
    return element("div", joined(cards), class_="cards")
