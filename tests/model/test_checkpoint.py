"""A checkpoint comes back as it was saved, and a writer that is stopped leaves nothing that loads wrongly."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from support.checkpoints import CONFIG, NAMES, SPECIFICATION, TRAINING, change_config, checkpoint, refused, same_outputs

from ccln.model import (
    CCLN,
    Checkpoint,
    CheckpointError,
    EventDecoding,
    MatchingNetwork,
    ModelConfig,
    load_checkpoint,
    save_checkpoint,
)

pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole checkpoint, for the test to damage."""
    save_checkpoint(tmp_path / "run", checkpoint())
    return tmp_path / "run"


# --- Round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("without", [(), ("fee",), ("sbi", "fee", "wccl")])
def test_a_saved_checkpoint_loads_unchanged(tmp_path: Path, without: tuple[Any, ...]):
    saved = checkpoint(config=replace(CONFIG, without=without, dropout=0.35, foreground_gain=0.1))
    saved = replace(saved, decoding=EventDecoding(0.3, 2, 1.7, 3))
    save_checkpoint(tmp_path / "a" / "run", saved)
    loaded = load_checkpoint(tmp_path / "a" / "run")
    assert same_outputs(saved.model, loaded.model)
    assert loaded.model.config == saved.model.config
    assert (loaded.class_names, loaded.specification, loaded.training) == (NAMES, SPECIFICATION, TRAINING)
    assert loaded.decoding == saved.decoding
    digest = hashlib.sha256((tmp_path / "a" / "run" / "model.safetensors").read_bytes()).hexdigest()
    assert loaded.weights_sha256 == saved.model.checkpoint.weights_sha256 == digest
    assert not loaded.model.training
    assert {parameter.device.type for parameter in loaded.model.parameters()} == {"cpu"}


def test_decoding_has_defaults(folder: Path):
    assert load_checkpoint(folder).decoding == EventDecoding(0.5, 1, 1.0, 1.0)


def test_a_folder_may_be_a_string(tmp_path: Path):
    save_checkpoint(str(tmp_path / "run"), checkpoint())
    assert same_outputs(load_checkpoint(str(tmp_path / "run")).model, checkpoint().model)


def matching_checkpoint(config: ModelConfig = CONFIG) -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(MatchingNetwork(config).eval(), NAMES, SPECIFICATION, TRAINING)


@pytest.mark.parametrize("without", [(), ("wccl",)])
def test_a_matching_network_is_loaded_as_one(tmp_path: Path, without: tuple[Any, ...]):
    saved = matching_checkpoint(replace(CONFIG, without=without))
    save_checkpoint(tmp_path, saved)
    loaded = load_checkpoint(tmp_path)
    assert isinstance(loaded.model, MatchingNetwork)
    assert loaded.model.config == saved.model.config
    assert same_outputs(saved.model, loaded.model)
    assert (loaded.class_names, loaded.specification, loaded.training) == (NAMES, SPECIFICATION, TRAINING)


def test_a_checkpoint_is_only_loaded_as_its_own_kind_of_network(tmp_path: Path):
    for saved in (checkpoint(), matching_checkpoint()):
        for other in ("ccln", "matching", None):
            save_checkpoint(tmp_path, saved)
            right = other == ("ccln" if isinstance(saved.model, CCLN) else "matching")

            def change(config: dict[str, Any], other: str | None = other) -> None:
                config.pop("network")
                config.update({"network": other} if other else {})

            change_config(tmp_path, change)
            if right:
                assert type(load_checkpoint(tmp_path).model) is type(saved.model)
            else:
                refused(tmp_path, "model.safetensors" if other else "config.json")


def test_a_matching_network_has_no_part_but_wccl(tmp_path: Path):
    save_checkpoint(tmp_path, matching_checkpoint())
    change_config(tmp_path, lambda config: config["model"].update(without=["sbi"]))
    refused(tmp_path, "config.json", "only wccl")


def test_a_checkpoint_that_lists_a_million_rows_loads(tmp_path: Path):
    save_checkpoint(tmp_path, replace(checkpoint(), training={"rows": " ".join(["0123456789abcdef"] * 900_000)}))
    assert len(load_checkpoint(tmp_path).training["rows"]) > 15 * 10**6


def test_a_loaded_network_can_be_trained_on(folder: Path):
    loaded = load_checkpoint(folder).model.train()
    optimizer = torch.optim.SGD(loaded.parameters(), 0.1)
    output = loaded(torch.randn(2, 4, 2, 3, 8), torch.randn(2, 4, 6))
    (output.event_logits.square().sum() + output.class_logits.square().sum()).backward()
    optimizer.step()
    assert not same_outputs(loaded.eval(), checkpoint().model)
    assert same_outputs(load_checkpoint(folder).model, checkpoint().model)  # the file is unchanged


def test_loading_does_not_change_the_random_state(folder: Path):
    state = torch.get_rng_state()
    load_checkpoint(folder)
    assert torch.equal(state, torch.get_rng_state())


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path):
    for name in "ab":
        save_checkpoint(tmp_path / name, checkpoint())
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_saving_keeps_other_files_of_the_folder(tmp_path: Path):
    (tmp_path / "curves.png").write_bytes(b"kept")
    for seed in range(2):
        save_checkpoint(tmp_path, checkpoint(seed))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "curves.png", "model.safetensors"]
    assert same_outputs(load_checkpoint(tmp_path).model, checkpoint(1).model)


