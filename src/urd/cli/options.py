"""Flags for the options. They are made from the fields of `FitConfig`."""

from __future__ import annotations

import dataclasses
import functools
import glob
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from urd.config import FitConfig, Group
from urd.presets import PRESETS

if TYPE_CHECKING:
    from urd.detector import Detector

Function = TypeVar("Function", bound=Callable[..., Any])


_METAVAR: dict[Any, str] = {
    int: "N",
    float: "X",
    tuple[int, int]: "SIZE",
    tuple[str, ...]: "NAME,...",
}


class ImageFolder(click.Path):
    """A folder; or a glob that fits one folder, because not every shell expands globs."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and glob.has_magic(value):
            from urd.data.globs import one_folder

            value = one_folder(value)
        return super().convert(value, param, ctx)


class _Share(click.types.FloatParamType):
    """A share of images. Its range is checked where it is used."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.strip().endswith("%"):
            try:
                percent = float(value.strip().rstrip("%"))
            except ValueError:
                percent = 2.0
            self.fail(f"{value!r} is no share: {percent:g} % is {percent / 100:g}", param, ctx)
        return super().convert(value, param, ctx)


SHARE = _Share()

# Read by `urd.data.read_layout`, which knows globs; a path, so that shells complete it.
DATA = click.Path()


class ConfigOption(click.Option):
    """The flag of a field of `FitConfig`; `group` is its heading in the help."""

    def __init__(self, *names: Any, group: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help shows the options of `FitConfig` in their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"": []}
        for group in typing.get_args(Group):
            groups[group] = []
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None and isinstance(option, click.Option):
                groups[option.group if isinstance(option, ConfigOption) else ""].append(record)
        for group, records in groups.items():
            with formatter.section(f"{group.capitalize()} options" if group else "Options"):
                formatter.write_dl(records)


def base_options(function: Function) -> Function:
    """The flags `--preset` and `--config`, which other settings override."""
    function = click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        help="YAML file of options; it may name a preset.",
    )(function)
    return click.option(
        "--preset",
        type=click.Choice(list(PRESETS)),
        help="Named settings; other options override them.",
    )(function)


def config_options(function: Function) -> Function:
    """One flag per field. A flag that is not given is `None`, so that --config can set it."""
    kinds = typing.get_type_hints(FitConfig)
    for field in reversed(dataclasses.fields(FitConfig)):
        kind = kinds[field.name]
        is_choice = typing.get_origin(kind) is Literal
        function = click.option(
            f"--{field.name.replace('_', '-')}",
            field.name,
            cls=ConfigOption,
            group=field.metadata["group"],
            type=_type_of(field, kind),
            metavar=None if is_choice else _METAVAR.get(kind, "TEXT"),
            help=f"{field.metadata['help']}  [default: {_shown(field.default)}]",
        )(function)
    return function


def _type_of(field: dataclasses.Field[Any], kind: Any) -> click.ParamType[Any]:
    if typing.get_origin(kind) is Literal:
        return click.Choice(typing.get_args(kind))
    return click.Path() if field.metadata["path"] else click.STRING


def _shown(default: Any) -> str:
    """A default value as a user writes it on the command line."""
    if isinstance(default, tuple):
        return ("x" if isinstance(default[0], int) else ",").join(map(str, default))
    return "none" if default == "" else str(default)


@dataclass(frozen=True)
class Opening:
    """How a verb opens its detector: the values of the flags of `detector_options`."""

    device: str
    precision: str | None
    max_megapixels: int | None
    page: int | None
    roi: str = ""
    ignore: str = ""

    def open(self, run: Path) -> Detector:
        """The detector of RUN.

        Raises:
            UsageError, UrdError: as `Detector.load` and `Detector.inspect_in`.
        """
        from urd.detector import Detector

        detector = Detector.load(run, self.device, self.precision)
        self.apply(detector)
        return detector

    def apply(self, detector: Detector) -> None:
        """Set how an opened detector reads images, and its regions.

        Raises:
            UsageError: as `Detector.inspect_in`.
        """
        detector.reading = detector.reading.changed(
            max_megapixels=self.max_megapixels, page=self.page
        )
        if self.roi or self.ignore:
            detector.inspect_in(self.roi, self.ignore)


def with_flags(
    flags: Sequence[Callable[..., Any]], function: Callable[..., None]
) -> Callable[..., None]:
    """The function with these flags, which the help shows in this order."""
    for flag in reversed(flags):
        function = flag(function)
    return function


def inspection_options(function: Callable[..., None]) -> Callable[..., None]:
    """Flags for thresholds and defects; the verb gets `inspection`."""

    @functools.wraps(function)
    def with_inspection(
        false_reject: float | None,
        review: float | None,
        smallest_area: float,
        mm_per_pixel: float | None,
        **options: Any,
    ) -> None:
        from urd.inspection.judge import Inspection

        inspection = Inspection(false_reject, review, smallest_area, mm_per_pixel)
        function(inspection=inspection, **options)

    flags = [
        click.option(
            "--false-reject",
            type=SHARE,
            help="Target NG rate on good images; overrides the calibrated one.",
        ),
        click.option("--review", type=SHARE, help="The same for REVIEW or NG together."),
        click.option(
            "--smallest-area",
            type=float,
            default=0.0,
            help="Smallest defect to report, in pixels.",
        ),
        click.option("--mm-per-pixel", type=float, help="Scale of the images, for areas in mm2."),
    ]
    return with_flags(flags, with_inspection)


def detector_options(function: Callable[..., None]) -> Callable[..., None]:
    """Flags of the verbs that judge images; the verb gets `opening` and `batch_size`."""
    size = click.option("--batch-size", type=click.IntRange(1, 4096), default=8, show_default=True)
    return size(opening_options(function))


def opening_options(function: Callable[..., None], *, roi: bool = True) -> Callable[..., None]:
    """Flags that say how a detector is opened; the verb gets `opening`.

    Args:
        roi: also flags for one region per image, which belongs to the image's file.
    """

    @functools.wraps(function)
    def with_opening(**options: Any) -> None:
        names = [field.name for field in dataclasses.fields(Opening)]
        own = {name: options.pop(name) for name in names if name in options}
        function(opening=Opening(**own), **options)

    device = click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
    )
    precision = click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        help="auto: bfloat16 if the hardware supports it, else float32.  [default: as in training]",
    )
    reading = reading_options(with_opening)
    return device(precision(roi_options(reading) if roi else reading))


def roi_options(function: Function) -> Function:
    """`--roi` and `--ignore` of the verbs that use a detector; see `Detector.inspect_in`."""
    for name, what in (("ignore", "The same for regions to leave out."), ("roi", _ROI)):
        function = click.option(f"--{name}", default="", metavar="PATH", help=what)(function)
    return function


_ROI = "Folder with one region per image, if the detector was trained with such regions."


def reading_options(function: Function) -> Function:
    """Flags that say how images are read, for the verbs that use a detector (`Reading.changed`)."""
    return reading_option("max_megapixels")(reading_option("page")(function))


def reading_option(name: str, default: str = "as in training") -> Callable[[Function], Function]:
    """A flag for one training option that says how images are read."""
    field = FitConfig.__dataclass_fields__[name]
    text = f"{field.metadata['help']}  [default: {default}]"
    return click.option(f"--{name.replace('_', '-')}", name, type=int, metavar="N", help=text)


def only_writer(folder: Path, *, below: bool = True) -> None:
    """Lock `folder` against other writers until the verb ends; see `urd.system.files.writing`."""
    from urd.system.files import writing

    click.get_current_context().with_resource(writing(folder, below=below))


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}
