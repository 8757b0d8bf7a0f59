"""Run a file of `urd export --format onnx` with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from urd.engines.base import Maps
from urd.engines.exported import ExportedEngine, Port
from urd.engines.facts import Facts
from urd.errors import UrdError, first_line
from urd.system.extras import optional
from urd.system.threads import asked_threads

# Names of constants in the network; a new calibration changes them.
THRESHOLD, STEEPNESS = "urd_threshold", "urd_steepness"
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_FATAL = 4  # log level: errors are raised as exceptions, so the runtime need not print them


class OnnxEngine(ExportedEngine):
    format, suffix, runtime = "onnx", ".onnx", "ONNX Runtime"

    @staticmethod
    def rewritten(content: bytes, facts: Facts) -> bytes:
        onnx = optional("onnx", "onnx")
        model = onnx.load_model_from_string(content)
        curve = dict(zip((THRESHOLD, STEEPNESS), facts.curve(), strict=True))
        for tensor in model.graph.initializer:
            if tensor.name in curve:
                value = np.array(curve[tensor.name], np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        del model.metadata_props[:]
        for key, text in facts.texts().items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, text
        return model.SerializeToString()

    def _import(self) -> None:
        self._onnxruntime = optional("onnxruntime", "onnx")

    def _opened(self, contents: Sequence[bytes]) -> dict[str, str]:
        runtime = self._onnxruntime
        options = runtime.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = asked_threads()  # 0: the runtime chooses
        try:
            self._session = runtime.InferenceSession(
                contents[0], options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            return self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # the runtime has its own types
            raise UrdError(first_line(error)) from error

    def _ports(self) -> tuple[dict[str, Port], dict[str, Port]]:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        return {p.name: _port(p) for p in inputs}, {p.name: _port(p) for p in outputs}

    def _run(self, pixels: NDArray[np.uint8]) -> tuple[Maps, Maps]:
        maps, scores = self._session.run(["map", "score"], {"images": pixels})
        return maps, scores


def _port(port: Any) -> Port:
    shape = tuple(side if isinstance(side, int) else -1 for side in port.shape)
    return Port(_TYPES.get(port.type, port.type), shape)
