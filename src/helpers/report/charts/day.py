"""Instances by hour over the traffic of a day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator, MultipleLocator

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.traffic_curve import HOURS_PER_DAY
from helpers.report.charts.line_names import name_lines
from helpers.report.charts.style import THOUSANDS, colour, save, style, widths
from helpers.report.columns import interval_words
from helpers.report.display import Figure
from helpers.verdict.traffic_day import Day

HOURS = np.arange(HOURS_PER_DAY + 1)
INCHES = (7.5, 4.6)


def day_of_traffic(days: Sequence[Day], title: str, config: BenchmarkConfig, folder: Path) -> Figure:
    """Steps of the instances that each hour needs, for each option that has instances, and below them the day's requests."""
    scaled = [day for day in days if day.instances is not None]
    with style():
        canvas = Canvas(figsize=INCHES, layout="constrained")
        upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for day, width in zip(scaled, widths([np.array(day.instances.value) for day in scaled]), strict=True):
            _steps(upper, day, width, config)
        upper.set_ylabel("instances")
        upper.set_ylim(bottom=0)
        upper.yaxis.set_major_locator(MaxNLocator(integer=True))
        name_lines(canvas, upper)
        lower.stairs(config.traffic.curve, HOURS, fill=True, color="#777777", alpha=0.5)
        lower.set_ylabel("requests/min")
        lower.set_ylim(bottom=0)
        lower.yaxis.set_major_formatter(THOUSANDS)
        lower.set_xlim(0, HOURS_PER_DAY)
        lower.set_xlabel("hour of the day")
        lower.xaxis.set_major_locator(MultipleLocator(3))
        path = save(canvas, folder, "day_of_traffic")
    return Figure(path, _alt(scaled, title, config), _caption(days, scaled, config), title)


def _steps(axes: Axes, day: Day, width: float, config: BenchmarkConfig) -> None:
    """An option's instances, with the interval where both of its ends are known."""
    needed, ink = day.instances, colour(day.option.option, config)
    if needed.low and needed.high and needed.low != needed.high:
        axes.stairs(needed.high, HOURS, baseline=needed.low, fill=True, color=ink, alpha=0.15, lw=0)
    label = day.option.option + (" (estimate)" if day.option.is_estimate else "")
    axes.stairs(needed.value, HOURS, baseline=None, color=ink, lw=width, label=label)


def _alt(scaled: Sequence[Day], title: str, config: BenchmarkConfig) -> str:
    parts = [f"{day.option.option}: {_range(day.instances.value)}" for day in scaled]
    return (
        f"{title}. Instances by hour of the day: {'; '.join(parts)}. Requests a minute: {_range(config.traffic.curve)}."
    )


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,g} in every hour" if low == high else f"{low:,g} to {high:,g}"


def _caption(days: Sequence[Day], scaled: Sequence[Day], config: BenchmarkConfig) -> str:
    said = [
        f"Lower is better. Lines: the instances of each hour, with {text.percent(config.traffic.headroom)} headroom; what "
        "lies between a line and its highest step idles in a fixed fleet. Below: the requests."
    ]
    if any(day.instances.low and day.instances.high and day.instances.low != day.instances.high for day in scaled):
        said.append(f"Bands: the {interval_words(config)} that follows from that of the capacity.")
    if len(scaled) < len(days):
        said.append("What is billed by the token has no instances.")
    return " ".join(said)
