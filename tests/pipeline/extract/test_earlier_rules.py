"""Caches that an earlier release made: what its rules of decoding gave otherwise is made again, and all else kept."""

import logging
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from support.decoded import joined, restamped
from support.making import Audio, Video, audio_with_sweep, make_video, steady
from support.processes import run as run_command

from ccln import extract
from ccln.cache import FeatureCache, feature_key, source_digest
from ccln.cache.entry import read_entry
from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.features import load_features


def sound(seconds: float = 3, **more) -> Audio:
    return Audio(audio_with_sweep(1, seconds, 16_000), 16_000, codec=more.pop("codec", "pcm_s16le"), **more)


def with_restart(folder: Path) -> Path:
    streams = Video(steady(75, start_seconds=9)), sound(codec="mp2", start_seconds=Fraction(9))
    return joined(folder, streams, streams)


def with_jitter(folder: Path) -> Path:
    plain = make_video(folder / "even.mkv", Video(steady(75), options={"bf": "0"}), sound())
    return restamped(plain, folder / "jittered.mkv", lambda number, _: 0.008 * (number % 2))


def with_high_range(folder: Path) -> Path:
    colors = {"x264-params": "transfer=arib-std-b67:colorprim=bt2020:colormatrix=bt2020nc"}
    return make_video(folder / "hlg.mkv", Video(steady(75), pixel_format="yuv420p10le", options=colors), sound())


def ordinary(folder: Path) -> Path:
    return make_video(folder / "plain.mp4", Video(steady(75)), sound(codec="aac"))


def rounded(folder: Path) -> Path:
    """Times to the millisecond, B-frames, a gap in the sound, and a late start."""
    gap = sound(codec="libmp3lame", gap=(1.5, 2), start_seconds=Fraction(1, 3))
    return make_video(folder / "rounded.mkv", Video(steady(100, Fraction(30_000, 1001))), gap)


def as_of_earlier_release(cache: FeatureCache, key: str) -> None:
    """Take off an entry what states the rules, and make its sound one that no decoding gives."""
    entry = read_entry(cache.path_of(key), verify=True)
    cache.write(
        replace(entry.features, audio=torch.full_like(entry.features.audio, 7.0), decoding_rules=None),
        source_sha256=entry.header.source_sha256,
        source_path=entry.header.source_path,
        specification=entry.header.specification,
    )


@pytest.mark.parametrize(
    ("make", "changed"),
    [(with_restart, True), (with_jitter, True), (with_high_range, True), (ordinary, False), (rounded, False)],
)
def test_only_what_changed_is_made_again_and_only_once(
    tmp_path: Path, make: Callable[[Path], Path], changed: bool
) -> None:
    path, cache = make(tmp_path), FeatureCache(tmp_path / "features")

    def run():
        return extract(path, cache=tmp_path / "features", preset="light-log-mel")

    first = run()
    assert (first.done, first.checked) == (1, 0)
    key = feature_key(source_digest(path), first.specification)
    whole = cache.read(key)
    as_of_earlier_release(cache, key)
    second = run()
    assert (second.done, second.cached, second.checked, second.redone) == (changed, not changed, 1, changed)
    found = cache.read(key)
    assert found.decoding_rules == whole.decoding_rules
    assert torch.equal(found.visual, whole.visual)
    assert torch.equal(found.audio, whole.audio if changed else torch.full_like(whole.audio, 7.0))
    third = run()
    assert (third.done, third.cached, third.checked) == (0, 1, 0)


def test_what_stands_for_a_missing_stream_holds_whatever_is_asked_for(tmp_path: Path) -> None:
    path = make_video(tmp_path / "mute.mp4", Video(steady(75)))
    made = extract(path, cache=tmp_path / "features", preset="light-log-mel", on_missing="zeros")
    as_of_earlier_release(FeatureCache(tmp_path / "features"), feature_key(source_digest(path), made.specification))
    again = extract(path, cache=tmp_path / "features", preset="light-log-mel")
    assert (again.done, again.cached, again.failed) == (0, 1, ())


def test_commands_say_what_is_of_earlier_rules_and_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FeatureCache(tmp_path / "features")
    paths = [ordinary(tmp_path), with_jitter(tmp_path)]
    listing = tmp_path / "set.csv"
    listing.write_text("path,start,end,label,split\n" + "".join(f"{path.name},0,2,A,train\n" for path in paths))
    made = extract(listing, cache=cache.root, preset="light-log-mel")
    caplog.set_level(logging.WARNING)
    load_features(read_dataset(listing), cache, needed=("train",))
    assert "earlier release" not in caplog.text
    for path in paths:
        as_of_earlier_release(cache, feature_key(source_digest(path), made.specification))
    load_features(read_dataset(listing), cache, needed=("train",))
    assert "2 of 2 clips of the train split were decoded by rules of an earlier release" in caplog.text
    assert f"run ccln-extract {listing}, which makes those again" in caplog.text

    def shown(command: str, *words: object) -> str:
        done = run_command(command, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "2 clips were decoded by earlier rules: ccln-extract" in shown("ccln-cache", "info", "--cache", cache.root)
    said = shown("ccln-extract", listing, "--cache", cache.root, "--preset", "light-log-mel")
    assert "1 done, 1 cached, 0 failed" in said
    assert "2 cached clips were decoded by rules of an earlier release: 1 made again, 1 as before" in said
    assert "earlier" not in shown("ccln-cache", "info", "--cache", cache.root)
