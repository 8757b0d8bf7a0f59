"""One HTML file about a run: verdicts, thresholds, curves, pictures of its mistakes, settings."""

from urd.report.page import write_report

__all__ = ["write_report"]
