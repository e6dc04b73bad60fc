"""Annotated data sets: which clip has which event, from when to when, and in which split."""

import os
from pathlib import Path

from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import VIDEO_ENDINGS, AnnotatedClip, Dataset, DatasetError, Split, videos_of
from ccln.pipeline.data.csv_file import read_csv_dataset

__all__ = ["VIDEO_ENDINGS", "AnnotatedClip", "Dataset", "DatasetError", "Split", "read_dataset", "videos_of"]


def read_dataset(path: str | os.PathLike[str]) -> Dataset:
    """Read a data set: a folder in AVE's layout, or a CSV file `path,start,end,label[,split]`.

    Raises:
        DatasetError: There is neither, or it is malformed; see `read_ave_folder` and `read_csv_dataset`.
    """
    path = Path(path)
    if path.is_dir():
        return read_ave_folder(path)
    if not path.exists():
        raise DatasetError(
            f"{path}: no such file or folder. A data set is a folder that holds Annotations.txt, as AVE's, "
            "or a CSV file path,start,end,label[,split]"
        )
    return read_csv_dataset(path)
