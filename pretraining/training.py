"""The training loop of the encoder, and its weight file."""

from __future__ import annotations

import json
import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from pretraining.objectives import OBJECTIVES, Batch, Objective
from pretraining.views import Views, make_views
from urd.backbones.builtin import ARCHITECTURE, BUILTIN
from urd.backbones.encoder import Encoder, Pyramid
from urd.backbones.pyramid import stages_of, timm_body
from urd.backbones.registry import backbone_of
from urd.system.progress import Progress
from urd.system.seeding import derived_seed
from urd.system.tensor_file import save_tensors
from urd.system.threads import map_ahead
from urd.training.batches import batch_indices
from urd.training.checkpoint import load_optimizer, optimizer_tensors
from urd.training.loop import autocast_for

_HEADER = "urd_pretraining"
_CHECKPOINT_SECONDS = 120.0
_WARM_UP = 0.05


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, except rounding of the machine.

    Attributes:
        objective: one of `OBJECTIVES`.
        images: number of rendered images.
        steps: optimiser steps; each has `batch_size` images, with one or two views each.
        side: side of a view in pixels.
        lr: peak learning rate; it rises linearly and falls along a cosine.
    """

    objective: str = "instances-places-damage"
    images: int = 3000
    steps: int = 5500
    batch_size: int = 64
    side: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 0


def train(
    recipe: Recipe,
    images: NDArray[np.uint8],
    parameters: NDArray[np.int64],
    folder: Path,
    device: torch.device,
) -> Encoder:
    """Train the encoder; return it in evaluation mode, rounded as in the file.

    `folder` keeps a checkpoint, from which the next call continues.
    """
    encoder, objective = _networks(recipe, len(images))
    both = nn.ModuleDict({"encoder": encoder, "objective": objective})
    both.to(device).to(memory_format=torch.channels_last).train()
    optimizer = _optimizer(both, recipe)
    first = _resume(folder, recipe, both, optimizer)
    truth = torch.from_numpy(parameters)
    autocast = autocast_for(device, "auto")
    progress = Progress("Pretraining", recipe.steps, first)
    kept = time.monotonic()

    def views_of(step: int) -> tuple[Tensor, Views]:
        index = batch_indices(len(images), recipe.batch_size, recipe.seed, step, "epoch")
        random = np.random.default_rng(derived_seed(recipe.seed, "views", step))
        drawn = images[index.numpy()]
        return index, make_views(drawn, objective.views, recipe.side, random, objective.damaged)

    steps = range(first, recipe.steps)
    with closing(map_ahead(views_of, steps, depth=2, most_threads=1)) as made:
        for step, (index, views) in zip(steps, made, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
            batch = Batch(
                index.to(device),
                truth[index].to(device),
                views.places.to(device),
                views.damage.to(device),
            )
            with autocast():
                loss = objective(encoder(views.pixels.to(device)), batch)
            if not torch.isfinite(loss):
                raise SystemExit(f"the loss is {float(loss)} at step {step}; try a lower --lr")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            progress.update(step + 1, f"loss {float(loss.detach()):.3f}" if step % 10 == 0 else "")
            if time.monotonic() - kept > _CHECKPOINT_SECONDS:
                _keep(folder, recipe, both, optimizer, step + 1)
                kept = time.monotonic()
    progress.close()
    return _finished(encoder)


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of a step: a linear rise over the first 5 %, then half a cosine down to 0."""
    warm = max(1, round(_WARM_UP * recipe.steps))
    if step < warm:
        return recipe.lr * (step + 1) / warm
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, recipe.steps - warm)))


def write_weights(path: Path, encoder: Encoder, recipe: Recipe) -> None:
    """Write convolutions in float16, the few numbers of norms in float32, the recipe as header."""
    tensors = {
        name: value.half() if value.dim() == 4 else value
        for name, value in encoder.weights().items()
        if not name.endswith("num_batches_tracked")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, tensors, {_HEADER: json.dumps(asdict(recipe))})


def _finished(trained: Encoder) -> Encoder:
    """The built-in encoder with the trained weights, rounded as in the file."""
    encoder = backbone_of(BUILTIN).build()
    encoder.load_weights(
        {n: v.half().float() if v.dim() == 4 else v for n, v in trained.weights().items()}
    )
    return encoder.to(next(trained.parameters()).device).eval()


def _networks(recipe: Recipe, images: int) -> tuple[Encoder, Objective]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(recipe.seed, "pretraining"))
        body, builtin = timm_body(ARCHITECTURE), backbone_of(BUILTIN)
        pyramid = Pyramid(stages_of(body))
        encoder = Encoder(ARCHITECTURE, body, pyramid, builtin.mean, builtin.std)
        channels = tuple(stage.channels for stage in pyramid.stages)
        return encoder, OBJECTIVES[recipe.objective](channels, images)


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay only for matrices and kernels, not for biases and norms."""
    decayed = [p for p in module.parameters() if p.dim() > 1]
    free = [p for p in module.parameters() if p.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, recipe.lr, fused=True)


def _keep(
    folder: Path, recipe: Recipe, both: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value for name, value in both.state_dict().items()}
    tensors |= {f"optimizer.{name}": v for name, v in optimizer_tensors(optimizer).items()}
    header = {_HEADER: json.dumps({"recipe": asdict(recipe), "step": step})}
    save_tensors(folder / "state.safetensors", tensors, header)


def _resume(folder: Path, recipe: Recipe, both: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the checkpoint and return the next step; 0 if there is none.

    It refuses a checkpoint of another recipe and does not replace it.
    """
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        kept = json.loads(file.metadata()[_HEADER])
    other = [name for name, value in asdict(recipe).items() if kept["recipe"].get(name) != value]
    if other:
        raise SystemExit(
            f"{path} was made with other {', '.join(other)}: use the same settings, delete the "
            "file, or give another --work"
        )
    tensors = load_file(path)
    both.load_state_dict(_part(tensors, "model."))
    load_optimizer(optimizer, _part(tensors, "optimizer."))
    return int(kept["step"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
