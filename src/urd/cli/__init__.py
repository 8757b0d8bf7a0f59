"""The command `urd`. Each verb is a module that is imported when it is asked for."""

from __future__ import annotations

import importlib
import io
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn, TextIO

import click

from urd import __version__
from urd.errors import UrdError

VERBS = {
    "benchmark": "Data sets x categories x settings x seeds, with tables.",
    "calibrate": "Take thresholds from good images.",
    "check": "Report what a data folder holds, and what is wrong with it.",
    "demo": "Render two products, train on them, and leave the pictures.",
    "doctor": "Tell what works on this machine, and which backbones are usable.",
    "evaluate": "Metrics on a labelled test set.",
    "export": "A file for ONNX Runtime or OpenVINO, checked against torch.",
    "fit": "Train on good images.",
    "metrics": "Exact metrics of anomaly maps of any method.",
    "predict": "Score images and draw where they are anomalous.",
    "report": "One HTML file about a run, with pictures of its mistakes.",
}


class _Verbs(click.Group):
    """Names and summaries are known at once; a verb's module is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"urd.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # click would print an empty line first
            raise click.exceptions.Abort from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="urd")
def cli() -> None:
    """Visual anomaly detection: train on good images, find what is not normal."""


def main() -> NoReturn:
    """Run the command line; every failure that a user can cause is one line on standard error.

    Exit codes: 0 done, 1 failed or partly failed, 2 wrong request, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold any bytes
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            code = cli.main(prog_name="urd", standalone_mode=False) or 0
        except SystemExit as error:  # of a verb that has said what it had to
            code = error.code
        sys.stdout.flush()  # here, where a full disk can be reported
        sys.exit(code)
    except click.exceptions.Abort as error:  # click's name for KeyboardInterrupt
        _fail(str(error.__cause__ or "") or "interrupted", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except UrdError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, and needs no message
        _drop(sys.stdout)
        sys.exit(1)
    except OSError as error:  # a full disk or a folder that may not be written, mostly
        _drop(sys.stdout)
        _fail(f"{error.strerror or error}: {error.filename or 'output'}", 1)
    except (MemoryError, RuntimeError) as error:
        words = ("out of memory", "allocate memory", "not enough memory")
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in words):
            raise
        _fail("out of memory; a smaller --batch-size or --image-size needs less", 1)


def _fail(message: str, code: int) -> NoReturn:
    try:
        print(f"urd: {' '.join(message.split())}", file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)
    sys.exit(code)


def _drop(stream: TextIO) -> None:
    """Write no more to a stream that cannot be written to: Python would try as it ends.

    What it still holds goes to nowhere, if it can be written to no more.
    """
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
