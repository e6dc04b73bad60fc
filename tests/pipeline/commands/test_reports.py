import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from ccln import evaluate, train
from ccln.cache import FeatureCache, specification_digest
from ccln.model import CheckpointError, EventDecoding, load_checkpoint, save_checkpoint
from ccln.pipeline.commands.evaluate import evaluate_command
from ccln.pipeline.commands.formats import evaluation_json, evaluation_table, runs_table, score_table
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.evaluate import EvaluationError, EvaluationReport
from ccln.pipeline.metrics.calibration import DecodingScores
from ccln.pipeline.metrics.evaluation import ORACLE_CLASS, Evaluation
from ccln.pipeline.metrics.localization import SegmentDetails
from ccln.pipeline.metrics.segments import Scores, baselines, score, score_in_detail
from ccln.pipeline.train.results import RunFacts, TrainingResult

RUN_FACTS = RunFacts("weak", "set", 0, ("a",), 10, {}, (), {}, {}, "", {})


@pytest.fixture(scope="module")
def report(tiny_run: Path, tiny_set: Path, tiny_cache: Path) -> EvaluationReport:
    return evaluate(tiny_run, data=tiny_set, cache=tiny_cache, device="cpu")


def with_rows_reversed(folder: Path, target: Path) -> Path:
    """The data set with its annotations in the opposite order, so that other classes come first."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("AVE"))
    (target / "AVE").symlink_to(folder / "AVE")
    rows = (folder / "Annotations.txt").read_text().splitlines()
    head = [row for row in rows if row.endswith("EndTime")]
    (target / "Annotations.txt").write_text("\n".join([*head, *reversed(rows[len(head) :])]) + "\n")
    return target


def described(run: Path, target: Path, training: dict) -> Path:
    """The run's checkpoint with another training record."""
    save_checkpoint(target, replace(load_checkpoint(run), training=training))
    return target


def details(report: EvaluationReport) -> SegmentDetails:
    assert isinstance(report.evaluation.details, SegmentDetails)
    return report.evaluation.details


def test_evaluating_a_run_gives_the_scores_of_its_metrics_file(tiny_run: Path, report: EvaluationReport) -> None:
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert report.scores.as_dict() == metrics["test"]
    assert {name: scores.as_dict() for name, scores in report.baselines.items()} == metrics["baselines"]
    assert report.specification == specification_digest(load_checkpoint(tiny_run).specification)
    assert report.missing == 0


def test_another_split_has_its_own_scores_and_baselines(tiny_run: Path, tiny_set: Path, tiny_cache: Path) -> None:
    found = evaluate(tiny_run, data=tiny_set, cache=tiny_cache, split="validation", device="cpu")
    assert found.scores.as_dict() == json.loads((tiny_run / "metrics.json").read_text())["validation"]
    assert found.baselines["always background"].clips == found.scores.clips == 5


def test_rows_that_were_trained_on_are_counted(
    tiny_run: Path, tiny_set: Path, tiny_cache: Path, report: EvaluationReport, tmp_path: Path
) -> None:
    trained = evaluate(tiny_run, data=tiny_set, cache=tiny_cache, split="train", device="cpu")
    assert trained.scores.clips == trained.trained_on == 6
    assert report.trained_on == 0
    mixed = tmp_path / "videos"
    shutil.copytree(tiny_set, mixed, ignore=shutil.ignore_patterns("AVE"))
    (mixed / "AVE").symlink_to(tiny_set / "AVE")
    with (mixed / "testSet.txt").open("a") as rows:
        rows.writelines(row + "\n" for row in (tiny_set / "trainSet.txt").read_text().splitlines()[-2:])
    found = evaluate(tiny_run, data=mixed, cache=tiny_cache, device="cpu")
    assert (found.trained_on, found.scores.clips) == (2, 7)
    silent = described(tiny_run, tmp_path / "silent", {})
    assert evaluate(silent, data=tiny_set, cache=tiny_cache, device="cpu").trained_on is None


def test_details_and_scores_agree(report: EvaluationReport) -> None:
    confusion = details(report).scores.confusion
    assert isinstance(report.scores, Scores)
    assert confusion.shape == (len(details(report).class_names) + 1,) * 2
    assert np.trace(confusion) / confusion.sum() == pytest.approx(report.scores.segment_accuracy)
    assert confusion.sum() == 10 * report.scores.clips
    assert sum(scores.clips for scores in details(report).scores.classes) == report.scores.clips
    right_background, background = confusion[-1, -1], confusion[-1].sum()
    assert right_background / background == pytest.approx(report.scores.background_recall)


