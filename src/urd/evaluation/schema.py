"""The required figures of an evaluation, in `evaluation.json` and in the results of a suite."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from urd.errors import quoted
from urd.metrics import METRICS
from urd.system.schema import ROUNDING, Count, Open, Text


class Figures(Open):
    """`evaluation.json`, flat. Each metric and each end of its interval is a share or undefined."""

    data: Text
    protocol: Text
    n_good: Count
    n_defective: Count

    @model_validator(mode="after")
    def _metrics_are_shares(self) -> Figures:
        refuse_no_shares(self.__pydantic_extra__)
        return self


_OF_METRICS = tuple(METRICS)  # prefixes: the end of an interval or a type of defect may follow


def refuse_no_shares(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if not name.startswith(_OF_METRICS):
            continue
        if value is None:
            continue
        if type(value) not in (int, float) or not -ROUNDING <= value <= 1 + ROUNDING:
            raise ValueError(f"{quoted(name)} is {quoted(value)}, which is not a share")
    ends = [name for name in values if name.startswith(_OF_METRICS) and ":" not in name]
    for end, other in (("_low", "_high"), ("_high", "_low")):
        for name in (name for name in ends if name.endswith(end)):
            if values[name] is None or values.get(name.removesuffix(end) + other) is None:
                raise ValueError(f"the interval of {quoted(name)} has only one end")
