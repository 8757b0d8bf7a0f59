"""Teacher and student: the networks of URD, one part of the paper per file."""
