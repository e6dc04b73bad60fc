"""Files as an earlier version of the package wrote them: they stay readable, and new ones are the same."""

import json
import struct
from pathlib import Path

import pytest
import torch
from support.cache_clips import same, shards

from ccln.cache import FeatureCache, Features, pack, specification_digest

SPECIFICATION = {"a": [1, 2.5, None]}
KEYS = [
    "c44a0dc0bdffc2612c132d4360a2d28d2142acd71ca8ee7a8e3e22c2de35125b",
    "851012b2e9e54f7e567777b5ec9416a71eec4e92e4c44b9ddcec54d4067f5979",
]
SHARD = "835e765318683b513ea0bd19f3c4b992c4c2347ff69f2ec680badee2709a92e4"
CLIPS = [
    {
        "content_sha256": "b6adcbc5d214b074c5810b2f36ca44331a4f3fe99c8f9db3304df3d12ea8c030",
        "duration_seconds": 1.5,
        "missing": [],
        "source_path": "/v/clip 0.mp4",
        "source_sha256": "0" * 64,
    },
    {
        "content_sha256": "298888b5501d8d30652e55fae8f73722a3f69dad1586ff590dfaff0fe89d7114",
        "duration_seconds": 1.5,
        "missing": ["audio"],
        "source_path": "/v/clip 1.mp4",
        "source_sha256": "1" * 64,
    },
]
FEATURES = [
    Features(torch.full((2, 1, 1, 1), 0.5 + clip).half(), torch.full((2, 1), -1.25 - clip), 1.5, ("audio",) * clip)
    for clip in (0, 1)
]


def safetensors_file(document: dict, clips: list[Features], shape: list[int]) -> bytes:
    """The bytes of a file: length, header and tensors, audio first."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    audio_end, visual_end = 8 * len(clips), 12 * len(clips)
    layout = {
        "__metadata__": {"ccln": text},
        "audio": {"dtype": "F32", "shape": [*shape, 2, 1], "data_offsets": [0, audio_end]},
        "visual": {
            "dtype": "F16",
            "shape": [*shape, 2, 1, 1, 1],
            "data_offsets": [audio_end, visual_end],
        },
    }
    header = json.dumps(layout, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    tensors = b"".join(clip.audio.numpy().tobytes() for clip in clips)
    tensors += b"".join(clip.visual.numpy().tobytes() for clip in clips)
    return struct.pack("<Q", len(header)) + header + tensors


ENTRY_FILES = [
    safetensors_file({**CLIPS[clip], "format_version": 2, "specification": SPECIFICATION}, [FEATURES[clip]], [])
    for clip in (0, 1)
]
# In the order of the keys, which is not that of the clips.
SHARD_FILE = safetensors_file(
    {"clips": CLIPS[::-1], "format_version": 2, "specification": SPECIFICATION}, FEATURES[::-1], [2]
)


@pytest.mark.parametrize("packed", [False, True])
def test_a_cache_of_an_earlier_version_is_read(cache: FeatureCache, packed: bool) -> None:
    files = {cache.path_of(key): data for key, data in zip(KEYS, ENTRY_FILES, strict=True)}
    if packed:
        files = {cache.root / "shards" / f"{SHARD}.safetensors": SHARD_FILE}
    for path, data in files.items():
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    assert cache.specifications() == {specification_digest(SPECIFICATION): SPECIFICATION}
    for clip, key in enumerate(KEYS):
        assert same(cache.read(key), FEATURES[clip])
        assert cache.find(specification_digest(SPECIFICATION), f"clip {clip}") == [key]


def test_new_files_are_the_same_as_those_of_an_earlier_version(cache: FeatureCache, tmp_path: Path) -> None:
    for clip, features in enumerate(FEATURES):
        key = cache.write(
            features,
            source_sha256=CLIPS[clip]["source_sha256"],
            source_path=CLIPS[clip]["source_path"],
            specification=SPECIFICATION,
        )
        assert key == KEYS[clip]
        assert cache.path_of(key).read_bytes() == ENTRY_FILES[clip]
    assert pack(cache) == (2, 1, [])
    assert [path.stem for path in shards(cache)] == [SHARD]
    assert shards(cache)[0].read_bytes() == SHARD_FILE
