import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cache_clips import make_features, sha

from ccln.cache import CacheError, FeatureCache, feature_key, source_digest, specification_digest

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3))
specifications = st.dictionaries(st.text(), values, max_size=4)


def reordered(value: Any, shuffle: Callable[[list[Any]], None]) -> Any:
    if isinstance(value, list):
        return [reordered(item, shuffle) for item in value]
    if not isinstance(value, dict):
        return value
    names = list(value)
    shuffle(names)
    return {name: reordered(value[name], shuffle) for name in names}


@settings(deadline=None)
@given(specifications, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_change_a_digest(specification: dict[str, Any], randomness: random.Random) -> None:
    assert specification_digest(reordered(specification, randomness.shuffle)) == specification_digest(specification)


@settings(deadline=None)
@given(specifications, st.text(), scalars, scalars)
def test_any_change_of_a_value_changes_the_digest(
    specification: dict[str, Any], name: str, one: Any, other: Any
) -> None:
    nested = [{"at": {**specification, name: value}} for value in (one, other)]
    digests = [specification_digest({"deep": [item]}) for item in nested]
    # repr distinguishes 1, 1.0, True and "1", as a specification must
    assert (digests[0] == digests[1]) == (repr(one) == repr(other))


@settings(deadline=None)
@given(specifications, st.text(), values)
def test_an_added_key_changes_the_digest(specification: dict[str, Any], name: str, value: Any) -> None:
    without = {key: item for key, item in specification.items() if key != name}
    assert specification_digest(without) != specification_digest({**without, name: value})


def test_digests_are_computed_as_documented(tmp_path: Path) -> None:
    # written out by hand, so that keys of old caches stay valid
    assert specification_digest({"b": [1, 2.5, None], "a": "é"}) == sha('{"a":"\\u00e9","b":[1,2.5,null]}')
    assert feature_key("a" * 64, "b" * 64) == sha("a" * 64 + "b" * 64)
    content = random.Random(0).randbytes(3_000_001)
    (tmp_path / "video").write_bytes(content)
    assert source_digest(tmp_path / "video") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), {1, 2}, b"bytes", Path("x")])
def test_values_that_json_lacks_are_refused(value: Any) -> None:
    with pytest.raises(CacheError, match="JSON"):
        specification_digest({"deep": [{"value": value}]})


def test_an_unreadable_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"gone\.mp4: cannot be read"):
        source_digest(tmp_path / "gone.mp4")


BAD_KEYS = [
    "",
    "../" * 20 + "etc/passwd",
    "/etc/passwd",
    "a" * 63,
    "A" * 64,
    "a" * 64 + "\n",
    "a" * 60 + "/../",
    "g" * 64,
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_malformed_key_never_becomes_a_path(cache: FeatureCache, key: str) -> None:
    for method in (cache.path_of, cache.contains, cache.read):
        with pytest.raises(CacheError, match="not a feature key"):
            method(key)
    with pytest.raises(CacheError, match="source_sha256"):
        feature_key(key, "a" * 64)
    with pytest.raises(CacheError, match="source_sha256"):
        cache.write(make_features(), source_sha256=key, source_path="clip.mp4", specification={})
    assert not cache.root.exists()
