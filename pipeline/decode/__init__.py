"""From a video file to frames at known times and a waveform, and what is to be said of the file itself."""
