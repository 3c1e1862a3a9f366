"""Line charts as SVG text: no script, colours from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT = 640, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 10, 30
_MOST = 600


def line_chart(series: dict[str, Points], *, x_label: str = "step") -> str:
    """One SVG of lines over common axes; values that are not finite leave a gap. Empty without a value.

    Args:
      series: name -> (x, y) in the order of x. Lines of few points get dots.
    """
    found = {name: thin(points) for name, points in series.items()}
    values = [(x, y) for points in found.values() for x, y in points if math.isfinite(y)]
    if not values:
        return ""
    (x0, x1), xs = _axis([x for x, _ in values], whole=True)
    (y0, y1), ys = _axis([y for _, y in values])

    def px(x: float) -> float:
        return _LEFT + (x - x0) / (x1 - x0) * (_WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - y0) / (y1 - y0) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(", ".join(found))}">']
    for y in ys:
        parts.append(f'<path class="grid" d="M{_LEFT} {py(y):.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{_number(y)}</text>')
    for x in xs:
        parts.append(f'<text x="{px(x):.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{_number(x)}</text>')
    parts.append(f'<text x="{_LEFT - 14}" y="{_HEIGHT - 12}" text-anchor="end">{escape(x_label)}</text>')
    for i, (name, points) in enumerate(found.items()):
        parts.append(f'<g class="line c{i % 4}"><title>{escape(name)}</title>')
        for piece in _pieces(points):
            parts.append(f'<path d="M{"L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in piece)}"/>')
            if len(points) <= 30:
                parts += [
                    f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="2.5">'
                    f"<title>{_number(x)}: {_number(y)}</title></circle>"
                    for x, y in piece
                ]
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def thin(points: Points) -> list[tuple[float, float]]:
    """At most about `_MOST` points: of each stretch the lowest and the highest, so that no spike is lost."""
    size = math.ceil(2 * len(points) / _MOST)
    if size <= 2:
        return list(points)
    kept = []
    for start in range(0, len(points), size):
        part = [p for p in points[start : start + size] if math.isfinite(p[1])] or [points[start]]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def _pieces(points: Points) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            pieces[-1].append(point)
        else:
            pieces.append([])
    return [p for p in pieces if p]


def _axis(values: Sequence[float], whole: bool = False) -> tuple[tuple[float, float], list[float]]:
    """Range and ticks, at round numbers."""
    low, high = min(values), max(values)
    if high == low:
        high, low = (high + 1, low - 1) if whole else (high + abs(high or 1) / 2, low - abs(low or 1) / 2)
    raw = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw * 0.999)
    step = max(step, 1.0) if whole else step
    if whole:
        ticks = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    else:  # the range ends at ticks
        ticks = range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)
        low, high = ticks[0] * step, ticks[-1] * step
    return (low, high), [k * step for k in ticks]


def _number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"
