"""Routes for thresholds: what is in force, what others would do, and a change with its reason."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from urd.errors import UsageError
from urd.inspection.calibration import Calibration, Limit, Thresholds
from urd.serving.http.page_answers import (
    Change,
    ChangeRequest,
    LimitFacts,
    Pair,
    PreviewAnswer,
    PreviewRequest,
    Scores,
    ThresholdFacts,
    Wanted,
)
from urd.serving.http.plain_route import PlainRoute, Refused, Require, documented, only
from urd.serving.served_model import ServedModel
from urd.serving.service import Service
from urd.serving.threshold_preview import preview

_MOST_GOOD = 2000
_ModelName = Annotated[str, Path(min_length=1, max_length=200, description="name of the model")]


def threshold_routes(service: Service, require: Require) -> APIRouter:
    """Scores and thresholds of the models of a line."""
    router = APIRouter(prefix="/v1/models/{name}", route_class=PlainRoute, tags=["thresholds"])
    read = [Depends(require("read"))]
    one_at_a_time = threading.Lock()

    def current(name: str) -> ServedModel:
        """The model, with the thresholds that the store has now."""
        if name not in service.models:
            raise Refused(404, f"there is no model {name[:80]!r}")
        model = service.models[name]
        service.station.refresh(model)
        return model

    @router.get("/scores", dependencies=read, responses=documented(404))
    def scores(name: _ModelName, last: Annotated[int, Query(ge=1, le=10_000)] = 500) -> Scores:
        """The scores of the last parts, and of the good images of the calibration."""
        model = current(name)
        return Scores(
            scores=[list(pair) for pair in service.store.scores(model.sha256, last)],
            thresholds=model.facts(),
            good=_thinned(calibration_of(model).scores),
        )

    @router.get("/thresholds", dependencies=read, responses=documented(404))
    def thresholds(name: _ModelName) -> ThresholdFacts:
        """The thresholds in force, those of the calibration, and who changed them."""
        return _facts(service, current(name))

    @router.post(
        "/thresholds/preview", dependencies=read, responses=documented(404, 409, body=True)
    )
    def try_out(name: _ModelName, wanted: PreviewRequest) -> PreviewAnswer:
        """What other thresholds would do to the last parts; it changes nothing."""
        model = current(name)
        new = _wanted(model, wanted)
        found = preview(service.store.scores(model.sha256, wanted.last), model.thresholds, new)
        return PreviewAnswer.model_validate({**asdict(found), "thresholds": _pair(new)})

    @router.post(
        "/thresholds",
        dependencies=[Depends(require("admin"))],
        responses=documented(404, 409, body=True),
    )
    def change(name: _ModelName, wanted: ChangeRequest) -> ThresholdFacts:
        """Put thresholds in force, if nobody has changed them since the person saw them."""
        with one_at_a_time:
            model = current(name)
            if model.change != wanted.change_seen:
                raise Refused(
                    409, "another person has changed the thresholds: look at them again, then apply"
                )
            _wanted(model, wanted)
            service.store.change_thresholds(
                name, model.sha256, wanted.review, wanted.reject, wanted.person, wanted.reason
            )
            service.station.refresh(model)
        return _facts(service, model)

    only(router, "/thresholds", "GET", "POST")
    return router


def calibration_of(model: ServedModel) -> Calibration:
    calibration = model.detector.header.calibration
    assert calibration is not None  # a served model has one
    return calibration


def _calibrated(model: ServedModel) -> Thresholds:
    as_calibrated = replace(model.inspection, review_at=None, reject_at=None)
    return as_calibrated.thresholds(calibration_of(model))


def _wanted(model: ServedModel, wanted: Wanted) -> Thresholds:
    """The thresholds that a person wants.

    Raises:
        Refused: only one is given, or reject is below review.
    """
    try:
        inspection = replace(model.inspection, review_at=wanted.review, reject_at=wanted.reject)
        return inspection.thresholds(calibration_of(model))
    except UsageError as error:
        raise Refused(409, str(error)) from error


def _facts(service: Service, model: ServedModel) -> ThresholdFacts:
    changes = service.store.threshold_changes(model.sha256)
    return ThresholdFacts(
        model=model.name,
        model_sha256=model.sha256,
        change=model.change,
        in_force=_pair(model.thresholds),
        calibrated=_pair(_calibrated(model)),
        good=len(calibration_of(model).scores),
        changes=[Change.model_validate(change) for change in changes],
    )


def _pair(thresholds: Thresholds) -> Pair:
    return Pair(review=_limit(thresholds.review), reject=_limit(thresholds.reject))


def _limit(limit: Limit) -> LimitFacts:
    return LimitFacts(threshold=limit.threshold, expected=limit.expected, bound=limit.bound)


def _thinned(scores: tuple[float, ...]) -> list[float]:
    """The scores, or 2,000 of them at even steps with the lowest and the highest."""
    n = len(scores)
    if n <= _MOST_GOOD:
        return list(scores)
    return [scores[i * (n - 1) // (_MOST_GOOD - 1)] for i in range(_MOST_GOOD)]
