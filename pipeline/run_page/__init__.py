"""What a training run leaves for people: one HTML page that needs no network, nor anybody to explain it."""

from ccln.pipeline.run_page.document import PAGE_NAME
from ccln.pipeline.run_page.run import RunFacts, write_run_page
from ccln.pipeline.run_page.runs import write_runs_page

__all__ = ["PAGE_NAME", "RunFacts", "write_run_page", "write_runs_page"]
