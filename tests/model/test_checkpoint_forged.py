"""Checkpoints whose contents were changed: they are refused or harmless, and nothing in them is run."""

import dataclasses
import hashlib
import pickle
import re
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save
from support.checkpoints import change_config, checkpoint, refused, same_outputs
from torch import Tensor

from ccln.model import (
    CheckpointError,
    EventDecoding,
    Network,
    load_checkpoint,
    save_checkpoint,
)

pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole checkpoint, for the test to change."""
    save_checkpoint(tmp_path / "run", checkpoint())
    return tmp_path / "run"


def forge_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the weights and compute their digest again, as an attacker would."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    data = save(weights)
    (folder / "model.safetensors").write_bytes(data)
    change_config(folder, lambda config: config.update(weights_sha256=hashlib.sha256(data).hexdigest()))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("format", 1, "format 1, and this version reads format 7: train again with this version"),
        ("format", 8, "no config of format 7"),
        ("format", "7", "no config of format 7"),
        ("format", 7.0, r"\$\.format"),
        ("format", 2.0, r"\$\.format"),
        ("model", [], r"\$\.model"),
        ("class_names", "abc", r"\$\.class_names"),
        ("class_names", {"a": 1, "b": 2, "c": 3}, r"\$\.class_names"),
        ("class_names", ["a", "b", 3], r"\$\.class_names"),
        ("class_names", ["a", "b"], "2 class names for 3 classes"),
        ("class_names", ["a"] * 10**5, "100000 class names for 3 classes"),
        ("specification", None, r"\$\.specification"),
        ("specification", [1], r"\$\.specification"),
        ("training", "none", r"\$\.training"),
        ("decoding", None, r"\$\.decoding"),
        ("decoding", [0.5, 1, 1.0, 1.0], r"\$\.decoding"),
        ("weights_sha256", 5, r"\$\.weights_sha256"),
        ("hook", "os.system", "unknown field `hook`"),
        ("network", "gan", "network = 'gan': this version has ccln, matching"),
        ("network", "x" * 10**5, "network = 'x"),
        ("network", None, r"\$\.network"),
        ("network", ["ccln"], r"\$\.network"),
        ("network", "torch.nn.Linear", "network ="),
    ],
)
def test_a_config_entry_of_the_wrong_kind_is_named(folder: Path, key: str, value: object, reason: str):
    change_config(folder, lambda config: config.update({key: value}))
    refused(folder, "config.json", reason)


@pytest.mark.parametrize(
    "key",
    ["format", "network", "model", "class_names", "specification", "training", "decoding", "weights_sha256"],
)
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
def test_an_impossible_model_config_is_refused(folder: Path, key: str, value: object):
    change_config(folder, lambda config: config["model"].update({key: value}))
    refused(folder, "config.json")


@pytest.mark.parametrize("key", ["visual_height", "dropout", "without"])
def test_a_model_config_that_lacks_an_entry_is_refused(folder: Path, key: str):
    change_config(folder, lambda config: config["model"].pop(key))
    refused(folder, "config.json", key)


def no_fraction(above: object) -> tuple[object, ...]:
    """What is no number at all, or outside what any of the decoding's fractions may be."""
    return (None, "0.5", True, [0.5], {}, 0, -0.1, -1, above, 10**400)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("event_threshold", value) for value in no_fraction(above=1)),
        *(("minimum_duration_seconds", value) for value in (None, "1", True, [1], {}, 0, -1, 1.0, 0.5)),
        *(("event_temperature", value) for value in no_fraction(above=1001)),
        *(("class_temperature", value) for value in (*no_fraction(above=1e300), 1e-320)),
        ("threshold", 0.5),
    ],
)
def test_an_impossible_decoding_is_refused(folder: Path, key: str, value: object):
    change_config(folder, lambda config: config["decoding"].update({key: value}))
    refused(folder, "config.json", key)
    if key != "threshold":
        with pytest.raises(ValueError, match=key):
            EventDecoding(**{key: value})  # type: ignore


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", dataclasses.fields(EventDecoding), ids=lambda field: field.name)
def test_a_decoding_holds_no_number_that_json_does_not_have(
    folder: Path, field: "dataclasses.Field[object]", number: float
):
    with pytest.raises(ValueError, match=field.name):
        EventDecoding(**{field.name: number})  # type: ignore
    change_config(folder, lambda config: config["decoding"].update({field.name: number}))
    refused(folder, "config.json", "is not JSON")
    text = (folder / "config.json").read_text("utf-8")
    (folder / "config.json").write_text(re.sub(r"-?Infinity|NaN", "1e999", text), "utf-8")
    refused(folder, "config.json", field.name)


