"""Rendered images: scalar fields, families of surfaces, objects, colour, and the scene."""

from pretraining.render.scene import PARAMETERS, SIZE, Scene, render_scene

__all__ = ["PARAMETERS", "SIZE", "Scene", "render_scene"]
