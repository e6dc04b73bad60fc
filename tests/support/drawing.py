"""Videos written again, for tests."""

import atexit
from functools import cache
from pathlib import Path
from typing import Any

from ccln.pipeline.decode.processes import Decoders
from ccln.pipeline.localize.result import LocatedVideo
from ccln.pipeline.report import video


@cache
def decoders() -> Decoders:
    """The processes that all tests of one worker share."""
    started = Decoders()
    atexit.register(started.__exit__)
    return started


def write_video(located: LocatedVideo, source: Path, destination: Path, **options: Any) -> Path:
    """As the real one."""
    return video.write_video(located, source, destination, decoders(), **options)
