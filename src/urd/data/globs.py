"""Globs in place of a folder: shells of Windows do not expand them, and quotes keep them whole."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from urd.errors import UsageError, some


def is_glob(name: str) -> bool:
    """Whether a name is a glob; a file or folder whose own name has such characters is none."""
    return glob.has_magic(name) and not os.path.exists(name)  # noqa: PTH110 - pathlib may raise


def fitting(pattern: str) -> list[Path]:
    """The files and folders that fit a glob, sorted; at least one.

    Raises:
        UsageError: nothing fits.
    """
    found = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 - absolute
    if not found:
        raise UsageError(f"nothing fits {pattern}")
    return found


def one_folder(name: str) -> str:
    """The folder that a glob means; a name that is no glob stays as it is.

    Raises:
        UsageError: no folder fits, or several do.
    """
    if not is_glob(name):
        return name
    folders = [path for path in fitting(name) if path.is_dir()]
    if not folders:
        raise UsageError(f"no folder fits {name}")
    if len(folders) > 1:
        raise UsageError(f"{len(folders)} folders fit {name}: {some(folders)}; give one")
    return str(folders[0])
