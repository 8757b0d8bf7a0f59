"""The networks of URD, teacher and student: one file for each part of the paper."""
