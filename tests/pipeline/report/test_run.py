"""The page of a training run: it shows what metrics.json holds, escapes all names, and loads nothing."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from support.pages import BROWSER
from support.training_clips import made_up_set

from ccln import train
from ccln.pipeline.data.clips import AnnotatedClip
from ccln.pipeline.metrics.evaluation import ORACLE_CLASS, best_and_worst, wilson_interval
from ccln.pipeline.metrics.localization import PredictedClips, Predictions, SegmentDetails
from ccln.pipeline.metrics.segments import score
from ccln.pipeline.report.run.charts import line_chart
from ccln.pipeline.report.run.localization import boundary_errors, confidences, ranked_clips
from ccln.pipeline.report.run.pages import PAGE_NAME, write_run_page
from ccln.pipeline.train.results import RunFacts, TrainingResult
from ccln.pipeline.visible import is_control, visible

pytestmark = pytest.mark.usefixtures("no_curves", "one_core")

NASTY = "</title><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>\x1b\u202e"
VOID = {"meta"}


class Page(HTMLParser):
    """What a parser finds: tags that are well nested, all attributes, the words, and the cells of the tables."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.tables: list[list[list[str]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, *heading: str) -> dict[str, list[str]]:
        """Rows of the first table with such headings, by their names."""
        found = next(table for table in self.tables if table[0][: len(heading)] == list(heading))
        return {name: cells for name, *cells in found[1:]}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data, cache, config = made_up_set(tmp_path_factory.mktemp("made"))
    return {"data": data, "cache": cache, "config": config, "epochs": 2}


