"""The features of one clip, as extraction and localization make them."""

import numpy as np
import torch

from ccln.cache import Features
from ccln.extractors import ExtractorError, Extractors
from ccln.extractors.contract import DECODING_RULES
from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.decode.frames import FrameRequest


def frame_request(extractors: Extractors) -> FrameRequest:
    """The frames, and the rate of the audio, that the extractors read."""
    visual = extractors.preset.visual
    return FrameRequest(
        height=visual.frame_height,
        width=visual.frame_width,
        frames_per_segment=extractors.preset.frames_per_segment,
        frame_at=extractors.preset.frame_at,
        interpolation=visual.interpolation,
        sample_rate_hz=extractors.preset.audio.sample_rate_hz,
    )


def clip_features(extractors: Extractors, clip: DecodedClip) -> Features:
    """Run both extractors over one clip; nothing outside the clip has any influence.

    Raises:
        ExtractorError: a feature is infinite or not a number, or too large for half precision.
    """
    visual, audio = extractors(clip.frames, clip.waveform)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found
        visual = visual.astype(np.float16)
    if not np.isfinite(visual).all():
        raise ExtractorError(
            f"a feature of {extractors.preset.visual.name} is too large for half precision in the ten seconds from "
            f"{clip.start_seconds:.0f} s. Check the weights."
        )
    known = clip.duration_seconds, clip.missing, clip.lost_seconds, DECODING_RULES
    return Features(torch.from_numpy(visual), torch.from_numpy(audio), *known)
