"""A run folder: the name of every file in it, and what it means if a file exists."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The folder that `urd fit` makes; other verbs add files to it."""

    path: Path

    @property
    def config(self) -> Path:
        """The settings of the run; the first file that is written."""
        return self.path / "config.yaml"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def curve(self) -> Path:
        """The training curve: JSON lines of losses and validation scores."""
        return self.path / "metrics.jsonl"

    @property
    def calibration(self) -> Path:
        """The folder of good images of the last `urd calibrate`, and the thresholds from them."""
        return self.path / "calibration.json"

    @property
    def skipped(self) -> Path:
        """The images that the training could not read, and why. Absent if it read all."""
        return self.path / "skipped.json"

    @property
    def unlike(self) -> Path:
        """The training images, those least like the others first; only with a memory."""
        return self.path / "unlike.json"

    @property
    def evaluation(self) -> Path:
        """The figures of the last `urd evaluate`."""
        return self.path / "evaluation.json"

    @property
    def evaluation_details(self) -> Path:
        """The result of each test image, and the curves."""
        return self.path / "evaluation_details.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def checkpoint(self) -> Path:
        """The folder of `state` and `expert`; it is removed when the run is finished."""
        return self.path / "checkpoint"

    @property
    def state(self) -> Path:
        """Networks and optimisers at the last checkpoint."""
        return self.checkpoint / "state.safetensors"

    @property
    def expert(self) -> Path:
        """The pretrained encoder with which the run started."""
        return self.checkpoint / "expert.safetensors"

    @property
    def has_begun(self) -> bool:
        """Whether it holds a run; true from the first write on."""
        return self.config.exists()

    @property
    def is_finished(self) -> bool:
        """Whether it has a model and no checkpoint."""
        return self.model.exists() and not any(p.exists() for p in (self.state, self.expert))

    def forget_older_model(self) -> None:
        """Delete what was written about the old model, before a new one replaces it."""
        of_model = (self.evaluation, self.evaluation_details, self.report, self.calibration)
        for path in (*of_model, self.unlike):
            path.unlink(missing_ok=True)

    def remove_checkpoint(self) -> None:
        """Delete the checkpoint, and its folder if it is then empty."""
        for path in (self.state, self.expert):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.checkpoint.rmdir()


def model_file_of(run: Path) -> Path:
    """The model file that RUN names: RUN itself, or the file in that run folder."""
    return RunFolder(run).model if run.is_dir() else run
