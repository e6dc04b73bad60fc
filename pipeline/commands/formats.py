"""Scores as text, for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from ccln.model import EventDecoding
from ccln.pipeline.data.clips import Split
from ccln.pipeline.metrics.calibration import DecodingScores
from ccln.pipeline.metrics.evaluation import ORACLE_CLASS, Evaluation, aligned, interval_text, percent
from ccln.pipeline.metrics.kinds import kind_rows, kind_spread_rows
from ccln.pipeline.metrics.open_vocabulary import open_scores_table
from ccln.pipeline.metrics.seeds import PLUS_MINUS, seeds_table, selected_on_test_table
from ccln.pipeline.metrics.videos import VideoScores
from ccln.pipeline.visible import visible

if TYPE_CHECKING:
    from ccln.pipeline.evaluate import EvaluationReport
    from ccln.pipeline.train.results import TrainingResult

_HEADING_WIDTH = 13  # so that the tables of all tasks fit into 80 columns


def score_table(result: "TrainingResult") -> str:
    """The test and validation scores of a run with the baselines beside them, as text."""
    text = "\n\n".join([scores_table("test", result.on_test), scores_table("validation", result.on_validation)])
    if result.best_test_selection is not None:
        best = percent(result.best_test_selection)
        text += f"\n\n{result.test.selected_on} of the epoch that is best on test: {best}"
        text += "\n(selected on test, as some papers do: optimistic)"
    if result.decoding_scores:
        text += "\n\n" + decoding_text(result.decoding, result.decoding_scores)
    if result.videos:
        text += "\n\n" + videos_text(result.videos)
    for split, kinds in result.kinds.items():
        text += f"\n\n{split}\n{aligned(kind_rows(kinds))}"
    missing = {split: count for split, count in result.missing.items() if count}
    if missing:
        text += "\nrows without features: " + ", ".join(f"{split} {count}" for split, count in missing.items())
    return text


def decoding_text(decoding: EventDecoding, decoding_scores: Mapping[Split, DecodingScores]) -> str:
    """How events are decoded, and how good that is, as text."""
    rows = [["events as ccln-localize decodes them", "event F1", "calibration error", "uncalibrated"]]
    for split, scores in decoding_scores.items():
        figures = (scores.event_f1, scores.calibration_error, scores.uncalibrated_error)
        rows.append([split, *map(percent, figures)])
    threshold, minimum = decoding.event_threshold, decoding.minimum_duration_seconds
    event = f"an event: {minimum} s or more at a probability of {threshold:g} or more"
    known = (
        f"its class is known: seen in some second with {decoding.class_threshold:.2g} or more (chosen on validation)"
    )
    return f"{aligned(rows)}\n{event}\n{known}"


def videos_text(videos: Mapping[Split, VideoScores]) -> str:
    """How well the events of whole videos are found, as text."""
    rows = [["whole videos, windows merged", "videos", "seconds", "event F1", "accuracy"]]
    for split, of in videos.items():
        rows.append([split, str(of.videos), str(of.seconds), percent(of.event_f1), percent(of.segment_accuracy)])
    return aligned(rows)


def runs_table(methods: Mapping[str, Sequence["TrainingResult"]], reference: str | None = None) -> str:
    """Mean, spread and single runs of each method on test and on validation, as text.

    Args:
        methods: the runs of each, by its name.
        reference: the method that the others are compared with, seed by seed; if None, they are not.
    """
    tables: list[str] = []
    splits: tuple[Split, ...] = ("test", "validation")
    for split in splits:
        scores = {name: [getattr(run, split) for run in runs] for name, runs in methods.items()}
        tables.append(f"{split}\n{seeds_table(scores, reference)}")
        kinds = {name: [run.kinds.get(split, {}) for run in runs] for name, runs in methods.items()}
        if rows := kind_spread_rows(kinds):
            tables.append(aligned(rows))
    tables.append(PLUS_MINUS)
    watched = {
        name: [(run.test, run.best_test_selection) for run in runs if run.best_test_selection is not None]
        for name, runs in methods.items()
    }
    if any(watched.values()):
        tables.append(selected_on_test_table(watched))
    return "\n\n".join(tables)


def evaluation_table(report: "EvaluationReport") -> str:
    """For people: scores beside the baselines, then the details."""
    scores = scores_table(report.split, report.evaluation, report.method)
    if report.missing:
        scores += f"\nrows without features: {report.missing}"
    if report.trained_on is None:
        scores += "\nwarning: the checkpoint does not say which rows it was trained on; these may be among them"
    elif report.trained_on:
        seen = f"{report.trained_on} of the {report.scores.clips} rows evaluated were trained on"
        scores += f"\nwarning: {seen}; of clips that are new to the network this says little"
    read = (
        []
        if report.decoding_scores is None
        else [decoding_text(report.decoding, {report.split: report.decoding_scores})]
    )
    if report.videos is not None:
        read.append(videos_text({report.split: report.videos}))
    if report.open_scores:
        read.append(open_scores_table(report.open_scores))
    return "\n\n".join([visible(f"{report.run} on {report.data}"), scores, *read, *report.evaluation.details.tables()])


def evaluation_json(report: "EvaluationReport") -> str:
    """For programs: see `EvaluationReport.as_dict`."""
    return json.dumps(report.as_dict(), indent=2, allow_nan=False)


def scores_table(split: str, evaluation: Evaluation, method: str = "CCLN") -> str:
    """A line a score, and a column each for the network, what it is without something, and the baselines."""
    scores = evaluation.scores
    named = {
        method: scores,
        **{f"{method}, {what}": of for what, of in evaluation.ablated.items()},
        **evaluation.baselines,
    }
    headings = [wrap(name, _HEADING_WIDTH) for name in named]
    lines = max(map(len, headings))
    rows = [["", *(([""] * (lines - len(words)) + words)[line] for words in headings)] for line in range(lines)]
    rows += [[column.heading, *(column.shown(of) for of in named.values())] for column in scores.columns]
    beside = "" if not evaluation.baselines else ", beside trivial baselines"
    beside += " and the oracle class" if ORACLE_CLASS in evaluation.baselines else ""
    intervals = [
        f"95 % interval of {column.heading}: {interval_text(getattr(scores, column.name), scores.clips)} (Wilson)"
        for column in scores.columns
        if column.headline
    ]
    return "\n".join([f"{split}, {scores.clips} clips{beside}", aligned(rows), *intervals])
