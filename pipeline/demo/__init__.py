"""A small data set of made videos in AVE's layout, to try every stage without a download."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from multiprocessing import get_context, parent_process
from pathlib import Path

import av
import numpy as np

from ccln.files import whole, write_whole
from ccln.pipeline.data.ave import ANNOTATIONS, HEADER, SPLIT_FILES
from ccln.pipeline.demo.audio import SAMPLE_RATE_HZ, render_samples
from ccln.pipeline.demo.frames import FRAME_HEIGHT, FRAME_RATE_HZ, FRAME_WIDTH, render_frames
from ccln.pipeline.demo.plan import ClipPlan, plan_demo_dataset

_MOST_WORKERS = 16  # beyond that, starting a worker costs more than it saves


def make_demo_dataset(
    folder: Path,
    *,
    seed: int = 0,
    train: int = 80,
    validation: int = 20,
    test: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render a demo data set, in one process for each core.

    Every file gets its name when it is complete, and Annotations.txt is written last: if it exists, all else does.
    The workers are spawned: a script that calls this at its top level needs the usual `if __name__ == "__main__":`.

    Args:
        folder: Where the files go; must be empty or not exist yet.
        seed: The same seed gives the same frames and samples; the files may differ with the encoder's version.
        train: Number of clips to train on; at least one, as of the others.
        validation: Number of clips to validate on.
        test: Number of clips to test on.
        progress: Called after each clip with the numbers of clips made and of all clips.

    Raises:
        ValueError: The folder is not empty or is a file, a number of clips is below one, or the seed is negative.
    """
    plans = plan_demo_dataset(seed, train=train, validation=validation, test=test)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder: name another one, or empty it first")
    (folder / "AVE").mkdir(parents=True)
    _write_clips(plans, folder / "AVE", progress)
    rows = [f"{plan.event.class_name}&{plan.video_id}&good&{plan.event[1]}&{plan.event[2]}" for plan in plans]
    listings = {
        name: [row for row, plan in zip(rows, plans, strict=True) if plan.split == split]
        for split, name in SPLIT_FILES.items()
    }
    for name, lines in {**listings, ANNOTATIONS: [HEADER, *rows]}.items():
        write_whole(folder / name, "".join(f"{line}\n" for line in lines).encode())


def write_clip(plan: ClipPlan, path: Path) -> None:
    """Render a planned clip as an MP4 file (H.264 and AAC) of exactly ten seconds; it exists once it is complete."""
    options = {"movflags": "+faststart"}
    with whole(path) as unfinished, av.open(unfinished, "w", format="mp4", options=options) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE_HZ, options={"preset": "ultrafast", "crf": "24"})
        video.width, video.height, video.pix_fmt = FRAME_WIDTH, FRAME_HEIGHT, "yuv420p"
        video.codec_context.thread_count = 1  # the other cores have clips of their own
        options = {"b": "96k", "aac_coder": "fast"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", options=options)
        samples = render_samples(plan.heard, pace=plan.pace, entropy=plan.entropy)
        sound = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ), 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
        for number, pixels in enumerate(render_frames(plan.seen, pace=plan.pace, entropy=plan.entropy)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base, frame.pts = Fraction(1, FRAME_RATE_HZ), number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def _write_clips(plans: tuple[ClipPlan, ...], videos: Path, progress: Callable[[int, int], None] | None) -> None:
    # Spawned, not forked: the caller may hold threads and an accelerator.
    workers = min(os.cpu_count() or 1, _MOST_WORKERS, len(plans))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        futures = [pool.submit(write_clip, plan, videos / f"{plan.video_id}.mp4") for plan in plans]
        for completed, future in enumerate(as_completed(futures), start=1):
            future.result()
            if progress is not None:
                progress(completed, len(plans))
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Make a worker end when its parent is killed; otherwise it would wait for ever for the next clip."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