def test_a_linked_snapshot_loads(folder: Path, tmp_path: Path):
    """Model hubs store files once and link to them."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(folder / name)
    assert same_outputs(load_checkpoint(snapshot).model, checkpoint().model)


def test_nan_in_the_training_record_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON compliant"):
        save_checkpoint(tmp_path, replace(checkpoint(), training={"loss": float("nan")}))
    assert list(tmp_path.iterdir()) == []


# --- The format before this one --------------------------------------------------------------------------------------

FORMER_NAMES = {
    r"^(members\.\d\.)?visual_norm": r"\1picture_norm",
    r"^members": "backbones",
    r"audio_head": "heard_head",
    r"visual_head": "seen_head",
    r"prototypes": "anchors",
}


def former_name(name: str) -> str:
    for pattern, former in FORMER_NAMES.items():
        name = re.sub(pattern, former, name)
    return name


def as_format_2(folder: Path) -> None:
    """Make a checkpoint what it was in format 2: the same under other names, without what was added later."""
    tensors = load_file(folder / "model.safetensors").items()
    data = save({former_name(name): tensor for name, tensor in tensors if not name.endswith(ADDED_LATER)})
    (folder / "model.safetensors").write_bytes(data)

    def rename(config: dict[str, Any]) -> None:
        config["format"] = 2
        config["model"]["backbones"] = config["model"].pop("members")
        config["reading"] = config.pop("decoding")
        del config["reading"]["class_threshold"]
        config["reading"]["shortest_event_seconds"] = config["reading"].pop("minimum_duration_seconds")
        config["weights_sha256"] = hashlib.sha256(data).hexdigest()

    change_config(folder, rename)


ADDED_LATER = ("gate_agreement", "event_agreement", "event_shift", "event_smoothing")


@pytest.mark.parametrize("kind", ["ccln", "matching"])
def test_format_2_is_still_loaded(tmp_path: Path, kind: str):
    saved = replace(checkpoint() if kind == "ccln" else matching_checkpoint(), decoding=EventDecoding(0.3, 2, 1.7, 3))
    with torch.no_grad():  # what was added later does nothing where it is zero
        for name, tensor in saved.model.state_dict().items():
            if name.endswith(ADDED_LATER):
                tensor.zero_()
    save_checkpoint(tmp_path / "run", saved)
    as_format_2(tmp_path / "run")
    loaded = load_checkpoint(tmp_path / "run")
    assert same_outputs(saved.model, loaded.model)
    assert loaded.decoding == saved.decoding
    assert loaded.model.config == saved.model.config
    save_checkpoint(tmp_path / "again", loaded)
    save_checkpoint(tmp_path / "run", saved)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


@pytest.mark.parametrize("number", [1, 4, 5])
def test_formats_of_networks_that_computed_otherwise_are_refused_with_a_remedy(tmp_path: Path, number: int):
    save_checkpoint(tmp_path, checkpoint())
    change_config(tmp_path, lambda config: config.update(format=number))
    with pytest.raises(CheckpointError, match=rf"of format {number}, .*train again"):
        load_checkpoint(tmp_path)


# --- A writer that is stopped -----------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("over_an_old_one", [False, True])
@pytest.mark.parametrize("done_before_the_end", range(4))
def test_a_killed_writer_leaves_the_old_checkpoint_or_none_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done_before_the_end: int, over_an_old_one: bool
):
    old, new = checkpoint(0, ("a", "b", "c")), checkpoint(1, ("d", "e", "f"))
    if over_an_old_one:
        save_checkpoint(tmp_path, old)
    steps = 0

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            if steps == done_before_the_end:
                raise Killed
            steps += 1
            return act(*args, **kwargs)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", counted(os.replace))
        patched.setattr(Path, "write_bytes", counted(Path.write_bytes))
        with pytest.raises(Killed):
            save_checkpoint(tmp_path, new)
    name = "members.1.event_head.bias"
    weights_are_new = any(path.name == "model.safetensors" for path in tmp_path.iterdir()) and (
        load_file(tmp_path / "model.safetensors")[name].equal(new.model.state_dict()[name])
    )
    if over_an_old_one and not weights_are_new:
        loaded = load_checkpoint(tmp_path)
        assert loaded.class_names == old.class_names
        assert same_outputs(loaded.model, old.model)
    else:
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, new)
    assert same_outputs(load_checkpoint(tmp_path).model, new.model)


def test_config_is_the_last_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    really_replace = os.replace

    def replace_and_note(source: Path, target: Path) -> None:
        written.append(target.name)
        really_replace(source, target)

    monkeypatch.setattr(os, "replace", replace_and_note)
    save_checkpoint(tmp_path, checkpoint())
    assert written == ["model.safetensors", "config.json"]


def test_files_of_two_checkpoints_do_not_load_together(folder: Path, tmp_path: Path):
    save_checkpoint(tmp_path / "other", checkpoint(seed=1))
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    refused(folder, "model.safetensors", "sha256")