@pytest.fixture(scope="module", params=["supervised", "weak", "cml"])
def result(request: pytest.FixtureRequest, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(**options, task=request.param, out=tmp_path_factory.mktemp("runs") / request.param)


def facts(**changes: Any) -> RunFacts:
    plain = RunFacts(
        task="supervised",
        data="sets/birds",
        seed=3,
        class_names=("Bark", "Cat", "Flute"),
        segments=10,
        rows={"train": 12, "validation": 6, "test": 6},
        without=(),
        specification={},
        identity={},
        config="[training]",
        versions={"ccln": "1"},
    )
    return replace(plain, **changes)


def test_a_run_writes_a_page_with_its_own_scores(result: TrainingResult) -> None:
    page = Page(result.folder / PAGE_NAME)
    metrics = json.loads((result.folder / "metrics.json").read_text())
    heads = [column.heading for column in result.test.columns]
    tables = [table for table in page.tables if table[0] == ["", *heads, "clips"]]
    assert len(tables) == 2
    for table, split, baselines in zip(
        tables, ("test", "validation"), ("baselines", "validation_baselines"), strict=True
    ):
        expected = {"this network": metrics[split]}
        expected |= {f"this network, {name}": scores for name, scores in metrics.get("ablated", {}).items()}
        rows = {name: cells for name, *cells in table[1:]}
        assert len(rows) == len(expected) + len(metrics[baselines])
        for name, scores in metrics[baselines].items():
            expected[name if name == ORACLE_CLASS else f"trivial baseline: {name}"] = scores
        if split == "validation" and "ablated" in metrics:
            expected |= {f"this network, {n}": scores for n, scores in metrics["validation_ablated"].items()}
        for name, scores in expected.items():
            for column, cell in zip(result.test.columns, rows[name], strict=False):
                value = scores[column.name]
                shown = "–" if value is None else f"{100 * value:.1f} %" if column.unit == "%" else f"{value:.2f} s"
                assert cell == shown, (name, column.name)
    epochs = page.table("epoch", "total")
    assert len(epochs) == 2
    assert f"{result.best_epoch} (chosen)" in epochs
    assert f"Epoch {result.best_epoch} of 2 was chosen" in page.words
    assert (result.folder / "config.toml").read_text().strip() in page.words
    assert all(clip in page.words for clip in ("test3", "test4", "test5"))  # shorter than their clips in any task


def test_a_page_makes_no_request(result: TrainingResult) -> None:
    text = (result.folder / PAGE_NAME).read_text()
    page = Page(result.folder / PAGE_NAME)
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import", text)
    attributes = [(name, value or "") for _, found in page.tags for name, value in found.items()]
    assert not [name for name, _ in attributes if name in ("src", "style", "onclick")]
    assert all(value.startswith("#") for name, value in attributes if name == "href")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert len(text) < 1_500_000


def test_the_matrix_holds_every_segment(options: dict[str, Any], result: TrainingResult) -> None:
    details = result.on_test.details
    if not isinstance(details, SegmentDetails):
        return
    titles = re.findall(r"truth (\w+), prediction (\w+): (\d+) of", (result.folder / PAGE_NAME).read_text())
    names = ("Bark", "Cat", "Flute", "background")
    found = {(true, predicted): int(count) for true, predicted, count in titles}
    for (row, column), count in np.ndenumerate(details.scores.confusion):
        assert found[names[row], names[column]] == count


def test_the_same_run_gives_the_same_page(result: TrainingResult, tmp_path: Path) -> None:
    if not isinstance(result.on_test.details, SegmentDetails):
        return
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pages.append(write_run_page(replace(result, folder=tmp_path / name, facts=facts())).read_bytes())
    assert pages[0] == pages[1]


def test_names_are_escaped_in_the_page(result: TrainingResult, tmp_path: Path) -> None:
    details = result.on_test.details
    if not isinstance(details, SegmentDetails):
        return
    assert details.predicted is not None
    tags = []
    for name in ("plain", NASTY):
        clips = tuple(replace(clip, video_id=name, label=name) for clip in details.predicted.clips)
        named = SegmentDetails((name, "b", "c"), details.scores, replace(details.predicted, clips=clips))
        changed = replace(
            result,
            folder=tmp_path,
            on_test=replace(result.on_test, details=named),
            facts=facts(data=f"/sets/{name}\udce9", class_names=(name, "b", "c"), config=name),
            warnings=(name,),
        )
        path = write_run_page(changed)
        page = Page(path)
        assert visible(name) in page.words
        assert not any(is_control(letter) for letter in path.read_text("utf-8") if letter not in "\n\t")
        tags.append([tag for tag, _ in page.tags])
    assert tags[0] == tags[1]
    assert "<script>alert" not in (tmp_path / PAGE_NAME).read_text()
    assert "<img" not in (tmp_path / PAGE_NAME).read_text()


def test_charts_escape_names_and_take_the_colours_of_the_page() -> None:
    chart = line_chart({NASTY: [1.0, 0.5]}, 1, label=NASTY)
    assert "<script>" not in chart
    assert "<img" not in chart
    assert 'stroke="var(--a)"' in chart
    assert not re.search(r"#[0-9a-f]{6}\b", chart)


def predicted(truth: list[list[int]], event: list[list[float]], classes: list[list[float]]) -> PredictedClips:
    probability = np.array(event)
    logits = np.log(probability / (1 - probability))
    clips = tuple(AnnotatedClip(row, None, f"v{row}", (), "test") for row in range(len(truth)))
    seen = np.zeros((*logits.shape, len(classes[0])), np.float32)
    return PredictedClips(clips, np.array(truth), Predictions(logits, np.log(np.array(classes)), seen))


def test_clips_are_ranked_by_right_seconds_then_confidence() -> None:
    truth = [[0, 0, 2, 2]] * 5
    sure, unsure, wrong, less_wrong = (
        [0.9, 0.9, 0.1, 0.1],
        [0.6, 0.6, 0.4, 0.4],
        [0.1, 0.1, 0.9, 0.9],
        [0.4, 0.4, 0.6, 0.6],
    )
    half = [0.9, 0.1, 0.1, 0.1]
    found = predicted(truth, [unsure, wrong, half, sure, less_wrong], [[0.8, 0.2]] * 5)
    assert ranked_clips(found).tolist() == [3, 0, 2, 4, 1]  # the most confident of the wrong is the worst
    assert confidences(found)[3] == pytest.approx((2 * 0.9 * 0.8 + 2 * 0.9) / 4)


def test_among_perfect_clips_those_with_boundaries_come_first() -> None:
    found = predicted([[0, 0], [0, 2]], [[0.95, 0.95], [0.6, 0.4]], [[0.9, 0.1]] * 2)
    assert ranked_clips(found).tolist() == [1, 0]


@pytest.mark.parametrize("count", [1, 2, 5, 11, 12, 13])
def test_best_and_worst_clips_do_not_overlap(count: int) -> None:
    best, worst = best_and_worst(range(count))
    assert not set(best) & set(worst)
    assert len(best) + len(worst) == min(count, 12)
    assert len(best) <= 6


@pytest.mark.parametrize(("hits", "count"), [(0, 3), (1, 10), (5, 10), (10, 10), (98, 160)])
def test_the_interval_is_wilsons(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_without_clips_there_is_no_interval() -> None:
    assert np.isnan(wilson_interval(float("nan"), 0)).all()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.xdist_group("browser")
def test_no_table_is_cut_on_a_phone(result: TrainingResult) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto((result.folder / PAGE_NAME).as_uri())
        wide = "[...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > 390.5)"
        assert page.evaluate(f"{wide}.map(one => one.outerHTML.slice(0, 80))") == []
        assert complaints == []
        browser.close()


def test_boundary_errors_are_those_of_scored_events() -> None:
    random = np.random.default_rng(0)
    truth = np.array([[2, 0, 0, 2, 2], [1, 1, 1, 2, 2], [2, 2, 1, 1, 2], [0, 0, 2, 2, 2]])
    event = np.array([[0.9, 0.9, 0.1, 0.1, 0.1], [0.1, 0.9, 0.9, 0.9, 0.1], [0.9, 0.9, 0.1, 0.1, 0.1], [0.9] * 5])
    classes = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]) + 0.01 * random.random((4, 2))
    found = predicted(truth.tolist(), event.tolist(), classes.tolist())
    starts, ends, events = boundary_errors(found, 2)
    assert (starts, ends, events) == ([-1, 1], [-1, 1], 4)  # the third is not overlapped, the fourth of another class
    scores = score(found.predictions.segment_labels(), truth, 2)
    assert scores.boundary_error_seconds == np.mean([np.abs(starts), np.abs(ends)])
    assert scores.boundary_matched == len(starts) / events


def test_several_runs_have_a_page_with_links_to_each(options: dict[str, Any], tmp_path: Path) -> None:
    one_epoch = {**options, "task": "cml", "epochs": 1}
    train(**one_epoch, out=tmp_path / "seeds", seeds=2)
    results = train(**one_epoch, out=tmp_path / "ablation", ablate=True, seeds=1).methods
    for folder, runs in (("seeds", 2), ("ablation", 2)):
        page = Page(tmp_path / folder / PAGE_NAME)
        links = [a["href"] for tag, a in page.tags if tag == "a"]
        assert len(links) == runs
        assert all(link and (tmp_path / folder / link).is_file() for link in links)
    page = Page(tmp_path / "ablation" / PAGE_NAME)
    full, less = (results[name][0].test.as_dict()["a2v"] for name in ("full", "without WCCL"))
    assert page.table("", "A2V %")["full"][0] == f"{100 * full:.1f}"
    runs = page.table("", "A2V of the runs %", "A2V: full minus this")
    assert runs["without WCCL"] == [f"{100 * less:.1f}", f"{100 * (full - less):+.1f}"]
    assert not (tmp_path / "ablation" / "full" / PAGE_NAME).exists()
