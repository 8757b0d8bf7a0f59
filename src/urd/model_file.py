"""The model file: one safetensors file whose JSON header carries all that is not a tensor."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import urd
from urd.config import FitConfig
from urd.data import Region
from urd.errors import UrdError, UsageError, first_line
from urd.model_header import ModelHeader
from urd.networks import VARIANTS, Student, TeacherStudent, build_encoder
from urd.training.checkpoint import save_tensors

_HEADER = "urd_model"
_REGION = "region_of_interest"
_UNREADABLE = (
    SafetensorError,
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
    RuntimeError,
    OSError,
)
MODEL_NAME = "model.safetensors"


def current_versions() -> dict[str, str]:
    return {
        "urd": urd.__version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }


def save_model(path: Path, model: TeacherStudent, header: ModelHeader) -> None:
    """Write the model file atomically; a failed write leaves an older file as it was."""
    tensors: dict[str, Tensor] = dict(model.state_dict())
    if header.region is not None:
        tensors[_REGION] = torch.from_numpy(header.region)
    save_tensors(path, tensors, {_HEADER: header.to_json()})


def load_model(run: Path) -> tuple[TeacherStudent, ModelHeader]:
    """Read a model file, or the one in a run folder, onto the CPU, in evaluation mode.

    Raises:
        UsageError: no such file, or the folder holds no finished model.
        UrdError: not a model file of urd, cut short, or of another version.
    """
    path = run / MODEL_NAME if run.is_dir() else run
    if not path.is_file():
        unfinished = " (its training has not finished; see --resume)" if run.is_dir() else ""
        raise UsageError(f"no model file at {path}{unfinished}")
    try:
        with safe_open(path, framework="pt") as file:
            header = ModelHeader.from_json((file.metadata() or {}).get(_HEADER, ""))
            model = _build(header.config)
            model.load_state_dict({name: file.get_tensor(name) for name in model.state_dict()})
            if _REGION in file.keys():  # noqa: SIM118 - the file is no dictionary
                header = replace(header, region=_region(file.get_tensor(_REGION), header.config))
    except UsageError as error:
        raise UrdError(f"{path} cannot be used: {error}") from error
    except _UNREADABLE as error:
        raise UrdError(f"{path} is not a whole model file of urd: {first_line(error)}") from error
    if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
        raise UrdError(f"{path} holds NaN or Inf; it cannot be used")
    return model.eval(), header


def _region(stored: Tensor, config: FitConfig) -> Region:
    if stored.dtype != torch.bool or tuple(stored.shape) != config.image_size:
        raise ValueError("its region of interest is of another size")
    return np.asarray(stored.numpy())


def _build(config: FitConfig) -> TeacherStudent:
    """The networks of these settings; their values come from the file."""
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(config.backbone)
        student = Student(encoder.stages, VARIANTS[config.variant].injection, config.student)
    return TeacherStudent(encoder, student)
