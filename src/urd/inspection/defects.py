"""Defects: connected regions of an anomaly map, in the coordinates of the original image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# A region ends where the map falls below this share of the highest value nearby. This edge is
# outside the true edge of the defect: the map is blurred (sigma 4), and a feature also depends on
# the pixels around it. The distance is about 10 pixels (`SPREAD`) for strong defects and less for
# faint or small ones. So a border of 10 pixels is peeled off, but at most half of the depth
# (`_DEPTH`). The values were chosen on defects and squares drawn on good training images.
_SHARE = 0.5
SPREAD = 10.0
_DEPTH = 0.5
_TOP = 0.9  # pixels above this share of the highest value nearby are never peeled off
_AROUND = 16  # "nearby", in pixels of the map: four standard deviations of its blur


@dataclass(frozen=True)
class Defect:
    """One region. Points are (x, y) in pixels of the original image, from its upper left corner.

    Attributes:
        box: left, top, right, bottom; right and bottom are exclusive.
        contour: outline as a list of points.
        area: in pixels; `area_mm2` is in mm2, `None` if the scale is not known.
        peak, mean: highest and mean value of the anomaly map inside.
        centroid: centre of mass of the region.
    """

    box: tuple[float, float, float, float]
    contour: list[tuple[float, float]]
    area: float
    area_mm2: float | None
    peak: float
    mean: float
    centroid: tuple[float, float]

    @property
    def corner(self) -> tuple[float, float]:
        """The point of the outline that is furthest to the upper left: its number stands there."""
        return min(self.contour, key=lambda point: point[0] + point[1])


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
    """Regions of the map above `grow` with a peak above `seed`, the highest peak first.

    An image with a score up to `seed` has none. Regions that touch at a corner are one region. A
    region also ends where the map falls below half of its highest value within 16 pixels, because
    the map of a strong defect stays above any fixed level far around it. Then a border of up to
    `spread` pixels is peeled off.

    Args:
        anomaly_map: (h, w), 0 outside of `roi`.
        size: (H, W) of the original image.
        smallest_area: in pixels of the original image; smaller regions are left out.
        spread: the widest border to peel off, in pixels of the map.
        roi: (h, w) bool, the inspected pixels; `None`: all.
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
    return sorted(found, key=lambda defect: (-defect.peak, -defect.area, defect.box))


def _components(
    anomaly_map: NDArray[np.float32],
    level: float,
    seed: float,
    spread: float,
    roi: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    """1 where the map is above `level` and half of the peak nearby, without the peeled border."""
    if anomaly_map.max() <= seed:
        return np.zeros(anomaly_map.shape, np.uint8)
    around = _highest_around(anomaly_map)
    wide = ((anomaly_map > level) & (anomaly_map >= _SHARE * around)).astype(np.uint8)
    # Peeling does not start at the border of the inspected area: the defect may continue there.
    # OpenCV measures the distance to zeros only, so the border of the image does not count either.
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
