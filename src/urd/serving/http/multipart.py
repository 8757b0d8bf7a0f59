"""Read a form with an image from memory; nothing of it reaches the disk."""

from __future__ import annotations

from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from urd.serving.http.refusal import Refusal

_MOST_PARTS = 16


def is_multipart(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower().startswith("multipart/")


def form_fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """The fields of a body of multipart/form-data by name.

    Raises:
        Refusal: the body is damaged, a field is there twice, or there are too many.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind.lower() != b"multipart/form-data":
        raise Refusal(415, "send the image as it is, or as multipart/form-data", "type")
    if not 1 <= len(boundary) <= 200:
        raise _damaged("its boundary is missing or too long")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _damaged("it cannot be read") from error
    if not reader.ended:
        raise _damaged("it has no end")
    return reader.fields


def _damaged(why: str) -> Refusal:
    return Refusal(400, f"the form is damaged: {why}", "form")


class _Reader:
    """Collects the fields while the parser calls back."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.ended = False
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        self._data = bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, a, b: self._name.extend(data[a:b]),
            "on_header_value": lambda data, a, b: self._value.extend(data[a:b]),
            "on_header_end": self._header_end,
            "on_part_data": lambda data, a, b: self._data.extend(memoryview(data)[a:b]),
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _damaged(f"it has over {_MOST_PARTS} fields")
        self._headers, self._data = {}, bytearray()

    def _header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _part_end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        try:
            name = options.get(b"name", b"").decode("utf-8")
        except UnicodeDecodeError as error:
            raise _damaged("a name of a field is not UTF-8") from error
        if name in self.fields:
            raise Refusal(422, "a field of the form is there twice", "value")
        self.fields[name] = bytes(self._data)

    def _end(self) -> None:
        self.ended = True
