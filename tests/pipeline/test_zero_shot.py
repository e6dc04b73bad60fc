"""Classes asked for by name, from videos to events, with tiny models that know what each text looks like."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.planted import features as planted_features
from support.planted import network as planted_network
from support.planted_models import NAMES, OTHER, Planted, make_planted, plant, plant_pe_av, planted_set, without_scales
from support.processes import run

from ccln import evaluate, localize, train
from ccln.extractors import PRESETS, ExtractorError
from ccln.model import load_checkpoint
from ccln.pipeline.commands.formats import evaluation_table
from ccln.pipeline.commands.localize import FormatError
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.ave import UNSEEN
from ccln.pipeline.data.clips import AnnotatedClip
from ccln.pipeline.data.features import LabelledClips
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
from ccln.pipeline.zero_shot import choose_scales

DOG, VIOLIN, CHAINSAW = range(3)
ALL = ", ".join(NAMES)
OWN = [DOG] * 4 + [VIOLIN] * 3 + [OTHER] * 2 + [CHAINSAW]
TINY = "[model]\nwidth = 16\nheads = 2\nembedding_width = 8\n[training]\nbatch_size = 8\nlearning_rate = 4e-3\n"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def planted_pe_av(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant_pe_av(tmp_path_factory.mktemp("pe-av"))


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


def test_pe_av_finds_events_to_the_second_by_its_own_scale_of_vectors_of_any_length(
    planted_pe_av: Planted, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    swapped = [VIOLIN] * 4 + [CHAINSAW] * 3 + [DOG] * 2 + [OTHER]
    for name, heard, seen in (("own", OWN, OWN), ("sound", swapped, OWN), ("picture", OWN, swapped)):
        make_planted(folder / f"{name}.mkv", heard, seen)
    words = [str(folder), "--classes", ALL, "--preset", "pe-av", "--format", "json", *planted_pe_av.words]
    done = run("ccln-localize", *words)
    assert done.returncode == 0, done.stderr
    events = {
        Path(video["path"]).stem: [
            (event["label"], event["start_seconds"], event["end_seconds"]) for event in video["events"]
        ]
        for video in json.loads(done.stdout)["videos"]
    }
    own = [("dog barking", 0, 4), ("violin", 4, 7), ("chainsaw", 9, 10)]
    assert events == {"own": own, "sound": [], "picture": []}


def test_each_model_is_loaded_once(
    planted: Planted, planted_pe_av: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModel

    loaded, load = [], AutoModel.from_pretrained

    def counted(folder: Path, **more: object) -> object:
        loaded.append(folder)
        return load(folder, **more)

    monkeypatch.setattr(AutoModel, "from_pretrained", counted)
    video = make_planted(tmp_path / "own.mkv", OWN, OWN)
    for models, preset in ((planted, "clip-clap"), (planted_pe_av, "pe-av")):
        loaded.clear()
        assert len(found(video, models, classes=ALL, preset=preset)) == 3
        assert sorted(loaded) == sorted({models.visual_weights, models.audio_weights})


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


def test_a_scale_of_zero_is_chosen_anew_on_a_data_set(planted_pe_av: Planted, tmp_path: Path) -> None:
    data, cache = planted_set(planted_pe_av, tmp_path, train=3)
    untrained = without_scales(planted_pe_av, tmp_path / "untrained")
    options = {"data": data, "cache": cache, "classes": ALL, "out": tmp_path / "zero", **untrained.where}
    report = evaluate(zero_shot=True, **options)  # type: ignore[arg-type]
    assert report.scores.as_dict()["segment_accuracy"] == 1
    video = make_planted(tmp_path / "own.mkv", OWN, OWN)
    assert found(video, planted_pe_av, classes=ALL, preset="pe-av")[0] == ("dog barking", 0, 4)
    assert found(video, untrained, classes=ALL, preset="pe-av") == []


@pytest.mark.parametrize("given", [0.0, -3.0, 1e6])
@pytest.mark.parametrize("right", [0.7, 0.0])
def test_scales_are_as_sure_as_the_texts_are_right(right: float, given: float) -> None:
    network, random = planted_network(3), np.random.default_rng(0)
    for scale in (network.audio_scale, network.visual_scale):
        scale.data.fill_(given)
    truth = random.integers(0, 3, (60, 10))
    shown = np.where(random.random(truth.shape) < right, truth, (truth + 1) % 3)
    pairs = [planted_features(kinds.tolist(), kinds.tolist(), noise=0) for kinds in shown]
    clips = LabelledClips(
        clips=tuple(AnnotatedClip(n, "a", str(n), ((0.0, 10.0),), "validation") for n in range(len(truth))),
        visual=tuple(visual for visual, _ in pairs),
        audio=tuple(audio for _, audio in pairs),
        segment_labels=truth,
        class_labels=truth[:, 0],
        class_count=3,
        keys=tuple(map(str, range(len(truth)))),
        missing=(),
        durations_seconds=(10.0,) * len(truth),
    )
    choose_scales(network, clips)
    share = (shown == truth).mean()
    for scale in (network.audio_scale, network.visual_scale):
        if share:  # of four other texts at right angles, none is likelier
            assert scale.item() == pytest.approx(np.log(share / (1 - share) * 4), rel=1e-3)
        else:
            assert 0 < scale.item() < 0.1


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
