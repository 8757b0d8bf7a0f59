"""Tools for every room: files, documents, threads, progress, the machine, seeds, extras."""
