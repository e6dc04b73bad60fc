import hashlib
import json
import os
import pickle
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save
from torch import Tensor

from ccln.model import (
    CCLN,
    Checkpoint,
    CheckpointError,
    MatchingNetwork,
    ModelConfig,
    Network,
    load_checkpoint,
    save_checkpoint,
)

CONFIG = ModelConfig(
    visual_height=2,
    visual_width=3,
    visual_channels=8,
    audio_channels=6,
    class_count=3,
    segment_count=4,
    width=16,
    heads=2,
    embedding_width=8,
)
NAMES = ("Church bell", "Männerstimme, Rede", "犬")
SPECIFICATION = {"visual": {"name": "vgg19", "size": [7, 7, 512]}, "audio": {"rate_hz": 16000, "mean": 0.1}}
TRAINING = {"seed": 3, "test": {"segment_accuracy": 0.75, "event_f1": None}}


@pytest.fixture(autouse=True)
def one_core():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def checkpoint(seed: int = 0, names: tuple[str, ...] = NAMES, config: ModelConfig = CONFIG) -> Checkpoint:
    torch.manual_seed(seed)
    return Checkpoint(CCLN(config).eval(), names, SPECIFICATION, TRAINING)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole checkpoint, for the test to spoil."""
    save_checkpoint(tmp_path / "run", checkpoint())
    return tmp_path / "run"


def read(model: Network) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    visual, audio = (torch.randn(2, 4, *shape, generator=random) for shape in ((2, 3, 8), (6,)))
    with torch.inference_mode():
        output = model(visual, audio)
    return [value for value in output if isinstance(value, Tensor)]


def same_outputs(first: Network, second: Network) -> bool:
    return all(torch.equal(a, b) for a, b in zip(read(first), read(second), strict=True))


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    change(config)
    path.write_text(json.dumps(config), "utf-8")


def forge_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the weights and sign them anew, as who means harm would."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    data = save(weights)
    (folder / "model.safetensors").write_bytes(data)
    change_config(folder, lambda config: config.update(weights_sha256=hashlib.sha256(data).hexdigest()))


def refused(folder: Path, file: str, reason: str | None = None) -> None:
    """Loading says which file, why, and what to do."""
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert str(folder / file) in message
    assert message.endswith("Train a model (ccln-train) or name the folder of another run.")
    assert len(message) < len(str(folder)) + 500


# --- Round trip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("without", [(), ("fee",), ("sbi", "fee", "wccl")])
def test_what_is_saved_is_loaded(tmp_path: Path, without: tuple[Any, ...]):
    saved = checkpoint(config=replace(CONFIG, without=without, dropout=0.35, foreground_gain=0.1))
    save_checkpoint(tmp_path / "a" / "run", saved)
    loaded = load_checkpoint(tmp_path / "a" / "run")
    assert same_outputs(saved.model, loaded.model)
    assert loaded.model.config == saved.model.config
    assert (loaded.class_names, loaded.specification, loaded.training) == (NAMES, SPECIFICATION, TRAINING)
    assert not loaded.model.training
    assert {parameter.device.type for parameter in loaded.model.parameters()} == {"cpu"}


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


def test_a_network_is_never_taken_for_the_other(tmp_path: Path):
    for saved in (checkpoint(), matching_checkpoint()):
        for other in ("ccln", "matching", None):
            save_checkpoint(tmp_path, saved)
            right = other == ("ccln" if isinstance(saved.model, CCLN) else "matching")

            def change(config: dict[str, Any], other: str | None = other) -> None:
                config.pop("network")
                config.update({"network": other} if other else {})

            change_config(tmp_path, change)
            if right or (other is None and isinstance(saved.model, CCLN)):  # older checkpoints do not say
                assert type(load_checkpoint(tmp_path).model) is type(saved.model)
            else:
                refused(tmp_path, "model.safetensors")


def test_a_matching_network_has_no_part_but_wccl(tmp_path: Path):
    save_checkpoint(tmp_path, matching_checkpoint())
    change_config(tmp_path, lambda config: config["model"].update(without=["sbi"]))
    refused(tmp_path, "config.json", "only wccl")


def test_a_million_rows_are_no_reason_to_refuse_a_checkpoint(tmp_path: Path):
    save_checkpoint(tmp_path, replace(checkpoint(), training={"rows": " ".join(["0123456789abcdef"] * 900_000)}))
    assert len(load_checkpoint(tmp_path).training["rows"]) > 15 * 10**6


def test_a_loaded_network_can_be_trained_on(folder: Path):
    loaded = load_checkpoint(folder).model.train()
    optimizer = torch.optim.SGD(loaded.parameters(), 0.1)
    output = loaded(torch.randn(2, 4, 2, 3, 8), torch.randn(2, 4, 6))
    (output.event_logits.square().sum() + output.class_logits.square().sum()).backward()
    optimizer.step()
    assert not same_outputs(loaded.eval(), checkpoint().model)
    assert same_outputs(load_checkpoint(folder).model, checkpoint().model)  # the file is not written to


def test_loading_does_not_move_the_random_state(folder: Path):
    state = torch.get_rng_state()
    load_checkpoint(folder)
    assert torch.equal(state, torch.get_rng_state())


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path):
    for name in "ab":
        save_checkpoint(tmp_path / name, checkpoint())
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_folder_holds_the_two_files_and_what_was_there(tmp_path: Path):
    (tmp_path / "curves.png").write_bytes(b"kept")
    for seed in range(2):
        save_checkpoint(tmp_path, checkpoint(seed))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "curves.png", "model.safetensors"]
    assert same_outputs(load_checkpoint(tmp_path).model, checkpoint(1).model)


def test_a_linked_snapshot_loads(folder: Path, tmp_path: Path):
    """Model hubs keep files once and link to them."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(folder / name)
    assert same_outputs(load_checkpoint(snapshot).model, checkpoint().model)


