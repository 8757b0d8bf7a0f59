"""From good images to a trained detector."""
