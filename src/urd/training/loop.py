"""The training loop, from the first iteration to the last."""

from __future__ import annotations

import copy
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from urd.backbones.encoder import Encoder
from urd.backbones.whitening import wants_whitening
from urd.config import WARM_UP_ITERATIONS, FitConfig
from urd.networks.folding import InferenceNetworks
from urd.networks.teacher_student import TeacherStudent
from urd.networks.variants import VARIANTS
from urd.synthesis.corruption import Corruption, corrupt, draw_corruption
from urd.system.machine import precision_on
from urd.system.progress import Progress
from urd.system.seeding import generator
from urd.training.checkpoint import NotFinite, save_checkpoint
from urd.training.clean_features import CleanFeatures
from urd.training.curve import Curve
from urd.training.step import Autocast, Networks, train_with_expert, train_without_expert

NetworkT = TypeVar("NetworkT", bound=nn.Module)
ADAM_BETAS = (0.5, 0.999)
_LOG_EVERY = 10


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop; its state is kept."""


@dataclass(frozen=True)
class TrainingImages:
    """What is trained on, on the training device.

    Attributes:
        images: good images, (N, 3, H, W) uint8.
        textures: (K, 3, H, W) uint8.
        foreground: (N, H, W) bool, or `None` for everywhere.
        mean, std: of the backbone's normalisation, per channel.
        region: (N, H, W) bool, what is inspected, or `None` for all of it; the images are painted
            over elsewhere, and the foreground lies inside.
    """

    images: Tensor
    textures: Tensor
    foreground: Tensor | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    region: Tensor | None = None


@dataclass(frozen=True)
class Record:
    """Where the loop keeps what must survive: the run folder and what identifies the run."""

    folder: Path
    facts: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def curve(self) -> Path:
        return self.folder / "metrics.jsonl"


def build_networks(expert: Encoder, config: FitConfig, device: torch.device) -> Networks:
    """Networks and optimisers before the first iteration."""
    variant = VARIANTS[config.variant]
    model = TeacherStudent.build(expert, variant, generator(config.seed, "student"), config.student)
    model = _place(model, device)
    student_optimizer = adam(model.student, config.student_lr)
    if not variant.expert:
        model.teacher.requires_grad_(False).eval()
        return Networks(model, student_optimizer)
    frozen: nn.Module = _place(copy.deepcopy(expert), device).requires_grad_(False).eval()
    still_teacher = None
    if device.type == "cpu":  # a GPU would wait for so many small copies of weights
        precision = precision_on(device, config.precision)
        frozen = InferenceNetworks(frozen, precision)
        still_teacher = InferenceNetworks(model.teacher, precision)
    teacher_optimizer = adam(model.teacher, config.teacher_lr)
    return Networks(model, student_optimizer, frozen, teacher_optimizer, still_teacher)


def train(
    networks: Networks,
    data: TrainingImages,
    config: FitConfig,
    *,
    first: int = 0,
    record: Record | None = None,
    validate: Callable[[TeacherStudent], dict[str, float]] | None = None,
) -> None:
    """Run the iterations from `first` to `config.iterations`.

    Raises:
        NotFinite: a loss or a weight became NaN or Inf; the last good checkpoint is kept.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    autocast = autocast_for(data.images.device, config.precision)
    curve = Curve(record.curve if record else None, first)
    progress = Progress(f"Training {config.variant}", config.iterations, first)
    saved_at = time.monotonic()
    features = None
    if networks.expert is not None:
        features = CleanFeatures(networks.expert, len(data.images))

    def save(iteration: int) -> None:
        if record is not None:
            save_checkpoint(record.checkpoint, networks, iteration, record.facts)

    with _stop_requests() as stop_requested, closing(progress), _deterministic():
        for iteration in range(first, config.iterations):
            set_learning_rates(networks, config, iteration)
            losses = train_iteration(networks, data, config, iteration, autocast, features)
            done = iteration + 1
            curve.add(losses, config.batch_size)
            if done % _LOG_EVERY == 0 or done == config.iterations:
                progress.update(done, curve.write(done))
            if validate is not None and _validation_is_due(done, config):
                curve.write_validation(done, validate(networks.model))
            if stop_requested():
                save(done)
                raise Interrupted(
                    f"stopped after iteration {done} of {config.iterations}; --resume goes on"
                )
            if (
                done < config.iterations
                and time.monotonic() - saved_at >= config.checkpoint_seconds
            ):
                save(done)
                saved_at = time.monotonic()
    if not all(torch.isfinite(t).all() for t in networks.model.state_dict().values()):
        raise NotFinite(f"NaN or Inf in the weights after iteration {config.iterations}")


