"""One HTML file about a run: verdicts, thresholds, curves, pictures of its mistakes, settings."""

from urd.report.page import REPORT_NAME, write_report

__all__ = ["REPORT_NAME", "write_report"]
