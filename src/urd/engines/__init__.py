"""Engines compute the maps of a detector: with torch, or with a runtime for an exported file."""
