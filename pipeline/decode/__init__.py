"""From a video file to frames at known times and a waveform, and a report on the file itself."""
