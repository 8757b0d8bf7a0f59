"""What computes a detector's maps: torch, or a runtime that has opened an exported file."""
