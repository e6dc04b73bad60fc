"""Where extracted features rest: one safetensors file a clip, and an index that can be thrown away."""

from ccln.cache.errors import CacheError
from ccln.cache.features import Features
from ccln.cache.keys import JSON, feature_key, source_digest, specification_digest
from ccln.cache.store import FeatureCache, Rebuilt

__all__ = [
    "JSON",
    "CacheError",
    "FeatureCache",
    "Features",
    "Rebuilt",
    "feature_key",
    "source_digest",
    "specification_digest",
]
