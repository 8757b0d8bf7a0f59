"""Suites: data sets x categories x settings x seeds, resumable, with tables."""
