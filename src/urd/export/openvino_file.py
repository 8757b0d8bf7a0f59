"""A detector as an OpenVINO model: NAME.xml and, beside it, NAME.bin with the weights."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from urd.engines import optional
from urd.export.parity import Pixels
from urd.export.quiet import quiet

_COLOURS = 3
_CONVOLUTIONS = {"Convolution", "ConvolutionBackpropData", "Constant", "Parameter", "Result"}


def openvino_model(onnx_proto: Any) -> Any:
    """The same network, read from its ONNX form."""
    openvino = optional("openvino", "openvino")
    return openvino.Core().read_model(io.BytesIO(onnx_proto.SerializeToString()))


def quantise(model: Any, images: Sequence[Pixels]) -> Any:
    """Convolutions in INT8, their ranges taken from good images; the rest stays as it is.

    The first one too, whose products of pixels overflow 16 bits on processors without VNNI, and
    with seven bits instead it has most of the error of the map.
    """
    with quiet():
        nncf = optional("nncf", "openvino")
    kept = sorted({node.get_type_name() for node in model.get_ops()} - _CONVOLUTIONS)
    first = [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "Convolution" and node.input(1).get_shape()[1] == _COLOURS
    ]
    with quiet():
        return nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=first, types=kept, validate=False),
        )


def save(model: Any, path: Path, facts: dict[str, str], *, halved: bool) -> None:
    openvino = optional("openvino", "openvino")
    for key, value in facts.items():
        model.set_rt_info(value, [key])
    openvino.save_model(model, path, compress_to_fp16=halved)
