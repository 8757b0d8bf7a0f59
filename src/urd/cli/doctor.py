"""`urd doctor`."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import click


@click.command()
@click.argument("tags", nargs=-1, metavar="[BACKBONE]...")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the findings here."
)
def doctor(tags: tuple[str, ...], json_file: Path | None) -> None:
    """Show versions, processor, usable backbones, and extras that are not installed.

    The command checks the backbones of the presets and each BACKBONE that you name. It uses no
    network. The exit code is 1 if a named backbone is not usable.
    """
    from urd.doctor import doctor as examine
    from urd.system.files import write_json

    found = examine(tags)
    if json_file is not None:
        write_json(json_file, found.to_dict())
    print(", ".join(f"{name} {version}" for name, version in found.versions.items()))
    about = found.machine
    print(f"{about['cpu']}, {about['threads']} threads; GPU: {about['gpu'] or 'none'}")
    print(f"trains in {'bfloat16' if found.bfloat16 else 'float32: no fast bfloat16 here'}")
    for backbone in found.backbones:
        print(f"{'usable' if backbone.usable else 'NOT usable'}: {backbone.tag}")
        print(_indented(backbone.reason))
    works = [what for what, here in found.line.items() if here]
    print(f"on the line: {', '.join(works) or 'nothing yet'}")
    for hint in found.missing_extras:
        print(f"not installed: {hint}")
    if any(backbone.tag in tags and not backbone.usable for backbone in found.backbones):
        raise SystemExit(1)


def _indented(text: str) -> str:
    """The text in lines of the terminal's width; an address stays whole, to be copied."""
    width = max(40, shutil.get_terminal_size().columns)
    return textwrap.fill(
        text,
        width,
        initial_indent="    ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
