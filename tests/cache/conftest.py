import shutil
from pathlib import Path

import pytest
from support.cache_clips import write

from ccln.cache import FeatureCache, pack


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """An empty cache, whose folder does not exist yet."""
    return FeatureCache(tmp_path / "cache")


@pytest.fixture(scope="session")
def packed_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of six packed clips."""
    cache = FeatureCache(tmp_path_factory.mktemp("template") / "cache")
    for number in range(6):
        write(cache, number)
    assert pack(cache) == (6, 1, [])
    return cache.root


@pytest.fixture
def packed(packed_template: Path, tmp_path: Path) -> FeatureCache:
    """A copy of it to change."""
    return FeatureCache(shutil.copytree(packed_template, tmp_path / "packed"))
