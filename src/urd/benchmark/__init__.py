"""Suites: data sets x categories x settings x seeds, resumable, with tables."""

from urd.benchmark.runner import Places, missing_jobs, run_suite
from urd.benchmark.suite import Job, Suite, read_suite, shipped_suites

__all__ = [
    "Job",
    "Places",
    "Suite",
    "missing_jobs",
    "read_suite",
    "run_suite",
    "shipped_suites",
]
