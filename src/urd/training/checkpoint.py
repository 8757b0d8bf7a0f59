"""Checkpoints: networks, optimisers and the iteration in one safetensors file, written atomically.

All random draws depend on the seed and the iteration, so a checkpoint saves no generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from urd.backbones.encoder import Encoder, has_signed_levels
from urd.errors import UrdError, first_line, quoted
from urd.model.run_folder import RunFolder
from urd.system.progress import note
from urd.system.schema import check
from urd.system.tensor_file import open_tensors, save_signed
from urd.training.schema import Checkpoint
from urd.training.step import Networks

_HEADER, _EXPERT_HEADER = "urd_checkpoint", "urd_encoder"


class NotFinite(UrdError):
    """Training produced NaN or Inf."""


def save_checkpoint(
    run: RunFolder, networks: Networks, iteration: int, facts: dict[str, Any]
) -> None:
    """Save the state after `iteration` iterations.

    Args:
        facts: facts that a resumed run must agree with, such as the fingerprint of the data.

    Raises:
        NotFinite: the state holds NaN or Inf; the old checkpoint stays.
        NotWritten: the disk is full, or there is no permission.
    """
    tensors = _state(networks)
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise NotFinite(f"NaN or Inf in {broken[0]} after iteration {iteration}")
    save_signed(run.state, tensors, _HEADER, {"iteration": iteration, **facts})


def read_facts(run: RunFolder) -> Checkpoint | None:
    """The header of a run's checkpoint; `None` if there is no checkpoint.

    Raises:
        UrdError: the file is damaged, or is not a checkpoint.
    """
    path = run.state
    if not path.exists():
        return None
    with _readable(path):
        file = open_tensors(path, _HEADER)
        found: Checkpoint = check(Checkpoint, file.content)
    if not file.signed:
        note(f"{path} was written without a checksum: urd cannot detect damage to it.")
    return found


def load_checkpoint(run: RunFolder, networks: Networks) -> None:
    """Load the checkpoint of a run into networks with the same settings.

    Raises:
        UrdError: the file is damaged, or comes from other networks.
    """
    path = run.state
    with _readable(path):
        file = open_tensors(path, _HEADER)
        file.refuse_others_than(_expected(networks, set(file.layout)))
        tensors = file.tensors()
        _refuse_odd_steps(tensors, int(file.content["iteration"]))
    networks.model.load_state_dict(_below("model.", tensors))
    for name, optimizer in _optimizers(networks).items():
        load_optimizer(optimizer, _below(f"{name}_optimizer.", tensors))


def save_expert(run: RunFolder, expert: Encoder) -> None:
    """Save the pretrained encoder of a run beside its checkpoint."""
    save_signed(run.expert, expert.state_dict(), _EXPERT_HEADER, {})


def load_expert(run: RunFolder, expert: Encoder) -> Encoder:
    """Load the encoder that `save_expert` saved into `expert`, an encoder of the same backbone.

    Raises:
        UrdError: the file is missing, damaged, or from another encoder.
    """
    path = run.expert
    with _readable(path):
        file = open_tensors(path, _EXPERT_HEADER)
        if file.content:
            raise ValueError("its header is not empty")
        file.refuse_others_than(expert.state_dict())
        expert.load_state_dict(file.tensors())
    expert.pyramid = replace(expert.pyramid, signed=has_signed_levels(expert))
    return expert


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UrdError(
            f"{path} is not a readable checkpoint ({first_line(error)}); pass --overwrite to "
            "train again"
        ) from error


def _expected(networks: Networks, found: set[str]) -> dict[str, Tensor]:
    """The tensors that a checkpoint of these networks must have.

    An optimiser has no state for a parameter that never got a gradient, and a full state for all
    others.
    """
    expected = {f"model.{name}": value for name, value in networks.model.state_dict().items()}
    for name, optimizer in _optimizers(networks).items():
        for index, parameter in enumerate(_parameters(optimizer)):
            state = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
            named = {f"{name}_optimizer.{index}.{key}": value for key, value in state.items()}
            expected |= named if found & set(named) else {}
    return expected


def _refuse_odd_steps(tensors: dict[str, Tensor], iteration: int) -> None:
    """Refuse impossible step counts: Adam divides by 1 - beta^step, which is 0 at step 0."""
    for name, value in tensors.items():
        if name.endswith(".step") and "_optimizer." in name and not 1 <= float(value) <= iteration:
            raise ValueError(f"{quoted(name)} is {float(value)} after {iteration} iterations")


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix; the prefix is removed."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


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
    """The optimiser's state by names `<parameter number>.<key>`; it must hold only tensors."""
    return {
        f"{index}.{key}": value
        for index, of_parameter in optimizer.state_dict()["state"].items()
        for key, value in of_parameter.items()
    }


def load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the result of `optimizer_tensors` into an optimiser of the same parameters."""
    parameters = _parameters(optimizer)
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


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
