"""How many iterations a training has: as planned, or more while it still gets better.

The measure is the mean distance of student and teacher on held-out good images. It falls like a
power of the iterations, so it is compared between one iteration and the one at half of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from urd.config import FitConfig

_LOOK = 0.7  # of the iterations: after it the schedule `decay` lets the rates fall
_STILL_FALLS = 0.85  # the distance after twice the iterations is below this share of it


@dataclass
class Plan:
    """The planned iterations of a training.

    Attributes:
        iterations: so many; it doubles in `look` while held-out images get better.
        most: the limit of that; at most `iterations`: the plan never grows.
        distances: on held-out good images, by iteration.
    """

    iterations: int
    most: int = 0
    distances: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, config: FitConfig, images: int, planned: int | None = None) -> Plan:
        """The plan of these settings for a number of training images.

        A resumed training gives what it had `planned`.
        """
        passes = math.ceil(config.epochs * images / config.batch_size)
        return cls(planned or max(config.iterations, passes), config.most_iterations)

    def look(self, done: int) -> bool:
        """Decide before the learning rates fall; returns whether the plan has grown."""
        due = done == max(1, int(_LOOK * self.iterations))
        if not due or self.iterations >= self.most or not self.still_falls():
            return False
        self.iterations = min(self.most, 2 * self.iterations)
        return True

    def still_falls(self) -> bool:
        """Whether the distance at full rates fell clearly between the half and the last one."""
        known = [n for n in self.distances if n <= _LOOK * self.iterations]
        last = max(known, default=0)
        half = max((n for n in known if n <= last / 2), default=0)
        if half == 0:
            return False
        return self.distances[last] < _STILL_FALLS * self.distances[half]
