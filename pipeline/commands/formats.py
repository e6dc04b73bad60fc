"""Scores as text, for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ccln.model import EventDecoding
from ccln.pipeline.data.clips import Split
from ccln.pipeline.metrics.calibration import DecodingScores
from ccln.pipeline.metrics.evaluation import Evaluation, TaskScores, aligned, percent
from ccln.pipeline.metrics.seeds import ablation_table, seeds_table, selected_on_test_table
from ccln.pipeline.metrics.segments import ORACLE_CLASS

if TYPE_CHECKING:
    from ccln.pipeline.evaluate import EvaluationReport
    from ccln.pipeline.train.results import TrainingResult


def score_table(result: "TrainingResult") -> str:
    """The test and validation scores of a run with the baselines beside them, as text."""
    test, validation = _rows("test", result.on_test), _rows("validation", result.on_validation)
    text = scores_table(test, validation)
    if result.best_test_selection is not None:
        best = percent(result.best_test_selection)
        what = f"{result.test.selected_on} of the epoch that is best on test, selected on test as some papers do"
        text += f"\n{what}: {best}, optimistic"
    if result.decoding_scores:
        text += "\n\n" + decoding_text(result.decoding, result.decoding_scores)
    missing = {split: count for split, count in result.missing.items() if count}
    if missing:
        text += "\nrows without features: " + ", ".join(f"{split} {count}" for split, count in missing.items())
    return text


def decoding_text(decoding: EventDecoding, read: Mapping[Split, DecodingScores]) -> str:
    """How events are read off the answers, and how good that is, as text."""
    rows = [["events as ccln-localize reads them", "event F1", "calibration error", "uncalibrated"]]
    for split, scores in read.items():
        figures = (scores.event_f1, scores.calibration_error, scores.uncalibrated_error)
        rows.append([split, *map(percent, figures)])
    threshold, shortest = decoding.event_threshold, decoding.minimum_duration_seconds
    what = f"read as event: {shortest} s or more at a probability of {threshold:g} or more (chosen on validation)"
    return f"{aligned(rows)}\n{what}"


def runs_table(methods: Mapping[str, Sequence["TrainingResult"]], reference: str | None = None) -> str:
    """Mean, spread and single runs of each method on test and on validation, as text.

    Args:
        methods: the runs of each, by its name.
        reference: the method that the others are compared with, seed by seed; if None, they are not.
    """
    test = {name: [run.test for run in runs] for name, runs in methods.items()}
    validation = {f"{name}, validation": [run.validation for run in runs] for name, runs in methods.items()}
    if reference is None:
        tables = [seeds_table(test | validation)]
    else:
        tables = [ablation_table(test, reference), ablation_table(validation, f"{reference}, validation")]
    watched = {
        name: [(run.test, run.best_test_selection) for run in runs if run.best_test_selection is not None]
        for name, runs in methods.items()
    }
    if any(watched.values()):
        tables.append(selected_on_test_table(watched))
    return "\n\n".join(tables)


def evaluation_table(report: "EvaluationReport") -> str:
    """For people: scores beside what they have to be read against, then the details."""
    scores = scores_table(_rows(report.split, report.evaluation))
    if report.missing:
        scores += f"\nrows without features: {report.missing}"
    if report.trained_on is None:
        scores += "\nwarning: the checkpoint does not say which rows it was trained on; these may be among them"
    elif report.trained_on:
        seen = f"{report.trained_on} of the {report.scores.clips} rows scored were trained on"
        scores += f"\nwarning: {seen}; of clips that are new to the network this says little"
    read = (
        []
        if report.decoding_scores is None
        else [decoding_text(report.decoding, {report.split: report.decoding_scores})]
    )
    return "\n\n".join([f"{report.run} on {report.data}", scores, *read, *report.evaluation.details.tables()])


def evaluation_json(report: "EvaluationReport") -> str:
    """For programs: see `EvaluationReport.as_dict`."""
    return json.dumps(report.as_dict(), indent=2, allow_nan=False)


def scores_table(*blocks: Mapping[str, TaskScores]) -> str:
    """A line for each of the named scores, all of one task; an empty line between blocks."""
    columns = next(iter(blocks[0].values())).columns
    rows = [["", *(column.heading for column in columns), "clips"]]
    for block in blocks:
        if len(rows) > 1:
            rows.append([""] * len(rows[0]))
        for name, scores in block.items():
            cells = [column.shown(scores) for column in columns]
            rows.append([name, *cells, str(scores.clips)])
    return aligned(rows)


def _rows(split: str, evaluation: Evaluation) -> dict[str, TaskScores]:
    """The network's scores, what they are without something, and the baselines."""
    return {
        f"CCLN, {split}": evaluation.scores,
        **{f"CCLN, {what}": scores for what, scores in evaluation.ablated.items()},
        **{
            f"{'told' if name == ORACLE_CLASS else 'floor'}: {name}": scores
            for name, scores in evaluation.baselines.items()
        },
    }
