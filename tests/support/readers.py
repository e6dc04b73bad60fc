"""Readers of files that anyone may have written, for fuzzing: what each may raise, and valid files to start from."""

import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save

from ccln.cache import CacheError, FeatureCache, pack, repair, verify
from ccln.model import CheckpointError, load_checkpoint, save_checkpoint
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.clips import DatasetError
from ccln.pipeline.data.csv_file import read_csv_dataset
from ccln.pipeline.data.imports import import_files
from ccln.pipeline.data.media import durations_seconds
from ccln.pipeline.report.writers import to_text
from ccln.pipeline.texts import NamesError, read_names
from ccln.pipeline.train.config import ConfigError, read_config
from support.cache_clips import KEYS, shards, write
from support.checkpoints import checkpoint
from support.located import VIDEO

RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\tBegin File\t"
    "File Offset (s)\n1\tSpectrogram 1\t1\t61\t62.345\t0\t1\tDog\ttower.wav\t1\n"
)
VIA = {
    "file": {"1": {"fid": "1", "fname": "tower.mp4", "type": 4, "loc": 1, "src": "tower.mp4"}},
    "view": {"1": {"fid_list": ["1"]}},
    "attribute": {"1": {"aname": "event", "anchor_id": "FILE1_Z2_XY0", "type": 4, "options": {"0": "Dog"}}},
    "metadata": {"1_a": {"vid": "1", "z": [1.0, 2.0], "xy": [], "av": {"1": "0"}}},
}
STUDIO_MIN = [{"id": 1, "video": "/data/upload/tower.mp4", "events": [{"start": 1, "end": 2, "labels": ["Dog"]}]}]
UNAV = {"database": {"tower": {"subset": "train", "annotations": [{"segment": [1, 2.5], "label": "Dog"}]}}}
OV_AVE = {"tower": {"category": "Dog", "label": "[0, 1, 1, 0, 0, 0, 0, 0, 0, 1]"}}
CSV = """path,start,end,label,split
tower.mp4,1,2.5,Dog,train
"tower.mp4",0:03,0:00:04,"Bell, old",train
other.mp4,,,,train
"""
LLP = "filename\tonset\toffset\tevent_labels\ntower_0_10\t1\t3\tDog\n"
OV_META = "split,cls_name,cls_type,vid_name\ntrain,Dog,close,tower\n"
TOML = "[model]\nwidth = 16\n[training]\nlearning_rate = 1e-3\nepochs = 3\n[loss]\nfee_weight = 1.0\n"
AVE = "Category&VideoID&Quality&StartTime&EndTime\nDog&tower&good&1&3\n"


@dataclass(frozen=True)
class Reader:
    """A reader of bytes."""

    read: Callable[[bytes], object]
    """Reads a file that holds them."""
    seeds: Sequence[bytes]
    """Of valid files."""
    refusals: tuple[type[Exception], ...]
    """The errors that it documents."""

    def __call__(self, data: bytes) -> None:
        """Read, and pass over a documented refusal."""
        with _quiet(), suppress(*self.refusals):
            self.read(data)


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@cache
def _media() -> Path:
    """A folder with the video of the seeds, kept until the process ends: how long it is, is asked once."""
    folder = Path(_KEPT.name, "media")
    folder.mkdir()
    (folder / "tower.mp4").write_bytes(b"no video")
    durations_seconds([folder / "tower.mp4"])  # which takes a process
    return folder


_KEPT = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def _importer(*names: str) -> Callable[[bytes], object]:
    """Import a file of the first name; the others are there beside it, as in the seeds."""

    def read(data: bytes) -> object:
        with _folder() as folder:
            (folder / names[0]).write_bytes(data)
            for name, text in (pair.split("=", 1) for pair in names[1:]):
                (folder / name).write_text(text)
            files = [folder / name.split("=")[0] for name in names]
            return import_files(files, _media(), folder / "set.csv")

    return read


def _csv(data: bytes) -> object:
    with _folder() as folder:
        (folder / "set.csv").write_bytes(data)
        return read_csv_dataset(folder / "set.csv", _media())


def _ave(data: bytes) -> object:
    """Annotations, and after a line of dashes the split files, all the same."""
    with _folder() as folder:
        annotations, _, split = data.partition(b"----\n")
        for name in ("trainSet.txt", "valSet.txt", "testSet.txt"):
            (folder / name).write_bytes(split)
        (folder / "Annotations.txt").write_bytes(annotations)
        return read_dataset(folder)


def _config(data: bytes) -> object:
    with _folder() as folder:
        (folder / "run.toml").write_bytes(data)
        return read_config(folder / "run.toml")


def _names(data: bytes) -> object:
    with _folder() as folder:
        (folder / "names.txt").write_bytes(data)
        return read_names(str(folder / "names.txt"))


@cache
def _template(kind: str) -> FeatureCache:
    """A cache of one clip, or of two that are packed."""
    made = FeatureCache(Path(_KEPT.name, kind))
    write(made)
    if kind == "packed":
        write(made, 1)
        pack(made)
    return made


