"""Optional libraries: how they are imported, and which extra of ours brings them."""

from __future__ import annotations

import importlib
from typing import Any

from urd.errors import UsageError

DISTRIBUTION = "urd-inspect"  # on the package index, where `urd` is another project


def how_to_install(extra: str) -> str:
    """The command that installs us with an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def optional(module: str, extra: str) -> Any:
    """A module that an extra installs.

    Raises:
        UsageError: it is not there; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{module} is not installed: {how_to_install(extra)} brings it") from error
