"""The page of one run: what was trained on what, how well it does, and where it fails."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccln.pipeline.cml import report as matching
from ccln.pipeline.cml.metrics import CmlDetails
from ccln.pipeline.data.clips import SPLITS, Split
from ccln.pipeline.metrics.evaluation import NO_VALUE, Evaluation, TaskScores, percent
from ccln.pipeline.metrics.localization import SegmentDetails
from ccln.pipeline.metrics.segments import ORACLE_CLASS
from ccln.pipeline.report.run import localization
from ccln.pipeline.report.run.charts import dot_plot, line_chart
from ccln.pipeline.report.run.document import folded, section, write_document
from ccln.pipeline.report.run.markup import Markup, element, table

if TYPE_CHECKING:
    from ccln.pipeline.train.results import TrainingResult

TASK_WORDS = {
    "supervised": "to say of every second of a clip which event, if any, is both seen and heard in it. In training it "
    "was told the label of every second (full supervision)",
    "weak": "to say of every second of a clip which event, if any, is both seen and heard in it. In training it was "
    "told only the class of each whole clip, never when the event is (weak supervision)",
    "cml": "to find an event's sound in the picture, and its picture in the sound, to the very second (cross-modality "
    "localization)",
}
FLOOR_NOTE = (
    "A floor is what answers score that look at no clip: a network that is no better has learnt nothing. What is told "
    "the class uses the truth, so it is no floor; it shows what finding the right class alone is worth."
)


@dataclass(frozen=True)
class RunFacts:
    """What a page says of a run besides how well it does."""

    task: str
    """As in `--task`."""
    data: str
    """Path of the data set."""
    seed: int
    class_names: tuple[str, ...]
    segments: int
    """Of a clip."""
    rows: Mapping[Split, int]
    """With features, by split."""
    without: tuple[str, ...]
    """Parts left out of the network."""
    specification: Mapping[str, Any]
    """Of the extractors."""
    identity: Mapping[str, Any]
    """Of the run."""
    config: str
    """The resolved config, TOML."""
    versions: Mapping[str, str]


def write_run_page(result: "TrainingResult", facts: RunFacts) -> Path:
    """Write a run's page into its folder; the same run gives the same page to the byte."""
    name = Path(facts.data).name or facts.data
    details = result.on_test.details
    glossary, sections = {}, []
    if isinstance(details, SegmentDetails):
        glossary, sections = localization.GLOSSARY, localization.localization_sections(details)
    elif isinstance(details, CmlDetails):
        glossary, sections = matching.GLOSSARY, matching.matching_sections(details, facts.segments)
    return write_document(
        result.folder,
        f"Training on {name}: {facts.task}, seed {facts.seed}",
        _summary(result, facts, name),
        _scores(result, glossary),
        _curves(result),
        *sections,
        _settings(result, facts),
    )


def _summary(result: "TrainingResult", facts: RunFacts, name: str) -> Markup:
    rows, test = facts.rows, result.test
    less = f", without its part{'s' * (len(facts.without) > 1)} {', '.join(facts.without).upper()},"
    headlines = [column for column in test.columns if column.headline]
    reached = " and ".join(f"{column.heading} {column.shown(test)}" for column in headlines)
    honest = {what: of for what, of in result.baselines.items() if what != ORACLE_CLASS}
    floor = max(honest, key=lambda what: _selection(honest[what]), default=None)
    beside = []
    if floor is not None:
        beside = [f" The best answer that looks at no clip (“{floor}”) gets {_headline(honest[floor])}."]
    if ORACLE_CLASS in result.baselines:
        told = _headline(result.baselines[ORACLE_CLASS])
        beside.append(f" Who is told each clip's class and calls every second an event gets {told}.")
    for what, scores in result.on_test.ablated.items():
        beside.append(f" With the {what}, this network gets {_headline(scores)}.")
    chosen = (
        f"Epoch {result.best_epoch} of {len(result.history)} was chosen: the one with the highest "
        f"{result.validation.selected_on} on validation ({percent(result.validation.selection)}), the earliest of "
        "equals. The test clips had no part in training or in this choice; they were scored once, with the chosen "
        "network."
    )
    about = (
        f"A network{less if facts.without else ''} was trained on {name} ({len(facts.class_names)} classes; "
        f"{rows['train']} clips to train on, {rows['validation']} for validation, {rows['test']} for test) "
        f"{TASK_WORDS[facts.task]}."
    )
    found = f"On the {test.clips} test clips that were scored it reaches {reached}."
    lead = element("p", element("strong", _unbroken(found)), *map(_unbroken, beside), class_="lead")
    return element(
        "section",
        lead,
        element("p", about),
        element("p", _unbroken(chosen)),
        *(element("p", text) for text in _warnings(result)),
    )


def _unbroken(text: str) -> str:
    """The text, no line of it beginning with a per cent sign."""
    return text.replace(" %", "\u00a0%")


def _warnings(result: "TrainingResult") -> list[str]:
    missing = ", ".join(f"{split} {count}" for split, count in result.missing.items() if count)
    dropped = ", ".join(f"{split} {count}" for split, count in result.dropped.items() if count)
    found = []
    if missing:
        found.append(f"Rows without features, left out: {missing}.")
    if dropped:
        found.append(f"Rows left out because a later split has their video: {dropped}.")
    if result.best_test_selection is not None:
        found.append(
            f"The epoch that is best on test has {result.test.selected_on} {percent(result.best_test_selection)}: "
            "selected on test as some papers do, and so optimistic. Nothing else on this page is of that epoch."
        )
    return found


