"""The whole way on S3, whose part moto's server takes on this machine."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
import torch
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from support.cache_clips import make_features, same, write
from support.training_clips import made_up_set

from ccln import evaluate, extract, train
from ccln.cache import FeatureCache, RemoteCache, feature_key, open_cache, source_digest
from ccln.storage import StorageError, storage_at


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> s3fs.S3FileSystem:
    """The buckets videos and features, reached by what botocore reads of the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "copies"))
    storage, _ = storage_at("s3://videos")
    assert isinstance(storage, s3fs.S3FileSystem)
    for bucket in ("videos", "features"):
        if storage.exists(bucket):
            storage.rm(bucket, recursive=True)
        storage.mkdir(bucket)
    return storage


def test_a_pack_is_put_on_the_condition_that_there_is_none(s3: s3fs.S3FileSystem, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    s3.put_file(str(tmp_path / "one"), "features/x", mode="create")
    with pytest.raises(FileExistsError):
        s3.put_file(str(tmp_path / "two"), "features/x", mode="create")
    assert s3.cat_file("features/x") == b"one"


def test_two_writers_of_the_same_clips_make_one_pack(
    s3: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caches = []
    for name in "ab":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        caches.append(open_cache("s3://features/shared"))
    keys = [write(cache, number) for cache in caches for number in range(3)][:3]
    for cache in caches:
        cache.flush()
    assert len(s3.find("features")) == 1
    assert all(same(caches[1].read(key), make_features(number)) for number, key in enumerate(keys))


def test_extraction_from_s3_to_s3_goes_on_where_it_was_stopped(
    s3: s3fs.S3FileSystem, tiny_set: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    videos = sorted((tiny_set / "AVE").iterdir())[:2]
    s3.put_file(str(videos[0]), f"videos/set/{videos[0].name}")

    def stop(_: RemoteCache) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RemoteCache, "flush", stop)
        with pytest.raises(KeyboardInterrupt):
            extract("s3://videos/set", cache="s3://features/light")
    assert s3.find("features") == []
    s3.put_file(str(videos[1]), f"videos/set/{videos[1].name}")
    summary = extract("s3://videos/set", cache="s3://features/light")
    assert (summary.done, summary.cached, summary.failed) == (1, 1, ())
    assert len(s3.find("features")) == 1

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    reader, local = open_cache("s3://features/light"), FeatureCache(tiny_cache)
    for video in videos:
        key = feature_key(source_digest(video), summary.specification)
        assert torch.equal(reader.read(key).visual, local.read(key).visual)
        assert torch.equal(reader.read(key).audio, local.read(key).audio)
    assert extract(videos, cache="s3://features/light").cached == 2


@pytest.mark.usefixtures("one_core", "no_curves")
def test_training_by_ranges_of_bytes_gives_the_weights_of_a_local_cache(
    s3: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, folder, config = made_up_set(tmp_path / "made")
    local, remote = FeatureCache(folder), open_cache("s3://features/made")
    for digest, specification in local.specifications().items():
        for row in [*(f"train{n}" for n in range(12)), *(f"{part}{n}" for part in ("val", "test") for n in range(6))]:
            (key,) = local.find(digest, row)
            known = {"source_sha256": local.source_of(key), "source_path": f"{row}.mp4"}
            remote.write(local.read(key), **known, specification=specification)
    write(remote, 0)  # of another specification, and never wanted
    remote.flush()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    weights = [
        (
            train(data, cache=cache, config=config, out=tmp_path / name, epochs=2).folder / "model.safetensors"
        ).read_bytes()
        for name, cache in (("local", folder), ("remote", "s3://features/made"))
    ]
    assert weights[0] == weights[1]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a third machine"))
    reports = [evaluate(tmp_path / "local", data=data, cache=cache) for cache in (folder, "s3://features/made")]
    assert reports[0].evaluation.scores == reports[1].evaluation.scores


def test_what_s3_refuses_is_a_line(s3: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = open_cache("s3://nobodys/features")
    write(cache, 0)
    with pytest.raises(StorageError, match=r"s3://nobodys/features/shards/\w+.safetensors: there is no such thing"):
        cache.flush()
