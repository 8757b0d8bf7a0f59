"""The training loop."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from urd.config import FitConfig
from urd.model.run_folder import RunFolder
from urd.networks.detector_network import DetectorNetwork
from urd.networks.kernels import exact_kernels
from urd.synthesis.corruption import corrupt
from urd.system.machine import precision_on
from urd.system.progress import Progress, note
from urd.system.signals import stop_signals
from urd.training.batches import Batch, draw_batch
from urd.training.checkpoint import NotFinite, save_checkpoint
from urd.training.clean_features import CleanFeatures
from urd.training.curve import Curve
from urd.training.gpu_iterations import GpuIterations, own_stream, record_graph
from urd.training.plan import Plan
from urd.training.schedule import set_learning_rates
from urd.training.shared_cores import shared_cores
from urd.training.step import Autocast, Networks, train_with_expert, train_without_expert
from urd.training.training_data import TrainingImages
from urd.training.validation import GOOD_DISTANCE

_LOG_EVERY = 10


class Interrupted(KeyboardInterrupt):
    """The user stopped the training; its state is saved."""


@dataclass(frozen=True)
class Keep:
    """Where the loop saves checkpoints, and the facts that a resumed run must agree with."""

    run: RunFolder
    facts: dict[str, Any]


def train(
    networks: Networks,
    data: TrainingImages,
    config: FitConfig,
    *,
    plan: Plan | None = None,
    first: int = 0,
    threads: int | None = None,
    keep: Keep | None = None,
    validate: Callable[[DetectorNetwork], dict[str, float]] | None = None,
) -> str:
    """Run the iterations from `first` to the end of the plan; return the threads, in words.

    Args:
        plan: it may grow, if `validate` gives a `good_distance`; `None`: `config.iterations`.
        threads: of the part before `first`; `None`: what suits this machine now.

    Raises:
        NotFinite: a loss or a weight became NaN or Inf; the last good checkpoint is kept.
        Interrupted: Ctrl-C or SIGTERM; with `keep`, a checkpoint was written.
    """
    device = data.images.device
    plan = plan or Plan(config.iterations)
    curve = Curve(keep.run.curve if keep else None, first)
    progress = Progress(f"Training {config.variant}", plan.iterations, first)
    saved_at = time.monotonic()

    def save(iteration: int) -> None:
        if keep is not None:
            distances = {str(n): value for n, value in plan.distances.items()}
            facts = {**keep.facts, "threads": cores.threads, "planned": plan.iterations}
            facts["distances"] = distances
            save_checkpoint(keep.run, networks, iteration, facts)

    with (
        _stop_requests() as stop_requested,
        closing(progress),
        exact_kernels(device),
        shared_cores(device, threads) as cores,
        own_stream(device),
        closing(iterations(networks, data, config, first)) as train_once,
    ):
        iteration = first
        while iteration < plan.iterations:
            set_learning_rates(networks, config, iteration, plan.iterations)
            losses = train_once(iteration)
            iteration = done = iteration + 1
            cores.done(done - first)
            curve.add(losses, config.batch_size)
            is_due = done % _LOG_EVERY == 0 or done == plan.iterations
            progress.update(done, curve.write(done) if is_due else None)
            if validate is not None and _validation_is_due(done, config, plan):
                found = validate(networks.model)
                plan.distances[done] = found.get(GOOD_DISTANCE, math.nan)
                curve.write_validation(done, found)
            if plan.look(done):
                progress.extend(plan.iterations)
                note(f"The student still gets better: it goes on to {plan.iterations} iterations.")
            if stop_requested():
                save(done)
                raise Interrupted(
                    f"stopped after iteration {done} of {plan.iterations}; --resume continues"
                )
            if done < plan.iterations and time.monotonic() - saved_at >= config.checkpoint_seconds:
                save(done)
                saved_at = time.monotonic()
    if not all(torch.isfinite(t).all() for t in networks.model.state_dict().values()):
        raise NotFinite(f"NaN or Inf in the weights after iteration {plan.iterations}")
    return cores.in_words


class Iterations(Protocol):
    """Trains for one iteration at a time, in order; `close` it at the end."""

    def __call__(self, iteration: int) -> dict[str, Tensor]: ...
    def close(self) -> None: ...


def iterations(
    networks: Networks, data: TrainingImages, config: FitConfig, first: int, *, record: bool = True
) -> Iterations:
    """What trains from iteration `first` on, as suits the device of the images.

    Args:
        record: on a GPU, record the step and repeat it.
    """
    autocast = autocast_for(data.images.device, config.precision)
    features = None
    if networks.expert is not None:
        features = CleanFeatures(networks.expert, len(data.images))
    if not data.images.is_cuda:
        return _OneAfterTheOther(networks, data, config, autocast, features)
    if features is not None:
        features.compute_all(data.images, config.batch_size)
    return GpuIterations(
        lambda iteration: draw_batch(data, config, iteration, corrupt=features is not None),
        lambda batch: train_batch(networks, data, config, batch, autocast, features),
        data.images.device,
        first,
        record_graph if record else None,
    )


@dataclass(frozen=True)
class _OneAfterTheOther:
    """Iterations on a CPU."""

    networks: Networks
    data: TrainingImages
    config: FitConfig
    autocast: Autocast
    features: CleanFeatures | None

    def __call__(self, iteration: int) -> dict[str, Tensor]:
        return train_iteration(
            self.networks, self.data, self.config, iteration, self.autocast, self.features
        )

    def close(self) -> None:
        """There is nothing to close."""


def train_iteration(
    networks: Networks,
    data: TrainingImages,
    config: FitConfig,
    iteration: int,
    autocast: Autocast,
    features: CleanFeatures | None = None,
) -> dict[str, Tensor]:
    """Draw the batch of this iteration and do the variant's training step."""
    batch = draw_batch(data, config, iteration, corrupt=networks.expert is not None)
    return train_batch(networks, data, config, batch, autocast, features)


def train_batch(
    networks: Networks,
    data: TrainingImages,
    config: FitConfig,
    batch: Batch,
    autocast: Autocast,
    features: CleanFeatures | None = None,
) -> dict[str, Tensor]:
    """The variant's training step on a drawn batch.

    On a GPU nothing here may wait for it, if `features` is complete: no value is read back, no
    number is copied to it, and no choice depends on a value. A test watches over that.
    """
    clean = data.images[batch.index].float() / 255
    draw = batch.corruption
    if draw is None:
        return train_without_expert(networks, clean, autocast)
    corrupted = corrupt(clean, data.textures[draw.texture_index].float() / 255, draw)
    e_clean = None
    if features is not None:
        with torch.no_grad(), autocast():
            e_clean = features(batch.index, clean)
    return train_with_expert(
        networks,
        clean,
        corrupted,
        draw.mask,
        config.mask_resize,
        autocast,
        e_clean,
    )


def autocast_for(device: torch.device, precision: str) -> Autocast:
    """A context for forward passes in the precision from `precision_on`."""
    if precision_on(device, precision) == "float32":
        return nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)


def _validation_is_due(done: int, config: FitConfig, plan: Plan) -> bool:
    every = config.validate_every or max(50, math.ceil(config.iterations / 10))
    return done % every == 0 or done == plan.iterations


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request that the loop checks between iterations.

    So the loop can save a checkpoint. The second signal stops at once, in case an iteration hangs.
    """
    requested = threading.Event()

    def request(number: int, frame: object) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()
        with suppress(OSError, RuntimeError):  # the signal may interrupt another print
            print("Stopping after this iteration; repeat to stop at once.", file=sys.stderr)

    with stop_signals(request):
        yield requested.is_set