def test_nan_in_what_is_told_of_the_training_is_not_written(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON compliant"):
        save_checkpoint(tmp_path, replace(checkpoint(), training={"loss": float("nan")}))
    assert list(tmp_path.iterdir()) == []


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
    weights_are_new = any(path.name == "model.safetensors" for path in tmp_path.iterdir()) and (
        load_file(tmp_path / "model.safetensors")["event_head.bias"].equal(new.model.state_dict()["event_head.bias"])
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

    def replace_and_tell(source: Path, target: Path) -> None:
        written.append(target.name)
        really_replace(source, target)

    monkeypatch.setattr(os, "replace", replace_and_tell)
    save_checkpoint(tmp_path, checkpoint())
    assert written == ["model.safetensors", "config.json"]


def test_files_of_two_checkpoints_are_not_taken_for_one(folder: Path, tmp_path: Path):
    save_checkpoint(tmp_path / "other", checkpoint(seed=1))
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    refused(folder, "model.safetensors", "sha256")


# --- Files missing or damaged -----------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    refused(tmp_path / "nowhere", "config.json", "no such file")
    refused(tmp_path / ("long" * 100), "config.json")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    refused(folder, name, "no such file")
    (folder / name).mkdir()
    refused(folder, name, "no such file")
    (folder / name).rmdir()
    os.mkfifo(folder / name)  # reading it would wait for ever
    refused(folder, name, "no such file")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    really_read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return really_read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    refused(folder, name, "Permission denied")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.0005, 0.3, 0.99999])
def test_a_truncated_file_is_refused(folder: Path, name: str, share: float):
    path = folder / name
    whole = path.read_bytes().rstrip()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(folder, name)


@pytest.mark.parametrize("place", [0, 9, 3000, -1])
def test_a_flipped_bit_in_the_weights_is_refused(folder: Path, place: int):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    refused(folder, "model.safetensors", "sha256")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"config"',
        b"{}",
        b"\xff\xfe\x00",
        b"\x80",
        b'{"format": 1',
        b"[" * 10**6,
        b'{"a":' * 10**6,
        b'{"format": 2}',
        b'{"format": ' + b"9" * 10**5 + b"}",
        b'{"format": NaN}',
        b"{1: 2}",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_config_is_refused(folder: Path, text: bytes):
    (folder / "config.json").write_bytes(text)
    refused(folder, "config.json")


