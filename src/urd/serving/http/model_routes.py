"""`/v1/models`: which models judge, and how one is loaded again."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from urd.errors import UrdError, some
from urd.serving.http.answers import InForce
from urd.serving.http.parts import Parts, known_model
from urd.serving.http.refusal import Refusal, errors
from urd.serving.http.trial import trial
from urd.serving.served_model import ServedModel


class CalibrationFacts(BaseModel):
    """Where the thresholds come from, if no person has set others."""

    source: str
    images: int = Field(description="good images")
    false_reject: float = Field(description="target share of good images that are NG")
    review: float = Field(description="target share of good images that are REVIEW or NG")


class ModelFacts(BaseModel):
    """A model on this line."""

    name: str
    sha256: str = Field(description="of its file")
    engine: str = Field(description="what computes")
    image_size: tuple[int, int] = Field(description="height and width of the network's input")
    thresholds: InForce
    calibration: CalibrationFacts
    heat_range: tuple[float, float] = Field(
        description="anomaly values of the first and the last colour of pictures"
    )


class Models(BaseModel):
    models: list[ModelFacts]


class Reloaded(BaseModel):
    """A model that was loaded again."""

    changed: bool = Field(description="false: the file is the one that was loaded before")
    before_sha256: str
    model: ModelFacts


def facts_of(model: ServedModel) -> dict[str, Any]:
    calibration = model.detector.header.calibration
    assert calibration is not None  # `ServedModel.load` refuses others
    limits = model.thresholds
    return {
        "name": model.name,
        "sha256": model.sha256,
        "engine": model.engine,
        "image_size": model.size,
        "thresholds": model.facts(),
        "calibration": {
            "source": calibration.source,
            "images": limits.reject.n,
            "false_reject": limits.reject.wanted,
            "review": limits.review.wanted,
        },
        "heat_range": model.detector.heat_range(model.inspection),
    }


def model_routes(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["models"])
    service = parts.service
    reloading = threading.Lock()

    @router.get(
        "/v1/models",
        dependencies=[Depends(parts.access.require("read"))],
        summary="The models, and what is in force",
        responses=errors(400, 401, 403),
        response_model=Models,
    )
    def models() -> dict[str, Any]:
        return {"models": [facts_of(model) for model in list(service.models.values())]}

    @router.post(
        "/v1/models/{name}/reload",
        dependencies=[Depends(parts.access.require("admin"))],
        summary="Load a model again from its path",
        description=(
            "The new file judges the next image. If it is damaged, sees another part of the image, "
            "or fails its check, the status is 409 and the old one goes on."
        ),
        responses=errors(400, 401, 403, 404, 409, 422),
        response_model=Reloaded,
    )
    def reload(name: str) -> dict[str, Any]:
        old = known_model(service, name)
        if not reloading.acquire(blocking=False):
            raise Refusal(409, "a model is being loaded already", "reload")
        try:
            new = loaded_again(parts, old)
            service.models[name] = new
        finally:
            reloading.release()
        return {
            "changed": new.sha256 != old.sha256,
            "before_sha256": old.sha256,
            "model": facts_of(new),
        }

    return router


def loaded_again(parts: Parts, old: ServedModel) -> ServedModel:
    """The model of the same path, checked, with the thresholds in force for its file.

    Raises:
        Refusal: it cannot take the place of the old one; the message says why.
    """
    try:
        new = parts.settings.load(old)
        if not new.same_place(old):
            raise UrdError("it has another image size or region of interest")
        trial(new)
        parts.service.station.refresh(new)
        failures = parts.settings.check(new) if parts.settings.check else []
    except UrdError as error:
        raise Refusal(409, f"not loaded, the old one goes on: {error}", "reload") from error
    if failures:
        raise Refusal(409, f"not loaded, it fails its check: {some(failures)}", "reload")
    return new
