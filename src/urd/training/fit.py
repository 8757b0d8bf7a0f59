"""From a folder of good images to a trained detector and its run folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from urd.backbones.base import Backbone
from urd.backbones.builtin import BUILTIN
from urd.backbones.encoder import Encoder
from urd.backbones.registry import choose_backbone
from urd.backbones.weights import fingerprint
from urd.config import FitConfig
from urd.data import Sample, UnreadableImage, read_layout
from urd.inspection.scoring import Scorer
from urd.model.file import load_model, save_model
from urd.model.header import ModelHeader
from urd.model.run_folder import RunFolder
from urd.model.schema import EncoderFacts
from urd.networks.detector_network import DetectorNetwork
from urd.networks.folding import InferenceNetworks
from urd.networks.kernels import exact_kernels
from urd.networks.variants import VARIANTS
from urd.system.files import make_folder, printable, write_json, write_text, writing
from urd.system.machine import pick_device, precision_on
from urd.system.progress import note
from urd.system.seeding import generator
from urd.system.versions import current_versions
from urd.training import resume as resuming
from urd.training.checkpoint import load_checkpoint, load_expert, read_facts, save_expert
from urd.training.choose_score import choose_score
from urd.training.loop import Keep, train
from urd.training.plan import Plan
from urd.training.prepare import build_networks, prepare_teacher
from urd.training.remember import distances_to_the_rest, remember
from urd.training.schema import GoodImageDistance
from urd.training.training_data import HELD_OUT, TrainingData, load_training_data
from urd.training.validation import (
    GOOD_DISTANCE,
    SyntheticScores,
    SyntheticValidation,
    calibrate_on,
)

_NOT_FLAT = (
    "After {} iterations the student was still getting better on held-out good images. More "
    "iterations may help: --iterations auto."
)


@dataclass(frozen=True)
class Fitted:
    """The result of a training.

    Attributes:
        model: the networks, in evaluation mode.
        header: the header of the model file.
        skipped: images that cannot be read; a run folder lists them in skipped.json.
        unlike: the training images, those least like the others first; a run folder lists them in
            unlike.json. Empty for a variant without a memory.
    """

    model: DetectorNetwork
    header: ModelHeader
    skipped: list[UnreadableImage]
    unlike: list[GoodImageDistance] = field(default_factory=list)


def fit(
    data: str | Path,
    out: Path | None,
    config: FitConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Fitted:
    """Train on the good images of DATA; with `out`, write a run folder there.

    Raises:
        UsageError: the request is wrong; nothing was written.
        UrdError: the work failed, or another call writes to `out`; checkpoints and older files are
            unchanged.
    """
    samples = read_layout(data).train
    if out is not None:  # before anything that takes time
        resuming.refuse_taken(RunFolder(out), resume=resume, overwrite=overwrite)
    backbone = _chosen(config)
    config = replace(config, backbone=(backbone.tag,))
    if out is None:
        return _fit(samples, None, config, backbone, resume=False)
    run = RunFolder(out)
    with writing(out):
        resuming.check_folder(run, config, resume=resume, overwrite=overwrite)
        if resume and run.is_finished:
            return _finished(run, samples, config, backbone)
        return _fit(samples, run, config, backbone, resume=resume)


def _fit(
    samples: list[Sample],
    run: RunFolder | None,
    config: FitConfig,
    backbone: Backbone,
    *,
    resume: bool,
) -> Fitted:
    device = pick_device(config.device)
    with exact_kernels(device):
        return _fit_on(device, samples, run, config, backbone, resume=resume)


def _fit_on(
    device: torch.device,
    samples: list[Sample],
    run: RunFolder | None,
    config: FitConfig,
    backbone: Backbone,
    *,
    resume: bool,
) -> Fitted:
    saved = read_facts(run) if resume and run else None
    expert = _expert(config, backbone, run if saved else None)
    data = load_training_data(samples, config, backbone.mean, device)
    facts = resuming.facts_to_keep(data.facts, config)
    if saved is not None:
        resuming.check_checkpoint(saved, data.facts, config)
    good = data.train.images if saved is None else None
    teacher = prepare_teacher(backbone, expert, config, device, good)
    if run is not None:
        _start(run, config, expert, data.skipped, fresh=saved is None)
    precision = precision_on(device, config.precision)  # the same as in `Detector.predict`
    holdout = SyntheticValidation(data.holdout, config.seed) if data.holdout else None

    def validate(model: DetectorNetwork) -> dict[str, float]:
        assert holdout is not None
        scores = holdout.score(InferenceNetworks(model, precision), Scorer())
        return {**scores.summary(), GOOD_DISTANCE: scores.good_distance}

    plan = Plan.of(config, len(data.train.images), saved.planned if saved else None)
    if saved is not None:
        plan.distances = {int(n): value for n, value in (saved.distances or {}).items()}
    model, threads = DetectorNetwork(teacher, None), str(torch.get_num_threads())
    if VARIANTS[config.variant].student:
        networks = build_networks(expert, teacher, config, device)
        if saved is not None and run is not None:
            load_checkpoint(run, networks)
        threads = train(
            networks,
            data.train,
            config,
            plan=plan,
            first=saved.iteration if saved else 0,
            threads=saved.threads if saved else None,
            keep=Keep(run, facts) if run else None,
            validate=validate if holdout else None,
        )
        model = networks.model
        config = replace(config, iterations=plan.iterations)
        if plan.still_falls():
            note(_NOT_FLAT.format(plan.iterations))
    fitted = _judged(model, data, holdout, config, backbone, expert, precision, threads)
    if run is not None:
        run.forget_older_model()  # first, so that no old result is ever beside the new model
        if fitted.unlike:
            write_json(run.unlike, [image.to_dict() for image in fitted.unlike])
        save_model(run.model, fitted.model, fitted.header)
        run.remove_checkpoint()
    return fitted


def _chosen(config: FitConfig) -> Backbone:
    """The first of the configured backbones that is available; the run records it."""
    backbone = choose_backbone(config.backbone, config.weights)
    wanted = config.backbone[0]
    if backbone.tag != wanted:
        text = f"The weights of {wanted} are not available here: urd uses {backbone.tag}."
        better = " ImageNet weights (--weights FILE) are more accurate."
        note(text + (better if backbone.tag == BUILTIN else ""))
    return backbone


def _expert(config: FitConfig, backbone: Backbone, saved: RunFolder | None) -> Encoder:
    """The pretrained encoder; a resumed run uses the copy saved at its start."""
    if saved is None:
        return backbone.load(generator(config.seed, "encoder"))
    encoder = load_expert(saved, backbone.build())
    resuming.check_encoder(fingerprint(encoder), config, backbone)
    return encoder


def _start(
    run: RunFolder,
    config: FitConfig,
    expert: Encoder,
    skipped: Sequence[UnreadableImage],
    *,
    fresh: bool,
) -> None:
    settings = yaml.safe_dump(config.to_dict(), sort_keys=False)
    if not run.has_begun:  # the config comes first: from then on the folder counts as a run
        write_text(run.config, settings)
    if fresh:
        # The saved expert marks the run as unfinished, also beside a model of an earlier run.
        make_folder(run.checkpoint)
        run.state.unlink(missing_ok=True)
        save_expert(run, expert)
    write_text(run.config, settings)
    run.skipped.unlink(missing_ok=True)
    if skipped:
        rows = [{"path": printable(error.path), "reason": error.reason} for error in skipped]
        write_json(run.skipped, rows)


def _finished(
    run: RunFolder, samples: list[Sample], config: FitConfig, backbone: Backbone
) -> Fitted:
    """The model of a finished run; it must have been trained on these images."""
    model, header = load_model(run.model)
    data = load_training_data(samples, config, backbone.mean, torch.device("cpu"))
    resuming.check_finished(run, header, data.facts, config, backbone)
    return Fitted(model, header, data.skipped)


def _judged(
    model: DetectorNetwork,
    data: TrainingData,
    holdout: SyntheticValidation | None,
    config: FitConfig,
    backbone: Backbone,
    expert: Encoder,
    precision: str,
    threads: str,
) -> Fitted:
    """The trained networks, with a header from their scores on held-out images."""
    final = InferenceNetworks(model, precision)
    distances: list[float] = []
    if VARIANTS[config.variant].memory:
        teacher = InferenceNetworks(model.teacher, precision)
        remembered = remember(teacher, data.train, config.memory, config.seed)
        model.bank = remembered.bank
        distances = distances_to_the_rest(teacher, data.train, remembered)
    scorer = Scorer(choose_score(final, model.bank, data, config), model.bank)
    # Without held-out images, use the training images, though their scores are optimistic.
    reference = holdout or SyntheticValidation(data.train, config.seed)
    scores = reference.score(final, scorer)
    calibration = calibrate_on(final, scorer, data.holdout, HELD_OUT) if data.holdout else None
    header = ModelHeader(
        config=config,
        mean=backbone.mean,
        std=backbone.std,
        heat_range=_heat_range(scores),
        calibration=calibration,
        synthetic=tuple(scores.corrupted.tolist()) if calibration else (),
        validation=scores.summary() if calibration else {},
        data=data.facts,
        roi=data.roi,
        encoder=_encoder_facts(expert, config, backbone),
        score=scorer.score,
        versions={**current_versions(), "threads": threads},
    )
    unlike = [
        GoodImageDistance(path=printable(path.absolute()), distance=distance)
        for path, distance in zip(data.paths, distances, strict=bool(distances))
    ]
    unlike.sort(key=lambda image: -image.distance)
    return Fitted(model.eval(), header, data.skipped, unlike)


def _heat_range(scores: SyntheticScores) -> tuple[float, float]:
    low, high = float(np.median(scores.clean)), float(np.median(scores.corrupted))
    return low, high if high > low else math.nextafter(low, math.inf)


def _encoder_facts(expert: Encoder, config: FitConfig, backbone: Backbone) -> EncoderFacts:
    of_levels: dict[str, Any] = {"signed": True} if expert.pyramid.signed else {}
    return EncoderFacts(
        tag=backbone.tag,
        sha256=fingerprint(expert),
        pretrained=backbone.pretrained,
        expert_used=VARIANTS[config.variant].teacher_learns,
        **of_levels,
    )
