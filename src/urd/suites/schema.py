"""What the files of a suite's jobs must hold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from urd.evaluation.schema import refuse_no_shares
from urd.model.schema import EncoderFacts
from urd.system.schema import Checked, Name, Open, Text


class JobOrder(Checked):
    """What a suite tells a job to do; `options` are checked by `FitConfig`."""

    data_path: Text
    options: dict[Name, Any]
    resamples: Annotated[int, Field(ge=0, le=1_000_000)]
    identity: dict[Name, Any]


class MachineFacts(Open):
    cpu: Text
    gpu: Text | None


class BenchmarkResult(BaseModel):
    """What a job of a suite leaves."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[Name, Any]
    digest: Name
    data: Name
    category: Name
    settings: dict[Name, Any]
    protocol: Text
    machine: MachineFacts
    encoder: EncoderFacts
    textures: Text
    precision: Text = ""

    @model_validator(mode="after")
    def _tables_can_show_it(self) -> BenchmarkResult:
        refuse_no_shares(self.__pydantic_extra__)
        if type(self.settings.get("seed")) is not int:
            raise ValueError("its settings have no seed")
        if self.encoder.pretrained is None:
            raise ValueError("it does not say whether its encoder is pretrained")
        return self
