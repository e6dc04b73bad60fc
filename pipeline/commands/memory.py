"""How this process asks the system for memory, and how it looks for what it no longer needs."""

import contextlib
import ctypes
import gc
from collections.abc import Iterator

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks for the next ones instead of handing each back to the system.

    The activations of a network are tens of megabytes, freed and asked for again for every few frames; by default each
    is mapped and zeroed anew by the kernel: 168,000 page faults a clip with EfficientNet-Lite0, which doubled its time.
    Kept, there are none. The price is that the process stays as large as it once was. Does nothing without glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _BYTES)
        mallopt(_M_TRIM_THRESHOLD, _BYTES)


@contextlib.contextmanager
def imported_for_good() -> Iterator[None]:
    """Look for no garbage among what is imported here, neither now nor later: it stays until the process ends.

    Torch brings 180,000 objects. Python would search them again and again as they come, and all of them once more when
    the process ends.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
