"""A detector as one ONNX file: float32, weights in float16, or INT8."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from urd.export.graph import InspectionGraph
from urd.export.parity import Pixels
from urd.export.quiet import quiet
from urd.system.extras import optional

_OPSET = 18
_COLOURS = 3
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_STUDENT_STAGE = re.compile(r"\.student\.decoder\.(stage_\d)\.")
_SMALL = 1024  # weights with fewer values stay in float32


def onnx_model(graph: InspectionGraph, size: tuple[int, int] | None) -> Any:
    """The graph as an ONNX model in float32. `size`: (H, W) of the input; `None`: any size."""
    optional("onnxscript", "onnx")
    height, width = size or (graph.size[0] + 32, graph.size[1] + 64)
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    free = (0,) if size else (0, 1, 2)
    with torch.no_grad(), quiet():
        graph(example)  # computes the cached blur matrix, which becomes a constant of the file
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=graph.outputs,
            dynamic_shapes=(dict.fromkeys(free, torch.export.Dim.DYNAMIC),),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for axis, name in zip(free, ("batch", "height", "width"), strict=False):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    _forget_sources(model)
    return model


def _forget_sources(model: Any) -> None:
    """Remove the paths and lines of source files that the exporter writes at each node."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for field in ("doc_string", "metadata_props", "functions"):
        model.ClearField(field)
    graph.ClearField("value_info")


def write(model: Any, path: Path, precision: str, images: Sequence[Pixels]) -> None:
    """Write an ONNX model in a precision of `PRECISIONS`."""
    if precision == "float16":
        halve_weights(model)
    if precision == "int8":
        model = quantise(model, images)
    optional("onnx", "onnx").save(model, path)


def halve_weights(model: Any) -> None:
    """Store large weights in float16 and cast them back to float32, which the network computes in.

    Computing in float16 is faster only on some GPUs, and an ONNX file can run anywhere.
    """
    onnx = optional("onnx", "onnx")
    for tensor in list(model.graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _SMALL:
            continue
        name = tensor.name
        half = onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(tensor).astype(np.float16), f"{name}_float16"
        )
        tensor.CopyFrom(half)
        cast = onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT)
        model.graph.node.insert(0, cast)


def quantise(model: Any, images: Iterable[Pixels]) -> Any:
    """Convolutions in INT8, with ranges from good images. The rest stays in float32.

    `left_in_float` names a few convolutions that also stay in float32.
    """
    quantization = optional("onnxruntime.quantization", "onnx")
    onnx = optional("onnx", "onnx")
    feed = iter([{"images": image[None]} for image in images])

    # The module is imported at run time, so the type checker does not know the class.
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def get_next(self) -> Any:
            return next(feed, None)

    with tempfile.TemporaryDirectory() as folder, quiet():
        before, prepared, after = (Path(folder) / f"{n}.onnx" for n in ("a", "b", "c"))
        onnx.save(model, before)
        quantization.shape_inference.quant_pre_process(before, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            after,
            Reader(),
            op_types_to_quantize=list(_CONVOLUTIONS),
            nodes_to_exclude=left_in_float(model),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(after)


def left_in_float(model: Any) -> list[str]:
    """Names of the convolutions that cause most of the INT8 error and little of the work.

    These are the first one, because its products of pixels overflow 16 bits on processors without
    VNNI, and the last one of each student stage: ONNX Runtime also rounds its result, which is
    then compared with the teacher's.
    """
    shapes = {weight.name: list(weight.dims) for weight in model.graph.initializer}
    first: list[str] = []
    last_of_stage: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type not in _CONVOLUTIONS:
            continue
        weight = node.input[1]
        if shapes[weight][1] == _COLOURS:
            first.append(node.name)
        if stage := _STUDENT_STAGE.search(weight):
            last_of_stage[stage[1]] = node.name
    return [*first, *last_of_stage.values()]