@pytest.mark.parametrize("field", dataclasses.fields(EventDecoding), ids=lambda field: field.name)
def test_a_decoding_that_lacks_an_entry_is_refused(folder: Path, field: "dataclasses.Field[object]"):
    change_config(folder, lambda config: config["decoding"].pop(field.name))
    refused(folder, "config.json", field.name)


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


@pytest.mark.parametrize("key", ["width", "members", "visual_channels", "audio_channels", "embedding_width"])
@pytest.mark.parametrize("size", [4096, 2**31, 2**62, 2**70, 10**4000])
def test_a_forged_size_allocates_no_memory(folder: Path, key: str, size: int):
    change_config(folder, lambda config: config["model"].update({key: size}))
    before_bytes = highest_memory_bytes()
    refused(folder, "config.json" if size > 2**62 else "")
    assert highest_memory_bytes() - before_bytes < 50 * 2**20


def highest_memory_bytes() -> int:
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return unit_bytes * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _lack(weights: dict[str, Tensor]) -> None:
    del weights["members.1.event_head.bias"]


def _add(weights: dict[str, Tensor]) -> None:
    weights["extra.weight"] = torch.zeros(2)


def _transpose(weights: dict[str, Tensor]) -> None:
    weights["members.1.event_head.weight"] = weights["members.1.event_head.weight"].T.contiguous()


def _lengthen(weights: dict[str, Tensor]) -> None:
    weights["members.1.event_head.bias"] = torch.zeros(2)


def _halve(weights: dict[str, Tensor]) -> None:
    weights["members.1.event_head.bias"] = weights["members.1.event_head.bias"].half()


def _count(weights: dict[str, Tensor]) -> None:
    weights["members.1.event_head.bias"] = torch.zeros(1, dtype=torch.int32)


def _spoil(weights: dict[str, Tensor]) -> None:
    weights["members.1.event_head.bias"][0] = float("nan")


def _overflow(weights: dict[str, Tensor]) -> None:
    weights["members.1.class_head.weight"][1, 2] = float("inf")


def _empty(weights: dict[str, Tensor]) -> None:
    weights.clear()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_lack, "members.1.event_head.bias"),
        (_add, "extra.weight"),
        (_transpose, r"members.1.event_head.weight is \(16, 1\) torch.float32, expected \(1, 16\)"),
        (_lengthen, "members.1.event_head.bias is"),
        (_halve, "float16"),
        (_count, "int32"),
        (_spoil, "members.1.event_head.bias holds NaN"),
        (_overflow, "members.1.class_head.weight holds NaN or infinity"),
        (_empty, "lacks"),
    ],
)
def test_weights_that_do_not_match_the_config_are_refused(
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


def test_the_forged_pickle_runs_code_if_it_is_loaded(tmp_path: Path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "sign")))
    assert (tmp_path / "sign").exists()


def test_no_pickle_is_ever_loaded(folder: Path, tmp_path: Path):
    sign, path = tmp_path / "sign", folder / "model.safetensors"

    def write_with_torch() -> None:
        torch.save({"members.0.event_head.bias": Bomb(sign)}, path)

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
            holder = data.draw(st.sampled_from([config, config["model"], config["decoding"]]))
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
