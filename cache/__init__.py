"""The cache of extracted features: safetensors files of one clip or of many, and an index that can be thrown away."""

from ccln.cache.claims import Claims
from ccln.cache.entry import Features
from ccln.cache.keys import (
    JSON,
    CacheError,
    DamagedFileError,
    clip_digest,
    feature_key,
    source_digest,
    specification_digest,
)
from ccln.cache.maintenance import (
    Packed,
    Pruned,
    Repaired,
    SpecificationSummary,
    Verified,
    describe,
    keys_of,
    pack,
    prune,
    repair,
    verify,
)
from ccln.cache.remote import RemoteCache, open_cache, require_folder
from ccln.cache.store import FeatureCache

__all__ = [
    "JSON",
    "CacheError",
    "Claims",
    "DamagedFileError",
    "FeatureCache",
    "Features",
    "Packed",
    "Pruned",
    "RemoteCache",
    "Repaired",
    "SpecificationSummary",
    "Verified",
    "clip_digest",
    "describe",
    "feature_key",
    "keys_of",
    "open_cache",
    "pack",
    "prune",
    "repair",
    "require_folder",
    "source_digest",
    "specification_digest",
    "verify",
]
