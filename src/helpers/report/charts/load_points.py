"""Figures of load points: latency, throughput and errors against the load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from helpers.config.benchmark import BenchmarkConfig
from helpers.report.charts.labels import Box, Labels
from helpers.report.charts.line_names import CHARACTER_PT, SIZE_PT
from helpers.report.charts.panels import crossed_out, lines, panels
from helpers.report.charts.scale import axis_top, open_ended, with_limit
from helpers.report.charts.style import LATENCY_WORDS, LIMIT_COLOUR, by_option, left_out, ranges
from helpers.report.columns import interval_words
from helpers.report.display import Figure
from helpers.verdict.chosen_points import main_latency

PANEL_PT, MARK_PT = (230.0, 170.0), 4.0
"""Least size of the axes of a panel, and half of a mark."""


def latency_to_draw(points: pd.DataFrame, config: BenchmarkConfig) -> tuple[str, str]:
    """Column and words of the latency that figures show: the SLO's percentile, or the mean of the successes where imported
    results do not hold the percentile of every load point.
    """
    column = main_latency(config)
    percentile = f"{column}_p{config.slo.percentile:g}"
    unknown_there = points[percentile].isna() & points[f"{column}_mean_ok"].notna()
    if config.imported and unknown_there.any():
        return f"{column}_mean_ok", f"mean {LATENCY_WORDS[column]}"
    return percentile, f"p{config.slo.percentile:g} {LATENCY_WORDS[column]}"


def latency_by_load(points: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure | None:
    """The SLO's latency percentile against the load, with the SLO line; None where it is known of no load point."""
    y, words = latency_to_draw(points, config)
    limit = config.slo.limits_s()[main_latency(config)]
    drawn = points[np.isfinite(points[y].astype(float))]
    if drawn.empty:
        return None

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        lines(axes, rows, y, config)
        top = with_limit(axis_top(rows, y), limit)
        axes.set_ylim(0, top)
        axes.axhline(limit, color=LIMIT_COLOUR, lw=1, ls="--")
        _name_limit(axes, rows, y, limit, config)
        axes.set_ylabel(f"{words}, s")

    whiskers = f" Whiskers: {interval_words(config)}." if f"{y}_low" in drawn else ""
    caption = f"Lower is better.{whiskers}{open_ended(drawn, y)}{crossed_out(drawn)}"
    caption += left_out(len(points) - len(drawn))
    alt = f"{words[0].upper()}{words[1:]} against {config.load.level_name}. {ranges(drawn, y, ' s', config)}"
    return panels("load_vs_latency", drawn, config, folder, panel, alt, caption)


def _name_limit(axes: Axes, rows: pd.DataFrame, y: str, limit: float, config: BenchmarkConfig) -> None:
    """Write the limit beside its line, where the values leave most room; at the top edge where it lies beyond."""
    is_beyond = limit > axes.get_ylim()[1]
    words = f"limit {limit:g} s ↑" if is_beyond else f"limit {limit:g} s"

    def at(level: float, value: float) -> tuple[float, float]:
        x, y = axes.transAxes.inverted().transform(axes.transData.transform((level, value)))
        return x * PANEL_PT[0], (1 - y) * PANEL_PT[1]

    tracks = [tuple(at(*row) for row in mine[["level", y]].to_numpy(float)) for _, mine in by_option(rows, config)]
    marks = [Box.around(place, MARK_PT) for track in tracks for place in track]
    height = max(at(1.0, limit)[1], 0)
    line = Box(0, height - 1, PANEL_PT[0], height + 1)
    labels = Labels(Box(1, 1, PANEL_PT[0] - 1, PANEL_PT[1] - 1), [*marks, line], tracks)
    along = [Box(x, line.top, x, line.bottom) for x in np.linspace(0, PANEL_PT[0], 9)]
    place = labels.place(CHARACTER_PT * len(words), SIZE_PT, along) or (3, height - 2)
    axes.annotate(
        words,
        (place[0] / PANEL_PT[0], 1 - place[1] / PANEL_PT[1]),
        xycoords="axes fraction",
        va="baseline",
        fontsize=SIZE_PT,
        color=LIMIT_COLOUR,
    )


def throughput_by_load(points: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure | None:
    """Requests answered per second against the load; in an open loop with the line on which all are answered. None where
    it is known of no load point.
    """
    offered = config.load.level_kind == "open_loop"
    unknown = points["requests_per_s"].isna()
    points = points[~unknown]
    if points.empty:
        return None

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        lines(axes, rows, "requests_per_s", config)
        if offered and len(rows):
            ends = [rows["level"].min(), rows["level"].max()]
            axes.plot(ends, ends, color="#777777", lw=0.8, ls=":", marker="none", zorder=1)
        axes.set_ylabel("requests per second")

    alt = f"Request throughput against {config.load.level_name}. {ranges(points, 'requests_per_s', ' requests/s', config)}"
    bend = "Where a line goes flat, further requests only wait."
    if offered:
        bend = "Where a line leaves the dotted one, more requests come than are answered."
    caption = f"Higher is better. Whiskers: {interval_words(config)}. {bend}"
    caption += open_ended(points, "requests_per_s") + crossed_out(points) + left_out(int(unknown.sum()))
    return panels("load_vs_throughput", points, config, folder, panel, alt, caption)


def error_rates(points: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure | None:
    """Error rate against the load; None where nothing failed."""
    if not points["failures"].any():
        return None

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        rows = rows.assign(error_percent=rows["error_rate"] * 100).drop(columns="slo_error_rate", errors="ignore")
        lines(axes, rows, "error_percent", config)
        axes.set_ylim(0, with_limit(axis_top(rows, "error_percent"), config.slo.error_rate * 100))
        axes.axhline(config.slo.error_rate * 100, color=LIMIT_COLOUR, lw=1, ls="--")
        axes.set_ylabel("failed requests, %")

    percents = points.assign(percent=points["error_rate"] * 100).drop(columns="slo_error_rate", errors="ignore")
    alt = f"Error rate against {config.load.level_name}. {ranges(percents, 'percent', '%', config)}"
    caption = f"Lower is better. The dashed line is the limit.{crossed_out(percents)}"
    return panels("error_rates", points, config, folder, panel, alt, caption)
