"""A run folder: the name of every file in it, and what their presence means."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The folder that `urd fit` makes, and other verbs add to.

    Attributes:
        path: of the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The settings that the run was started with; the first file that is written."""
        return self.path / "config.yaml"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def curve(self) -> Path:
        """The training curve: losses and validation scores, a JSON line each."""
        return self.path / "metrics.jsonl"

    @property
    def calibration(self) -> Path:
        """Where the good images of the last `urd calibrate` lie, and the thresholds by them."""
        return self.path / "calibration.json"

    @property
    def skipped(self) -> Path:
        """Which images the training could not read, and why; absent if it could read all."""
        return self.path / "skipped.json"

    @property
    def evaluation(self) -> Path:
        """The figures of the last `urd evaluate`."""
        return self.path / "evaluation.json"

    @property
    def evaluation_details(self) -> Path:
        """What was said of each test image, and the curves."""
        return self.path / "evaluation_details.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def checkpoint(self) -> Path:
        """The folder of `state` and `expert`; it is gone when the run has finished."""
        return self.path / "checkpoint"

    @property
    def state(self) -> Path:
        """Networks and optimisers after some iteration."""
        return self.checkpoint / "state.safetensors"

    @property
    def expert(self) -> Path:
        """The pretrained encoder that the run was started with."""
        return self.checkpoint / "expert.safetensors"

    @property
    def has_begun(self) -> bool:
        """It holds a run, also one that was killed right after its first write."""
        return self.config.exists()

    @property
    def is_finished(self) -> bool:
        """It has its model, and nothing to continue from."""
        return self.model.exists() and not any(p.exists() for p in (self.state, self.expert))

    def forget_older_model(self) -> None:
        """Delete what other verbs have written about a model whose place another one takes."""
        for path in (self.evaluation, self.evaluation_details, self.report, self.calibration):
            path.unlink(missing_ok=True)

    def remove_checkpoint(self) -> None:
        """Delete the checkpoint, and its folder unless somebody put something else in."""
        for path in (self.state, self.expert):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.checkpoint.rmdir()


def model_file_of(run: Path) -> Path:
    """The model file that RUN means: itself, or the one in a run folder."""
    return RunFolder(run).model if run.is_dir() else run
