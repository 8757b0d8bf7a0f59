"""Output for people: rows, pictures and maps of predictions, and the report."""
