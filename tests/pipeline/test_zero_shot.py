"""Classes asked for by name, from videos to events, with tiny CLIP and CLAP that know what each text looks like."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.planted_models import NAMES, OTHER, Planted, make_planted, plant, planted_set
from support.processes import run

from ccln import evaluate, localize, train
from ccln.extractors import PRESETS, ExtractorError
from ccln.model import load_checkpoint
from ccln.pipeline.commands.formats import evaluation_table
from ccln.pipeline.commands.localize import FormatError
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.ave import UNSEEN
from ccln.pipeline.evaluate import EvaluationError
from ccln.pipeline.metrics.open_vocabulary import OpenScores
from ccln.pipeline.texts import (
    OTHERS,
    PROMPTS,
    NamesError,
    read_names,
    spoken,
    text_side,
    unseen_names,
    untrained_names,
    without_classes,
)
from ccln.pipeline.train.state import TrainingError

DOG, VIOLIN, CHAINSAW = range(3)
ALL = ", ".join(NAMES)
OWN = [DOG] * 4 + [VIOLIN] * 3 + [OTHER] * 2 + [CHAINSAW]
TINY = "[model]\nwidth = 16\nheads = 2\nembedding_width = 8\n[training]\nbatch_size = 8\nlearning_rate = 4e-3\n"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def data(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An AVE folder and a cache of its features."""
    return planted_set(planted, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def open_run(planted: Planted, data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with an open head that has never met a chainsaw."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.toml").write_text(TINY)
    result = train(
        data[0],
        cache=data[1],
        out=folder / "open",
        config=folder / "tiny.toml",
        open_head=True,
        unseen="chainsaw",
        epochs=20,
        **planted.where,
    )
    return result.folder


def found(video: Path, planted: Planted, **options: object) -> list[tuple[str, float, float]]:
    (located,) = localize(video, **planted.where, **options).videos  # type: ignore[arg-type]
    return [(event.label, event.start_seconds, event.end_seconds) for event in located.events]


def test_events_are_found_to_the_second_and_those_alone_in_which_both_agree(planted: Planted, tmp_path: Path) -> None:
    events = [("dog barking", 0, 4), ("violin", 4, 7), ("chainsaw", 9, 10)]
    own = make_planted(tmp_path / "own.mkv", OWN, OWN)
    assert found(own, planted, classes=ALL) == events
    assert found(own, planted, classes="violin") == events[1:2]
    swapped = [VIOLIN] * 4 + [CHAINSAW] * 3 + [DOG] * 2 + [OTHER]
    assert found(make_planted(tmp_path / "sound.mkv", swapped, OWN), planted, classes=ALL) == []
    assert found(make_planted(tmp_path / "picture.mkv", OWN, swapped), planted, classes=ALL) == []
    shifted = make_planted(tmp_path / "late.mkv", [DOG] * 6 + [OTHER] * 4, [OTHER] * 2 + [DOG] * 8)
    assert found(shifted, planted, classes=ALL) == [("dog barking", 2, 6)]
    other = [OTHER] * 10
    assert found(make_planted(tmp_path / "other.mkv", other, other), planted, classes=ALL) == []


def test_videos_may_have_any_length(planted: Planted, tmp_path: Path) -> None:
    kinds = [OTHER] * 11 + [DOG] * 5 + [OTHER] * 7
    assert found(make_planted(tmp_path / "long.mkv", kinds, kinds), planted, classes=ALL) == [("dog barking", 11, 16)]


def test_the_command_takes_names_and_files_and_writes_every_format(planted: Planted, tmp_path: Path) -> None:
    video = make_planted(tmp_path / "own.mkv", OWN, OWN)
    (tmp_path / "names.txt").write_text("dog barking\n\n  violin \n")
    words = [str(video), "--classes", str(tmp_path / "names.txt"), *planted.words]
    formats = [word for name in ("json", "csv", "webvtt", "elan") for word in ("--format", name)]
    pictures = ["--plot", str(tmp_path / "plots"), "--html", str(tmp_path / "page.html")]
    done = run("ccln-localize", *words, *formats, "--out", str(tmp_path / "out"), *pictures)
    assert done.returncode == 0, done.stderr
    assert "the classes are dog barking; violin" in done.stderr
    (document,) = json.loads((tmp_path / "out" / "own.json").read_text())["videos"]
    assert [(event["label"], event["start_seconds"]) for event in document["events"]] == [
        ("dog barking", 0),
        ("violin", 4),
    ]
    names = {path.name for path in (*(tmp_path / "out").iterdir(), *(tmp_path / "plots").iterdir())}
    assert names == {"own.json", "own.csv", "own.vtt", "own.eaf", "own.png"}
    assert "dog barking" in (tmp_path / "page.html").read_text()


def test_evaluating_zero_shot_chooses_on_validation_and_makes_a_checkpoint(
    planted: Planted, data: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ["--zero-shot", "--data", str(data[0]), "--cache", str(data[1]), "--out", str(tmp_path / "zero")]
    done = run("ccln-evaluate", *words, "--unseen", "chainsaw", "--json", str(tmp_path / "r.json"), *planted.words)
    assert done.returncode == 0, done.stderr
    assert "zero-shot" in done.stdout
    assert "trained on" not in done.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["split"], report["trained_on"]) == ("test", 0)
    assert report["scores"]["segment_accuracy"] == report["scores"]["event_f1"] == 1
    assert {name: of["clips"] for name, of in report["open"].items()} == {"all": 12, "seen": 8, "unseen": 4}
    assert report["open"]["unseen"]["event_f1"] == 1
    checkpoint = load_checkpoint(tmp_path / "zero")
    assert checkpoint.class_names == NAMES
    assert checkpoint.training["task"] == "zero-shot"
    video = make_planted(tmp_path / "own.mkv", OWN, OWN)
    assert found(video, planted, checkpoint=tmp_path / "zero")[:2] == [("dog barking", 0, 4), ("violin", 4, 7)]
    assert found(video, planted, checkpoint=tmp_path / "zero", classes="violin") == [("violin", 4, 7)]
    again = evaluate(tmp_path / "zero", data=data[0], cache=data[1], split="validation")
    assert again.scores.as_dict()["segment_accuracy"] == 1


def test_an_open_head_finds_what_it_was_not_trained_on(planted: Planted, open_run: Path, tmp_path: Path) -> None:
    assert load_checkpoint(open_run).class_names == NAMES[:2]
    kinds = [CHAINSAW] * 4 + [OTHER] * 2 + [VIOLIN] * 4
    video = make_planted(tmp_path / "saw.mkv", kinds, kinds)
    assert found(video, planted, checkpoint=open_run, classes=ALL) == [("chainsaw", 0, 4), ("violin", 6, 10)]
    assert "chainsaw" not in {label for label, _, _ in found(video, planted, checkpoint=open_run)}


def test_seen_and_unseen_classes_are_scored_apart(planted: Planted, data: tuple[Path, Path], open_run: Path) -> None:
    report = evaluate(open_run, data=data[0], cache=data[1], **planted.where)
    assert {name: of.clips for name, of in report.open_scores.items()} == {"all": 12, "seen": 8, "unseen": 4}
    assert isinstance(report.open_scores["seen"], OpenScores)
    assert report.open_scores["all"].segment_accuracy == pytest.approx(report.scores.as_dict()["segment_accuracy"])
    assert min(of.average for of in report.open_scores.values()) > 0.75
    assert report.trained_on == 0
    shown = evaluation_table(report)
    assert "segment F1" in shown
    assert "unseen" in shown


def test_training_open_as_a_command_and_starting_from_its_network(
    planted: Planted, data: tuple[Path, Path], open_run: Path, tmp_path: Path
) -> None:
    options = {"cache": data[1], "config": open_run.parent / "tiny.toml", "epochs": 1}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    begun = ["--data", str(data[0]), "--open", "--init", str(open_run), "--out", str(tmp_path / "run")]
    done = run("ccln-train", *begun, *words, *planted.words)
    assert done.returncode == 0, done.stderr
    assert "classes that are new: chainsaw" in done.stderr
    assert load_checkpoint(tmp_path / "run").class_names == NAMES
    with pytest.raises(TrainingError, match="open head"):
        train(data[0], out=tmp_path / "closed", init=open_run, **options)  # type: ignore[arg-type]


def test_other_presets_name_those_with_texts(planted: Planted, tmp_path: Path) -> None:
    video = make_planted(tmp_path / "own.mkv", OWN, OWN)
    with pytest.raises(ExtractorError, match=r"no text side.*clip-clap"):
        localize(video, classes=ALL, preset="light")
    with pytest.raises(ExtractorError, match="no text side"):
        text_side(PRESETS["ave"], NAMES)


def test_options_that_do_not_go_together_are_refused(
    planted: Planted, data: tuple[Path, Path], tmp_path: Path, open_run: Path
) -> None:
    video = make_planted(tmp_path / "own.mkv", OWN, OWN)
    with pytest.raises(FormatError, match="--preset"):
        localize(video, preset="clip-clap")
    with pytest.raises(FormatError, match="--preset"):
        localize(video, preset="clip-clap", classes="open")
    with pytest.raises(FormatError, match="--checkpoint"):
        localize(video, preset="clip-clap", classes=ALL, checkpoint=open_run)
    with pytest.raises(NamesError, match="has learnt its 16 classes"):
        localize(video, classes=ALL, checkpoint="packaged")
    with pytest.raises(NamesError, match="holds 0 names"):
        localize(video, classes=" , ")
    with pytest.raises(EvaluationError, match="--zero-shot"):
        evaluate()
    with pytest.raises(EvaluationError, match="--zero-shot"):
        evaluate(open_run, zero_shot=True)
    with pytest.raises(EvaluationError, match="--classes"):
        evaluate(open_run, classes=ALL)
    with pytest.raises(NamesError, match="chainsaw"):
        evaluate(zero_shot=True, data=data[0], cache=data[1], classes="violin, dog barking", **planted.where)
    with pytest.raises(NamesError, match="no class cat"):
        evaluate(open_run, data=data[0], cache=data[1], unseen="cat", **planted.where)
    with pytest.raises(TrainingError, match="cml"):
        train(data[0], cache=data[1], open_head=True, task="cml", out=tmp_path / "cml")


def test_names_are_read_and_spoken(tmp_path: Path) -> None:
    assert read_names("a, b ,,a") == ("a", "b")
    (tmp_path / "names").write_bytes("\ufeffRace car, auto racing\r\nÖl\n".encode())
    assert read_names(str(tmp_path / "names")) == ("Race car, auto racing", "Öl")
    with pytest.raises(NamesError, match="expected 1 to"):
        read_names(",".join(map(str, range(10_001))))
    spoken_names = [spoken(name) for name in ("Church_bell", "TV", "A", "dog")]
    assert spoken_names == ["church bell", "TV", "A", "dog"]


def test_prompts_and_others_fit_together() -> None:
    assert PROMPTS.keys() == OTHERS.keys() == {"visual", "audio"}
    assert len(OTHERS["visual"]) == len(OTHERS["audio"])
    assert all(prompt.count("{}") == 1 for of in PROMPTS.values() for prompt in of)


def test_rows_of_unseen_classes_are_left_out(data: tuple[Path, Path]) -> None:
    dataset = read_dataset(data[0])
    kept = without_classes(dataset, unseen_names("chainsaw", dataset))
    assert kept.class_names == NAMES[:2]
    assert {clip.label for clip in kept.clips} == set(NAMES[:2])
    assert [clip for clip in dataset.clips if clip.label != "chainsaw"] == list(kept.clips)
    of_test = replace(dataset, clips=tuple(c for c in dataset.clips if c.split == "test" or c.label == "violin"))
    assert untrained_names(of_test) == ("dog barking", "chainsaw")
    ave = replace(dataset, class_names=(*UNSEEN, "Bark"))
    assert unseen_names("ave", ave) == UNSEEN
    assert len(set(UNSEEN)) == 8
