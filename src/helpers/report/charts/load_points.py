"""Figures of load points: price, latency, throughput and errors against the load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from helpers.config.benchmark import BenchmarkConfig
from helpers.report.charts.panels import cross_out, crossed_out, level_text, lines, panels, ticks
from helpers.report.charts.scale import axis_top, end_at, mark_open_ends, open_ended, with_limit
from helpers.report.charts.style import (
    FEASIBLE_COLOUR,
    LATENCY_WORDS,
    bars,
    by_option,
    colour,
    left_out,
    marker,
    ranges,
)
from helpers.report.display import Figure
from helpers.verdict.chosen_points import main_latency
from helpers.verdict.verdict import Verdict

PRICE = "usd_per_1m_output_tokens"
LOW = 0.2
"""Below this share of the axis the name stands above its point."""
LONGEST_NAME = 34
"""Characters of the recommended option's name beside its point."""


def price_performance(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig, folder: Path) -> Figure | None:
    """Price per 1M output tokens against the SLO's latency percentile; the feasible region is shaded, the recommended
    option named. None where no load point has both.
    """
    x, words = latency_to_draw(points, config)
    limit = config.slo.limits_s()[main_latency(config)]
    drawn = points[np.isfinite(points[x].astype(float)) & points[PRICE].notna()]
    if drawn.empty:
        return None

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        draw_price_performance(axes, rows, x, limit, config)
        _name_the_recommended(axes, rows, x, dataset, verdict)
        axes.set_xlabel(f"{words}, s")

    caption = (
        f"Lower left is better. Each point is one load (the small number: {config.load.level_name}), with 95% intervals; "
        f"faded: another load point is shown to be both faster and cheaper; shaded: within {limit:g} s, the limit of "
        f"p{config.slo.percentile:g}{'; circled: the load points of the recommended option' if verdict.recommended else ''}."
        f"{open_ended(drawn, x, PRICE)}{crossed_out(drawn)}"
        f"{left_out(len(points) - len(drawn))}"
    )
    best = f"Recommended: {verdict.recommended}." if verdict.recommended else "No option is shown to meet the SLO."
    shown = ranges(drawn, x, " s", config) if len(drawn) else "No load point can be drawn."
    alt = f"Price per 1M output tokens against {words}. {best} {shown}"
    return panels("price_performance", drawn, config, folder, panel, alt, caption)


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


def draw_price_performance(axes: Axes, rows: pd.DataFrame, x: str, limit: float, config: BenchmarkConfig) -> None:
    """One panel: the load points of one dataset by latency (column `x`) and price, and the region within the limit."""
    right = with_limit(axis_top(rows, x), limit)
    axes.axvspan(0, min(limit, right), color=FEASIBLE_COLOUR, alpha=0.08, lw=0)
    if limit <= right:
        axes.axvline(limit, color=FEASIBLE_COLOUR, lw=1, ls="--")
    beaten = dominated(rows, x, PRICE)
    for name, mine in by_option(rows, config):
        axes.plot(mine[x], mine[PRICE], color=colour(name, config), lw=0.8, alpha=0.4, zorder=1)
        for faded in (False, True):
            some = mine[beaten[mine.index] == faded]
            axes.errorbar(
                some[x],
                some[PRICE],
                xerr=bars(some, x),
                yerr=bars(some, PRICE),
                color=colour(name, config),
                marker=marker(name, config),
                ls="none",
                alpha=0.35 if faded else 1.0,
                elinewidth=0.8,
                capsize=2,
                label=None if faded else name,
            )
            mark_open_ends(axes, some, x, PRICE, colour(name, config))
        for row in mine[mine["level"].isin(ticks(mine))].to_dict("records"):
            axes.annotate(
                level_text(row["level"]),
                (row[x], row[PRICE]),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7,
                color="#444444",
            )
    cross_out(axes, rows, x, PRICE)
    end_at(axes, rows, (x, right), (PRICE, axis_top(rows, PRICE)))
    axes.set_ylabel("price per 1M output tokens, $")


def dominated(rows: pd.DataFrame, x: str, y: str) -> pd.Series:
    """For each load point: is another one, by both 95% intervals, shown to be lower in x and in y?"""
    bounds = {}
    for value in (x, y):
        for name in (f"{value}_low", f"{value}_high"):
            known = rows[name] if name in rows else rows[value]
            bounds[name] = known.fillna(rows[value]).astype(float).to_numpy()
    beaten = [
        bool(((bounds[f"{x}_high"] < low_x) & (bounds[f"{y}_high"] < low_y)).any())
        for low_x, low_y in zip(bounds[f"{x}_low"], bounds[f"{y}_low"], strict=True)
    ]
    return pd.Series(beaten, index=rows.index, dtype=bool)


def _name_the_recommended(axes: Axes, rows: pd.DataFrame, x: str, dataset: str, verdict: Verdict) -> None:
    """Circle the recommended option's load point and write its name there."""
    if verdict.recommended is None:
        return
    chosen = {point.dataset: point.level for point in verdict.option(verdict.recommended).points}
    here = rows[(rows["option"] == verdict.recommended) & (rows["level"] == chosen.get(dataset))]
    for row in here.to_dict("records"):
        axes.scatter([row[x]], [row[PRICE]], s=170, facecolors="none", edgecolors="black", linewidths=1.3, zorder=5)
        name = verdict.recommended
        axes.annotate(
            name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…",
            (row[x], row[PRICE]),
            xytext=(9, 8) if row[PRICE] < LOW * axes.get_ylim()[1] else (0, -15),
            textcoords="offset points",
            ha="left" if row[x] < 0.5 * axes.get_xlim()[1] else "right",
            fontsize=7.5,
            fontweight="bold",
        ).set_in_layout(False)


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
        axes.axhline(limit, color=FEASIBLE_COLOUR, lw=1, ls="--")
        axes.annotate(
            f"limit {limit:g} s" if limit <= top else f"limit {limit:g} s ↑",
            (0.01, min(limit, top)),
            xycoords=("axes fraction", "data"),
            ha="left",
            va="bottom",
            fontsize=7,
            color=FEASIBLE_COLOUR,
        )
        axes.set_ylabel(f"{words}, s")

    caption = f"Lower is better. Whiskers are 95% intervals.{open_ended(drawn, y)}{crossed_out(drawn)}"
    caption += left_out(len(points) - len(drawn))
    alt = f"{words[0].upper()}{words[1:]} against {config.load.level_name}. {ranges(drawn, y, ' s', config)}"
    return panels("load_vs_latency", drawn, config, folder, panel, alt, caption)


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
    bend = (
        "Where a line leaves the dotted one, more requests come than are answered."
        if offered
        else "Where a line goes flat, further requests only wait."
    )
    caption = f"Higher is better. Whiskers are 95% intervals. {bend}"
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
        axes.axhline(config.slo.error_rate * 100, color=FEASIBLE_COLOUR, lw=1, ls="--")
        axes.set_ylabel("failed requests, %")

    percents = points.assign(percent=points["error_rate"] * 100).drop(columns="slo_error_rate", errors="ignore")
    alt = f"Error rate against {config.load.level_name}. {ranges(percents, 'percent', '%', config)}"
    caption = f"Lower is better. The dashed line is the limit.{crossed_out(percents)}"
    return panels("error_rates", points, config, folder, panel, alt, caption)
