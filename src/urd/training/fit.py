"""From a folder of good images to a trained detector and its run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from urd.backbones.builtin import BUILTIN
from urd.backbones.encoder import Encoder, WhitenedEncoder, build_encoder
from urd.backbones.norms import restate_norms
from urd.backbones.weights import choose_backbone, fingerprint, load_encoder
from urd.backbones.whitening import looked_at, wants_whitening, whiten
from urd.config import FitConfig, read_config_file, resolve_config
from urd.data import Failure, Sample, read_layout
from urd.errors import UsageError
from urd.evaluation.records import DETAILS_NAME, EVALUATION_NAME
from urd.inspection.calibration import Calibration
from urd.model.file import MODEL_NAME, current_versions, load_model, save_model
from urd.model.header import ModelHeader
from urd.networks.folding import InferenceNetworks
from urd.networks.teacher_student import TeacherStudent
from urd.networks.variants import VARIANTS
from urd.system.files import is_empty, make_folder, refuse_existing, write_text, writing
from urd.system.machine import pick_device, precision_on
from urd.system.progress import note
from urd.system.seeding import generator
from urd.training.checkpoint import (
    EXPERT_NAME,
    STATE_NAME,
    load_checkpoint,
    load_expert,
    read_facts,
    save_expert,
)
from urd.training.loop import Record, TrainingImages, build_networks, train
from urd.training.step import Networks
from urd.training.training_data import HELD_OUT, Material, load_material
from urd.training.validation import SyntheticScores, SyntheticValidation, calibrate_on

CONFIG_NAME = "config.yaml"
# Written about a model by other verbs; they end when another model takes its place.
_OF_AN_OLDER_MODEL = (EVALUATION_NAME, DETAILS_NAME, "report.html")
# What may change when a run is continued: none of it changes the course of the training. Weights,
# textures and regions may lie elsewhere now; their fingerprints tell if they are the same.
_FREE_ON_RESUME = {
    "iterations",
    "device",
    "checkpoint_seconds",
    "max_megapixels",
    "weights",
    "textures",
    "roi",
    "ignore",
}


def fit(
    data: str | Path,
    out: Path | None,
    config: FitConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> tuple[TeacherStudent, ModelHeader, list[Failure]]:
    """Train on the good images of DATA; with `out`, keep a run folder there.

    Returns:
        The networks in evaluation mode, the header of the model file, and the skipped images.

    Raises:
        UsageError: the request cannot be carried out; nothing was written.
        UrdError: the work failed, or another call writes into `out`; checkpoints and older files
            are intact.
    """
    samples = read_layout(data).train
    config = with_one_backbone(config)
    with nullcontext() if out is None else writing(out):
        if out is not None:
            _check_out(out, config, resume, overwrite)
            if resume and is_finished(out):
                return _finished(out, samples, config)
        return _fit(samples, out, config, resume=resume)


def _fit(
    samples: list[Sample], out: Path | None, config: FitConfig, *, resume: bool
) -> tuple[TeacherStudent, ModelHeader, list[Failure]]:
    device = pick_device(config.device)
    saved = read_facts(out / "checkpoint") if resume and out is not None else None
    expert = _expert(config, out / "checkpoint" if saved and out else None)
    material = load_material(samples, config, device)
    facts = {**material.facts, "settings": _fixed_settings(config)}
    if saved is not None:
        _agree(saved, facts, config)
    if saved is None and wants_whitening(config.backbone, config.weights):
        networks = _fitted_to(material.train, expert, config, device)
    else:
        networks = build_networks(expert, config, device)
    record = None
    if out is not None:
        record = Record(out, facts)
        _start_run(out, config, expert, fresh=saved is None)
    first = 0
    if saved is not None and out is not None:
        load_checkpoint(out / "checkpoint", networks)
        first = int(saved["iteration"])

    holdout = None
    if material.holdout is not None:
        holdout = SyntheticValidation(material.holdout, config.seed)
    precision = precision_on(device, config.precision)  # the one of `Detector.predict`

    def validate(model: TeacherStudent) -> dict[str, float]:
        assert holdout is not None
        return holdout.score(InferenceNetworks(model, precision)).summary()

    train(
        networks,
        material.train,
        config,
        first=first,
        record=record,
        validate=validate if holdout else None,
    )

    # Without held-out images the reference is the training images, whose scores are optimistic.
    reference = holdout or SyntheticValidation(material.train, config.seed)
    final = InferenceNetworks(networks.model, precision)
    scores = reference.score(final)
    calibration = None
    if material.holdout is not None:
        calibration = calibrate_on(final, material.holdout, HELD_OUT)
    header = _header(config, material, expert, scores, calibration)
    if out is not None:
        for name in _OF_AN_OLDER_MODEL:  # before: none of it may be seen beside the new one
            (out / name).unlink(missing_ok=True)
        save_model(out / MODEL_NAME, networks.model, header)
        _remove_checkpoint(out / "checkpoint")
    return networks.model.eval(), header, material.failures


def with_one_backbone(config: FitConfig) -> FitConfig:
    """Of several backbones the one that is used, which is then what the run records."""
    chosen = choose_backbone(config.backbone, config.weights)
    wanted = config.backbone.partition(",")[0]
    if chosen == BUILTIN and wanted != BUILTIN:
        note(
            f"No pretrained weights of {wanted} on this machine and no network: the built-in "
            "backbone is used; ImageNet weights (--weights FILE) are more accurate."
        )
    return replace(config, backbone=chosen)


def _check_out(out: Path, config: FitConfig, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise UsageError("pass --resume or --overwrite, not both")
    refuse_existing(
        out, allowed=resume or overwrite, hint="--resume to go on or --overwrite to train anew"
    )
    known = has_begun(out) or (out / MODEL_NAME).exists()
    if overwrite and not known and not is_empty(out):
        raise UsageError(f"{out} holds files but no run of urd: --overwrite leaves it alone")
    if resume and has_begun(out):
        before = FitConfig.from_mapping(settings_of_run(out))
        _same_settings(_fixed_settings(before), _fixed_settings(config))
        _same_weights(before.weights, config.weights)
    elif resume:
        note(f"No training has begun in {out}: it begins now.")


def _same_settings(before: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            raise UsageError(
                f"--resume with {name} {value}, but the run was started with {before.get(name)}"
            )


def _finished(
    out: Path, samples: list[Sample], config: FitConfig
) -> tuple[TeacherStudent, ModelHeader, list[Failure]]:
    """The model of a run that needs no more training; it must be of these images."""
    model, header = load_model(out)
    if header.config.iterations != config.iterations:
        raise UsageError(
            f"{out} has finished its {header.config.iterations} iterations and kept no checkpoint "
            "to go on from; pass --overwrite to train anew"
        )
    material = load_material(samples, config, torch.device("cpu"))
    _same_material(header.data, material.facts)
    _same_encoder(header.encoder.get("sha256"), config)
    return model, header, material.failures


def _fixed_settings(config: FitConfig) -> dict[str, Any]:
    """Under a falling learning rate the number of iterations shapes the course too."""
    free = _FREE_ON_RESUME - ({"iterations"} if config.schedule == "cosine" else set())
    return {k: v for k, v in config.to_dict().items() if k not in free}


def _agree(saved: dict[str, Any], facts: dict[str, Any], config: FitConfig) -> None:
    """A checkpoint is continued with its settings, on its images, and not beyond its end."""
    before = FitConfig.from_mapping(saved["settings"])  # an option that is new has its default
    _same_settings(_fixed_settings(before), facts["settings"])
    _same_material(saved, facts)
    if saved["iteration"] > config.iterations:
        raise UsageError(
            f"the run has already done {saved['iteration']} iterations, more than "
            f"{config.iterations}"
        )


def _same_material(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """What is read must be what the run was started with; only its place may have changed."""
    for name, what in (("fingerprint", "images"), ("synthesis_fingerprint", "textures or masks")):
        if before.get(name) != now[name]:
            raise UsageError(f"--resume on other {what} than the run was started with")


def _same_weights(before: str, now: str) -> None:
    """A weight file may have moved (`_expert` compares contents); a mistyped one is no other."""
    if (before == "none") != (now == "none"):
        raise UsageError("--resume with other weights than the run was started with")
    if now not in ("auto", before) and not Path(now).is_file():
        raise UsageError(f"no weight file at {now}")


def _expert(config: FitConfig, checkpoint: Path | None) -> Encoder:
    """The pretrained encoder; a resumed run takes the copy that it was started with."""
    if checkpoint is None:
        return load_encoder(config.backbone, config.weights, generator(config.seed, "encoder"))
    encoder = build_encoder(config.backbone)
    load_expert(checkpoint, encoder)
    _same_encoder(fingerprint(encoder), config)
    return encoder


def _same_encoder(before: str | None, config: FitConfig) -> None:
    """A weight file that is named now must hold what the run was started with."""
    if Path(config.weights).is_file():
        now = load_encoder(config.backbone, config.weights, generator(config.seed, "encoder"))
        if fingerprint(now) != before:
            raise UsageError("--resume with other weights than the run was started with")


def _fitted_to(
    good: TrainingImages, expert: Encoder, config: FitConfig, device: torch.device
) -> Networks:
    """Networks of the built-in backbone, whose levels and teacher's norms are of these images."""
    assert isinstance(expert, WhitenedEncoder)
    whiten(expert, good.images, good.mean, good.std)
    networks = build_networks(expert, config, device)
    if networks.expert is not None:
        seen = looked_at(good.images, good.mean, good.std, device)
        restate_norms(networks.model.teacher, seen)
    return networks


