"""The colours of what is drawn, those of `ccln.pipeline.report.run.charts`: the colour-blind tell them apart."""

INK = "#222222"
PAPER = "#f6f6f4"
SHADE = "#dededa"
WHITE = "#ffffff"
EVENT = "#009e73"
TRACKS = {"seen": "#0072b2", "heard": "#d55e00", "event": INK}
