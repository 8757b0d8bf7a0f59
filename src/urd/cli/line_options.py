"""Flags and models that `urd watch` and `urd serve` share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from urd.cli.options import Opening, with_flags

if TYPE_CHECKING:
    from urd.inspection.judge import Inspection
    from urd.serving.served_model import ServedModel
    from urd.serving.station import Station
    from urd.serving.store import Store

_KEEP = "Which images the store keeps. rejects+sample: all that are not OK, and 1 in 50 of the OK."
_CAMERA = (
    "What to do with an image that is odd in itself, such as one that repeats the one before: "
    "warn says it in the row, strict makes it an ERROR."
)


@dataclass(frozen=True)
class Keeping:
    """What a line stores: the values of the flags of `line_options`."""

    store: Path
    keep: Literal["all", "rejects+sample", "none"]
    camera: Literal["warn", "strict"]

    def station(self, opened: Store, source: Literal["watch", "serve"]) -> Station:
        """What stores the judgements in the opened store."""
        from urd.serving.kept_images import KeptImages
        from urd.serving.station import Station

        images = KeptImages(opened.images, self.keep)
        return Station(opened, source, images, camera=self.camera)


def line_options(function: Callable[..., None]) -> Callable[..., None]:
    """Flags that say what is stored; the verb gets `keeping`."""

    @functools.wraps(function)
    def with_keeping(store: Path, keep: Any, camera: Any, **options: Any) -> None:
        function(keeping=Keeping(store, keep, camera), **options)

    flags = [
        click.option(
            "--store",
            type=click.Path(path_type=Path),
            required=True,
            metavar="FILE",
            help="SQLite file for the judgements, on a local disk. It is made if it does not "
            "exist.",
        ),
        click.option(
            "--keep",
            type=click.Choice(["all", "rejects+sample", "none"]),
            default="rejects+sample",
            show_default=True,
            help=_KEEP,
        ),
        click.option(
            "--camera",
            type=click.Choice(["warn", "strict"]),
            default="warn",
            show_default=True,
            help=_CAMERA,
        ),
    ]
    return with_flags(flags, with_keeping)


def served_model(name: str, path: Path, inspection: Inspection, opening: Opening) -> ServedModel:
    """A model of a line.

    Raises:
        UsageError, UrdError: as `ServedModel.load` and `Opening.apply`.
    """
    from urd.serving.served_model import ServedModel

    model = ServedModel.load(
        name, path, inspection, device=opening.device, precision=opening.precision
    )
    opening.apply(model.detector)
    return model
