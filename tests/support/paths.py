"""Where the repository lies, and the data beside it that tests read where it is there."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
