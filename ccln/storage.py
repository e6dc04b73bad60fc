"""Storage that is reached by URLs, such as s3://bucket/folder, by fsspec: found, and with its errors made ours."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MOST_CHARACTERS = 300
"""Of what an error of a library says."""


class StorageError(Exception):
    """Storage cannot be reached, or does not do what was asked; the message names the URL and the cause."""


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is a URL, and no path; ``Path`` would take one of its two slashes."""
    return isinstance(place, str) and _URL.match(place) is not None


def storage_at(url: str) -> tuple["AbstractFileSystem", str]:
    """The file system that a URL names, and the place in it.

    Credentials are those that fsspec and the library of that storage find by their own means, such as botocore's
    environment variables, files and roles.

    Raises:
        StorageError: fsspec or what it needs for that storage is not installed, it knows no such storage, or the URL
            has a password in it.
    """
    if urlsplit(url).password is not None:  # messages and files name the URL
        place = url.rpartition("@")[2]
        raise StorageError(f"...@{place}: a URL with a password in it is refused. Set the environment or files for it")
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise StorageError(f"{url}: fsspec is not installed: pip install 'ccln[remote]'") from error
    try:
        storage, place = url_to_fs(url)
    except ImportError as error:
        raise StorageError(f"{url}: {_line(error)}. For s3://: pip install 'ccln[remote]'") from error
    except ValueError as error:
        raise StorageError(f"{url}: {_line(error)}") from error
    return storage, place.rstrip("/")


@contextmanager
def errors_naming(url: object) -> Iterator[None]:
    """Turn whatever the libraries of storage raise, of which each has its own, into a StorageError on a URL."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise StorageError(f"{url}: there is no such thing. Check the URL") from error
    except PermissionError as error:
        raise StorageError(
            f"{url}: may not be used ({_line(error)}). Check the credentials and their rights"
        ) from error
    except Exception as error:
        raise StorageError(f"{url}: cannot be reached ({type(error).__name__}: {_line(error)})") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:_MOST_CHARACTERS].rstrip(".")
