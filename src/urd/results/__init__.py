"""What verbs leave to look at: rows, pictures and maps of predictions, and the report."""