def train_iteration(
    networks: Networks,
    data: TrainingImages,
    config: FitConfig,
    iteration: int,
    autocast: Autocast,
    features: CleanFeatures | None = None,
) -> dict[str, Tensor]:
    """Draw the batch of this iteration and take the variant's step."""
    index = batch_indices(len(data.images), config.batch_size, config.seed, iteration)
    index = index.to(data.images.device)
    images = data.images[index].float() / 255
    clean = normalise(images, data)
    if networks.expert is None:
        return train_without_expert(networks, clean, autocast)
    draw = draw_for_iteration(data, index, config, iteration)
    corrupted = corrupt(images, data.textures[draw.texture_index].float() / 255, draw)
    e_clean = None
    if features is not None:
        with torch.no_grad(), autocast():
            e_clean = features(index, clean)
    return train_with_expert(
        networks,
        clean,
        normalise(corrupted, data),
        draw.mask,
        config.mask_resize,
        autocast,
        e_clean,
    )


def set_learning_rates(networks: Networks, config: FitConfig, iteration: int) -> None:
    """The learning rates of this iteration: a function of the settings alone.

    The rate of a student of whitened levels rises first: Adam's first steps change each weight by
    the whole rate, and it may lose a corner of a level for good by them
    (docs/research/builtin-backbone.md, "The student's first steps"). Students of timm's
    backbones start as in the paper.
    """
    share = 1.0
    if config.schedule == "cosine":
        share = 0.5 * (1 + math.cos(math.pi * iteration / config.iterations))
    rising = 1.0
    if wants_whitening(config.backbone, config.weights):
        rising = min(1.0, (iteration + 1) / WARM_UP_ITERATIONS)
    rates = {networks.student_optimizer: config.student_lr * rising}
    if networks.teacher_optimizer is not None:
        rates[networks.teacher_optimizer] = config.teacher_lr
    for optimizer, rate in rates.items():
        for group in optimizer.param_groups:
            group["lr"] = rate * share


def draw_for_iteration(
    data: TrainingImages, index: Tensor, config: FitConfig, iteration: int
) -> Corruption:
    """The corruption of an iteration's batch: a function of seed and iteration alone."""
    return draw_corruption(
        None if data.foreground is None else data.foreground[index],
        (data.images.shape[2], data.images.shape[3]),
        len(index),
        len(data.textures),
        generator(config.seed, "synthesis", iteration),
        data.images.device,
    )


def batch_indices(count: int, batch_size: int, seed: int, iteration: int) -> Tensor:
    """Which images an iteration sees: one random order after another, cut into batches."""
    first = iteration * batch_size
    positions = range(first, first + batch_size)
    orders = {
        epoch: torch.randperm(count, generator=generator(seed, "order", epoch))
        for epoch in range(positions[0] // count, positions[-1] // count + 1)
    }
    return torch.stack([orders[p // count][p % count] for p in positions])


def normalise(images: Tensor, data: TrainingImages) -> Tensor:
    """(B, 3, H, W) in [0, 1] to the backbone's input, channels last."""
    mean = torch.tensor(data.mean, device=images.device)[:, None, None]
    std = torch.tensor(data.std, device=images.device)[:, None, None]
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def autocast_for(device: torch.device, precision: str) -> Autocast:
    """A context for forward passes in the precision that `precision_on` names."""
    if precision_on(device, precision) == "float32":
        return nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)


def _place(module: NetworkT, device: torch.device) -> NetworkT:
    return module.to(device).to(memory_format=torch.channels_last)


def adam(module: nn.Module, lr: float) -> torch.optim.Adam:
    """The paper's optimiser of a network's parameters."""
    return torch.optim.Adam(module.parameters(), lr, ADAM_BETAS, fused=True)


def _validation_is_due(done: int, config: FitConfig) -> bool:
    every = config.validate_every or max(50, math.ceil(config.iterations / 10))
    return done % every == 0 or done == config.iterations


def _deterministic() -> AbstractContextManager[None]:
    """cuDNN's kernels chosen by rule and not by timing: the same seed gives the same weights."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request that the loop asks for between iterations."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def request(number: int, frame: object) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()
        with suppress(OSError, RuntimeError):  # the signal may have come while a line was printed
            print("Stopping after this iteration; once more to stop at once.", file=sys.stderr)

    heeded = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) != signal.SIG_IGN]
    previous = {s: signal.signal(s, request) for s in heeded}
    try:
        yield requested.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
