"""Flags made from the one definition of the options: the fields of `FitConfig`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from urd.config import FitConfig, Group

Function = TypeVar("Function", bound=Callable[..., Any])


_METAVAR: dict[Any, str] = {
    int: "N",
    float: "X",
    tuple[int, int]: "SIZE",
    tuple[str, ...]: "NAME,...",
}


class ConfigOption(click.Option):
    """The flag of a field of `FitConfig`; `group` is the heading that it stands under."""

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


def config_options(function: Function) -> Function:
    """One flag per field; one that was not given arrives as `None`, so that a file may decide."""
    kinds = typing.get_type_hints(FitConfig)
    for field in reversed(dataclasses.fields(FitConfig)):
        kind = kinds[field.name]
        is_choice = typing.get_origin(kind) is Literal
        function = click.option(
            f"--{field.name.replace('_', '-')}",
            field.name,
            cls=ConfigOption,
            group=field.metadata["group"],
            type=click.Choice(typing.get_args(kind)) if is_choice else str,
            metavar=None if is_choice else _METAVAR.get(kind, "TEXT"),
            help=f"{field.metadata['help']}  [default: {_shown(field.default)}]",
        )(function)
    return function


def _shown(default: Any) -> str:
    """A default as it would be written on the command line."""
    if isinstance(default, tuple):
        return ("x" if isinstance(default[0], int) else ",").join(map(str, default))
    return "none" if default == "" else str(default)


def inference_options(function: Function) -> Function:
    """`--batch-size`, `--device` and `--precision` of the verbs that use a detector."""
    size = click.option("--batch-size", type=click.IntRange(1, 4096), default=8, show_default=True)
    device = click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
    )
    precision = click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        help="auto: bfloat16 where the machine computes in it.  [default: as in training]",
    )
    return size(device(precision(function)))


def roi_options(function: Function) -> Function:
    """`--roi` and `--ignore` of the verbs that use a detector; see `Detector.inspect_in`."""
    for name, what in (("ignore", "What is not inspected, likewise."), ("roi", _ROI)):
        function = click.option(f"--{name}", default="", metavar="PATH", help=what)(function)
    return function


_ROI = "Folder of a region for each image, where the detector was trained with such."


def reading_options(function: Function) -> Function:
    """How images are read, of the verbs that use a detector; for `Reading.changed`."""
    return reading_option("max_megapixels")(reading_option("page")(function))


def reading_option(name: str, default: str = "as in training") -> Callable[[Function], Function]:
    """A flag of one of the options of training that say how images are read."""
    field = FitConfig.__dataclass_fields__[name]
    text = f"{field.metadata['help']}  [default: {default}]"
    return click.option(f"--{name.replace('_', '-')}", name, type=int, metavar="N", help=text)


def only_writer(folder: Path, *, below: bool = True) -> None:
    """Until the verb ends nobody else writes into `folder`; see `urd.system.files.writing`."""
    from urd.system.files import writing

    click.get_current_context().with_resource(writing(folder, below=below))


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, of all that a verb received."""
    return {name: value for name, value in options.items() if value is not None}
