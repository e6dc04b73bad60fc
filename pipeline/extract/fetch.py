"""Videos of URLs on this machine's disk, for as long as they are decoded."""

import itertools
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath

from ccln.files import whole
from ccln.pipeline.data.remote import RemoteVideo
from ccln.storage import StorageError, errors_naming, storage_at

_MOST_FILES = 32
_MOST_BYTES = 4 << 30
_FETCHED_AT_A_TIME = 8
_ATTEMPTS = 2
_PIECE_BYTES = 8 << 20
_ENDING = re.compile(r"\.\w{1,8}", re.ASCII)


class Fetcher:
    """Fetches videos ahead of those who decode them; any number of threads may share it. See `fetching`."""

    def __init__(self, folder: Path, videos: Iterable[RemoteVideo]) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._threads = ThreadPoolExecutor(_FETCHED_AT_A_TIME)
        self._wanted = dict.fromkeys(videos)
        self._coming: dict[RemoteVideo, Future[Path]] = {}
        self._files = self._bytes = 0
        self._changed = threading.Condition()
        self._ended = False
        self._storage = cache(storage_at)  # fsspec makes a client a thread, which costs

    @contextmanager
    def local(self, video: Path | RemoteVideo) -> Iterator[Path]:
        """The file on this machine that holds a video; what was fetched is deleted when the block ends.

        Raises:
            StorageError: It cannot be fetched, for the second time.
        """
        if isinstance(video, Path):
            yield video
            return
        coming = self._arrival(video) if video in self._wanted else None
        if coming is None:
            self._wait_for_room(video)
        path = None
        try:
            path = self._fetched(video) if coming is None else coming.result()
            yield path
        finally:
            if path is not None:
                path.unlink(missing_ok=True)
            if coming is not None:
                del self._wanted[video], self._coming[video]
            self._take(-1, -video.bytes)

    def fetch_ahead(self) -> None:
        """Fetch what is wanted, in its order, as long as there is room."""
        for video in list(self._wanted):
            with self._changed:
                self._wait_for_room(video)
                if self._ended:
                    return
                self._threads.submit(self._fetch, video, self._arrival(video))

    def end(self) -> None:
        """Fetch no more; what is being fetched is abandoned."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for future in list(self._coming.values()):
            future.cancel()

    def _arrival(self, video: RemoteVideo) -> "Future[Path]":
        with self._changed:
            return self._coming.setdefault(video, Future())

    def _wait_for_room(self, video: RemoteVideo) -> None:
        """Wait until there is room for a video, and take it, unless fetching has ended."""

        def has_room() -> bool:
            return not self._files or (self._files < _MOST_FILES and self._bytes + video.bytes <= _MOST_BYTES)

        with self._changed:
            self._changed.wait_for(lambda: self._ended or has_room())
            self._take(1, video.bytes)

    def _take(self, files: int, size_bytes: int) -> None:
        with self._changed:
            self._files += files
            self._bytes += size_bytes
            self._changed.notify_all()

    def _fetch(self, video: RemoteVideo, future: "Future[Path]") -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(self._fetched(video))
            except Exception as error:
                future.set_exception(error)

    def _fetched(self, video: RemoteVideo) -> Path:
        # Its own name may lead anywhere, or be none on this system; decoders look at the ending alone.
        ending = PurePosixPath(video.name).suffix
        path = self._folder / f"{next(self._numbers)}{ending if _ENDING.fullmatch(ending) else ''}"
        for attempt in range(_ATTEMPTS):
            try:
                self._write(video, path)
                break
            except StorageError:
                path.unlink(missing_ok=True)
                if attempt == _ATTEMPTS - 1 or self._ended:
                    raise
        return path

    def _write(self, video: RemoteVideo, path: Path) -> None:
        storage, root = self._storage(video.folder)
        written = 0
        place = f"{root}/{video.name}"
        with errors_naming(video), storage.open(place, "rb", cache_type="none") as source, path.open("xb") as file:
            while written <= video.bytes and not self._ended and (piece := source.read(_PIECE_BYTES)):
                file.write(piece)  # pyright: ignore[reportArgumentType]: text is for other modes
                written += len(piece)
        if written != video.bytes:
            raise StorageError(f"{video}: has not the {video.bytes} bytes that were listed. Run the same command again")


@contextmanager
def fetching(videos: Iterable[RemoteVideo] = ()) -> Iterator[Fetcher]:
    """What gives the videos of URLs; when the block ends, all that was fetched is deleted.

    At most 32 files and 4 GiB are on the disk at a time, or on their way there; a larger file is so alone.

    Args:
        videos: What is wanted, in this order. Others are fetched when they are asked for.

    Raises:
        OSError: The folder for temporary files cannot be written.
    """
    with whole(Path(tempfile.gettempdir()) / "ccln-fetched") as folder:  # which sweeps what killed runs have left
        folder.mkdir(0o700)
        fetcher = Fetcher(folder, videos)
        threading.Thread(target=fetcher.fetch_ahead, daemon=True).start()
        try:
            yield fetcher
        finally:
            fetcher.end()
            while folder.exists():
                shutil.rmtree(folder, ignore_errors=True)
