"""`python -m urd.suites FOLDER`: one job, for the process that runs the suite."""

from urd.suites.job import main

main()
