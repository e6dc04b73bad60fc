"""Names under which the published AVE features rest in a cache: the importer writes them, the look-up of rows asks.

The published files know a clip only by its row, and an id may have several rows. A name therefore starts with the row;
the id is there for people, and so that rows of another data set are not taken for AVE's.
"""


def published_name(row: int, video_id: str) -> str:
    """Source name of an entry that was imported from the published files for a row of Annotations.txt.

    Args:
        row: Position among the rows of Annotations.txt from 0, which is the position in the published files.
        video_id: The row's video id.

    Returns:
        A file name without a dot, so that the cache, which takes a name's ending off, keeps the whole of it. Two rows
        never share one.
    """
    return f"ave-{row:04d}-{video_id.replace('.', '_')}"


def published_background_name(index: int) -> str:
    """Source name of an entry that was imported for a background clip of the weak set.

    Args:
        index: Position in the published files of background clips (`audio_feature_noisy.h5` and kin) from 0.
    """
    return f"ave-background-{index:03d}"
