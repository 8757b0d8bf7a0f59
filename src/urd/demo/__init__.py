"""A small inspection data set, rendered from a seed: two products with five defects each."""