def test_classes_have_the_order_of_the_checkpoint(
    tiny_run: Path, tiny_set: Path, tiny_cache: Path, report: EvaluationReport, tmp_path: Path
) -> None:
    other = with_rows_reversed(tiny_set, tmp_path / "videos")
    assert read_dataset(other).class_names != details(report).class_names
    found = evaluate(tiny_run, data=other, cache=tiny_cache, device="cpu")
    assert details(found).class_names == details(report).class_names
    assert found.scores == report.scores
    assert (details(found).scores.confusion == details(report).scores.confusion).all()


def test_other_classes_are_refused_and_both_lists_named(
    tiny_run: Path, tiny_set: Path, tiny_cache: Path, report: EvaluationReport, tmp_path: Path
) -> None:
    other, (first, *names) = tmp_path / "run", details(report).class_names
    save_checkpoint(other, replace(load_checkpoint(tiny_run), class_names=("yodelling", *names)))
    with pytest.raises(EvaluationError) as error:
        evaluate(other, data=tiny_set, cache=tiny_cache)
    for text in (str(other), str(tiny_set), "Only the checkpoint has: yodelling", first, "--data"):
        assert text in str(error.value)


def in_the_other_arithmetic(cache: Path, target: Path) -> Path:
    """A cache with the same features under the specification that differs in its arithmetic."""
    before, after = FeatureCache(cache), FeatureCache(target)
    ((digest, specification),) = before.specifications().items()
    visual: Any = specification["visual"]
    precision = {"float32": "bfloat16", "bfloat16": "float32"}[visual["precision"]]
    for path in (cache / "entries").rglob("*.safetensors"):
        after.write(
            before.read(path.stem),
            source_sha256=before.source_of(path.stem),
            source_path="clip.mp4",
            specification={**specification, "visual": {**visual, "precision": precision}},
        )
    assert digest not in after.specifications()
    return target


@pytest.mark.parametrize("split", ["train", "test"])
def test_features_in_either_arithmetic_can_be_evaluated(
    tiny_set: Path, tiny_cache: Path, split: Literal["train", "test"], tmp_path: Path
) -> None:
    """In both directions: trained rows are counted, and the scores equal those on the run's own features."""
    caches = [tiny_cache, in_the_other_arithmetic(tiny_cache, tmp_path / "cache")]
    for number, (own, other) in enumerate([caches, caches[::-1]]):
        run = train(tiny_set, cache=own, out=tmp_path / f"run {number}", epochs=1).folder
        reports = [evaluate(run, data=tiny_set, cache=cache, split=split) for cache in (own, other)]
        assert reports[0].scores == reports[1].scores
        assert reports[0].trained_on == reports[1].trained_on == (6 if split == "train" else 0)
        assert reports[0].specification != reports[1].specification


