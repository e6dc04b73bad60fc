import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cache_clips import DIGEST, make_features, sha, write
from webdataset.compat import WebDataset

from ccln import export_webdataset
from ccln.cache import CacheError, FeatureCache, pack


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
def test_webdataset_reads_what_was_exported(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    keys = [write(cache, number) for number in range(4)]
    pack(cache)
    keys.append(write(cache, 4))
    steps: list[tuple[int, int]] = []
    done = export_webdataset(
        tmp_path / "out", cache=cache.root, clips_per_tar=2, progress=lambda *step: steps.append(step)
    )
    assert (done.clips, done.tars, done.specification) == (5, 3, DIGEST)
    assert steps == [(number, 5) for number in range(6)]
    tars = sorted((tmp_path / "out").iterdir())
    assert [tar.name for tar in tars] == ["features-000000.tar", "features-000001.tar", "features-000002.tar"]
    dataset: Any = WebDataset([str(tar) for tar in tars], shardshuffle=False)
    read = list(dataset.decode())
    assert [clip["__key__"] for clip in read] == sorted(keys)
    for clip in read:
        number = keys.index(clip["__key__"])
        features = make_features(number)
        np.testing.assert_array_equal(clip["visual.npy"], features.visual.numpy())
        np.testing.assert_array_equal(clip["audio.npy"], features.audio.numpy())
        assert clip["visual.npy"].dtype == np.float16
        assert clip["json"] == {
            "source_path": f"/videos/clip {number}.mp4",
            "source_sha256": sha(number),
            "duration_seconds": 2.5,
            "missing": [],
            "lost_seconds": {},
        }


def test_the_same_features_make_the_same_files(tmp_path: Path) -> None:
    for name, order in (("a", range(3)), ("b", reversed(range(3)))):
        cache = FeatureCache(tmp_path / name)
        for number in order:
            write(cache, number)
        export_webdataset(tmp_path / f"{name} out", cache=cache.root)
    one, other = (tmp_path / f"{name} out" / "features-000000.tar" for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    listed = subprocess.run(["tar", "-tf", one], capture_output=True, text=True, check=True).stdout.split()
    assert len(listed) == 9


def test_what_cannot_be_exported_is_a_line(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    write(cache, 0)
    write(cache, 1, {"another": 1})
    with pytest.raises(CacheError, match="2 specifications begin with ''"):
        export_webdataset(tmp_path / "out", cache=cache.root)
    with pytest.raises(CacheError, match="clips_per_tar is 0"):
        export_webdataset(tmp_path / "out", cache=cache.root, specification=DIGEST[:8], clips_per_tar=0)
    assert not (tmp_path / "out").exists()
    assert export_webdataset(tmp_path / "out", cache=cache.root, specification=DIGEST[:8]).clips == 1
    with pytest.raises(CacheError, match="not empty"):
        export_webdataset(tmp_path / "out", cache=cache.root, specification=DIGEST[:8])
