"""Run a file of `urd export --format openvino`: NAME.xml, and NAME.bin with the weights."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from urd.engines.base import Maps
from urd.engines.exported import ExportedEngine, Port
from urd.engines.facts import KEYS, Facts
from urd.engines.onnx_engine import STEEPNESS, THRESHOLD
from urd.errors import UrdError, first_line
from urd.system.extras import optional
from urd.system.threads import asked_threads

_TYPES = {"u8": "uint8", "f32": "float32"}


class OpenVinoEngine(ExportedEngine):
    """OpenVINO, in the precision of the export; each call uses its own infer request."""

    format, suffix, runtime = "openvino", ".xml", "OpenVINO"

    @classmethod
    def parts(cls, path: Path) -> list[Path]:
        return [path, path.with_suffix(".bin")]

    @staticmethod
    def rewritten(content: bytes, facts: Facts) -> bytes:
        """The XML with new facts and curve; the weights do not change.

        The values of the curve are the limits of Clamp layers, because these are in the XML;
        constants would be in the weights file.
        """
        root = ElementTree.fromstring(content)
        curve = dict(zip((THRESHOLD, STEEPNESS), map(repr, facts.curve()), strict=True))
        for layer in root.iterfind("layers/layer[@type='Clamp']"):
            value, data = curve.get(layer.get("name", "")), layer.find("data")
            if value is not None and data is not None:
                data.attrib.update(min=value, max=value)
        known = root.find("rt_info")
        known = ElementTree.SubElement(root, "rt_info") if known is None else known
        for entry in [entry for entry in known if entry.tag in KEYS]:
            known.remove(entry)
        for key, value in facts.texts().items():
            ElementTree.SubElement(known, key, value=value)
        return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)

    def _import(self) -> None:
        self._openvino = optional("openvino", "openvino")

    def _opened(self, contents: Sequence[bytes]) -> dict[str, str]:
        xml, weights = contents
        try:
            tensor = self._openvino.Tensor(np.frombuffer(weights, np.uint8))
            self._model = self._openvino.Core().read_model(xml, tensor)
            keys = [key for key in KEYS if self._model.has_rt_info([key])]
            return {key: self._model.get_rt_info([key]).astype(str) for key in keys}
        except Exception as error:  # the runtime raises types of its own
            raise UrdError(first_line(error)) from error

    def _ports(self) -> tuple[dict[str, Port], dict[str, Port]]:
        inputs, outputs = self._model.inputs, self._model.outputs
        found = {name: _port(port) for port in outputs for name in port.names}
        return {port.any_name: _port(port) for port in inputs}, found

    def _compile(self) -> None:
        # By default, the runtime computes in bfloat16 if the processor supports it.
        exact = {"INFERENCE_PRECISION_HINT": "f32"} if self.facts.precision == "float32" else {}
        threads = {"INFERENCE_NUM_THREADS": count} if (count := asked_threads()) else {}
        settings = {**exact, **threads}
        try:
            self._compiled = self._openvino.Core().compile_model(self._model, "CPU", settings)
        except Exception as error:  # the runtime raises types of its own
            raise UrdError(first_line(error)) from error
        self._idle: deque[Any] = deque()

    def _run(self, pixels: NDArray[np.uint8]) -> tuple[Maps, Maps]:
        with self._request() as request:
            found = request.infer({"images": pixels}, share_inputs=False)
            return np.array(found["map"]), np.array(found["score"])

    @contextmanager
    def _request(self) -> Iterator[Any]:
        """An infer request for this call only: an idle one, or a new one."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        yield request
        self._idle.append(request)  # after an error its state is unknown: drop it


def _port(port: Any) -> Port:
    sides = port.get_partial_shape()
    known = sides if sides.rank.is_static else ()
    shape = tuple(side.get_length() if side.is_static else -1 for side in known)
    kind = port.get_element_type().get_type_name()
    return Port(_TYPES.get(kind, kind), shape)
