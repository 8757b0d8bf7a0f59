"""What computes a detector's maps: torch, or a runtime that has opened an exported file."""

from __future__ import annotations

import base64
import importlib
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from urd.data import paint_outside
from urd.errors import UrdError, UsageError, first_line
from urd.machine import precision_on
from urd.model_header import ModelHeader
from urd.scoring import anomaly_map, image_score

if TYPE_CHECKING:
    from urd.networks import TeacherStudent

Maps = NDArray[np.float32]
HEADER_KEY, PRECISION_KEY, REGION_KEY = "urd_model", "urd_precision", "urd_region"
SIZE_KEY = "urd_size"
_KEYS = (HEADER_KEY, PRECISION_KEY, REGION_KEY, SIZE_KEY)
_ANY = "any"
PRECISIONS = ("float32", "float16", "int8")
EXPORTED = {".onnx": "onnx", ".xml": "openvino"}


class Engine(Protocol):
    """From uint8 RGB pixels (B, *input_size, 3) to maps (B, h, w) and scores (B,).

    Maps have the network's size. `regions` (B, h, w) bool is what is inspected, `None`: all of it;
    what lies outside is painted over. An exported file knows its region and takes no other.
    """

    @property
    def input_size(self) -> tuple[int, int]: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def precision(self) -> str: ...

    def __call__(
        self, pixels: NDArray[np.uint8], regions: NDArray[np.bool_] | None
    ) -> tuple[Maps, Maps]: ...


class TorchEngine:
    """The networks by torch, on any of its devices.

    Args:
        precision: as the setting of the training; `None`: that one.
    """

    def __init__(
        self,
        model: TeacherStudent,
        header: ModelHeader,
        device: torch.device,
        precision: str | None = None,
    ) -> None:
        # timm takes a second to import, and an exported file needs none of it.
        from urd.networks.folding import InferenceNetworks

        self.device = device
        self.model = model.to(device).to(memory_format=torch.channels_last).eval()
        self.precision = precision_on(device, precision or header.config.precision)
        self.networks = InferenceNetworks(self.model, self.precision)
        self.input_size = header.config.image_size
        self.colour = header.mean
        self.mean = torch.tensor(header.mean, device=device)
        self.std = torch.tensor(header.std, device=device)

    @torch.inference_mode()
    def __call__(
        self, pixels: NDArray[np.uint8], regions: NDArray[np.bool_] | None
    ) -> tuple[Maps, Maps]:
        pixels = paint_outside(pixels, regions, self.colour)
        rgb = torch.from_numpy(pixels).to(self.device).float()
        # (B, H, W, 3) memory seen as (B, 3, H, W) is channels-last already.
        images = ((rgb / 255 - self.mean) / self.std).permute(0, 3, 1, 2)
        teacher, student = self.networks(images)
        inspected = None if regions is None else torch.from_numpy(regions).to(self.device)
        maps = anomaly_map(teacher, student, self.input_size, inspected)
        return maps.cpu().numpy(), image_score(maps).cpu().numpy()


class OnnxEngine:
    """A file of `urd export --format onnx`, by ONNX Runtime on the CPU."""

    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        runtime = optional("onnxruntime", "onnx")
        try:
            self.session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
            facts = self.session.get_modelmeta().custom_metadata_map
        except Exception as error:  # the runtime raises types of its own
            raise UrdError(f"{path} cannot be opened: {first_line(error)}") from error
        self.header, self.input_size = _described(path, facts)
        self.precision = facts[PRECISION_KEY]

    def __call__(
        self, pixels: NDArray[np.uint8], regions: NDArray[np.bool_] | None
    ) -> tuple[Maps, Maps]:
        maps, scores = self.session.run(["map", "score"], {"images": pixels})
        return maps, scores


class OpenVinoEngine:
    """A file of `urd export --format openvino`, on the CPU, in the precision of the export."""

    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        openvino = optional("openvino", "openvino")
        try:
            model = openvino.Core().read_model(path)
            facts = {
                key: model.get_rt_info([key]).astype(str)
                for key in _KEYS
                if model.has_rt_info([key])
            }
        except Exception as error:  # the runtime raises types of its own
            raise UrdError(f"{path} cannot be opened: {first_line(error)}") from error
        self.header, self.input_size = _described(path, facts)
        self.precision = facts[PRECISION_KEY]
        # Left alone, the runtime computes in bfloat16 where the processor has it.
        exact = {"INFERENCE_PRECISION_HINT": "f32"} if self.precision == "float32" else {}
        self.compiled = openvino.Core().compile_model(model, "CPU", exact)

    def __call__(
        self, pixels: NDArray[np.uint8], regions: NDArray[np.bool_] | None
    ) -> tuple[Maps, Maps]:
        found = self.compiled(pixels)
        return np.array(found["map"]), np.array(found["score"])


def open_exported(path: Path) -> tuple[Engine, ModelHeader]:
    """The engine of an exported file, and what the file knows.

    Raises:
        UsageError: no such file, or the extra that opens it is not installed.
        UrdError: not a whole file of `urd export`.
    """
    if not path.is_file():
        raise UsageError(f"no exported file at {path}")
    kind = OnnxEngine if EXPORTED[path.suffix.lower()] == "onnx" else OpenVinoEngine
    engine = kind(path)
    return engine, engine.header


def facts_of(
    header: ModelHeader, precision: str, size: tuple[int, int] | None = None
) -> dict[str, str]:
    """What an exported file carries beside the network, as text; `size` of its input or any."""
    region = b"" if header.region is None else np.packbits(header.region).tobytes()
    return {
        HEADER_KEY: header.to_json(),
        PRECISION_KEY: precision,
        REGION_KEY: base64.b64encode(zlib.compress(region)).decode(),
        SIZE_KEY: _ANY if size is None else f"{size[0]}x{size[1]}",
    }


def _region(text: str, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    count = size[0] * size[1]
    packed = zlib.decompressobj().decompress(base64.b64decode(text), count // 8 + 8)
    if not packed:
        return None
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=count)
    return bits.reshape(size).astype(bool)


def _described(path: Path, facts: dict[str, str]) -> tuple[ModelHeader, tuple[int, int]]:
    """The model's header, and the size of images that the file takes; the network's, if any."""
    try:
        header = ModelHeader.from_json(facts[HEADER_KEY])
        if facts[PRECISION_KEY] not in PRECISIONS:
            raise ValueError("of an unknown precision")
        header = replace(header, region=_region(facts[REGION_KEY], header.config.image_size))
        size = facts.get(SIZE_KEY, _ANY)
        if size == _ANY:
            return header, header.config.image_size
        height, width = size.split("x")
        return header, (int(height), int(width))
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise UrdError(f"{path} is not a file of urd export: {first_line(error)}") from error


def optional(module: str, extra: str) -> Any:
    """A module that an extra installs.

    Raises:
        UsageError: it is not there; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{module} is not installed: pip install 'urd[{extra}]' brings it"
        ) from error
