"""The model file: one safetensors file; its JSON header holds everything except tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from urd.backbones.encoder import Normalisation
from urd.backbones.registry import backbone_of
from urd.config import FitConfig
from urd.errors import UrdError, UsageError, first_line
from urd.model.header import ModelHeader
from urd.model.run_folder import RunFolder, model_file_of
from urd.networks.detector_network import DetectorNetwork
from urd.networks.memory_bank import MemoryBank, width_of
from urd.networks.student import Student
from urd.networks.variants import VARIANTS
from urd.system.activation_memory import refuse_too_large
from urd.system.files import refuse_special
from urd.system.progress import note
from urd.system.tensor_file import TensorFile, open_tensors, save_signed

_HEADER = "urd_model"
_REGION = "region_of_interest"
_BANK = "bank.features"


def save_model(path: Path, model: DetectorNetwork, header: ModelHeader) -> None:
    """Write the model file atomically; if this fails, an older file stays.

    Raises:
        UrdError: the file cannot be written, or the header holds a value that cannot be read back.
    """
    tensors: dict[str, Tensor] = dict(model.state_dict())
    if header.roi is not None:
        tensors[_REGION] = torch.from_numpy(header.roi)
    save_signed(path, tensors, _HEADER, header.without_paths().content())


def load_model(
    run: Path, device: torch.device | None = None
) -> tuple[DetectorNetwork, ModelHeader]:
    """Read a model file, or that of a run folder, onto the CPU, in evaluation mode.

    Names and shapes are checked before memory for tensors is allocated.

    Args:
        device: where it will compute; one image must fit into its memory. `None`: the CPU.

    Raises:
        UsageError: the file is missing, or the folder has no finished model.
        UrdError: the file is not a model file of urd, is damaged, comes from another version, or
            is too large.
    """
    path = model_file_of(run)
    refuse_special(path)
    if not path.is_file():
        raise UsageError(_no_model(run, path))
    if path.suffix == ".bin" and (network := path.with_suffix(".xml")).is_file():
        raise UsageError(f"{path} holds the weights of an exported file: give {network}")
    with _parsing(path):
        file = open_tensors(path, _HEADER)
        if not file.content:
            raise ValueError("it has no header of urd")
        header = ModelHeader.from_content(file.content)
        _refuse_score_of_another_variant(header)
        places = file.layout.get(_BANK, ("", [0]))[1][0]
    try:
        wanted = _networks(header, places, torch.device("meta"))
        refuse_too_large(wanted, header.config.image_size, device or torch.device("cpu"))
    except UsageError as error:
        raise UrdError(f"{path} cannot be used: {error}") from error
    with _parsing(path):
        tensors = _tensors(file, wanted, header.config)
    model = _networks(header, places, torch.device("cpu"))
    if _REGION in tensors:
        header = replace(header, roi=np.asarray(tensors.pop(_REGION).numpy()))
    model.load_state_dict(tensors)
    if not file.signed:
        note(f"{path} was written without a checksum: urd cannot detect damage to it.")
    return model.eval(), header


def _no_model(run: Path, path: Path) -> str:
    if RunFolder(run).has_begun:
        return f"no model file at {path} (its training is not finished; see --resume)"
    if run.is_dir():
        return f"{run} is not a run folder: there is no {path.name} in it. The run comes first"
    return f"no model file at {path}"


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """What the file says is wrong; what is computed from it afterwards is our own affair."""
    try:
        yield
    except UsageError as error:
        raise UrdError(f"{path} cannot be used: {error}") from error
    except ValueError as error:
        raise UrdError(f"{path} is not a whole model file of urd: {first_line(error)}") from error


def _refuse_score_of_another_variant(header: ModelHeader) -> None:
    variant = VARIANTS[header.config.variant]
    if (any(header.score.levels) and not variant.student) or (
        header.score.memory and not variant.memory
    ):
        raise ValueError("its score does not belong to its variant")


def _tensors(file: TensorFile, networks: DetectorNetwork, config: FitConfig) -> dict[str, Tensor]:
    """The tensors of networks and region; refuses a file that lacks some or has others."""
    wanted: dict[str, Tensor] = dict(networks.state_dict())
    if _REGION in file.layout:
        wanted[_REGION] = torch.empty(config.image_size, dtype=torch.bool, device="meta")
    file.refuse_others_than(wanted)
    return file.tensors()


def _networks(header: ModelHeader, places: int, device: torch.device) -> DetectorNetwork:
    """The networks of a header; the caller loads their weights.

    Args:
        places: how many features the memory bank holds, if the variant has one.
    """
    config = header.config
    with torch.random.fork_rng(devices=[]), device:
        encoder = backbone_of(config.tag).build()
        encoder.normalisation = Normalisation(header.mean, header.std)
        signed = bool(header.encoder.signed)
        encoder.pyramid = replace(encoder.pyramid, signed=signed)
        variant, pyramid = VARIANTS[config.variant], encoder.pyramid
        student = Student(pyramid, variant.injection, config.student) if variant.student else None
        bank = MemoryBank(places, width_of(pyramid)) if variant.memory else None
        return DetectorNetwork(encoder, student, bank)
