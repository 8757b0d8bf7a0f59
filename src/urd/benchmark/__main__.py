"""`python -m urd.benchmark FOLDER`: one job, for the process that runs the suite."""

from urd.benchmark.job import main

main()
