"""Notice that the file of a model was replaced while the old one is in use."""

from __future__ import annotations

import time
from collections.abc import Callable

from urd.errors import UrdError
from urd.model.run_folder import model_file_of
from urd.serving.file_identity import identity_of, status_of
from urd.serving.saying import say
from urd.serving.served_model import ServedModel, file_sha256

_SECONDS = 5.0  # between two looks


class ModelOnDisk:
    """The file of a model that is in use. A replaced file changes nothing until a restart."""

    def __init__(self, model: ServedModel, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._due = 0.0
        self._looked_at: list[str | None] = []
        self._said = model.sha256

    def look(self) -> None:
        """Say once that the file differs from the model in use."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + _SECONDS
        file = model_file_of(self._model.path)
        found = [status_of(part) for part in (file, file.with_suffix(".bin"))]
        identities = [None if status is None else identity_of(status) for status in found]
        if identities == self._looked_at:
            return
        try:
            sha256 = file_sha256(self._model.path)
        except UrdError:  # it is just being replaced
            return
        self._looked_at = identities
        if sha256 not in (self._said, self._model.sha256):
            say(f"{file} differs from the model in use: restart urd watch to use it")
        self._said = sha256
