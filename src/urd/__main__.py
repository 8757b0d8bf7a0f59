"""`python -m urd` is the command `urd`."""

from urd.cli import main

main()
