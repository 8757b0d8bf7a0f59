"""What every room may use: files, documents, threads, progress, the machine, seeds, extras."""
