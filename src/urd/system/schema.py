"""Check a file that is read back before any use: types of fields, and `check`.

Each room describes its files in its own `schema.py`. A value that passes has the right type,
length and range, and is finite, so later code can rely on it. Values are never converted: a text
that looks like a number is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from urd.errors import UrdError, first_line, one_line, quoted
from urd.system.documents import read_json

CHECKSUM = "file_sha256"  # the first field in the header of a file of tensors
LONGEST = 4096
_MOST = 1e12
_MOST_WHOLE = 2**63 - 1


def _text(shortest: int, longest: int) -> Callable[[Any], Any]:
    """A check of texts that allows any file name.

    pydantic's own check refuses surrogates, with which Python stands for odd bytes of file names.
    This one refuses only surrogates that stand for no byte, and the character 0.
    """

    def check_text(value: Any) -> Any:
        if not isinstance(value, str) or not shortest <= len(value) <= longest or "\0" in value:
            raise ValueError(f"a text of {shortest} to {longest} characters is needed")
        value.encode("utf-8", "surrogateescape")
        return value

    return check_text


Text = Annotated[Any, AfterValidator(_text(0, LONGEST))]
Name = Annotated[Any, AfterValidator(_text(1, 300))]
Count = Annotated[int, Field(ge=0, le=_MOST_WHOLE)]
Number = Annotated[float, Field(ge=-_MOST, le=_MOST, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
ROUNDING = 1e-9  # a sum of shares may miss [0, 1] by this much
Share = Annotated[float, Field(ge=-ROUNDING, le=1 + ROUNDING, allow_inf_nan=False)]
OpenShare = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _text(0, LONGEST)(value)
    if value is None or type(value) is bool or (type(value) is int and abs(value) <= _MOST_WHOLE):
        return value
    if type(value) is not float or not abs(value) <= _MOST:
        raise ValueError("a text, a number, true, false or null is needed")
    return value


Scalar = Annotated[Any, AfterValidator(_plain)]


def _ascending(values: list[float]) -> list[float]:
    if any(a > b for a, b in itertools.pairwise(values)):
        raise ValueError("they do not ascend")
    return values


Ascending = AfterValidator(_ascending)


class Checked(BaseModel):
    """A record: every field is known and has exactly its type."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def to_dict(self) -> dict[str, Any]:
        """The fields that the file gave, as JSON holds them."""
        return self.model_dump(exclude_unset=True)


class Open(Checked):
    """A record that may have unknown fields: up to 1000 plain values of limited size."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)
    __pydantic_extra__: dict[Name, Scalar] = Field(init=False)

    @model_validator(mode="after")
    def _not_too_many(self) -> Open:
        if len(self.__pydantic_extra__) > 1000:
            raise ValueError("over a thousand fields")
        return self


class TensorEntry(Checked):
    """The header entry of one tensor in the safetensors format."""

    dtype: Name
    shape: Annotated[list[Count], Field(max_length=8)]
    data_offsets: Annotated[list[Count], Field(min_length=2, max_length=2)]


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def check(schema: Any, content: Any) -> Any:
    """Check the content against `schema`, a type or a record, and return it as that type.

    Raises:
        ValueError: the content does not fit; one line names the first wrong field.
    """
    try:
        return _adapter(schema).validate_python(content)
    except ValidationError as error:
        raise ValueError(_said(error)) from error


def read_checked(schema: Any, path: Path, most_bytes: int, what: str, then: str) -> Any:
    """Read a JSON file, checked as `check` does.

    Args:
        what: what the error says of a damaged file, for example `is not an order of a suite`.
        then: what a user can do about it.

    Raises:
        UrdError: the file is damaged.
    """
    try:
        return check(schema, read_json(path, most_bytes))
    except ValueError as error:
        raise damaged(path, what, first_line(error), then) from error


def damaged(path: Path, what: str, reason: str, then: str) -> UrdError:
    """The error for a file with content that is not ours."""
    return UrdError(f"{path} {what} ({reason}): {then}")


def _said(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] == "missing" else f" (it is {quoted(first['input'])})"
    return one_line(f"{one_line(place)[:100]}: {said}{found}" if place else f"{said}{found}")
