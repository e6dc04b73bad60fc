"""Where the videos of annotations lie, and how long they are."""

import os
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

from ccln.pipeline.segments import CLIP_SECONDS
from ccln.pipeline.visible import is_control

_READERS = 4  # a header is read in no time, but may come from far
# By file, size and time of change: to read a header takes a process, and data sets are read again and again.
_stated_seconds: dict[tuple[str, int, int], float | None] = {}
_SILENCE = 1e-3  # -60 dBFS: below the noise of any microphone's room


class MediaFolder:
    """The folder that the paths of annotations are relative to.

    Args:
        folder: That of the annotations' file, or the one that was named for the videos.
        named: Whether it was named: then absolute paths, those of another machine too, are looked up in it.
    """

    def __init__(self, folder: Path, *, named: bool) -> None:
        self.folder, self._named = folder, named
        # Links in the folder's own path are the user's; those in a row's path must stay below it.
        self._real = Path(os.path.realpath(folder))

    def find(self, written: str) -> str:
        """The path as written, relative to the folder and normalised, whether or not there is such a file.

        An absolute path that is not within the folder is the longest end of it that is a file there.

        Raises:
            ValueError: It leads out of the folder, or is no file's name; the message says what is expected.
        """
        if any(is_control(letter) for letter in written):
            raise ValueError("the name of a file, without control characters")
        path = PurePosixPath(written)
        if "\\" in written and not os.path.lexists(self.folder / path):  # written on Windows
            path = PureWindowsPath(written)
        if not path.name:
            raise ValueError("the name of a file, without control characters")
        if ".." in path.parts:
            raise ValueError(f"a path relative to {self.folder} without '..'; {self._remedy}")
        if path.is_absolute() or path.drive:
            if not self._named:
                raise ValueError(f"a path relative to {self.folder} without '..'; {self._remedy}")
            path = self._within(path)
        relative = Path(*path.parts)
        if not Path(os.path.realpath(self._real / relative)).is_relative_to(self._real):
            raise ValueError(f"a path whose links stay below {self.folder}; put the video itself there")
        return relative.as_posix()

    @property
    def _remedy(self) -> str:
        return "put the videos there" if self._named else "put the file above its videos, or name theirs: --media-root"

    def _within(self, path: PurePosixPath | PureWindowsPath) -> PurePosixPath:
        parts = path.parts[1:]
        for folder in (Path(os.path.abspath(self.folder)), self._real):
            if Path(path).is_relative_to(folder):
                return PurePosixPath(Path(path).relative_to(folder))
        ends = (PurePosixPath(*parts[start:]) for start in range(len(parts)))
        return next((end for end in ends if os.path.isfile(self._real / end)), PurePosixPath(*parts))


def durations_seconds(files: Iterable[Path]) -> dict[Path, float]:
    """How long the videos are by their headers; those that are absent, or do not say it, are left out."""
    identities = {file: _identity(file) for file in files if os.path.isfile(file)}
    if unknown := [file for file, identity in identities.items() if identity not in _stated_seconds]:
        from ccln.pipeline.decode.container import DecodeError, stated_seconds  # FFmpeg, which rows alone do not need
        from ccln.pipeline.decode.processes import Decoders

        def duration_seconds(file: Path) -> float | None:
            try:
                return decoders.once(stated_seconds, file)
            except DecodeError:  # extracting its features says why
                return None

        with Decoders() as decoders, ThreadPoolExecutor(_READERS) as threads:
            for file, seconds in zip(unknown, threads.map(duration_seconds, unknown), strict=True):
                _stated_seconds[identities[file]] = seconds
    found = {file: _stated_seconds[identity] for file, identity in identities.items()}
    return {file: seconds for file, seconds in found.items() if seconds is not None}


def _identity(file: Path) -> tuple[str, int, int]:
    status = os.stat(file)
    return os.path.abspath(file), status.st_size, status.st_mtime_ns


def silences(file: Path) -> Generator[bool]:
    """Of each ten seconds of a video's audio, whether no sample is above -60 dBFS, until one is.

    False, once, for what has no audio or cannot be decoded.
    """
    import av.error
    import numpy as np
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler

    from ccln.pipeline.decode.container import DecodeError, chosen_streams, open_video

    try:
        with open_video(file) as container:
            _, audio = chosen_streams(file, container)
            if not audio:
                yield False
                return
            samples = 0
            to_float = AudioResampler("flt")  # not planar: PyAV 18 reads beyond the end of that with eight channels
            for frame in container.decode(audio[0]):
                assert isinstance(frame, AudioFrame)
                for plain in to_float.resample(frame):
                    if np.abs(plain.to_ndarray()).max(initial=0) > _SILENCE:
                        yield False
                        return
                samples += frame.samples
                if samples >= CLIP_SECONDS * frame.sample_rate:
                    samples = 0
                    yield True
            yield True
    except (DecodeError, av.error.FFmpegError):  # extracting its features says why
        yield False
