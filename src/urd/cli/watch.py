"""`urd watch`."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urd.cli.line_options import Keeping, line_options, served_model
from urd.cli.options import ImageFolder, Opening, detector_options, inspection_options
from urd.cli.receivers import Receivers, receiver_options, sending
from urd.system.signals import stop_signals

if TYPE_CHECKING:
    from urd.inspection.judge import Inspection
    from urd.serving.station import Outcome

_READY = "When a file is complete: rest:MS, done or rename; see above."
_THEN = "What becomes of a judged file: keep, delete or move:FOLDER."
_PART = (
    "The part's identity: stem (the file name without its suffix), none, or a regular expression "
    "with one group, which is searched in the file name."
)
_MOST_BYTES = 256 * 2**20


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("folder", type=ImageFolder())
@line_options
@click.option("--ready", default="rest:500", show_default=True, metavar="RULE", help=_READY)
@click.option("--then", default="keep", show_default=True, metavar="RULE", help=_THEN)
@click.option(
    "--aside",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where images go that cannot be judged.  [default: STORE.aside]",
)
@click.option("--part", default="stem", show_default=True, metavar="RULE", help=_PART)
@click.option("--name", help="The model's name in the rows.  [default: the name of RUN]")
@click.option(
    "--rescan",
    type=click.FloatRange(0.05, 3600.0),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Look at the whole folder this often. Changes are also seen at once.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(1),
    default=_MOST_BYTES,
    show_default=True,
    metavar="N",
    help="A larger file is an ERROR.",
)
@inspection_options
@click.option("--once", is_flag=True, help="Judge the files that are complete now, then end.")
@click.option("--json", "as_json", is_flag=True, help="Print each row as one line of JSON.")
@click.option("--quiet", is_flag=True, help="Print no line for each image.")
@receiver_options
@detector_options
def watch(
    run: Path,
    folder: Path,
    ready: str,
    then: str,
    aside: Path | None,
    part: str,
    name: str | None,
    rescan: float,
    max_bytes: int,
    once: bool,
    as_json: bool,
    quiet: bool,
    batch_size: int,
    opening: Opening,
    keeping: Keeping,
    inspection: Inspection,
    receivers: Receivers,
) -> None:
    """Judge images as they arrive in FOLDER, with RUN (a run folder, model or exported file).

    Each image gets one row in the store: what is already judged is not judged again, also after a
    restart or a power cut. A new file of an old name is a new image. Folders below FOLDER count
    too. Files that cannot be judged get the verdict ERROR and go to the folder of --aside. Hidden
    files, files that end in .part or .tmp, and folders of results are left alone.

    A file is complete (--ready) when

    \b
    rest:MS  it has not changed for MS milliseconds;
    done     NAME.png.done lies beside NAME.png;
    rename   it has the name of an image: the writer writes under another name,
             such as NAME.png.part, then renames it.

    Let the writer use done or rename if you can, and new names: a slow writer may rest in the
    middle of a file. One urd watch may watch a folder at a time.

    Ctrl-C or SIGTERM ends it after the images in hand (exit code 130 or 0); a second one at once.
    With --once the exit code is 1 if an image got the verdict ERROR.
    """
    from urd.serving.after import Then
    from urd.serving.part import Part
    from urd.serving.readiness import Ready
    from urd.serving.store import Store
    from urd.serving.watch import Watch, WatchSettings
    from urd.system import progress

    progress.show()
    settings = WatchSettings(
        ready=Ready.parse(ready),
        then=Then.parse(then),
        aside=aside,
        part=Part(part),
        rescan=rescan,
        most_bytes=max_bytes,
        batch_size=batch_size,
        once=once,
    )
    with _stopped_by_signals() as (stop, received):
        model = served_model(name or _name_of(run), run, inspection, opening)
        store = Store(keeping.store)
        try:
            station = keeping.station(store, "watch")
            tally = Counter[str]()
            watching = Watch(station, model, folder, settings, _printer(as_json, quiet, tally))
            if short := model.thresholds.shortfall():
                progress.warn(short)
            deliveries = receivers.deliveries(store, watching.idle_seconds)
            told = f"tells {', '.join(deliveries.told)}" if deliveries.told else "no receivers"
            progress.note(
                f"watching {folder} with {model.name} ({model.engine}); store {store.path}; ready "
                f"{ready}, then {then}; {told}"
            )
            with sending(deliveries):
                station.receivers = deliveries.names
                station.not_stored = watching.not_stored = deliveries.not_stored
                watching.run(stop)
                if once and (waiting := deliveries.drain()):
                    progress.warn(f"{waiting} events are not sent; the next urd watch sends them")
            if once:
                progress.note(_summary(tally, watching.aside))
        finally:
            store.close()
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    if once and tally["ERROR"]:
        raise SystemExit(1)


def _summary(tally: Counter[str], aside: Path) -> str:
    """A line for the end of --once."""
    if not tally:
        return "nothing new to judge"
    counts = ", ".join(f"{tally[name]} {name}" for name in ("OK", "REVIEW", "NG"))
    judged = tally.total() - tally["ERROR"]
    where = f", moved to {aside}" if tally["ERROR"] else ""
    return f"{judged} judged: {counts}; {tally['ERROR']} not judged (ERROR){where}"


def _name_of(run: Path) -> str:
    from urd.system.files import printable

    path = run.absolute()
    return printable(Path(path.name if path.is_dir() else path.stem))


@contextmanager
def _stopped_by_signals() -> Iterator[tuple[threading.Event, list[int]]]:
    """Ctrl-C and SIGTERM set the event while the body runs; which of them came is in the list.

    The thread of `urd.__main__` counts on, so that a second signal ends the process at once.
    """
    stop, received = threading.Event(), list[int]()

    def heed(number: int, frame: object) -> None:
        received.append(number)
        stop.set()

    with stop_signals(heed):
        yield stop, received


def _printer(as_json: bool, quiet: bool, tally: Counter[str]) -> Callable[[Outcome], None]:
    """What prints a line for each image, and counts the verdicts.

    A full disk behind the output must not end the watch.
    """
    from urd.serving.saying import Mentions

    mentions = Mentions()

    def show(outcome: Outcome) -> None:
        tally[outcome.row["verdict"]] += 1
        if quiet:
            return
        try:
            print(
                json.dumps(outcome.row, allow_nan=False) if as_json else _line(outcome.row),
                flush=True,
            )
        except BrokenPipeError:
            raise
        except OSError as error:
            mentions.once("output", f"cannot print the lines: {error.strerror or error}")

    return show


def _line(row: dict[str, Any]) -> str:
    """A row for people: time, verdict, score, path, and what is odd."""
    score = "-" if row["score"] is None else f"{row['score']:.4f}"
    path = row["path"] if row["path"].isprintable() else repr(row["path"])
    error = () if row["error"] is None or row["error"] in row["camera"] else (row["error"],)
    said = "; ".join((*error, *row["camera"]))
    return f"{row['time']} {row['verdict']:<6} {score:>8} {path}{said and '  ' + said}"
