"""Presets of models of the hub through the whole pipeline, with tiny models in their places."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.hub_models import AST, DINO, SIGLIP, save_ast, save_clap, save_clip, save_dino, save_pe_av, save_siglip

from ccln import extract, localize, train
from ccln.cache import FeatureCache
from ccln.extractors.cnn14 import Cnn14
from ccln.pipeline.demo import make_demo_dataset
from ccln.pipeline.localize.localizer import SpecificationError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos") / "videos"
    make_demo_dataset(folder, seed=2, train=3, validation=2, test=2)
    return folder


def save_cnn14(file: Path) -> Path:
    torch.manual_seed(0)
    torch.save({"model": Cnn14(2).state_dict()}, file)
    return file


def case(name: str, folder: Path) -> dict[str, Any]:
    """The options that name a pair of extractors and their weights."""
    if name == "clip-clap":
        seen, heard = save_clip(folder / "clip"), save_clap(folder / "clap")
        return {"preset": name, "visual_weights": seen, "audio_weights": heard}
    if name == "pe-av":
        both = save_pe_av(folder / "pe-av")
        return {"preset": name, "visual_weights": both, "audio_weights": both}
    if name == "siglip-ast":
        seen, heard = save_siglip(folder / "siglip"), save_ast(folder / "ast")
        return {"visual": SIGLIP, "audio": AST, "visual_weights": seen, "audio_weights": heard}
    seen, heard = save_dino(folder / "dino"), save_cnn14(folder / "cnn14.pth")
    return {"visual": DINO, "audio": "cnn14", "visual_weights": seen, "audio_weights": heard}


@pytest.mark.parametrize(
    ("name", "visual_shape", "audio_channels"),
    [
        ("clip-clap", (4, 4, 28), 12),
        ("pe-av", (4, 4, 32), 16),
        ("siglip-ast", (4, 4, 32), 16),
        ("dino-cnn14", (4, 4, 32), 64),
    ],
)
def test_from_videos_to_events(
    name: str,
    visual_shape: tuple[int, int, int],
    audio_channels: int,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if name == "dino-cnn14":
        monkeypatch.setattr("ccln.extractors.cnn14.Cnn14", lambda: Cnn14(2))  # the published one has 327 MB
    options = case(name, tmp_path)
    weights = {option: value for option, value in options.items() if option.endswith("_weights")}
    summary = extract([videos], cache=tmp_path / "cache", **options)
    assert (summary.done, summary.failed) == (7, ())
    clip = min((videos / "AVE").glob("*.mp4"))
    cache = FeatureCache(tmp_path / "cache")
    (key,) = cache.find(summary.specification, clip.stem)
    entry = cache.read(key)
    assert tuple(entry.visual.shape) == (10, *visual_shape)
    assert tuple(entry.audio.shape) == (10, audio_channels)
    assert np.isfinite(entry.visual.numpy()).all()
    assert extract([videos], cache=tmp_path / "cache", **options).cached == 7
    run = train(videos, cache=tmp_path / "cache", out=tmp_path / "run", epochs=1, device="cpu").folder
    outputs: dict[str, Any] = {"out": tmp_path / "out", "plot": tmp_path / "plot", "html": tmp_path / "page.html"}
    found = localize([clip], checkpoint=run, **outputs, **weights)
    assert (found.failed, found.unwritten) == ((), ())
    assert found.videos[0].duration_seconds == pytest.approx(10, abs=0.1)
    if "preset" in options:  # whose towers have a text side
        (asked,) = localize([clip], classes="dog, violin", preset=name, **weights).videos
        probability = asked.event_probability
        assert ((probability >= 0) & (probability <= 1)).all()
    if name == "clip-clap":
        broken = {**options, "audio_weights": save_clap(tmp_path / "broken", damaged=True)}
        (failed,) = extract([clip], cache=tmp_path / "none", **broken).failed
        assert str(clip) in failed.reason
        assert "hf:laion/clap-htsat-unfused gives a feature that is infinite or not a number" in failed.reason
        other = save_clip(tmp_path / "other", seed=5)
        with pytest.raises(SpecificationError, match=r"weights_sha256.visual.*--visual-weights"):
            localize([clip], checkpoint=run, visual_weights=other, audio_weights=weights["audio_weights"])
