"""Pretrained encoders: which there are, how they are built and prepared, where weights are."""
