"""Whether memory is what a decoder lacks."""

import re
from contextlib import suppress
from pathlib import Path

_SHORT = 0.75


def is_memory_short() -> bool:
    """Whether this process has come near its limit: H.264's decoder calls a frame damaged that it has no memory for."""
    with suppress(ImportError, OSError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        peak = re.search(r"VmPeak:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
        return peak is not None and limit != resource.RLIM_INFINITY and int(peak[1]) * 1024 > _SHORT * limit
    return False
