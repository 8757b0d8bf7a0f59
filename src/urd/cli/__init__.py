"""The command `urd`. Each verb is a module; it is imported when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from urd.cli.groups import SuggestingGroup
from urd.errors import UrdError
from urd.system import progress
from urd.system.progress import Talk
from urd.system.versions import VERSION

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

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
    "fit-all": "Train one model for each category below a folder.",
    "metrics": "Compute exact metrics of anomaly maps from any method.",
    "predict": "Judge images and mark their anomalies.",
    "report": "Write one HTML file about a run, with pictures of its mistakes.",
    "serve": "Judge images that come over HTTP, and store each judgement.",
    "store": "Export, back up and prune the judgements of a line.",
    "tensorboard": "Write training curves for TensorBoard.",
    "verify": "Judge parts that are known to be good or bad, before a shift.",
    "watch": "Judge images as they arrive in a folder.",
}


def _talking(level: Talk, *, hidden: bool = False) -> click.Option:
    """The flag -q or -v; it sets how much this process says."""

    def heed(ctx: click.Context, param: click.Parameter, given: bool) -> None:
        if not given:
            return
        if progress.talk() not in (Talk.USUAL, level):
            raise click.UsageError("give -q or -v, not both", ctx)
        progress.set_talk(level)

    name, text = _TALKING[level]
    names = [f"-{name[0]}"] if hidden else [f"-{name[0]}", f"--{name}"]
    return click.Option(
        [*names, f"_{name}"],
        is_flag=True,
        hidden=hidden,
        expose_value=False,
        callback=heed,
        help=text,
    )


_TALKING = {
    Talk.QUIET: ("quiet", "Show no progress and no notes; results, warnings and errors stay."),
    Talk.VERBOSE: (
        "verbose",
        "Show times, threads and versions, and where an unexpected error comes from.",
    ),
}
# The same flags behind a verb, where many people write them.
_BEHIND_THE_VERB = [_talking(level, hidden=True) for level in _TALKING]


class _Verbs(SuggestingGroup):
    """Lists verbs without importing them, so help is fast; a verb is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"urd.cli.{name}")
        command: click.Command = getattr(module, name)
        command.params += [flag for flag in _BEHIND_THE_VERB if flag not in command.params]
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Verbs and flags that begin so; no verb is imported."""
        from click.shell_completion import CompletionItem

        verbs = [
            CompletionItem(name, help=text)
            for name, text in VERBS.items()
            if name.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # click would print an empty line first
            raise click.exceptions.Abort from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[_talking(level) for level in _TALKING],
)
@click.version_option(VERSION, "-V", "--version", prog_name="urd")
def cli() -> None:
    """Visual anomaly detection: train on good images, find what is not normal.

    COMMAND -h describes a command. -q and -v may also stand behind it.
    """


def main() -> NoReturn:
    """Run the command line. A failure that a user can cause is one line on standard error.

    Exit codes: 0 done, 1 failed or partly failed, 2 wrong request, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold any bytes
            stream.reconfigure(errors="backslashreplace")
    began = time.monotonic()
    progress.set_talk(Talk.USUAL)
    try:
        try:
            # Verbs expand globs themselves: click would do it on Windows only, and also in quotes.
            code = cli.main(prog_name="urd", standalone_mode=False, windows_expand_args=False) or 0
        except SystemExit as error:  # the verb has already printed its message
            code = error.code
        finally:
            _tell_about_run(began)
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


def _tell_about_run(began: float) -> None:
    if progress.talk() is not Talk.VERBOSE:
        return
    from urd.cli.about_run import about_run

    progress.show()  # not every verb does
    for line in about_run(began):
        progress.detail(line)


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
