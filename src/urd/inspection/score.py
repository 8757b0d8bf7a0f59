"""The score: how map and image score are made of features. It stands in the model's header."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from urd.system.schema import Checked, check

Name = Literal["paper", "weighted", "squared", "memory"]
Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Score(Checked):
    """A weighted sum of distances, and what of this map is the score of the image.

    Attributes:
        name: of the distance between student and teacher (`urd.inspection.scoring.DISTANCES`), as
            `--score` names it; `memory`: there is no student.
        levels: weights of the three levels of this distance; all 0: without student.
        memory: weight of the distance to the memory bank; 0: without.
        top: the image's score is the mean of this share of its map, the highest values; 0: of the
            single highest one.
    """

    name: Name = "paper"
    levels: tuple[Weight, Weight, Weight] = (1.0, 1.0, 1.0)
    memory: Weight = 0.0
    top: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Score:
        """The result of `model_dump`, from JSON; missing fields are those of the paper.

        Raises:
            ValueError: the content does not fit; one line names the first wrong field.
        """
        if isinstance(content.get("levels"), list):
            content = {**content, "levels": tuple(content["levels"])}
        score: Score = check(Score, content)
        return score


PAPER = Score()
