"""Prices and latencies of the runs of a config over time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import matplotlib.dates as mdates
import pandas as pd
from matplotlib.axes import Axes

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.charts.panels import panels
from helpers.report.charts.scale import axis_top
from helpers.report.charts.style import bars, by_option, colour, marker, ranges
from helpers.report.display import Figure

RING_AREA = 130
MOST_TICKS = 5
CAPTION = (
    "Lower is better. Bars are intervals. A ring: at some load this is really different from the run before, by the rule of the "
    "table below. Hollow: not shown to meet the SLO there. A line that skips a run has no value in it."
)


def over_time(
    name: str, rows: pd.DataFrame, unit: str, what: str, config: BenchmarkConfig, folder: Path, title: str
) -> Figure:
    """`value` (with `value_low`, `value_high`) of each option over `at`, one panel per dataset. Columns: option, dataset, at,
    `is_shown` to meet the SLO, `has_changed` for real.
    """

    def draw(axes: Axes, dataset: str, mine: pd.DataFrame) -> None:
        mine = mine[mine["value"].notna()]
        for option, its in by_option(mine, config):
            ink, sign = colour(option, config), marker(option, config)
            axes.errorbar(
                its["at"],
                its["value"],
                yerr=bars(its, "value"),
                color=ink,
                marker=sign,
                elinewidth=0.8,
                capsize=2,
                label=option,
            )
            open_ones, changed = its[~its["is_shown"]], its[its["has_changed"]]
            axes.plot(
                open_ones["at"], open_ones["value"], sign, markerfacecolor="#ffffff", markeredgecolor=ink, zorder=5
            )
            axes.scatter(
                changed["at"],
                changed["value"],
                s=RING_AREA,
                facecolors="none",
                edgecolors="#000000",
                zorder=6,
                gid="ring",
            )
        locator = mdates.AutoDateLocator(minticks=2, maxticks=MOST_TICKS)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))
        axes.margins(x=0.08)
        axes.set_ylim(0, max(axis_top(mine, "value"), mine["value"].max() * 1.08) if len(mine) else 1)
        axes.set_ylabel(unit)

    rows = rows.assign(value=rows["value"].astype(float).where(lambda value: value < math.inf))
    known = rows[rows["value"].notna()]
    alt = f"{what} of each option over the runs, smallest to largest: {ranges(known, 'value', '', config)}"
    caption = CAPTION
    if unknown := int(rows["value"].isna().sum()):
        missing = f"{text.plural(unknown, 'value')}, without a load within the SLO, without this measure, or infinite"
        caption += f" Missing: {missing}."
    return replace(panels(name, rows, config, folder, draw, alt, caption), title=title)
