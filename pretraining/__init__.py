"""Pretraining of the built-in encoder on rendered images only; see MODEL_CARD.md."""