def test_features_of_other_extractors_are_refused(
    tiny_run: Path, tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(tiny_run)
    specification = {**checkpoint.specification, "frames_per_segment": 5}
    save_checkpoint(tmp_path / "run", replace(checkpoint, specification=specification))
    with pytest.raises(DatasetError, match=specification_digest(specification)):
        evaluate(tmp_path / "run", data=tiny_set, cache=tiny_cache)


def test_a_folder_without_checkpoint_is_refused(tiny_set: Path, tiny_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        evaluate(tmp_path, data=tiny_set, cache=tiny_cache)


def test_rows_that_the_run_dropped_are_dropped_again(
    tiny_run: Path, tiny_set: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    leaky = tmp_path / "videos"
    shutil.copytree(tiny_set, leaky, ignore=shutil.ignore_patterns("AVE"))
    (leaky / "AVE").symlink_to(tiny_set / "AVE")
    with (leaky / "valSet.txt").open("a") as rows:
        rows.write((tiny_set / "testSet.txt").read_text().splitlines()[0] + "\n")
    for drop_leaks, clips in ((True, 5), (False, 6)):
        run = described(tiny_run, tmp_path / str(drop_leaks), {"drop_leaks": drop_leaks})
        found = evaluate(run, data=leaky, cache=tiny_cache, split="validation", device="cpu")
        assert found.scores.clips == clips


def test_the_data_set_is_that_of_the_run_or_of_the_current_folder(
    tiny_run: Path, tiny_set: Path, tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, training in (("names", {"data": str(tiny_set)}), ("gone", {"data": "gone"}), ("odd", {"data": 3})):
        described(tiny_run, tmp_path / name, training)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert evaluate(tmp_path / "names", cache=tiny_cache).data == tiny_set
    (tmp_path / "here" / "videos").symlink_to(tiny_set)
    for name in ("gone", "odd"):
        assert evaluate(tmp_path / name, cache=tiny_cache).data == Path("videos")


# As text


def made_report() -> EvaluationReport:
    """Four clips of two of three classes, by hand."""
    truth = np.array([[3, 0, 0, 0], [1, 1, 1, 1], [3, 3, 3, 3], [0, 0, 3, 3]])
    predicted = np.array([[3, 0, 0, 3], [0, 0, 0, 0], [3, 3, 3, 3], [3, 3, 3, 3]])
    clip_labels = np.array([0, 1, 3, 0])
    detailed = score_in_detail(predicted, truth, 3, named=np.array([0, 0, 1, 0]), clip_labels=clip_labels)
    evaluation = Evaluation(
        scores=score(predicted, truth, 3),
        ablated={},
        baselines=baselines(truth, truth, 3, clip_labels),
        details=SegmentDetails(("bark", "bell, large", "horn"), detailed),
    )
    return EvaluationReport(
        run=Path("runs/first"),
        data=Path("videos"),
        split="test",
        specification="ab" * 32,
        evaluation=evaluation,
        missing=2,
        decoding=EventDecoding(event_threshold=0.4),
        decoding_scores=DecodingScores(event_f1=0.75, calibration_error=0.03, uncalibrated_error=0.08),
        videos=None,
        trained_on=0,
    )


def test_the_json_report() -> None:
    report = json.loads(evaluation_json(made_report()))
    assert (report["format"], report["version"]) == ("ccln-evaluation", 2)
    assert (report["run"], report["data"], report["split"]) == ("runs/first", "videos", "test")
    assert (report["specification"], report["missing"], report["trained_on"]) == ("ab" * 32, 2, 0)
    assert report["scores"]["segment_accuracy"] == 9 / 16
    assert report["baselines"][ORACLE_CLASS]["segment_accuracy"] == 13 / 16
    assert report["clip_accuracy"] == 2 / 3
    assert report["classes"][0] == {
        "name": "bark",
        "clips": 2,
        "named_right": 2,
        "segment_recall": 2 / 5,
        "segment_precision": 2 / 6,
        "event_f1": 2 / 4,
    }
    assert report["classes"][2] == {
        "name": "horn",
        "clips": 0,
        "named_right": 0,
        "segment_recall": None,
        "segment_precision": None,
        "event_f1": None,
    }
    assert report["confusion"]["labels"] == ["bark", "bell, large", "horn", "background"]
    assert report["confusion"]["segments"] == [[2, 0, 0, 3], [4, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 7]]


def test_the_report_as_text() -> None:
    title, scores, decoding, classes, confusions = evaluation_table(made_report()).split("\n\n")
    assert title == "runs/first on videos"
    assert decoding.splitlines()[1].split() == ["test", "75.0", "%", "3.0", "%", "8.0", "%"]
    assert "at a probability of 0.4 or more" in decoding
    first, *lines = scores.splitlines()
    assert first == "test, 4 clips, beside trivial baselines and the oracle class"
    # All seven of the background, of ten predicted as such; of three true and two predicted events one is right.
    found = {line.split("  ")[0]: line.split("  ", 1)[1].split("  ") for line in lines[3:9]}
    assert {name: next(cell for cell in cells if cell).strip() for name, cells in found.items()} == {
        "accuracy": "56.2 %",
        "bg recall": "100.0 %",
        "bg precision": "70.0 %",
        "event F1": "40.0 %",
        "at tIoU 0.5": "40.0 %",
        "boundary error": "0.50 s",
    }
    assert lines[9].startswith("95 % interval of accuracy: ")
    assert lines[10] == "rows without features: 2"
    names = [line.split("  ")[0] for line in classes.splitlines()]
    assert names == ["class", "bell, large", "bark", "horn", "all"]  # the worst found first, the one not there last
    assert classes.splitlines()[3].count("–") == 3
    assert [" ".join(line.split()) for line in confusions.splitlines()[1:]] == [
        "bell, large → bark 4 100.0 %",
        "bark → background 3 60.0 %",
    ]


def test_both_reports_warn_of_rows_that_were_trained_on() -> None:
    made = made_report()
    assert "warning" not in evaluation_table(made)
    for trained_on, words in ((3, "warning: 3 of the 4 rows evaluated were trained on"), (None, "does not say which")):
        report = replace(made, trained_on=trained_on)
        (line,) = [line for line in evaluation_table(report).splitlines() if line.startswith("warning")]
        assert words in line
        assert json.loads(evaluation_json(report))["trained_on"] == trained_on


def test_a_perfect_report_has_no_section_on_mistakes() -> None:
    truth = np.array([[0, 1, 2, 3]])
    detailed = score_in_detail(truth, truth, 3, np.array([0]), np.array([0]))
    report = made_report()
    evaluation = replace(report.evaluation, details=SegmentDetails(details(report).class_names, detailed))
    perfect = replace(report, evaluation=evaluation, missing=0)
    assert "predicted as" not in evaluation_table(perfect)
    assert "rows without" not in evaluation_table(perfect)


def test_the_table_of_a_run_labels_results_selected_on_test() -> None:
    evaluation = made_report().evaluation
    result = TrainingResult(
        folder=Path("runs/first"),
        facts=RUN_FACTS,
        on_test=replace(evaluation, baselines={}),
        on_validation=evaluation,
        best_epoch=1,
        history=(),
        missing={"train": 3, "validation": 0, "test": 0},
        dropped={},
        decoding=EventDecoding(),
        decoding_scores={},
        best_test_selection=None,
    )
    text = score_table(result)
    assert [line for line in text.splitlines() if "clips" in line] == [
        "test, 4 clips",
        "validation, 4 clips, beside trivial baselines and the oracle class",
    ]
    assert text.splitlines()[-1] == "rows without features: train 3"
    assert max(map(len, text.splitlines())) <= 80
    watched = score_table(replace(result, best_test_selection=0.875))
    assert "accuracy of the epoch that is best on test: 87.5 %" in watched
    assert "(selected on test, as some papers do: optimistic)" in watched


# What the background holds


def test_a_manifest_gives_a_table_of_kinds_to_all_reports(
    tiny_set: Path, tiny_cache: Path, tmp_path: Path, no_curves: None
) -> None:
    data = tmp_path / "videos"
    shutil.copytree(tiny_set, data, ignore=shutil.ignore_patterns("AVE"))
    (data / "AVE").symlink_to(tiny_set / "AVE")
    clips = read_dataset(data).clips_of("test")
    distractors = [{"type": "seen_not_heard", "t0": 0, "t1": 10}]
    lines = [json.dumps({"id": clip.video_id, "distractors": distractors}) for clip in clips]
    (data / "manifest.jsonl").write_text("\n".join(lines))

    runs = train(data, cache=tiny_cache, out=tmp_path / "runs", epochs=1, seeds=2)
    first = runs.methods["CCLN"][0]
    event = sum(int(end - start) for clip in clips for start, end in clip.spans)
    expected = {"event": event, "seen_not_heard": 10 * len(clips) - event}
    metrics = json.loads((first.folder / "metrics.json").read_text())
    assert {name: of["seconds"] for name, of in metrics["kinds"]["test"].items()} == expected
    assert metrics["kinds"].keys() == {"test"}  # the manifest names no other clip
    background = metrics["kinds"]["test"]["seen_not_heard"]["called_event"]
    assert background == pytest.approx(1 - metrics["test"]["background_recall"])

    report = evaluate(first.folder, data=data, cache=tiny_cache, device="cpu")
    assert json.loads(evaluation_json(report))["kinds"] == metrics["kinds"]["test"]
    for text in (evaluation_table(report), score_table(first)):
        heading, *rows = text[text.index("kind of second") :].splitlines()
        assert heading.split() == ["kind", "of", "second", "seconds", "called", "event"]
        assert rows[0].split()[:2] == ["event", str(event)]
    assert "kind of second, called event  seconds" in runs_table(runs.methods)
    pages = [(folder / "report.html").read_text() for folder in (first.folder, runs.folder)]
    assert all("seen_not_heard" in page for page in pages)
    assert "What the background holds" in pages[0]
    (data / "manifest.jsonl").write_text('{"id": 3}')
    with pytest.raises(DatasetError, match="line 1"):
        evaluate(first.folder, data=data, cache=tiny_cache)


# As a command


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ccln-evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        evaluate_command()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_prints_the_table_and_writes_the_report(
    tiny_run: Path,
    tiny_set: Path,
    tiny_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (tiny_run, "--data", tiny_set, "--cache", tiny_cache, "--split", "validation", "--device", "cpu")
    assert run(monkeypatch, *words, "--json", tmp_path / "report.json") == 0
    shown = capsys.readouterr().out
    for text in ("validation, 5 clips", "best single", "named right", str(tmp_path / "report.json")):
        assert text in shown
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["scores"] == json.loads((tiny_run / "metrics.json").read_text())["validation"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone"], "gone/config.json"),
        (["run"], "--data"),
        (["run", "--data", "gone"], "gone"),
        ([], "name the folder of a run"),
    ],
)
def test_an_error_names_the_remedy(
    tiny_run: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    described(tiny_run, tmp_path / "run", {})
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words) == 2
    shown = capsys.readouterr()
    assert message in shown.out + shown.err
    assert "Traceback" not in shown.err
