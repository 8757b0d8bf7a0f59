"""Groups of commands that know what a mistyped name was meant to be."""

from __future__ import annotations

from difflib import get_close_matches

import click

_OTHER_WORDS = {  # what other programs call our verbs
    "train": "fit",
    "infer": "predict",
    "judge": "predict",
    "detect": "predict",
    "test": "evaluate",
    "eval": "evaluate",
    "threshold": "calibrate",
    "convert": "export",
    "validate": "check",
}


class SuggestingGroup(click.Group):
    """A group that answers a wrong name with the nearest right one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command '{name}'.{_meant(name, known)}", ctx)
        return super().resolve_command(ctx, args)


def _meant(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=2)
    if not near and _OTHER_WORDS.get(name) in known:
        near = [_OTHER_WORDS[name]]
    if not near:
        return f" Choose from {', '.join(known)}."
    return f" Did you mean {' or '.join(repr(n) for n in near)}?"
