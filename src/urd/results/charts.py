"""Charts as inline SVG. CSS classes give the colours, so charts fit light, dark and print.

The colours of verdicts mean verdicts here too; everything else is drawn in neutral colours.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BINS = 44
_SMALLEST_SPAN = 1e-9
_WIDTH, _ROW, _LEFT, _RIGHT = 720, 62, 190, 12
_TOP, _BOTTOM = 26, 30
_CROWDED = 56
_NEUTRAL = "plain"  # the class of bars without verdicts
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_MOST_POINTS = 400


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name and its points, with rising `x`."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def histogram(
    groups: Sequence[tuple[str, Sequence[float]]], limits: tuple[float, float] | None = None
) -> str:
    """Histograms of several groups, one below the other, on one axis. Each fills its own height.

    Args:
        groups: (name, image scores); empty groups are left out.
        limits: the thresholds of REVIEW and NG, drawn through all rows. The bars then have the
            colours of the verdicts that these scores get.
    """
    groups = [group for group in groups if len(group[1])]
    every = np.concatenate([np.asarray(values, float) for _, values in groups])
    low, high = float(every.min()), float(every.max())
    high = max([high, *(limits or ())])
    # Scores that are all but equal get an axis too: a span near 0 would make places infinite.
    margin = 0.02 * (high - low) if high - low > _SMALLEST_SPAN else 0.5
    low, high = low - margin, high + margin
    edges = np.linspace(low, high, _BINS + 1)
    width = _WIDTH - _LEFT - _RIGHT
    bottom = _TOP + _ROW * len(groups)

    def x(value: float) -> float:
        return _LEFT + width * (value - low) / (high - low)

    parts = []
    for row, (name, values) in enumerate(groups):
        base = _TOP + _ROW * (row + 1)
        parts += _bars(np.asarray(values, float), limits, edges, base, x(low), width)
        parts.append(f'<path class="axis" d="M{_LEFT} {base}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 10, base - 22, name, "end"))
        parts.append(_text(_LEFT - 10, base - 5, _images(len(values)), "end", "faint"))
    lines = list(zip(("REVIEW", "NG"), limits, strict=True)) if limits else []
    if limits and limits[0] >= limits[1]:  # there is no REVIEW
        lines = lines[1:]
    for value in sorted({value for _, value in lines}):
        parts.append(f'<path class="limit" d="M{x(value):.1f} {_TOP - 4}V{bottom}"/>')
    for at, name, anchor in _labels([(x(value), name) for name, value in lines]):
        parts.append(_text(at, _TOP - 8, name, anchor, "strong"))
    for tick in _ticks(low, high):
        parts.append(f'<path class="axis" d="M{x(tick):.1f} {bottom}v4"/>')
        parts.append(_text(x(tick), bottom + 17, f"{tick:g}", "middle", "faint"))
    return _svg(_WIDTH, bottom + _BOTTOM, parts, "Histogram of image scores")


def _bars(
    values: np.ndarray,
    limits: tuple[float, float] | None,
    edges: np.ndarray,
    base: float,
    left: float,
    width: float,
) -> list[str]:
    """One row. In a bin with several verdicts, the parts of the bar lie on each other."""
    counts = [(_NEUTRAL, np.histogram(values, edges)[0])]
    if limits is not None:
        review, reject = limits
        zones = {
            "OK": values[values <= review],
            "REVIEW": values[(values > review) & (values <= reject)],
            "NG": values[values > max(review, reject)],
        }
        counts = [(verdict, np.histogram(part, edges)[0]) for verdict, part in zones.items()]
    highest = max(1, int(np.sum([count for _, count in counts], axis=0).max()))
    step = width / _BINS
    parts = []
    for index in range(_BINS):
        floor = float(base)
        for style, count in counts:
            height = (_ROW - 16) * count[index] / highest
            if height:
                floor -= height
                parts.append(
                    f'<rect class="{style}" x="{left + step * index:.1f}" y="{floor:.1f}" '
                    f'width="{step - 0.8:.1f}" height="{height:.1f}"/>'
                )
    return parts


def rate_curve(
    curve: tuple[Sequence[float], Sequence[float]],
    name: str,
    limit: float | None = None,
    points: Sequence[tuple[str, float, float]] = (),
) -> str:
    """A curve over false-positive rates from 0 to 1. The area up to `limit` is filled.

    Args:
        points: (verdict, false-positive rate, rate) of the operating points, drawn as dots.
    """
    size, left, top = 230, 40, 10

    def place(x: float, y: float) -> str:
        return f"{left + size * x:.1f} {top + size * (1 - y):.1f}"

    xs, ys = np.asarray(curve[0], float), np.asarray(curve[1], float)
    parts = []
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<path class="grid" d="M{place(0, share)}L{place(1, share)}"/>')
        parts.append(f'<path class="grid" d="M{place(share, 0)}L{place(share, 1)}"/>')
        parts.append(_text(left - 6, top + size * (1 - share) + 4, f"{share:g}", "end", "faint"))
        parts.append(_text(left + size * share, top + size + 16, f"{share:g}", "middle", "faint"))
    filled_to = 1.0 if limit is None else limit
    inside = xs <= filled_to
    at_limit = float(np.interp(filled_to, xs, ys))
    shape = [place(0, 0), *map(place, xs[inside], ys[inside])]
    shape += [place(filled_to, at_limit), place(filled_to, 0)]
    parts.append(f'<path class="area" d="M{"L".join(shape)}Z"/>')
    parts.append(f'<path class="curve" d="M{"L".join(map(place, xs, ys))}"/>')
    for verdict, x, y in points:
        at, height = left + size * x, top + size * (1 - y)
        parts.append(f'<circle class="{verdict}" cx="{at:.1f}" cy="{height:.1f}" r="5"/>')
    parts.append(_text(left + size / 2, top + size + 34, "false-positive rate", "middle"))
    return _svg(left + size + 14, top + size + 42, parts, name)


def line_chart(lines: Sequence[Line], name: str, *, logarithmic: bool = False) -> str:
    """Lines over the iterations of a training, told apart by dashes; their names are on top.

    Args:
        lines: at least one, each with at least one point.
        logarithmic: powers of ten on the vertical axis, if all values are positive.
    """
    size, height, left, top = 330, 190, 46, 12 + 16 * len(lines)
    xs = np.concatenate([np.asarray(line.x, float) for line in lines])
    ys = np.concatenate([np.asarray(line.y, float) for line in lines])
    logarithmic = logarithmic and bool(ys.min() > 0)
    high_x = max(float(xs.max()), 1.0)
    low, high = _span(ys, logarithmic)

    def place(x: float, y: float) -> str:
        y = np.log10(y) if logarithmic else y
        return f"{left + size * x / high_x:.1f} {top + height * (high - y) / (high - low):.1f}"

    parts = []
    for tick in _powers(low, high) if logarithmic else _ticks(low, high, 4):
        at = float(place(0, tick).split()[1])
        parts.append(f'<path class="grid" d="M{left} {at:.1f}H{left + size}"/>')
        parts.append(_text(left - 6, at + 4, f"{tick:g}", "end", "faint"))
    for tick in _ticks(0, high_x, 4):
        at = left + size * tick / high_x
        parts.append(f'<path class="axis" d="M{at:.1f} {top + height}v4"/>')
        parts.append(_text(at, top + height + 17, f"{tick:g}", "middle", "faint"))
    parts.append(f'<path class="axis" d="M{left} {top + height}H{left + size}"/>')
    for index, line in enumerate(lines):
        dash = f'stroke-dasharray="{_DASHES[index % len(_DASHES)]}"'
        points = _thinned(line)
        path = "L".join(place(x, y) for x, y in points)
        parts.append(f'<path class="curve" {dash} d="M{path}"/>')
        if len(points) == 1:
            across, down = path.split()
            parts.append(f'<circle class="dot" cx="{across}" cy="{down}" r="3"/>')
        key = 10 + 16 * index
        parts.append(f'<path class="curve" {dash} d="M{left} {key}h30"/>')
        parts.append(_text(left + 38, key + 4, f"{line.name}: {float(line.y[-1]):.4g}", "start"))
    parts.append(_text(left + size / 2, top + height + 34, "iteration", "middle"))
    return _svg(left + size + 16, top + height + 42, parts, name)


def _span(values: np.ndarray, logarithmic: bool) -> tuple[float, float]:
    """The ends of an axis with some room around the values."""
    if logarithmic:
        values = np.log10(values)
    low, high = float(values.min()), float(values.max())
    if not high - low > _SMALLEST_SPAN * max(1.0, abs(high)):
        return low - 0.5 * max(1.0, abs(low)), high + 0.5 * max(1.0, abs(high))
    room = 0.06 * (high - low)
    return low - room, high + room


def _thinned(line: Line) -> list[tuple[float, float]]:
    """The points, every n-th of many; the last one is always there."""
    points = list(zip(line.x, line.y, strict=True))
    step = -(-len(points) // _MOST_POINTS)
    return points[::step] + ([points[-1]] if (len(points) - 1) % step else [])


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _labels(lines: Sequence[tuple[float, str]]) -> list[tuple[float, str, str]]:
    """(x, text, anchor) for the names of one or two lines, placed so that they do not overlap."""
    ordered = sorted(lines, key=lambda line: line[0])
    if len(ordered) != 2 or ordered[1][0] - ordered[0][0] > _CROWDED:
        return [(at, name, "middle") for at, name in ordered]
    (left, first), (right, second) = ordered
    return [(left - 3, first, "end"), (right + 3, second, "start")]


def _ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` round numbers between `low` and `high`."""
    rough = (high - low) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda s: abs(s * power - rough))
    first = np.ceil(low / step)
    return [round(float(step * k), 10) for k in np.arange(first, np.floor(high / step) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten inside of a logarithmic axis; powers alone if there are many.

    `low` and `high` are logarithms.
    """
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    every = [float(f"{step}e{power}") for power in powers for step in steps]
    inside = [value for value in every if value > 0 and low <= np.log10(value) <= high]
    return inside[:: -(-len(inside) // 8)] if inside else []


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" '
        f'aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
    )
