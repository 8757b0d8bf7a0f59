"""Checkpoints: networks, optimisers and the iteration in one safetensors file, written atomically.

Everything random is derived from the seed and the iteration, so no generator has to be kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from urd.errors import UrdError
from urd.files import write_atomically
from urd.training.step import Networks

STATE_NAME = "state.safetensors"
_HEADER = "urd_checkpoint"


class NotFinite(UrdError):
    """Training produced NaN or Inf."""


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write tensors and text header as one safetensors file, or leave the old one as it was."""

    def write(temporary: Path) -> None:
        try:
            save_file(
                {n: t.detach().cpu().contiguous() for n, t in tensors.items()}, temporary, header
            )
        except SafetensorError as error:  # the library reports a full disk by its own type
            raise OSError(str(error)) from error

    write_atomically(path, write)


def save_checkpoint(
    folder: Path, networks: Networks, iteration: int, facts: dict[str, Any]
) -> None:
    """Keep the state after `iteration` iterations; refuses to replace a good state by NaN or Inf.

    Args:
        facts: what a resumed run must agree with, such as the fingerprint of the data.
    """
    tensors = _state(networks)
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise NotFinite(f"NaN or Inf in {broken[0]} after iteration {iteration}")
    header = {_HEADER: json.dumps({"iteration": iteration, **facts})}
    save_tensors(folder / STATE_NAME, tensors, header)


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The header of the checkpoint in `folder`, `None` where there is none."""
    path = folder / STATE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return dict(json.loads(file.metadata()[_HEADER]))
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UrdError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); pass --overwrite to "
            "train anew"
        ) from error


def load_checkpoint(folder: Path, networks: Networks) -> None:
    """Put the state in `folder` into networks of the same settings."""
    tensors = load_file(folder / STATE_NAME)
    model = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    networks.model.load_state_dict(model)
    for name, optimizer in _optimizers(networks).items():
        prefix = f"{name}_optimizer."
        of_optimizer = {
            n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)
        }
        load_optimizer(optimizer, of_optimizer)


def _optimizers(networks: Networks) -> dict[str, Optimizer]:
    found = {"student": networks.student_optimizer}
    if networks.teacher_optimizer is not None:
        found["teacher"] = networks.teacher_optimizer
    return found


def _state(networks: Networks) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in networks.model.state_dict().items()}
    for name, optimizer in _optimizers(networks).items():
        state = optimizer_tensors(optimizer)
        tensors |= {f"{name}_optimizer.{key}": value for key, value in state.items()}
    return tensors


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by names `<parameter's number>.<what>`; it must hold tensors only."""
    return {
        f"{index}.{key}": value
        for index, of_parameter in optimizer.state_dict()["state"].items()
        for key, value in of_parameter.items()
    }


def load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put what `optimizer_tensors` gave into an optimiser of the same parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        index, key = name.split(".")
        parameter = parameters[int(index)]
        if (
            value.dim()
        ):  # in the parameter's memory format: fused kernels go through memory in order
            value = torch.empty_like(parameter).copy_(value)
        elif parameter.is_cuda:
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = value