def _start_run(out: Path, config: FitConfig, expert: Encoder, *, fresh: bool) -> None:
    settings = yaml.safe_dump(config.to_dict(), sort_keys=False)
    if not has_begun(out):  # the first write makes the folder one of a run
        write_text(out / CONFIG_NAME, settings)
    if fresh:
        # The expert stands for an unfinished run, also while an older model still lies beside it.
        make_folder(out / "checkpoint")
        (out / "checkpoint" / STATE_NAME).unlink(missing_ok=True)
        save_expert(out / "checkpoint", expert)
    write_text(out / CONFIG_NAME, settings)


def is_finished(out: Path) -> bool:
    """The run has its model, and nothing to go on from."""
    kept = [out / "checkpoint" / name for name in (STATE_NAME, EXPERT_NAME)]
    return (out / MODEL_NAME).exists() and not any(path.exists() for path in kept)


def _remove_checkpoint(folder: Path) -> None:
    """Delete what training keeps there, and the folder unless somebody else put something in."""
    for name in (STATE_NAME, EXPERT_NAME):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _header(
    config: FitConfig,
    material: Material,
    expert: Encoder,
    scores: SyntheticScores,
    calibration: Calibration | None,
) -> ModelHeader:
    low, high = float(np.median(scores.clean)), float(np.median(scores.corrupted))
    return ModelHeader(
        config=config,
        mean=material.train.mean,
        std=material.train.std,
        heat_range=(low, high if high > low else math.nextafter(low, math.inf)),
        calibration=calibration,
        synthetic=tuple(scores.corrupted.tolist()) if calibration else (),
        validation=scores.summary() if calibration else {},
        data=material.facts,
        region=material.region,
        encoder={
            "tag": config.backbone,
            "sha256": fingerprint(expert),
            "pretrained": config.weights != "none",
            "expert_used": VARIANTS[config.variant].expert,
        },
        versions=current_versions(),
    )


def has_begun(out: Path) -> bool:
    """The folder holds a run, be it one that was killed right after its first write."""
    return (out / CONFIG_NAME).exists()


def settings_to_resume(out: Path, given: Mapping[str, Any]) -> FitConfig:
    """The settings of the run in `out`, with those that are given now: `fit` compares them.

    A run that was killed before its first write begins, with what is given and the defaults.

    Raises:
        UsageError: the folder holds no run.
    """
    if not has_begun(out) and out.is_dir() and is_empty(out):
        return resolve_config(options=given)
    before = settings_of_run(out)
    given = dict(given)
    if before["backbone"] in str(given.get("backbone", "")).split(","):
        del given["backbone"]  # of several, the run took this one
    return FitConfig.from_mapping({**before, **given})


def settings_of_run(out: Path) -> dict[str, Any]:
    """The settings that a run folder was started with.

    Raises:
        UsageError: the folder holds no run.
    """
    if not has_begun(out):
        raise UsageError(f"nothing to resume in {out}: it has no {CONFIG_NAME}")
    return read_config_file(out / CONFIG_NAME)
