"""A detector as an OpenVINO model: NAME.xml and, beside it, NAME.bin with the weights."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from urd.engines.onnx_engine import STEEPNESS, THRESHOLD
from urd.errors import first_line
from urd.export.parity import Pixels
from urd.export.quiet import quiet
from urd.system.extras import optional

_COLOURS = 3
_CURVE = (THRESHOLD, STEEPNESS)
_CONVOLUTIONS = {"Convolution", "ConvolutionBackpropData", "Constant", "Parameter", "Result"}


def write(onnx_proto: Any, path: Path, precision: str, images: Sequence[Pixels]) -> None:
    """Write NAME.xml and NAME.bin in a precision of `PRECISIONS`."""
    model = openvino_model(onnx_proto)
    if precision == "int8":
        model = quantise(model, images)
    save(model, path, halved=precision == "float16")


def openvino_model(onnx_proto: Any) -> Any:
    """The same network as an OpenVINO model."""
    openvino = optional("openvino", "openvino")
    model = openvino.Core().read_model(io.BytesIO(onnx_proto.SerializeToString()))
    _curve_into_xml(model)
    return model


def _curve_into_xml(model: Any) -> None:
    """Replace the threshold and steepness constants by Clamps with two equal limits.

    A Clamp returns its limit for any input. Its limits are in NAME.xml, but constants are in
    NAME.bin. So a new calibration writes only NAME.xml.
    """
    ops = optional("openvino.opset13", "openvino")
    (score,) = [port for port in model.outputs if "score" in port.names]
    for constant in [node for node in model.get_ops() if node.get_friendly_name() in _CURVE]:
        name = constant.get_friendly_name()
        value = float(constant.get_data())
        constant.set_friendly_name(f"{name}_before")
        scores = score.get_node().input_value(0)
        constant.output(0).replace(ops.clamp(scores, value, value, name=name).output(0))


def quantise(model: Any, images: Sequence[Pixels]) -> Any:
    """Convolutions in INT8, with ranges from good images. The rest stays in float32.

    The first convolution stays too: its products of pixels overflow 16 bits on processors without
    VNNI, and with seven bits it would cause most of the error of the map.
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


def save(model: Any, path: Path, *, halved: bool) -> None:
    """Write NAME.xml and NAME.bin; `halved`: weights in float16.

    Raises:
        OSError: the disk is full, or there is no permission.
    """
    try:
        optional("openvino", "openvino").save_model(model, path, compress_to_fp16=halved)
    except RuntimeError as error:  # the library has no other type for a full disk
        raise OSError(f"OpenVINO cannot write it: {first_line(error)}") from error
