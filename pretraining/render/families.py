"""Families of surfaces: each a function of a generator, a size and a scale.

A family differs from the others in how it comes about, and not only in its numbers.
"""

from __future__ import annotations

from collections.abc import Callable

from pretraining.render import made, natural
from pretraining.render.fields import Random
from pretraining.render.surfaces import Surface

Family = Callable[[Random, int, float], Surface]
# The order is part of the recipe: a drawn number chooses by it.
FAMILIES: dict[str, Family] = {
    function.__name__: function
    for function in (
        natural.spectral,
        natural.clouds,
        natural.ripples,
        natural.pebbles,
        natural.cracks,
        natural.mazes,
        natural.leaves,
        made.weaves,
        made.tiles,
        made.lattices,
        made.brushed,
        made.cast,
        natural.wood,
        natural.marble,
        natural.fibres,
        natural.ferns,
        natural.julias,
        natural.granite,
        made.circuits,
        made.print_,
        made.ribs,
        made.foam,
    )
}
