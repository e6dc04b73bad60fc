"""The grid of time that everything shares: segment s of a clip covers the seconds [s, s + 1)."""

SEGMENT_COUNT = 10
SEGMENT_SECONDS = 1
CLIP_SECONDS = SEGMENT_COUNT * SEGMENT_SECONDS
