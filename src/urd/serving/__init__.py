"""On the line: judge parts as they come, store every judgement, and tell other machines."""
