"""Drawings by matplotlib as SVG: of a file, and of a page whose colours they take."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]
# Drawn in these, and written as the page's own, which are others in the dark.
_LINES = ("#0000c0", "#0000c1", "#0000c2", "#0000c3")
_TEXT, _GRID = "#0000e0", "#0000e1"
_OF_PAGE = {colour: f"var(--c{i})" for i, colour in enumerate(_LINES)} | {
    _TEXT: "var(--muted)",
    _GRID: "var(--line)",
}
_FEW = 30  # points of a line that has a dot for each
_TOLD = 120  # points of a line that say their value under the pointer


def svg_file(figure: Figure) -> str:
    """A figure as the text of an SVG file: words as text, and the same bytes each time."""
    import matplotlib

    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # Points within half a pixel of the line are left out: a line of 100,000 steps is 60 KB.
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "xlam", "path.simplify_threshold": 0.5}
    ):
        figure.savefig(text, format="svg", metadata=nothing)
    return text.getvalue()


def line_chart(series: Mapping[str, Points], *, x_label: str = "step") -> str:
    """Lines over common axes, as an `<svg>` for a page with the colours --c0 to --c3, --muted and --line.

    Args:
      series: name -> (x, y) in the order of x. Values that are not finite leave a gap.

    Returns:
      "" without a value.
    """
    if not any(math.isfinite(y) for points in series.values() for _, y in points):
        return ""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 2.3), facecolor="none")
    axes = figure.add_axes((0.1, 0.12, 0.88, 0.85), facecolor="none")
    for i, points in enumerate(series.values()):
        ys = [y if math.isfinite(y) else math.nan for _, y in points]
        dot = "o" if len(points) <= _FEW else ""
        axes.plot([x for x, _ in points], ys, dot + "-", color=_LINES[i % 4], linewidth=1.4, markersize=4)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}")
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.tick_params(length=0, colors=_TEXT, labelsize=8)
    figure.text(0.005, 0.062, x_label, color=_TEXT, fontsize=8)
    svg = _for_page(svg_file(figure), ", ".join(series))
    values = "".join(_values(figure, axes, name, points, x_label) for name, points in series.items())
    return svg.replace("</svg>", values + "</svg>")


def _values(figure: Figure, axes: Axes, name: str, points: Points, x_label: str) -> str:
    """A circle that nobody sees around some points of a line, with what the pointer is told there."""
    to_figure = axes.transData - figure.transFigure
    width, height = 72 * figure.get_size_inches()  # an SVG of matplotlib has 72 units an inch
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    told = finite[:: -(-len(finite) // _TOLD) or 1]
    if len(told) < len(finite):  # of a long line also its ends and extremes
        told += [finite[-1], min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])]
    circles = []
    for x, y in told:
        at, up = to_figure.transform((x, y))
        circles.append(
            f'<circle cx="{width * at:.1f}" cy="{height * (1 - up):.1f}" r="5" fill="none" pointer-events="all">'
            f"<title>{escape(f'{x_label} {x:,.10g}: {y:,.5g}, {name}')}</title></circle>"
        )
    return "".join(circles)


def _for_page(svg: str, label: str) -> str:
    """The element alone, as wide as its place. Names and styles of the file would be those of the whole page."""
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"|font-family: [^;]*; ', lambda m: "<g" if m[0][0] == "<" else "", svg)
    for colour, name in _OF_PAGE.items():
        svg = svg.replace(colour, name)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box
    return f'<svg {box[0]} role="img" aria-label="{escape(label)}">' + svg[svg.index(">") + 1 :]
