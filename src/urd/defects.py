"""Defects: connected regions of an anomaly map, in the coordinates of the original image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Window = tuple[slice, slice]


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
) -> list[Defect]:
    """Regions of the map above `grow` whose peak is above `seed`, the largest first.

    An image whose score is up to `seed` has none. Regions that touch by a corner are one. A region
    ends at half of its peak where that is higher than `grow`: the blurred map of a strong defect
    stays above any fixed level far around it, and at half of its height it has the defect's width.

    Args:
        anomaly_map: (h, w).
        size: (H, W) of the original image.
        smallest_area: in pixels of the original image; smaller regions are left out.
    """
    scale_y, scale_x = (large / small for large, small in zip(size, anomaly_map.shape, strict=True))
    found = []
    for box, region in _regions(anomaly_map, min(grow, seed), seed):
        rows, columns = np.nonzero(region)
        values = anomaly_map[box][region]
        area = len(rows) * scale_x * scale_y
        if area < smallest_area:
            continue
        top, left = box[0].start, box[1].start
        found.append(
            Defect(
                box=(
                    left * scale_x,
                    top * scale_y,
                    box[1].stop * scale_x,
                    box[0].stop * scale_y,
                ),
                contour=_outline(region, (left, top), (scale_x, scale_y)),
                area=area,
                area_mm2=None if mm_per_pixel is None else area * mm_per_pixel**2,
                peak=float(values.max()),
                mean=float(values.mean(dtype=np.float64)),
                centroid=(
                    float(left + columns.mean() + 0.5) * scale_x,
                    float(top + rows.mean() + 0.5) * scale_y,
                ),
            )
        )
    return sorted(found, key=lambda defect: (-defect.area, defect.box))


def _regions(
    anomaly_map: NDArray[np.float32], level: float, seed: float
) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
    """Windows of the map, and which of their pixels belong to a defect.

    A region above `level` is bounded at half of its peak. What stays above `seed` without touching
    it was hidden in its slope, and is bounded by its own peak.
    """
    for window, region in _connected(anomaly_map > level):
        values = np.where(region, anomaly_map[window], -np.inf)
        peak = values.max()  # in the precision of the map, as the levels it is compared with
        if peak <= seed:
            continue
        core_level = max(level, peak / 2)
        if core_level == level:
            yield window, region
            continue
        core = values > core_level
        for inner, pixels in _connected(core):
            yield _within(window, inner), pixels
        for inner, pixels in _connected(values > seed):
            if not (core[inner] & pixels).any():
                hidden = np.where(pixels, values[inner], -np.inf)
                for deeper, of_it in _regions(hidden, seed, seed):
                    yield _within(_within(window, inner), deeper), of_it


def _connected(mask: NDArray[np.bool_]) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
    """The bounding window of each 8-connected region, and its pixels in it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    for index in range(1, count):
        left, top, width, height = (int(v) for v in stats[index, :4])
        window = (slice(top, top + height), slice(left, left + width))
        yield window, labels[window] == index


def _within(outer: Window, inner: Window) -> Window:
    """A window of a window, in the coordinates of the whole."""
    rows, columns = (
        slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True)
    )
    return rows, columns


def _outline(
    region: NDArray[np.bool_], corner: tuple[int, int], scale: tuple[float, float]
) -> list[tuple[float, float]]:
    """The outer contour through the middles of the border pixels."""
    contours, _ = cv2.findContours(
        region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    points = max(contours, key=len)[:, 0, :]
    return [
        (float(x + corner[0] + 0.5) * scale[0], float(y + corner[1] + 0.5) * scale[1])
        for x, y in points
    ]
