"""Pages for people, rendered from templates: each is one self-contained file."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from urd.inspection.colours import ON_DARK, ON_LIGHT
from urd.inspection.legend import heat_colours
from urd.results.counts import percent
from urd.system.processor import processor_name

_STOPS = 12  # of the colour bar


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("urd", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "percent": percent,
        "on_light": ON_LIGHT,
        "on_dark": ON_DARK,
        "turbo": _turbo(),
    }
    return environment


def render(template: str, **content: Any) -> str:
    """The page as text that can be written as UTF-8: file names may hold any bytes.

    Args:
        template: its path in the package, such as `results/page.html`.
    """
    page = _environment().get_template(template).render(content)
    return page.encode("utf-8", "backslashreplace").decode()


def moment(seconds: float | None = None) -> str:
    """A time for people, with its zone; `None`: now."""
    time = datetime.now() if seconds is None else datetime.fromtimestamp(seconds)
    return time.astimezone().strftime("%Y-%m-%d %H:%M %Z")


def written(path: Path) -> str | None:
    """When a file was written; `None`: there is none."""
    return moment(path.stat().st_mtime) if path.exists() else None


def this_machine(device: str) -> str:
    """The machine that makes the page, in words."""
    name = f"{processor_name()}, {os.cpu_count()} cores"
    if device.startswith("cuda"):
        from urd.system.machine import machine

        name = machine(device)["gpu"]
    return f"{name}; {platform.system()}, Python {platform.python_version()}"


def size(height: int, width: int) -> str:
    """The size of an image, as the options of the command take it."""
    return f"{height}x{width}"


def _turbo() -> str:
    """The colours of heat maps, as the stops of a gradient in CSS."""
    levels = np.linspace(0, 255, _STOPS).astype(np.uint8)
    return ", ".join("#{:02x}{:02x}{:02x}".format(*rgb) for rgb in heat_colours(levels[None])[0])
