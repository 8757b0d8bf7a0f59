"""Quick news of changes in a folder; they may be lost, so a regular look stays the truth."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from urd.errors import first_line
from urd.serving.saying import Mentions
from urd.system.extras import how_to_install

_DEBOUNCE_MS, _STEP_MS = 50, 10
_MOST_PATHS = 10_000


class Wakeups:
    """Names of changed files, from the operating system, in a thread.

    Where the system or the library gives none, this is said once, and nothing else changes.
    """

    def __init__(self, folder: Path, wake: threading.Event, mentions: Mentions) -> None:
        self._folder = folder
        self._wake = wake
        self._mentions = mentions
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._many = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="urd-wakeups", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        with suppress(RuntimeError):  # it was never started
            self._thread.join(timeout=2.0)

    def take(self) -> set[str] | None:
        """Paths that have changed since the last call; `None`: too many to name."""
        with self._lock:
            paths, many = self._paths, self._many
            self._paths, self._many = set(), False
        return None if many else paths

    def _listen(self) -> None:
        try:
            from watchfiles import watch
        except ImportError:
            text = f"watchfiles is not installed ({how_to_install('serve')}): new files are seen"
            self._mentions.once("wakeups", f"{text} only at each --rescan")
            return
        try:
            for changes in watch(
                self._folder,
                watch_filter=None,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=self._stop,
                rust_timeout=1000,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._add({path for _, path in changes})
        except Exception as error:  # the library raises many types; looking goes on without it
            text = f"no news of changes ({first_line(error)}): new files are seen only at each"
            if self._folder.is_dir():
                self._mentions.once("wakeups", f"{text} --rescan")

    def _add(self, paths: set[str]) -> None:
        with self._lock:
            self._paths |= paths
            if len(self._paths) > _MOST_PATHS:
                self._paths, self._many = set(), True
        self._wake.set()
