"""The names of the lines of a figure: at their ends where they are few, else in a legend above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch

FEW, SIDE = 6, 0.24
"""Lines that are named at their ends, and the share of the figure that their names may take."""
LEGEND_CHARACTERS_PER_INCH = 15
SIZE_PT, CHARACTER_PT, LINE_PT = 8, 4.9, 11
"""Of the letters, the mean width of one, and least distance from one name to the next."""
POINTS_PER_INCH = 72


def name_lines(canvas: Canvas, beside: Axes) -> None:
    """Name what has a label on any axes: right of the axes `beside`, each at the height of its line's end or as near as the
    others let it. A legend where there are many, a name is long, a line is not on those axes, or all end at one height.
    """
    named = {label: handle for axes in canvas.axes for handle, label in _labelled(axes)}
    here = {label: _end(handle) for handle, label in _labelled(beside)}
    if not named:
        return
    canvas.get_layout_engine().execute(canvas)  # axes have their places from now on
    ends = np.array([here.get(label) or (np.nan, np.nan) for label in named], dtype=float)
    heights = beside.transAxes.inverted().transform(beside.transData.transform(ends))[:, 1]
    if (
        len(named) > FEW
        or max(map(len, named)) * CHARACTER_PT > SIDE * canvas.get_figwidth() * POINTS_PER_INCH
        or not np.isfinite(heights).all()
        or (np.ptp(heights) == 0 and len(named) > 1)
    ):
        _legend_above(canvas, named)
        return
    height_pt = beside.get_window_extent().height / canvas.dpi * POINTS_PER_INCH
    order = np.argsort(heights, kind="stable")
    for i, place in zip(order, _apart(heights[order], LINE_PT / height_pt), strict=True):
        label = list(named)[i]
        beside.annotate(
            label,
            ends[i],
            (1.03, place),
            textcoords="axes fraction",
            va="center",
            fontsize=SIZE_PT,
            arrowprops={
                "arrowstyle": "-",
                "color": _colour(named[label]),
                "lw": 0.7,
                "shrinkA": 1,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def _legend_above(canvas: Canvas, named: dict[str, Artist]) -> None:
    fitting = int(canvas.get_figwidth() * LEGEND_CHARACTERS_PER_INCH / (max(map(len, named)) + 6))
    columns = max(1, min(4, len(named), fitting))
    canvas.legend(named.values(), named, loc="outside upper left", ncols=columns, fontsize=SIZE_PT)


def _labelled(axes: Axes) -> list[tuple[Artist, str]]:
    return list(zip(*axes.get_legend_handles_labels(), strict=True))


def _line(handle: Artist) -> Artist:
    return handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle


def _colour(handle: Artist) -> object:
    line = _line(handle)
    return line.get_color() if isinstance(line, Line2D) else line.get_edgecolor()


def _end(handle: Artist) -> tuple[float, float] | None:
    """The last place of a line, in data; None of what is no line."""
    line = _line(handle)
    if isinstance(line, StepPatch):
        steps = line.get_data()
        return float(steps.edges[-1]), float(steps.values[-1])
    if not isinstance(line, Line2D):
        return None
    known = [(x, y) for x, y in np.asarray(line.get_xydata(), dtype=float) if np.isfinite(x) and np.isfinite(y)]
    return known[-1] if known else None


def _apart(heights: Sequence[float], least: float) -> np.ndarray:
    """Ascending heights between 0 and 1, moved so that each is at least so far above the one before."""
    places = np.clip(heights, 0, 1)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + least)
    places[-1] = min(places[-1], 1.0)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - least)
    return places
