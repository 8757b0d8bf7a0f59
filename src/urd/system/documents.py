"""Read JSON and YAML from untrusted files, strictly and up to a size limit.

The result is plain: dictionaries with unique keys, lists, texts, finite numbers. Anything else
raises a `ValueError` with one line. No input can cause a long wait or fill the memory.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from urd.errors import first_line, one_line, quoted
from urd.system.files import refuse_special

if TYPE_CHECKING:
    import yaml

MIB = 2**20
_YAML_BYTES = MIB // 4
_YAML_TEXT = 10_000  # characters of one value
_NUMBER_DIGITS = 400
_DEPTH = 50


def read_json(path: Path, most_bytes: int) -> Any:
    """Read and parse a JSON file.

    Raises:
        ValueError: the file cannot be read, is too large, or `parse_json` refuses its content.
    """
    return parse_json(read_text(path, most_bytes))


def read_text(path: Path, most_bytes: int) -> str:
    """Read a whole UTF-8 text file of limited size.

    Raises:
        ValueError: the file cannot be read, is a pipe or a device, is too large, or is not UTF-8.
    """
    try:
        refuse_special(path)
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise ValueError(error.strerror or first_line(error)) from error
    if len(content) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes / MIB:g} MiB")
    return content.decode("utf-8")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; refuse NaN, infinite numbers, repeated keys and deep nesting.

    Raises:
        ValueError: the text is not such JSON.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_each_key_once,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {first_line(error)}") from error


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it has the key {quoted(twice)} twice")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is not a number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {quoted(digits)} is too large")
    return number


def _whole(digits: str) -> int:
    if len(digits) > _NUMBER_DIGITS:
        raise ValueError(f"the number {quoted(digits)} is too large")
    return int(digits)


def read_yaml(path: Path) -> Any:
    """Read a YAML file; besides the types of JSON it may hold dates and other YAML types.

    Aliases are refused: with nested aliases a few lines expand to more than any memory holds.

    Raises:
        ValueError: the file cannot be read, is larger than 256 KiB, is not YAML, is nested too
            deeply, or holds an alias, a repeated key or a value of over 10,000 characters.
    """
    import yaml

    text = read_text(path, _YAML_BYTES)
    try:
        return yaml.load(text, _loader())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(_said(error)) from error


def _said(error: yaml.YAMLError) -> str:
    """Say what is wrong and in which line, in one line; PyYAML's own text has four."""
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or first_line(error)
    return f"line {mark.line + 1}: {one_line(said)}" if mark else one_line(said)


def _loader() -> type[yaml.SafeLoader]:
    """PyYAML's safe loader with limits; defined here because importing PyYAML is slow."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise yaml.MarkedYAMLError(
                    problem="aliases (& and *) are not allowed; write the value out",
                    problem_mark=event.start_mark,
                )
            if len(getattr(event, "value", "")) > _YAML_TEXT:
                raise yaml.MarkedYAMLError(
                    problem=f"a value is longer than {_YAML_TEXT} characters",
                    problem_mark=event.start_mark,
                )
            if self.depth > _DEPTH:
                raise RecursionError
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            content = super().construct_mapping(node, deep)
            if len(content) < len(node.value):
                raise yaml.MarkedYAMLError(
                    problem="a key is there twice", problem_mark=node.start_mark
                )
            return content

    return Loader
