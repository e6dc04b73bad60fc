"""Data sets of every form that is read: which clip, which event, from when to when, in which split."""

from ccln.pipeline.data.clips import VIDEO_ENDINGS, AnnotatedClip, Dataset, DatasetError, Split, videos_of
from ccln.pipeline.data.reading import read_dataset

__all__ = ["VIDEO_ENDINGS", "AnnotatedClip", "Dataset", "DatasetError", "Split", "read_dataset", "videos_of"]