def _scores(result: "TrainingResult", glossary: Mapping[str, str]) -> Markup:
    columns = result.test.columns
    terms = [markup for term, words in glossary.items() for markup in (element("dt", term), element("dd", words))]
    groups = [(split, of) for split, of in (("test", result.on_test), ("validation", result.on_validation))]
    head = ["", *(column.heading for column in columns), "clips"]
    tables = [
        table(
            [head, *([n, *(column.shown(of) for column in columns), str(of.clips)] for n, of in _lines(evaluated))],
            split.capitalize(),
            "scores",
        )
        for split, evaluated in groups
    ]
    cards = []
    for column in (column for column in columns if column.headline):
        values = {n: [100 * getattr(of, column.name)] for n, of in _lines(result.on_test)}
        label = f"{column.heading} on test, beside what it has to be read against"
        cards.append(
            element("div", element("h3", label), dot_plot(values, label=label, span=(0.0, 100.0)), class_="card")
        )
    return section(
        "How well it does",
        *tables,
        element("div", *cards, class_="cards"),
        element("dl", *terms),
        *_decoding(result),
        note=FLOOR_NOTE if ORACLE_CLASS in result.baselines else FLOOR_NOTE.split(" What is told")[0],
    )


def _decoding(result: "TrainingResult") -> list[Markup]:
    """How ccln-localize reads events with this network; nothing where the task has none."""
    if not result.decoding_scores:
        return []
    decoding = result.decoding
    rows = [["", "event F1", "calibration error", "uncalibrated"]]
    for split, of in result.decoding_scores.items():
        rows.append([split, *map(percent, (of.event_f1, of.calibration_error, of.uncalibrated_error))])
    words = (
        f"What lasts {decoding.minimum_duration_seconds} s or more at a probability of {decoding.event_threshold:g} or "
        "more is an event to ccln-localize, and temperatures make its probabilities honest; all chosen on validation. "
        "The calibration error is how far, on average, the probability of an answer is from how often such answers are "
        "right."
    )
    return [table(rows, "Events as ccln-localize reads them", "scores"), element("p", words)]


def _lines(evaluation: Evaluation) -> list[tuple[str, TaskScores]]:
    return [
        ("this network", evaluation.scores),
        *((f"this network, {what}", of) for what, of in evaluation.ablated.items()),
        *((f"{'told' if n == ORACLE_CLASS else 'floor'}: {n}", of) for n, of in evaluation.baselines.items()),
    ]


def _curves(result: "TrainingResult") -> Markup:
    history, best = result.history, result.best_epoch
    losses = {name: [epoch.losses.get(name, math.nan) for epoch in history] for name in _loss_names(result)}
    shares = {
        column.heading: [_percentage(epoch.validation.get(column.name)) for epoch in history]
        for column in result.test.columns
        if column.over_seeds and column.unit == "%"
    }
    rates = {"learning rate": [epoch.learning_rate for epoch in history]}
    cards = [
        _card("Losses in training", line_chart(losses, best, label="Training losses, logarithmic", log=True),
              "“Total” is what training lowers, the weighted sum of the others. Logarithmic."),
        _card("On validation, %", line_chart(shares, best, label="Validation scores in per cent", top=100.0),
              f"The epoch was chosen by {result.validation.selected_on}."),
        _card("Learning rate", line_chart(rates, best, label="Learning rate"),
              "How far each step goes: up in the warm-up, then down to nothing."),
    ]  # fmt: skip
    head = ["epoch", *losses, *(f"{name} %" for name in shares), "learning rate"]
    rows = [
        [
            f"{n} (chosen)" if n == best else str(n),
            *(f"{values[n - 1]:.4g}" for values in losses.values()),
            *(NO_VALUE if math.isnan(values[n - 1]) else f"{values[n - 1]:.1f}" for values in shares.values()),
            f"{history[n - 1].learning_rate:.3g}",
        ]
        for n in range(1, len(history) + 1)
    ]
    numbers = folded("All numbers", table([head, *rows]))
    return section("How training went", element("div", *cards, class_="cards"), numbers)


def _loss_names(result: "TrainingResult") -> list[str]:
    """The total first, which the others are parts of."""
    names = list(result.history[-1].losses) if result.history else []
    return sorted(names, key=lambda name: name != "total")


def _card(heading: str, plot: Markup, words: str) -> Markup:
    return element("div", element("h3", heading), plot, element("p", words), class_="card")


def _settings(result: "TrainingResult", facts: RunFacts) -> Markup:
    rows = [
        ["task", facts.task],
        ["data", facts.data],
        ["rows", ", ".join(f"{split} {facts.rows[split]}" for split in SPLITS)],
        ["digest of the rows", str(facts.identity.get("data", NO_VALUE))],
        ["seed", str(facts.seed)],
        ["parts left out", ", ".join(facts.without) or "none"],
        ["extractor specification", str(facts.identity.get("specification", NO_VALUE))],
        ["classes", "; ".join(facts.class_names)],
        ["versions", ", ".join(f"{name} {version}" for name, version in facts.versions.items())],
        ["files beside this page", "config.json and model.safetensors (the network), metrics.json (all figures)"],
    ]
    facts_list = [markup for name, value in rows for markup in (element("dt", name), element("dd", value))]
    specification = json.dumps(facts.specification, indent=2, ensure_ascii=False, sort_keys=True)
    return section(
        "Settings",
        element("dl", *facts_list),
        element("h3", "config.toml"),
        element("pre", facts.config.strip()),
        folded("The extractor specification whole", element("pre", specification)),
    )


def _headline(scores: TaskScores) -> str:
    return " and ".join(f"{column.heading} {column.shown(scores)}" for column in scores.columns if column.headline)


def _selection(scores: TaskScores) -> float:
    return -1.0 if math.isnan(scores.selection) else scores.selection


def _percentage(share: float | None) -> float:
    return math.nan if share is None else 100 * share
