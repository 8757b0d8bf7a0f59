"""Synthetic anomalies: Perlin masks, textures, foreground and their blending into good images."""
