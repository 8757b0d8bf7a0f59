"""A detector as an OpenVINO model: NAME.xml and, beside it, NAME.bin with the weights."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from urd.engines import optional
from urd.export.parity import Pixels
from urd.export.quiet import quiet

_CONVOLUTIONS = {"Convolution", "ConvolutionBackpropData", "Constant", "Parameter", "Result"}


def openvino_model(onnx_proto: Any) -> Any:
    """The same network, read from its ONNX form."""
    openvino = optional("openvino", "openvino")
    return openvino.Core().read_model(io.BytesIO(onnx_proto.SerializeToString()))


def quantise(model: Any, images: Sequence[Pixels]) -> Any:
    """Convolutions in INT8, their ranges taken from good images; the rest stays as it is."""
    with quiet():
        nncf = optional("nncf", "openvino")
    kept = sorted({node.get_type_name() for node in model.get_ops()} - _CONVOLUTIONS)
    with quiet():
        return nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(types=kept, validate=False),
        )


def save(model: Any, path: Path, facts: dict[str, str], *, halved: bool) -> None:
    openvino = optional("openvino", "openvino")
    for key, value in facts.items():
        model.set_rt_info(value, [key])
    openvino.save_model(model, path, compress_to_fp16=halved)