def test_oversized_files_are_not_even_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    really_read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        assert path.stat().st_size < 2**20, f"{path} is read"
        return really_read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    for name, size_bytes in (("model.safetensors", 10**12), ("config.json", 17 * 2**20)):
        os.truncate(folder / name, size_bytes)  # sparse
        refused(folder, name, "larger than")


# --- Forged contents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("format", 2, "format 1"),
        ("format", "1", "format 1"),
        ("model", [], "model must be"),
        ("class_names", "abc", "class_names must be"),
        ("class_names", {"a": 1, "b": 2, "c": 3}, "class_names must be"),
        ("class_names", ["a", "b", 3], "class_names must be"),
        ("class_names", ["a", "b"], "2 class names for 3 classes"),
        ("class_names", ["a"] * 10**5, "100000 class names for 3 classes"),
        ("specification", None, "specification must be"),
        ("specification", [1], "specification must be"),
        ("training", "none", "training must be"),
        ("weights_sha256", 5, "weights_sha256 must be"),
        ("hook", "os.system", "hook"),
        ("network", "gan", "network = 'gan': this version has ccln, matching"),
        ("network", "x" * 10**5, "network = 'x"),
        ("network", None, "network must be"),
        ("network", ["ccln"], "network must be"),
        ("network", "torch.nn.Linear", "network ="),
    ],
)
def test_a_config_entry_of_the_wrong_kind_is_named(folder: Path, key: str, value: object, reason: str):
    change_config(folder, lambda config: config.update({key: value}))
    refused(folder, "config.json", reason)


@pytest.mark.parametrize("key", ["format", "model", "class_names", "specification", "training", "weights_sha256"])
def test_a_missing_config_entry_is_named(folder: Path, key: str):
    change_config(folder, lambda config: config.pop(key))
    refused(folder, "config.json", key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("visual_height", 0),
        ("visual_width", "3"),
        ("audio_channels", None),
        ("class_count", 3.0),
        ("class_count", 4),
        ("segment_count", [4]),
        ("width", True),
        ("width", "x" * 10**6),
        ("heads", 0),
        ("heads", 7),
        ("dropout", "0.2"),
        ("dropout", 1),
        ("branch_noise", None),
        ("branch_noise", 10**400),
        ("foreground_gain", {}),
        ("foreground_gain", -1),
        ("without", "sbi"),
        ("without", ["lstm"]),
        ("without", [["sbi"]]),
        ("without", ["lstm", 5]),
        ("without", 5),
        ("pickle", "x"),
    ],
)
def test_a_model_config_that_cannot_be_is_refused(folder: Path, key: str, value: object):
    change_config(folder, lambda config: config["model"].update({key: value}))
    refused(folder, "config.json")


@pytest.mark.parametrize("key", ["visual_height", "dropout", "without"])
def test_a_model_config_that_lacks_an_entry_is_refused(folder: Path, key: str):
    change_config(folder, lambda config: config["model"].pop(key))
    refused(folder, "config.json", key)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(folder: Path, number: str):
    path = folder / "config.json"
    text = path.read_text("utf-8")
    for entry in ('"dropout": 0.2', '"foreground_gain": 0.3'):
        assert entry in text
        path.write_text(text.replace(entry, f"{entry.split(':')[0]}: {number}"), "utf-8")
        refused(folder, "config.json")


@pytest.mark.parametrize("constant", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["specification", "training"])
def test_constants_that_json_does_not_have_are_refused_anywhere(folder: Path, key: str, constant: float):
    change_config(folder, lambda config: config[key].update(deep=[{"mean": constant}]))
    refused(folder, "config.json", "is not JSON")


@pytest.mark.parametrize("key", ["width", "visual_channels", "audio_channels", "embedding_width"])
@pytest.mark.parametrize("size", [4096, 2**31, 2**62, 2**70, 10**4000])
def test_a_forged_size_allocates_nothing(folder: Path, key: str, size: int):
    change_config(folder, lambda config: config["model"].update({key: size}))
    before_bytes = highest_memory_bytes()
    refused(folder, "config.json" if size > 2**62 else "")
    assert highest_memory_bytes() - before_bytes < 50 * 2**20