def _cached(kind: str, place: Callable[[FeatureCache], Path]) -> Callable[[bytes], object]:
    """Use a copy of a cache in which one file holds other bytes, in every way there is."""

    def read(data: bytes) -> None:
        with _folder() as folder:
            copy = FeatureCache(shutil.copytree(_template(kind).root, folder / "cache"))
            place(copy).write_bytes(data)
            for use in (lambda: copy.read(KEYS[0]), copy.specifications, lambda: verify(copy), lambda: repair(copy)):
                with suppress(CacheError):
                    use()

    return read


def _entry(made: FeatureCache) -> Path:
    return made.path_of(KEYS[0])


def _shard(made: FeatureCache) -> Path:
    return shards(made)[0]


def _index(made: FeatureCache) -> Path:
    return made.root / "index.sqlite"


def _document(kind: str, place: Callable[[FeatureCache], Path]) -> bytes:
    """The JSON in the metadata of a cache's file."""
    with safe_open(place(_template(kind)), framework="pt") as file:
        return file.metadata()["ccln"].encode()


def _with_document(kind: str, place: Callable[[FeatureCache], Path]) -> Callable[[bytes], object]:
    """As `_cached`, but the bytes are the JSON in the file's metadata; mutations of the file seldom get that far."""
    read = _cached(kind, place)

    def read_document(data: bytes) -> object:
        tensors = load_file(place(_template(kind)))
        return read(save(tensors, metadata={"ccln": data.decode("utf-8", "replace")}))

    return read_document


@cache
def _checkpoint() -> Path:
    folder = Path(_KEPT.name, "run")
    save_checkpoint(folder, checkpoint())
    return folder


def _checkpoint_config(data: bytes) -> object:
    with _folder() as folder:
        shutil.copytree(_checkpoint(), folder / "run")
        (folder / "run" / "config.json").write_bytes(data)
        return load_checkpoint(folder / "run")


def _checkpoint_weights(data: bytes) -> object:
    with _folder() as folder:
        shutil.copytree(_checkpoint(), folder / "run")
        (folder / "run" / "model.safetensors").write_bytes(data)
        config = json.loads((folder / "run" / "config.json").read_bytes())
        config["weights_sha256"] = hashlib.sha256(data).hexdigest()
        (folder / "run" / "config.json").write_text(json.dumps(config))
        return load_checkpoint(folder / "run")


def _written(*format_names: str) -> list[bytes]:
    return [to_text(VIDEO, name).encode() for name in format_names]


def _dumped(*documents: object) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]


@cache
def readers() -> dict[str, Reader]:
    """All readers by name."""
    annotations, cache_errors = (DatasetError,), (CacheError,)
    run = _checkpoint()
    return {
        "elan": Reader(_importer("tower.eaf"), _written("elan"), annotations),
        "json": Reader(
            _importer("tower.json"),
            [*_written("json", "label-studio"), *_dumped(VIA, STUDIO_MIN, UNAV)],
            annotations,
        ),
        "ov-ave": Reader(_importer("tower.json", f"meta.csv={OV_META}"), _dumped(OV_AVE), annotations),
        "text": Reader(_importer("tower.txt"), [*_written("audacity"), RAVEN.encode()], annotations),
        "webvtt": Reader(_importer("tower.vtt"), _written("webvtt"), annotations),
        "subrip": Reader(_importer("tower.srt"), _written("srt"), annotations),
        "import-csv": Reader(
            _importer("AVVP_val_pd.csv"),
            [CSV.encode(), CSV.encode("utf-16"), LLP.encode(), OV_META.encode(), *_written("csv")],
            annotations,
        ),
        "csv": Reader(_csv, [CSV.encode(), CSV.replace(",", ";").encode(), *_written("csv")], annotations),
        "ave": Reader(_ave, [f"{AVE}----\nDog&tower&good&1&3\n".encode()], annotations),
        "config": Reader(_config, [TOML.encode()], (ConfigError,)),
        "names": Reader(_names, [b"Dog\nCat, wild\n"], (DatasetError, NamesError)),
        "entry": Reader(_cached("entry", _entry), [_entry(_template("entry")).read_bytes()], cache_errors),
        "entry-metadata": Reader(_with_document("entry", _entry), [_document("entry", _entry)], cache_errors),
        "shard": Reader(_cached("packed", _shard), [_shard(_template("packed")).read_bytes()], cache_errors),
        "shard-metadata": Reader(_with_document("packed", _shard), [_document("packed", _shard)], cache_errors),
        "index": Reader(
            _cached("entry", _index),
            [_index(_template(kind)).read_bytes() for kind in ("entry", "packed")],
            cache_errors,
        ),
        "checkpoint-config": Reader(_checkpoint_config, [(run / "config.json").read_bytes()], (CheckpointError,)),
        "checkpoint-weights": Reader(
            _checkpoint_weights, [(run / "model.safetensors").read_bytes()], (CheckpointError,)
        ),
    }
