"""Check that a run may be continued with these settings, images and weights."""

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
    """Refuse an output folder that does not fit the request.

    Raises:
        UsageError: as `refuse_taken`, or its run was started with other settings.
    """
    refuse_taken(run, resume=resume, overwrite=overwrite)
    if resume and run.has_begun:
        before = FitConfig.from_mapping(settings_of_run(run))
        _same_settings(fixed_settings(before), fixed_settings(config))
        _same_weights(before.weights, config.weights)
    elif resume:
        note(f"{run.path} has no training to resume: a new one begins.")


def refuse_taken(run: RunFolder, *, resume: bool, overwrite: bool) -> None:
    """Refuse an output folder with other content.

    Raises:
        UsageError: the folder is not empty, and nothing says what to do with it.
    """
    if resume and overwrite:
        raise UsageError("pass --resume or --overwrite, not both")
    refuse_existing(
        run.path,
        allowed=resume or overwrite,
        hint="--resume to continue or --overwrite to train again",
    )
    known = run.has_begun or run.model.exists()
    if overwrite and run.path.exists() and not known and not is_empty(run.path):
        raise UsageError(
            f"{run.path} holds files but no run of urd; --overwrite only replaces runs, so choose "
            "another folder"
        )


def fixed_settings(config: FitConfig) -> dict[str, Any]:
    """The settings that must not change when a run is resumed.

    Settings of the machine may change. Paths may change, too: fingerprints show whether the data
    is the same. The number of iterations may change only under a constant learning rate.
    """
    free = {*options(scope="machine"), *options(path=True)}
    if config.schedule == "constant":
        free.add("iterations")
    return {name: value for name, value in config.to_dict().items() if name not in free}


def facts_to_keep(data: DataFacts, config: FitConfig) -> dict[str, Any]:
    """What a checkpoint keeps of data and settings, for `check_checkpoint`."""
    kept = {k: v for k, v in data.to_dict().items() if k in Checkpoint.model_fields}
    return {**kept, "settings": fixed_settings(config)}


def _same_settings(before: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            raise UsageError(
                f"cannot resume with {name} {value}: the run was started with {before.get(name)}"
            )


def _same_weights(before: str, now: str) -> None:
    """The file may have moved; a missing path is an error. `check_encoder` compares contents."""
    if (before == NONE) != (now == NONE):
        raise UsageError("--resume with other weights than the run was started with")
    if now not in (AUTO, before) and not Path(now).is_file():
        raise UsageError(f"no weight file at {now}")


def check_checkpoint(saved: Checkpoint, now: DataFacts, config: FitConfig) -> None:
    """Check that settings and images are those of the checkpoint, and that it is not too far.

    Raises:
        UsageError: something differs.
    """
    before = FitConfig.from_mapping(saved.settings)  # a new option has its default
    _same_settings(fixed_settings(before), fixed_settings(config))
    _same_images(saved, now)
    if saved.iteration > max(config.iterations, config.most_iterations) and not config.epochs:
        raise UsageError(
            f"the run has already done {saved.iteration} iterations, so iterations cannot be "
            f"{config.iterations}; give a larger number"
        )


def check_finished(
    run: RunFolder,
    header: ModelHeader,
    now: DataFacts,
    config: FitConfig,
    backbone: Backbone,
) -> None:
    """Check that a finished run has the requested iterations, images and weights.

    Raises:
        UsageError: something differs.
    """
    if header.config.iterations != config.iterations and not config.may_go_on:
        raise UsageError(
            f"{run.path} has finished its {header.config.iterations} iterations and has no "
            "checkpoint to continue from; pass --overwrite to train again"
        )
    _same_images(header.data, now)
    check_encoder(header.encoder.sha256, config, backbone)


def check_encoder(before: str | None, config: FitConfig, backbone: Backbone) -> None:
    """Check that a weight file named now holds the weights with which the run started.

    Raises:
        UsageError: it holds other weights.
    """
    if Path(config.weights).is_file():
        now = backbone.load(generator(config.seed, "encoder"))
        if fingerprint(now) != before:
            raise UsageError("--resume with other weights than the run was started with")


def _same_images(before: Checkpoint | DataFacts, now: DataFacts) -> None:
    """The data must be the same as at the start of the run; only its path may change."""
    for name, what in (("fingerprint", "images"), ("synthesis_fingerprint", "textures or masks")):
        if getattr(before, name) != getattr(now, name):
            raise UsageError(f"--resume on other {what} than the run was started with")


def settings_to_resume(out: Path, given: Mapping[str, Any]) -> FitConfig:
    """The settings of the run in `out`, overridden by `given`; `fit` checks them later.

    If the run was killed before its first write, it begins with `given` and the defaults.

    Raises:
        UsageError: the folder has no run.
    """
    run = RunFolder(out)
    if not run.has_begun and out.is_dir() and is_empty(out):
        return resolve_config(options=given)
    before = FitConfig.from_mapping(settings_of_run(run))
    now = FitConfig.from_mapping({**before.to_dict(), **given})
    if before.tag in now.backbone:  # the run has chosen this one of several
        return FitConfig.from_mapping({**now.to_dict(), "backbone": before.tag})
    return now


def settings_of_run(run: RunFolder) -> dict[str, Any]:
    """The settings with which the run in a folder was started.

    Raises:
        UsageError: the folder has no run.
    """
    if not run.has_begun:
        raise UsageError(f"nothing to resume in {run.path}: it has no {run.config.name}")
    return read_config_file(run.config)
