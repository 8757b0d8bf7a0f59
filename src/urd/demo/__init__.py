"""A small inspection data set, rendered from a seed: two products with five defects each."""

from urd.demo.dataset import PRODUCTS, render_dataset

__all__ = ["PRODUCTS", "render_dataset"]
