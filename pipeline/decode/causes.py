"""Why a file cannot be read: what it is instead of a video, or what FFmpeg says about it."""

import re
from contextlib import suppress
from pathlib import Path
from threading import Lock

import av
import av.error
import av.logging

_HEAD_BYTES = 1024
_MEMORY_SHORT = 0.75
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HTML = (b"<!doctype html", b"<html", b"<head")
_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
# FFmpeg's log is one for the whole process.
_log_lock = Lock()


def cause_of(path: Path, error: Exception) -> str:
    """Why a file could not be opened or read further, and what to do: two sentences for a message after its path."""
    reason = getattr(error, "strerror", None) or str(error)
    if not isinstance(error, av.error.FFmpegError):
        return f"cannot be read as a video ({reason}). Check that it plays; if not, fetch or convert it again."
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(_LFS_POINTER):
        return "is the pointer of a file that Git LFS holds, not the video. Fetch that: git lfs pull."
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_HTML):
        return "is an HTML page and no video; the page may say why. Fetch the video itself."
    if _is_cut_mp4(path):
        return f"is cut off before its index ({reason}): its end is missing. Fetch or copy it again, whole."
    if words := _last_words(path):
        reason = f"{reason}: {words}"
    return f"cannot be read as a video ({reason}). Check that it plays; if not, fetch or convert it again."


def _is_cut_mp4(path: Path) -> bool:
    """Whether a file is MP4 or QuickTime and ends before the index of its frames, the box "moov", begins or ends."""
    size = path.stat().st_size
    begin = 0
    with path.open("rb") as file:
        while begin + 8 <= size:
            file.seek(begin)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if begin == 0 and kind not in _MP4_FIRST:
                return False
            if length == 1:  # the length does not fit into 32 bits, and follows
                length = int.from_bytes(header[8:16], "big")
            if kind == b"moov":
                return begin + length > size
            if length < 8:
                return True  # 0 is a box that lasts to the end of the file
            begin += length
    return begin > 0


def _last_words(path: Path) -> str:
    """The last line that FFmpeg logs when it opens a file that it refuses."""
    with _log_lock, path.open("rb") as file, av.logging.Capture(local=True) as lines:
        av.logging.set_skip_repeated(False)  # two files may be refused for one reason
        av.logging.set_level(av.logging.ERROR)
        try:
            av.open(file, "r", container_options={"protocol_whitelist": "none"}).close()
        except (av.error.FFmpegError, OSError):
            pass
        finally:
            av.logging.set_level(None)
    return lines[-1][2].strip() if lines else ""


def is_memory_short() -> bool:
    """Whether this process has come near its limit: H.264's decoder calls a frame damaged that it has no memory for."""
    with suppress(ImportError, OSError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        peak = re.search(r"VmPeak:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
        return peak is not None and limit != resource.RLIM_INFINITY and int(peak[1]) * 1024 > _MEMORY_SHORT * limit
    return False
