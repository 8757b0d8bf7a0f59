"""Defects: connected regions of an anomaly map, in the coordinates of the original image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# A region ends where the map has fallen to this share of the highest value around. That is outside
# the edge of what caused it: the map is blurred (sigma 4), and the features of a place depend on
# what is around it. Some 10 pixels for strong defects, less for faint and small ones, of which half
# of what is left is kept. Chosen on defects and squares drawn on good training images.
_SHARE = 0.5
SPREAD = 10.0
_DEPTH = 0.5
_TOP = 0.9  # of the highest value around: never peeled off
_AROUND = 16  # pixels of the map, four deviations of its blur


@dataclass(frozen=True)
class Defect:
    """One region. Places are (x, y) in pixels of the original image, from its upper left corner.

    Attributes:
        box: left, top, right, bottom; the right and the bottom edge are outside.
        contour: outline as a list of points.
        area: in pixels; `area_mm2` where a scale is known.
        peak, mean: of the anomaly map inside.
        centroid: centre of mass of the region.
    """

    box: tuple[float, float, float, float]
    contour: list[tuple[float, float]]
    area: float
    area_mm2: float | None
    peak: float
    mean: float
    centroid: tuple[float, float]


def find_defects(
    anomaly_map: NDArray[np.float32],
    size: tuple[int, int],
    *,
    grow: float,
    seed: float,
    smallest_area: float = 0.0,
    mm_per_pixel: float | None = None,
    spread: float = SPREAD,
    roi: NDArray[np.bool_] | None = None,
) -> list[Defect]:
    """Regions of the map above `grow` whose peak is above `seed`, the largest first.

    An image whose score is up to `seed` has none. Regions that touch by a corner are one. A region
    ends where the map falls below half of its highest value within 16 pixels, where that is above
    `grow` (the map of a strong defect stays above any fixed level far around it), less `spread`.

    Args:
        anomaly_map: (h, w), 0 outside of `roi`, what is inspected; `None`: all of it.
        size: (H, W) of the original image.
        smallest_area: in pixels of the original image; smaller regions are left out.
        spread: by how many pixels of the map the half height lies outside the defect at most.
    """
    scale_y, scale_x = (large / small for large, small in zip(size, anomaly_map.shape, strict=True))
    mask = _components(anomaly_map, min(grow, seed), seed, spread, roi)
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found = []
    for index in range(1, count):
        left, top, width, height, pixels = (int(v) for v in stats[index])
        inside = np.s_[top : top + height, left : left + width]
        defect = labels[inside] == index
        values = anomaly_map[inside][defect]
        area = pixels * scale_x * scale_y
        if values.max() <= seed or area < smallest_area:
            continue
        centre_x, centre_y = centroids[index]
        found.append(
            Defect(
                box=(
                    left * scale_x,
                    top * scale_y,
                    (left + width) * scale_x,
                    (top + height) * scale_y,
                ),
                contour=_outline(defect, (left, top), (scale_x, scale_y)),
                area=area,
                area_mm2=None if mm_per_pixel is None else area * mm_per_pixel**2,
                peak=float(values.max()),
                mean=float(values.mean(dtype=np.float64)),
                centroid=((centre_x + 0.5) * scale_x, (centre_y + 0.5) * scale_y),
            )
        )
    return sorted(found, key=lambda defect: (-defect.area, defect.box))


def _components(
    anomaly_map: NDArray[np.float32],
    level: float,
    seed: float,
    spread: float,
    roi: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    """1 where the map is above `level`, half as high as around, and deep enough inside of that."""
    if anomaly_map.max() <= seed:
        return np.zeros(anomaly_map.shape, np.uint8)
    around = _highest_around(anomaly_map)
    wide = ((anomaly_map > level) & (anomaly_map >= _SHARE * around)).astype(np.uint8)
    # The edge of the image, or of what is inspected, is no edge of a region.
    filled = wide if roi is None else wide | ~roi
    depth = cv2.distanceTransform(filled, cv2.DIST_L2, cv2.DIST_MASK_5)
    depth = depth.astype(np.float32, copy=False) * wide
    deep = depth > np.minimum(spread, _DEPTH * _highest_around(depth))
    return (wide & (deep | (anomaly_map >= _TOP * around))).astype(np.uint8)


def _highest_around(values: NDArray[np.float32]) -> NDArray[np.float32]:
    side = 2 * _AROUND + 1
    highest = cv2.dilate(values, np.ones((side, side), np.uint8))
    return highest.astype(np.float32, copy=False)


def _outline(
    component: NDArray[np.bool_], corner: tuple[int, int], scale: tuple[float, float]
) -> list[tuple[float, float]]:
    """The outer contour through the middles of the border pixels."""
    contours, _ = cv2.findContours(
        component.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    points = max(contours, key=len)[:, 0, :]
    return [
        (float(x + corner[0] + 0.5) * scale[0], float(y + corner[1] + 0.5) * scale[1])
        for x, y in points
    ]
