"""JSON that says two things at once is refused wherever it comes from outside."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from support.cache_clips import write
from support.checkpoints import change_config, checkpoint, refused

from ccln.cache import CacheError, FeatureCache
from ccln.model import save_checkpoint
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.data.imports import read_annotations
from ccln.pipeline.data.manifest import read_manifest
from ccln.strict_json import strict_json

TWICE = "is there twice"


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]', '{"a": 1, "\\u0061": 2}'])
def test_a_key_that_is_there_twice_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"the key 'a' {TWICE}"):
        strict_json(text)


@pytest.mark.parametrize("value", [None, {"a": [{"a": 1}, {"a": 1}]}, "ä", 1.5])
def test_all_other_json_is_read(value: Any) -> None:
    assert strict_json(json.dumps(value).encode()) == value


def test_a_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint())
    text = (tmp_path / "config.json").read_text("utf-8")
    (tmp_path / "config.json").write_text(text.replace("{", '{"format": 6,', 1), "utf-8")
    refused(tmp_path, "config.json", TWICE)


def test_an_entry(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    path = cache.path_of(key := write(cache))
    save_file(load_file(path), path, metadata={"ccln": '{"format_version":2,"format_version":2}'})
    with pytest.raises(CacheError, match=TWICE):
        cache.read(key)


def test_annotations(tmp_path: Path) -> None:
    file = tmp_path / "events.json"
    file.write_text('{"format": "ccln-localization", "version": 3, "version": 3, "videos": []}')
    with pytest.raises(DatasetError, match=TWICE):
        read_annotations(file)


def test_a_manifest(tmp_path: Path) -> None:
    file = tmp_path / "manifest.jsonl"
    file.write_text('{"id": "a", "id": "b", "distractors": []}\n')
    with pytest.raises(DatasetError, match=f"line 1: .*{TWICE}"):
        read_manifest(file)


@pytest.mark.parametrize("name", ["segment_count", "visual_height", "visual_channels", "width", "class_count"])
@pytest.mark.parametrize("value", [10**9, 10**30])
def test_absurd_numbers_of_a_checkpoint_are_named(tmp_path: Path, name: str, value: int) -> None:
    save_checkpoint(tmp_path, checkpoint())
    change_config(tmp_path, lambda config: config["model"].update({name: value}))
    refused(tmp_path, "config.json", f"{name} = ")
