"""Background-only clips beside a data set's rows: they are in no split, and serve weakly supervised training."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from ccln.cache import FeatureCache, Features, feature_key, source_digest
from ccln.pipeline.data.ave import LAYOUT
from ccln.pipeline.data.clips import VIDEO_ENDINGS, Dataset
from ccln.pipeline.data.files import read_annotation_file
from ccln.pipeline.data.published import published_background_name

BACKGROUND_SET = "backgroundSet.txt"


def background_features(
    dataset: Dataset, cache: FeatureCache, specifications: Sequence[str]
) -> tuple[list[Features], list[str]]:
    """Features of the background-only clips that lie beside a data set, and which of them have none.

    An AVE folder names them in backgroundSet.txt, in the format of its split files; each is found by the content of
    its video in AVE/, else as what was imported from the published files for its place in the list, else, where its
    video is absent, by its name. Without that file they are what was imported. A CSV holds its own as rows, and has no
    others.

    Args:
        dataset: an AVE folder's or a CSV's.
        cache: where the features rest.
        specifications: digests of the specifications wanted, the preferred one first: `DatasetFeatures.alike`.

    Returns:
        Memory-mapped features in the order of the list, and the video ids that have none.

    Raises:
        DatasetError: backgroundSet.txt cannot be read.
        CacheError: an entry is damaged.
    """
    if not dataset.source.is_dir():
        return [], []
    listing = dataset.source / BACKGROUND_SET
    if not listing.exists():
        keys = []
        for index in count():
            named = _named(cache, specifications, published_background_name(index))
            if not named:
                return [cache.read(key) for key in keys], []
            keys.append(named[0])
    # Ids are written by others: they are looked up in a listing, never made into paths.
    videos = {path.stem: path for path in (dataset.source / "AVE").glob("*") if path.suffix.lower() in VIDEO_ENDINGS}
    found = {
        video_id: _key(videos.get(video_id), cache, specifications, index, video_id)
        for index, video_id in enumerate(_listed_ids(listing))
    }
    present = [cache.read(key) for key in found.values() if key is not None]
    return present, [video_id for video_id, key in found.items() if key is None]


def _listed_ids(listing: Path) -> list[str]:
    rows = [line.split("&") for line in read_annotation_file(listing, LAYOUT).decode(errors="replace").splitlines()]
    return [row[1] for row in rows if len(row) == 5 and row[4] != "EndTime"]


def _key(
    video: Path | None, cache: FeatureCache, specifications: Sequence[str], index: int, video_id: str
) -> str | None:
    if video is not None:
        source = source_digest(video)
        for key in (feature_key(source, specification) for specification in specifications):
            if cache.contains(key):
                return key
    named = _named(cache, specifications, published_background_name(index))
    if not named and video is None:  # a name says nothing where the video is there
        named = _named(cache, specifications, video_id)
    return named[0] if len(named) == 1 else None


def _named(cache: FeatureCache, specifications: Sequence[str], name: str) -> list[str]:
    """Keys of the entries of that name under the first specification that has any."""
    found = (cache.find(specification, name) for specification in specifications)
    return next(filter(None, found), [])
