"""The command `urd`. Each verb is a module; it is imported when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn, TextIO

import click

from urd.errors import UrdError
from urd.system.versions import VERSION

VERBS = {
    "benchmark": "Train and evaluate a suite: data sets x categories x settings x seeds.",
    "calibrate": "Set the thresholds from good images.",
    "check": "List the contents of a data folder and its problems.",
    "compare": "Say whether one detector is better than another, on the same images.",
    "demo": "Render two products, train on them and write pictures.",
    "doctor": "Show what works on this machine and which backbones are usable.",
    "evaluate": "Compute metrics on a labelled test set.",
    "export": "Write a file for ONNX Runtime or OpenVINO and check it against torch.",
    "fit": "Train on good images.",
    "metrics": "Compute exact metrics of anomaly maps from any method.",
    "predict": "Judge images and mark their anomalies.",
    "report": "Write one HTML file about a run, with pictures of its mistakes.",
    "serve": "Judge images that come over HTTP, and store each judgement.",
    "store": "Export, back up and prune the judgements of a line.",
    "verify": "Judge parts that are known to be good or bad, before a shift.",
    "watch": "Judge images as they arrive in a folder.",
}


class _Verbs(click.Group):
    """Lists verbs without importing them, so help is fast; a verb is imported when it is used."""

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
@click.version_option(VERSION, prog_name="urd")
def cli() -> None:
    """Visual anomaly detection: train on good images, find what is not normal."""


def main() -> NoReturn:
    """Run the command line. A failure that a user can cause is one line on standard error.

    Exit codes: 0 done, 1 failed or partly failed, 2 wrong request, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold any bytes
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            code = cli.main(prog_name="urd", standalone_mode=False) or 0
        except SystemExit as error:  # the verb has already printed its message
            code = error.code
        sys.stdout.flush()  # a full disk raises here, where it can be reported
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
    except BrokenPipeError:  # the reader of our output ended: it needs no message
        _drop(sys.stdout)
        sys.exit(1)
    except OSError as error:  # usually a full disk or a folder without write permission
        _drop(sys.stdout)
        _fail(f"{error.strerror or error}: {error.filename or 'output'}", 1)
    except (MemoryError, RuntimeError) as error:
        words = ("out of memory", "allocate memory", "not enough memory")
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in words):
            raise
        _fail("out of memory: try a smaller --batch-size or --image-size", 1)


def _fail(message: str, code: int) -> NoReturn:
    try:
        print(f"urd: {' '.join(message.split())}", file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)
    sys.exit(code)


def _drop(stream: TextIO) -> None:
    """Flush a stream, or send its buffered text to the null device if that fails.

    Otherwise Python would flush it again at exit and print an error.
    """
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
