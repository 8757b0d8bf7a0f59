"""Exported files for tests, without a training: a tiny detector, and a network of three operations.

The small network's map is the mean of the colours, from 0 to 1, its score the largest value of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY

from urd.config import FitConfig
from urd.detector import Detector
from urd.engines.checksum import BLANK, CHECKSUM_KEY, fingerprint, sealed
from urd.engines.facts import Facts
from urd.engines.registry import seal
from urd.engines.torch_engine import TorchEngine
from urd.inspection.calibration import Calibration
from urd.model.header import ModelHeader

SIZE = (32, 64)
SCORES = tuple(i / 100 for i in range(1, 100))  # REVIEW above 0.95, NG above 0.99


def header(**changes) -> ModelHeader:
    config = FitConfig(backbone=TINY, weights="none", image_size=SIZE, precision="float32")
    calibration = Calibration(SCORES, SCORES, SCORES, "good")
    of_urd = {"urd": "0.1.0"}
    whole = ModelHeader(config, (0.5,) * 3, (0.5,) * 3, (0.0, 1.0), calibration, versions=of_urd)
    return replace(whole, **changes)


@contextmanager
def one_torch_export() -> Iterator[None]:
    """torch takes ten seconds for each export: the same networks of one size go through it once."""
    from urd.export import onnx_file

    real, kept = onnx_file.onnx_model, {}

    def once(graph, size):
        key = (graph.model, size, graph.calibrated)
        if key not in kept:
            kept[key] = real(graph, size)
        copy = type(kept[key])()
        copy.CopyFrom(kept[key])
        return copy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "onnx_model", once)
        yield


def tiny_detector(facts: ModelHeader) -> Detector:
    """Networks with drawn weights, as a detector of this header."""
    from urd.backbones.registry import backbone_of
    from urd.networks.detector_network import DetectorNetwork
    from urd.networks.variants import VARIANTS
    from urd.system.seeding import generator

    encoder = backbone_of(TINY, "none").load(generator(0, "encoder"))
    model = DetectorNetwork.build(encoder, VARIANTS["urd"], generator(0, "student"), "slim").eval()
    return Detector(TorchEngine(model, facts, torch.device("cpu"), "float32"), facts)


def small_network(
    *,
    most: float = 255.0,
    images: str = "images",
    taken: str = "UINT8",
    shape: tuple = ("batch", "height", "width", 3),
    given: str = "FLOAT",
    outputs: tuple[str, str] = ("map", "score"),
    tail: dict[str, tuple] | None = None,
):
    """As an ONNX model.

    Args:
        most: the colour whose map is 1.
        images: name of the input; taken, shape: its type and shape.
        given: type of the outputs. outputs: names of map and score.
        tail: what makes an output of `inner_map` and `inner_score`, instead of their being it.
    """
    import onnx
    from onnx import TensorProto, helper

    kind = getattr(TensorProto, given)
    of_kind = helper.tensor_dtype_to_np_dtype(kind)
    ends = {
        name: ("Identity", [f"inner_{inner}"], {})
        for name, inner in zip(outputs, ("map", "score"), strict=True)
    }
    ends |= tail or {}
    nodes = [
        helper.make_node("Cast", [images], ["values"], to=kind),
        helper.make_node("ReduceMean", ["values", "colours"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "most"], ["inner_map"]),
        helper.make_node("ReduceMax", ["inner_map", "sides"], ["inner_score"], keepdims=0),
        *(
            helper.make_node(kind, inputs, [name], **more)
            for name, (kind, inputs, more) in ends.items()
        ),
        helper.make_node("Sub", ["inner_score", "urd_threshold"], ["above"]),
        helper.make_node("Mul", ["urd_steepness", "above"], ["x"]),
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("Add", ["square", "one"], ["sum"]),
        helper.make_node("Sqrt", ["sum"], ["root"]),
        helper.make_node("Div", ["x", "root"], ["signed"]),
        helper.make_node("Add", ["signed", "one"], ["twice"]),
        helper.make_node("Mul", ["twice", "half"], ["calibrated"]),
    ]
    constants = {
        "colours": np.array([3], np.int64),
        "sides": np.array([1, 2], np.int64),
        "nothing_fits": np.array([5, 7, 11], np.int64),
        "most": np.array(most, of_kind),
        "one": np.array(1.0, of_kind),
        "half": np.array(0.5, of_kind),
        "urd_threshold": np.array(0.618, of_kind),
        "urd_steepness": np.array(2.718, of_kind),
    }
    sides = {outputs[0]: ["a", "b", "c"], outputs[1]: ["a"], "calibrated": ["a"]}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(images, getattr(TensorProto, taken), shape)],
        [helper.make_tensor_value_info(name, kind, dims) for name, dims in sides.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def small_file(path: Path, facts: Facts | None = None, **changes) -> Path:
    """The small network at `path`, by its suffix for ONNX Runtime or OpenVINO, with its facts."""
    model = small_network(**changes)
    if path.suffix == ".onnx":
        path.write_bytes(model.SerializeToString())
    else:
        from urd.export import openvino_file

        openvino_file.save(openvino_file.openvino_model(model), path, halved=False)
    seal(path, facts or Facts(header().without_paths(), "float32"))
    return path


def with_texts(path: Path, changes: dict[str, str | None], *, checksum: bool = True) -> Path:
    """The file with other entries, `None`: without; with a checksum that fits or none."""
    import onnx

    model = onnx.load(path)
    texts = {entry.key: entry.value for entry in model.metadata_props} | changes
    texts[CHECKSUM_KEY] = BLANK if checksum else None
    del model.metadata_props[:]
    for key, value in texts.items():
        if value is not None:
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
    content = model.SerializeToString()
    path.write_bytes(sealed([content]) if checksum else content)
    assert fingerprint([path.read_bytes()])[1] == checksum
    return path


def grey(value: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)
