"""Reading annotation files, which come from strangers, and the errors for their rows."""

import codecs
import stat
from pathlib import Path

from ccln.pipeline.data.clips import DatasetError

SIZE_LIMIT_BYTES = 8 * 2**20  # AVE's largest has 144 KiB


def read_annotation_file(path: Path, layout: str) -> bytes:
    """Read a whole annotation file, without its byte order mark.

    Args:
        path: The file.
        layout: What is expected there, for the message.

    Raises:
        DatasetError: The file is missing, not a regular file, too large or unreadable.
    """
    try:
        status = path.stat()
        # A pipe or a device has no size to refuse it by, and may never end.
        if not stat.S_ISREG(status.st_mode):
            raise DatasetError(f"{path} is not a regular file; {layout}")
        if status.st_size > SIZE_LIMIT_BYTES:
            limit = f"{SIZE_LIMIT_BYTES} bytes at most"
            raise DatasetError(f"{path} has {status.st_size} bytes, an annotation file has {limit}; {layout}")
        return path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; {layout}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}); {layout}") from error


def row_error(path: Path, line_number: int, name: str, value: str | bytes, expected: str) -> DatasetError:
    """The error for one value of a row: file and line, the value, and what is expected."""
    # A row may be as long as its file; a message may not.
    shown = repr(value) if len(value) <= 100 else f"{value[:100]!r}..."
    return DatasetError(f"{path}, line {line_number}: {name} {shown}; expected {expected}")
