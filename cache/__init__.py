"""Where extracted features rest: safetensors files of a clip or a thousand, and an index that can be thrown away."""

from ccln.cache.errors import CacheError
from ccln.cache.features import Features
from ccln.cache.keys import JSON, feature_key, source_digest, specification_digest
from ccln.cache.maintenance import (
    Damage,
    Pruned,
    Repaired,
    SpecificationSummary,
    Verified,
    describe,
    prune,
    repair,
    verify,
)
from ccln.cache.packing import Packed
from ccln.cache.store import FeatureCache

__all__ = [
    "JSON",
    "CacheError",
    "Damage",
    "FeatureCache",
    "Features",
    "Packed",
    "Pruned",
    "Repaired",
    "SpecificationSummary",
    "Verified",
    "describe",
    "feature_key",
    "prune",
    "repair",
    "source_digest",
    "specification_digest",
    "verify",
]
