"""What a training run leaves for people: one HTML page that needs no network, nor anybody to explain it."""

from ccln.pipeline.report.run.document import PAGE_NAME
from ccln.pipeline.report.run.run import RunFacts, write_run_page
from ccln.pipeline.report.run.runs import write_runs_page

__all__ = ["PAGE_NAME", "RunFacts", "write_run_page", "write_runs_page"]
