"""A detector as a file for other programs, checked against torch before it is kept."""
