"""Which run may be continued: with what settings, on what images, by what encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from urd.backbones.base import AUTO, NONE, Backbone
from urd.backbones.weights import fingerprint
from urd.config import FitConfig, options, read_config_file, resolve_config
from urd.errors import UsageError
from urd.model.header import ModelHeader
from urd.model.run_folder import RunFolder
from urd.model.schema import DataFacts
from urd.system.files import is_empty, refuse_existing
from urd.system.progress import note
from urd.system.seeding import generator
from urd.training.schema import Checkpoint


def check_folder(run: RunFolder, config: FitConfig, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds something else than what is asked for.

    Raises:
        UsageError: it is in use, or its run was started with other settings.
    """
    if resume and overwrite:
        raise UsageError("pass --resume or --overwrite, not both")
    refuse_existing(
        run.path,
        allowed=resume or overwrite,
        hint="--resume to continue or --overwrite to train anew",
    )
    known = run.has_begun or run.model.exists()
    if overwrite and not known and not is_empty(run.path):
        raise UsageError(f"{run.path} holds files but no run of urd: --overwrite leaves it alone")
    if resume and run.has_begun:
        before = FitConfig.from_mapping(settings_of_run(run))
        _same_settings(fixed_settings(before), fixed_settings(config))
        _same_weights(before.weights, config.weights)
    elif resume:
        note(f"No training has begun in {run.path}: it begins now.")


def fixed_settings(config: FitConfig) -> dict[str, Any]:
    """The settings that shape the course of a training by their values.

    Those of the machine do not. What is read may lie elsewhere now; its fingerprint tells whether
    it is the same. Under a falling learning rate the number of iterations shapes the course too.
    """
    free = {*options(scope="machine"), *options(path=True)}
    if config.schedule == "constant":
        free.add("iterations")
    return {name: value for name, value in config.to_dict().items() if name not in free}


def _same_settings(before: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            raise UsageError(
                f"--resume with {name} {value}, but the run was started with {before.get(name)}"
            )


def _same_weights(before: str, now: str) -> None:
    """The file may have moved; a missing path is an error. `check_encoder` compares contents."""
    if (before == NONE) != (now == NONE):
        raise UsageError("--resume with other weights than the run was started with")
    if now not in (AUTO, before) and not Path(now).is_file():
        raise UsageError(f"no weight file at {now}")


def check_checkpoint(saved: Checkpoint, now: DataFacts, config: FitConfig) -> None:
    """A checkpoint is continued with its settings, on its images, and not beyond its end.

    Raises:
        UsageError: something differs.
    """
    before = FitConfig.from_mapping(saved.settings)  # an option that is new has its default
    _same_settings(fixed_settings(before), fixed_settings(config))
    _same_images(saved, now)
    if saved.iteration > config.iterations:
        raise UsageError(
            f"the run has already done {saved.iteration} iterations, more than {config.iterations}"
        )


def check_finished(
    run: RunFolder,
    header: ModelHeader,
    now: DataFacts,
    config: FitConfig,
    backbone: Backbone,
) -> None:
    """A finished run is left as it is, and must be the one that is asked for.

    Raises:
        UsageError: it is of other iterations, images or weights.
    """
    if header.config.iterations != config.iterations:
        raise UsageError(
            f"{run.path} has finished its {header.config.iterations} iterations and kept no "
            "checkpoint to continue from; pass --overwrite to train anew"
        )
    _same_images(header.data, now)
    check_encoder(header.encoder.sha256, config, backbone)


def check_encoder(before: str | None, config: FitConfig, backbone: Backbone) -> None:
    """A weight file that is named now must hold what the run was started with.

    Raises:
        UsageError: it holds other weights.
    """
    if Path(config.weights).is_file():
        now = backbone.load(generator(config.seed, "encoder"))
        if fingerprint(now) != before:
            raise UsageError("--resume with other weights than the run was started with")


def _same_images(before: Checkpoint | DataFacts, now: DataFacts) -> None:
    """What is read must be what the run was started with; only its place may have changed."""
    for name, what in (("fingerprint", "images"), ("synthesis_fingerprint", "textures or masks")):
        if getattr(before, name) != getattr(now, name):
            raise UsageError(f"--resume on other {what} than the run was started with")


def settings_to_resume(out: Path, given: Mapping[str, Any]) -> FitConfig:
    """The settings of the run in `out`, overridden by those that are given now: `fit` compares.

    A run that was killed before its first write begins, with what is given and the defaults.

    Raises:
        UsageError: the folder holds no run.
    """
    run = RunFolder(out)
    if not run.has_begun and out.is_dir() and is_empty(out):
        return resolve_config(options=given)
    before = FitConfig.from_mapping(settings_of_run(run))
    now = FitConfig.from_mapping({**before.to_dict(), **given})
    if before.tag in now.backbone:  # of several, the run took this one
        return FitConfig.from_mapping({**now.to_dict(), "backbone": before.tag})
    return now


def settings_of_run(run: RunFolder) -> dict[str, Any]:
    """The settings that a run folder was started with.

    Raises:
        UsageError: the folder holds no run.
    """
    if not run.has_begun:
        raise UsageError(f"nothing to resume in {run.path}: it has no {run.config.name}")
    return read_config_file(run.config)
