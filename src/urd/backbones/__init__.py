"""Pretrained encoders: which there are, how they are built, prepared and where their weights are."""
