"""Synthetic anomalies: Perlin masks, textures and foreground, blended into good images."""
