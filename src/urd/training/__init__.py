"""Losses, the two-optimiser step, the loop and its checkpoints."""
