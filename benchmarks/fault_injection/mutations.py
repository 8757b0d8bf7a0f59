"""Damage to files: random bytes, and values that only somebody hostile would write."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any

Json = Any
_DEEP: Json = []
for _ in range(500):
    _DEEP = [_DEEP]
_HOSTILE: tuple[Json, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2.5,
    1e308,
    -1e308,
    1e-320,
    2**31,
    2**63,
    10**400,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "0",
    "nan",
    "\0",
    "../../etc/passwd",
    "x" * 100_000,
    "\n\x1b[31m",
    [],
    {},
    [None],
    [0, 0],
    [0, 0, 0],
    [1e308, -1e308, math.nan],
    [100000, 100000],
    [32, 32],
    [4096, 4096],
    {"a": {"b": {}}},
    _DEEP,
    ["x"] * 1000,
    [0.5] * 200_000,
    "convnext_xxlarge",
    "builtin",
    "wide_resnet101_2",
)


def damaged(content: bytes, rng: random.Random, start: int = 0, end: int | None = None) -> bytes:
    """The bytes with one damage between `start` and `end`; never the same as before."""
    end = len(content) if end is None else min(end, len(content))
    while True:
        found = _DAMAGES[rng.randrange(len(_DAMAGES))](bytearray(content), rng, start, end)
        if found != content:
            return bytes(found)


def _flip(content: bytearray, rng: random.Random, start: int, end: int) -> bytearray:
    content[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    return content


def _zeros(content: bytearray, rng: random.Random, start: int, end: int) -> bytearray:
    first = rng.randrange(start, end)
    length = min(end - first, rng.choice((1, 16, 512, 65536)))
    content[first : first + length] = bytes(length)
    return content


def _cut(content: bytearray, rng: random.Random, start: int, end: int) -> bytearray:
    return content[: rng.randrange(start, end)]


def _longer(content: bytearray, rng: random.Random, start: int, end: int) -> bytearray:
    return content + rng.randbytes(rng.choice((1, 8, 1000)))


def _moved(content: bytearray, rng: random.Random, start: int, end: int) -> bytearray:
    """A byte too many or too few in the middle."""
    place = rng.randrange(start, end)
    if rng.random() < 0.5:
        del content[place]
    else:
        content.insert(place, rng.randrange(256))
    return content


_DAMAGES: tuple[Callable[[bytearray, random.Random, int, int], bytearray], ...] = (
    _flip,
    _flip,
    _flip,
    _zeros,
    _cut,
    _longer,
    _moved,
)


def changed(content: Json, rng: random.Random) -> Json:
    """A JSON value with one to three hostile changes somewhere inside."""
    found = copy.deepcopy(content)  # before anything deep is put in
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        found = _changed_once(found, rng)
    return found


def _changed_once(content: Json, rng: random.Random) -> Json:
    places = list(_places(content))
    if not places:
        return rng.choice(_HOSTILE)
    holder, key = rng.choice(places)
    kind = rng.randrange(10)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice(("", "x" * 10_000, "unknown", "\n"))] = rng.choice(_HOSTILE)
    elif kind == 2 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = holder[key] * rng.choice((-1, 0, 1e9, 1e-9, math.nan))
    elif kind == 3 and isinstance(holder[key], list):
        holder[key] = holder[key] * rng.choice((0, 2)) or [rng.choice(_HOSTILE)]
    else:
        holder[key] = rng.choice(_HOSTILE)
    return content


def _places(content: Json, depth: int = 20) -> Any:
    """(container, key) of what is inside down to `depth`, lists by a few of their items."""
    keys: Any = ()
    if isinstance(content, dict):
        keys = list(content)
    elif isinstance(content, list):
        keys = range(0, len(content), max(1, len(content) // 4))
    for key in keys:
        yield content, key
        if depth:
            yield from _places(content[key], depth - 1)


def as_text(content: Json) -> str:
    """JSON with the constants that are none (NaN, Infinity), as a careless program writes it."""
    return json.dumps(content)


YAMLS = (
    "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{n}: &{n} [{', '.join([f'*{p}'] * 9)}]\n"
        for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "variant: *i\n",
    "&x [*x]",
    "iterations: &a {b: *a}\n",
    "[" * 10_000,
    "{" * 10_000,
    "a: " * 5_000,
    "variant: !!python/object/apply:os.system [exit]\n",
    "iterations: " + "9" * 5_000 + "\n",
    "iterations: 2026-11-27\n",
    "image_size: .nan\n",
    "? [a, b]\n: c\n",
    "1: 2\n",
    "iterations: !!binary aGVsbG8=\n",
    "title: t\ndata: {folder: [x]}\nvary: "
    + "{"
    + ", ".join(
        f"{k}: [{', '.join(map(str, range(1, 200)))}]"
        for k in ("iterations", "seed_", "batch_size", "validate_every")
    )
    + "}\n",
    "title: t\ndata: {folder: [x]}\nvary: {iterations: ["
    + ", ".join(map(str, range(1, 200)))
    + "], batch_size: ["
    + ", ".join(map(str, range(1, 200)))
    + "], validate_every: ["
    + ", ".join(map(str, range(1, 200)))
    + "], white_level: ["
    + ", ".join(map(str, range(1, 200)))
    + "]}\n",
    "title: t\ndata: {folder: [x]}\nseeds: [" + ", ".join(map(str, range(60_000))) + "]\n",
    "\x00\x01\x02",
    "\ufeffvariant: urd\n",
    "variant: " + "x" * 200_000 + "\n",
    "%YAML 9.9\n---\n...\n",
)
