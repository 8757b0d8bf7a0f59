"""Optional libraries: how to import them, and which extra of this package installs them."""

from __future__ import annotations

import importlib
from typing import Any

from urd.errors import UsageError

DISTRIBUTION = "urd-inspect"  # our name on the package index; `urd` is another project there


def how_to_install(extra: str) -> str:
    """The command that installs this package with an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def optional(module: str, extra: str) -> Any:
    """Import a module that an extra installs.

    Raises:
        UsageError: the module is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{module} is not installed; run: {how_to_install(extra)}") from error
