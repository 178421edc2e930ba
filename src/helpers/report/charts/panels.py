"""Figures with one panel per dataset and a line per option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullLocator

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.formulas import CLIENT_LIMITED
from helpers.report.charts.line_names import name_lines
from helpers.report.charts.scale import axis_top, end_at, has_failed, mark_open_ends
from helpers.report.charts.style import bars, by_option, colour, marker, save, style, width_below
from helpers.report.display import Figure

PANEL_INCHES = (4.1, 3.3)
PANELS_PER_ROW = 3
NARROWEST_INCHES = 6.2
LOGARITHMIC_FROM = 20
"""Ratio of the highest to the lowest level from which the axis is logarithmic."""
MARKER_PT, WIDER = 5.0, 0.5
"""Size of a mark, and the share of it by which one is larger than another that hides it."""
SAME_PLACE = 0.012
"""Share of the axis within which marks hide one another."""
TICK_GAP = 0.07
"""Least share of the axis between two ticks."""


def panels(
    name: str,
    rows: pd.DataFrame,
    config: BenchmarkConfig,
    folder: Path,
    draw: Callable[[Axes, str, pd.DataFrame], None],
    alt: str,
    caption: str,
    legend: bool = True,
) -> Figure:
    """One panel per dataset, with the names of the lines."""
    datasets = [dataset.name for dataset in config.judged_datasets]
    across = min(PANELS_PER_ROW, len(datasets))
    down = -(-len(datasets) // across)
    with style():
        width = max(PANEL_INCHES[0] * across, NARROWEST_INCHES)
        canvas = Canvas(figsize=(width, PANEL_INCHES[1] * down), layout="constrained")
        for i, dataset in enumerate(datasets):
            axes = canvas.add_subplot(down, across, i + 1)
            axes.set_title(dataset, loc="left", fontweight="bold")
            draw(axes, dataset, rows[rows["dataset"] == dataset])
            if i % across:
                axes.set_ylabel("")  # that of the row's first
        if legend:
            name_lines(canvas, canvas.axes[across - 1])
        path = save(canvas, folder, name)
    return Figure(path, alt, caption)


def lines(axes: Axes, rows: pd.DataFrame, y: str, config: BenchmarkConfig, top: float | None = None) -> None:
    """A line per option over the levels of the load; `top`: the end of the axis, default the values' but for far ones."""
    top = axis_top(rows, y) if top is None else top
    known = dict(by_option(rows, config))
    for i, (name, mine) in enumerate(known.items()):
        on_it = sum(_hides(other, mine, y, top) for other in list(known.values())[i + 1 :])
        axes.errorbar(
            mine["level"],
            mine[y],
            yerr=bars(mine, y),
            color=colour(name, config),
            marker=marker(name, config),
            lw=width_below(on_it, len(known)),
            ms=MARKER_PT * (1 + WIDER * on_it),
            elinewidth=0.8,
            capsize=2,
            label=name,
        )
        mark_open_ends(axes, mine, y, colour(name, config))
    cross_out(axes, rows, y)
    axes.set_xlabel(config.load.level_name)
    if len(rows):
        axes.set_xscale("log" if is_wide(rows) else "linear")
        axes.set_xticks(ticks(rows), labels=[level_text(level) for level in ticks(rows)])
        axes.xaxis.set_minor_locator(NullLocator())
    end_at(axes, rows, y, top)


def _hides(upper: pd.DataFrame, lower: pd.DataFrame, y: str, top: float) -> bool:
    """Does one line lie on another at all of its levels?"""
    both = lower.merge(upper, on="level", suffixes=("", "_upper"))
    return len(both) == len(lower) and bool((np.abs(both[y] - both[f"{y}_upper"]) < SAME_PLACE * top).all())


def is_wide(rows: pd.DataFrame) -> bool:
    """Do the levels span so much that their axis is logarithmic?"""
    return rows["level"].max() >= LOGARITHMIC_FROM * rows["level"].min()


def ticks(rows: pd.DataFrame) -> list[float]:
    """The levels that are marked on the axis."""
    return spaced(sorted(rows["level"].unique()), logarithmic=is_wide(rows))


def spaced(levels: list[float], logarithmic: bool) -> list[float]:
    """Of ascending levels those that may stand as ticks without touching: the highest, and down from there."""
    places = np.log(levels) if logarithmic else np.array(levels, dtype=float)
    least = TICK_GAP * (places[-1] - places[0])
    kept = [len(levels) - 1]
    for i in range(len(levels) - 2, -1, -1):
        if places[kept[-1]] - places[i] >= least:
            kept.append(i)
    return [levels[i] for i in reversed(kept)]


def level_text(level: float) -> str:
    """A level beside a point or under a tick, with at most four digits that count."""
    return f"{float(f'{level:.4g}'):g}"


def cross_out(axes: Axes, rows: pd.DataFrame, y: str) -> None:
    """Cross out the load points that the client limited, and put a plus on those that failed."""
    for some, sign in ((rows[rows["slo"] == CLIENT_LIMITED], "x"), (rows[has_failed(rows)], "+")):
        if len(some):
            axes.scatter(
                some["level"], some[y], marker=sign, color="black", s=45, linewidths=1.3, zorder=6, gid=f"sign {sign}"
            )


def crossed_out(rows: pd.DataFrame) -> str:
    """What a caption says of them."""
    said = " Crossed out: limited by the client, not judged." if (rows["slo"] == CLIENT_LIMITED).any() else ""
    if has_failed(rows).any():
        said += " With a plus: more requests failed than the limit allows, which does not stretch the axes."
    return said