def highest_memory_bytes() -> int:
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return unit_bytes * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _lack(weights: dict[str, Tensor]) -> None:
    del weights["event_head.bias"]


def _add(weights: dict[str, Tensor]) -> None:
    weights["extra.weight"] = torch.zeros(2)


def _transpose(weights: dict[str, Tensor]) -> None:
    weights["event_head.weight"] = weights["event_head.weight"].T.contiguous()


def _lengthen(weights: dict[str, Tensor]) -> None:
    weights["event_head.bias"] = torch.zeros(2)


def _halve(weights: dict[str, Tensor]) -> None:
    weights["event_head.bias"] = weights["event_head.bias"].half()


def _count(weights: dict[str, Tensor]) -> None:
    weights["event_head.bias"] = torch.zeros(1, dtype=torch.int32)


def _spoil(weights: dict[str, Tensor]) -> None:
    weights["event_head.bias"][0] = float("nan")


def _overflow(weights: dict[str, Tensor]) -> None:
    weights["class_head.weight"][1, 2] = float("inf")


def _empty(weights: dict[str, Tensor]) -> None:
    weights.clear()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_lack, "event_head.bias"),
        (_add, "extra.weight"),
        (_transpose, r"event_head.weight is \(16, 1\) torch.float32, expected \(1, 16\)"),
        (_lengthen, "event_head.bias is"),
        (_halve, "float16"),
        (_count, "int32"),
        (_spoil, "event_head.bias holds NaN"),
        (_overflow, "class_head.weight holds NaN or infinity"),
        (_empty, "lacks"),
    ],
)
def test_weights_that_are_not_the_config_s_are_refused(
    folder: Path, change: Callable[[dict[str, Tensor]], None], reason: str
):
    forge_weights(folder, change)
    refused(folder, "model.safetensors", reason)


def test_a_config_of_another_shape_is_refused(folder: Path):
    change_config(folder, lambda config: config["model"].update(width=24))
    refused(folder, "model.safetensors")
    forge_weights(folder, lambda weights: None)
    refused(folder, "model.safetensors", "expected")


@pytest.mark.parametrize("header_bytes", [0, 7, 2**20, 2**40, 2**63])
def test_a_safetensors_file_with_a_forged_header_is_refused(folder: Path, header_bytes: int):
    data = header_bytes.to_bytes(8, "little") + b"[" * 1000
    (folder / "model.safetensors").write_bytes(data)
    change_config(folder, lambda config: config.update(weights_sha256=hashlib.sha256(data).hexdigest()))
    refused(folder, "model.safetensors")


class Bomb:
    """Runs code when unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.sign,)


def test_the_bomb_is_live(tmp_path: Path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "sign")))
    assert (tmp_path / "sign").exists()


def test_no_pickle_is_ever_loaded(folder: Path, tmp_path: Path):
    sign, path = tmp_path / "sign", folder / "model.safetensors"

    def write_with_torch() -> None:
        torch.save({"event_head.bias": Bomb(sign)}, path)

    for write in (write_with_torch, lambda: path.write_bytes(pickle.dumps(Bomb(sign)))):
        write()
        data = path.read_bytes()
        change_config(folder, lambda config, data=data: config.update(weights_sha256=hashlib.sha256(data).hexdigest()))
        refused(folder, "model.safetensors")
        assert not sign.exists()


def test_loading_needs_no_pickle(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def must_not(*_: object, **__: object) -> None:
        pytest.fail("unpickles")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, must_not)
    assert same_outputs(load_checkpoint(folder).model, checkpoint().model)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_changed_value_is_refused_or_harmless(data: st.DataObject):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_checkpoint(folder, checkpoint())

        def change(config: dict[str, Any]) -> None:
            holder = config["model"] if data.draw(st.booleans()) else config
            holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(json_values)

        change_config(folder, change)
        try:
            loaded = load_checkpoint(folder)
        except CheckpointError:
            return
        assert same_shapes(loaded.model, checkpoint().model)
        assert len(loaded.class_names) == loaded.model.config.class_count


def same_shapes(first: Network, second: Network) -> bool:
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (first, second)]
    return shapes[0] == shapes[1]
