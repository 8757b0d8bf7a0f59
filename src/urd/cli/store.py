"""`urd store`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

_STORE = click.argument("store_file", metavar="STORE", type=click.Path(path_type=Path))
_TIME_HELP = "ISO time such as 2026-05-01 or 2026-05-01T06:00; local time without a zone."


@click.group()
def store() -> None:
    """Read and look after the store of a line.

    The store is the SQLite file that urd watch and urd serve write. These commands also work while
    they run.
    """


@store.command()
@_STORE
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="FILE.csv, or FILE.jsonl for all fields; an older file is replaced.",
)
@click.option("--since", help=_TIME_HELP)
@click.option("--until", help="The same for the end.")
def export(store_file: Path, out: Path, since: str | None, until: str | None) -> None:
    """Write judgements as a table, the oldest first.

    A CSV file has one line per judgement. A JSONL file also has the outlines of defects and the
    thresholds that were in force.
    """
    from urd.serving.store import Store
    from urd.serving.store_export import export_rows

    opened = Store(store_file, create=False)
    count = export_rows(opened, out, since=_seconds(since), until=_seconds(until))
    print(f"{count} judgements in {out}")


@store.command()
@_STORE
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def backup(store_file: Path, out: Path, overwrite: bool) -> None:
    """Copy the store to the file OUT while others go on writing.

    The kept images are not in the copy. They lie in the folder STORE.images; copy it with any tool.
    """
    from urd.errors import UsageError
    from urd.serving.store import Store

    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists; pass --overwrite to replace it")
    opened = Store(store_file, create=False)
    opened.backup(out)
    print(f"{sum(opened.counts().values())} judgements in {out}")


@store.command()
@_STORE
@click.option("--keep-days", type=click.FloatRange(min=0), help="Remove older judgements.")
@click.option("--keep-image-days", type=click.FloatRange(min=0), help="Remove older images.")
@click.option(
    "--keep-image-gib",
    type=click.FloatRange(min=0),
    help="Remove the oldest images until the rest is this small.",
)
def prune(
    store_file: Path,
    keep_days: float | None,
    keep_image_days: float | None,
    keep_image_gib: float | None,
) -> None:
    """Remove old judgements and images.

    Judgements stay while an event of theirs is not sent, or their file is not moved. Changes of
    thresholds always stay. Images without a judgement, which a power cut can leave, go too.
    """
    from urd.errors import UsageError
    from urd.serving.retention import prune as remove
    from urd.serving.store import Store

    if keep_days is keep_image_days is keep_image_gib is None:
        raise UsageError("say what to keep: --keep-days, --keep-image-days or --keep-image-gib")
    limit = None if keep_image_gib is None else int(keep_image_gib * 2**30)
    done = remove(
        Store(store_file, create=False),
        keep_days=keep_days,
        keep_image_days=keep_image_days,
        keep_image_bytes=limit,
    )
    freed = f"{done.bytes / 2**20:.1f} MiB"
    print(f"removed {done.rows} judgements and {done.images} images ({freed})")


@store.command()
@_STORE
@click.option("--resend", is_flag=True, help="Send the events again that were refused for good.")
@click.option("--receiver", help="Only those of this receiver, with --resend.")
def events(store_file: Path, resend: bool, receiver: str | None) -> None:
    """List the events that wait for a receiver, or that a receiver has refused for good.

    The exit code is 1 if there are refused events.
    """
    from urd.errors import UsageError
    from urd.serving.outbox import outbox_counts, parked
    from urd.serving.outbox import resend as send_again
    from urd.serving.store import Store

    opened = Store(store_file, create=False)
    if receiver is not None and not resend:
        raise UsageError("--receiver belongs to --resend")
    if resend:
        print(f"{send_again(opened, receiver)} events will be sent again")
        return
    counts = outbox_counts(opened)
    if not counts:
        print("no events wait")
    for name, found in counts.items():
        error = f"; last error: {found['error']}" if found["error"] else ""
        print(f"{name}: {found['waiting']} wait, {found['parked']} refused{error}")
    for event in parked(opened):
        print(f"refused: judgement {event.sequence} for {event.receiver}: {event.error}")
    if any(found["parked"] for found in counts.values()):
        raise SystemExit(1)


def _seconds(text: str | None) -> float | None:
    """A time as seconds since 1970.

    Raises:
        UsageError: it is no ISO time.
    """
    from urd.errors import UsageError

    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text[:40]!r} is no time; write it as 2026-05-01T06:00") from error
    return (time if time.tzinfo else time.astimezone()).astimezone(UTC).timestamp()
