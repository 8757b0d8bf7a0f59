"""Charts as inline SVG. CSS classes give the colours, so charts fit light, dark and print."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

_BINS = 44
_SMALLEST_SPAN = 1e-9
_WIDTH, _ROW, _LEFT, _RIGHT = 720, 62, 132, 12
_TOP, _BOTTOM = 26, 30
_CROWDED = 56


def histogram(
    groups: Sequence[tuple[str, str, Sequence[float]]], lines: Sequence[tuple[str, float]]
) -> str:
    """Histograms of several groups, one below the other, on one axis. Each fills its own height.

    Args:
        groups: (name, CSS class, values); empty groups are left out.
        lines: (name, value) of the thresholds, drawn through all rows.
    """
    groups = [group for group in groups if len(group[2])]
    every = np.concatenate([np.asarray(values, float) for _, _, values in groups])
    low, high = float(every.min()), float(every.max())
    high = max([high, *(value for _, value in lines)])
    # Scores that are all but equal get an axis too: a span near 0 would make places infinite.
    margin = 0.02 * (high - low) if high - low > _SMALLEST_SPAN else 0.5
    low, high = low - margin, high + margin
    edges = np.linspace(low, high, _BINS + 1)
    width = _WIDTH - _LEFT - _RIGHT
    bottom = _TOP + _ROW * len(groups)

    def x(value: float) -> float:
        return _LEFT + width * (value - low) / (high - low)

    parts = []
    for row, (name, style, values) in enumerate(groups):
        base = _TOP + _ROW * (row + 1)
        counts, _ = np.histogram(values, edges)
        for index in np.flatnonzero(counts):
            height = (_ROW - 16) * counts[index] / counts.max()
            parts.append(
                f'<rect class="{style}" x="{x(edges[index]):.1f}" y="{base - height:.1f}" '
                f'width="{width / _BINS - 0.8:.1f}" height="{height:.1f}"/>'
            )
        parts.append(f'<path class="axis" d="M{_LEFT} {base}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 10, base - 18, name, "end"))
        parts.append(_text(_LEFT - 10, base - 4, f"{len(values)} images", "end", "faint"))
    for value in sorted({value for _, value in lines}):
        parts.append(f'<path class="limit" d="M{x(value):.1f} {_TOP - 4}V{bottom}"/>')
    for at, name, anchor in _labels([(x(value), name) for name, value in lines]):
        parts.append(_text(at, _TOP - 8, name, anchor, "strong"))
    for tick in _ticks(low, high):
        parts.append(f'<path class="axis" d="M{x(tick):.1f} {bottom}v4"/>')
        parts.append(_text(x(tick), bottom + 17, f"{tick:g}", "middle", "faint"))
    return _svg(_WIDTH, bottom + _BOTTOM, parts, "Histogram of image scores")


def rate_curve(
    curve: tuple[Sequence[float], Sequence[float]], name: str, limit: float | None = None
) -> str:
    """A curve over false-positive rates from 0 to 1. The area up to `limit` is filled."""
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
    points = [place(0, 0), *map(place, xs[inside], ys[inside])]
    points += [place(filled_to, at_limit), place(filled_to, 0)]
    parts.append(f'<path class="area" d="M{"L".join(points)}Z"/>')
    parts.append(f'<path class="curve" d="M{"L".join(map(place, xs, ys))}"/>')
    parts.append(_text(left + size / 2, top + size + 34, "false-positive rate", "middle"))
    return _svg(left + size + 14, top + size + 42, parts, name)


def _labels(lines: Sequence[tuple[float, str]]) -> list[tuple[float, str, str]]:
    """(x, text, anchor) for the names of one or two lines, placed so that they do not overlap."""
    ordered = sorted(lines, key=lambda line: line[0])
    if len(ordered) != 2 or ordered[1][0] - ordered[0][0] > _CROWDED:
        return [(at, name, "middle") for at, name in ordered]
    (left, first), (right, second) = ordered
    return [(left - 3, first, "end"), (right + 3, second, "start")]


def _ticks(low: float, high: float) -> list[float]:
    """About six round numbers between `low` and `high`."""
    rough = (high - low) / 6
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda s: abs(s * power - rough))
    first = np.ceil(low / step)
    return [round(float(step * k), 10) for k in np.arange(first, np.floor(high / step) + 1)]


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
