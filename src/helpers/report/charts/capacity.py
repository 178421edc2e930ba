"""The bill over a range of traffic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.charts.line_names import name_lines
from helpers.report.charts.style import THOUSANDS, colour, save, style, widths
from helpers.report.display import Figure
from helpers.verdict.capacity import HIGHEST_TRAFFIC, LOWEST_TRAFFIC, candidates, cheapest_ranges, fleet
from helpers.verdict.verdict import Verdict

POINTS = 1200
"""Traffic values that a staircase is drawn through."""


def bill_by_traffic(verdict: Verdict, config: BenchmarkConfig, folder: Path) -> Figure | None:
    """Dollars per month of each option that meets the SLO, over the traffic; None where none has a price."""
    headroom = config.traffic.headroom
    options = candidates(verdict)
    if not options:
        return None
    traffic = np.geomspace(LOWEST_TRAFFIC, HIGHEST_TRAFFIC, POINTS)
    with style():
        canvas = Canvas(figsize=(7.5, 3.9), layout="constrained")
        axes = canvas.add_subplot()
        series = [(option, price) for option in options for price in option.prices or [None]]
        bills = [
            np.array([fleet(o, t, headroom, price).usd_per_month for t in traffic], dtype=float) for o, price in series
        ]
        for i, ((option, price), usd, width) in enumerate(zip(series, bills, widths(bills), strict=True)):
            first = price is None or price == option.prices[0]
            axes.plot(
                traffic,
                usd,
                color=colour(option.option, config),
                ls="-" if first else ":",
                lw=width,
                zorder=2 + i / 100,
                label=option.option if first else f"{option.option}, {price.name}",
            )
        wanted = config.traffic.requests_per_minute
        if LOWEST_TRAFFIC <= wanted <= HIGHEST_TRAFFIC:
            axes.axvline(wanted, color="#777777", lw=0.9, ls="--")
            late = wanted > np.sqrt(LOWEST_TRAFFIC * HIGHEST_TRAFFIC)
            axes.annotate(
                f"planned: {text.number(wanted)}",
                (wanted, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right" if late else "left",
                fontsize=8,
                color="#555555",
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(LOWEST_TRAFFIC, HIGHEST_TRAFFIC)
        axes.margins(y=0.1)
        for axis, steps in ((axes.xaxis, (1.0,)), (axes.yaxis, (1.0, 2.0, 5.0))):
            axis.set_major_locator(LogLocator(subs=steps))
            axis.set_major_formatter(THOUSANDS)
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel("requests per minute (log scale)")
        axes.set_ylabel("$ per month (log scale)")
        _band_of_the_cheapest(axes, verdict, config)
        name_lines(canvas, axes)
        path = save(canvas, folder, "bill_by_traffic")
    parts = [
        f"{r.option} from {text.significant(r.low)} to {text.significant(r.high)} requests/min"
        for r in cheapest_ranges(verdict, headroom)[:6]
    ]
    alt = f"Monthly bill of each option over the traffic, 1 to 10,000 requests/min. Cheapest: {'; '.join(parts)}."
    caption = (
        f"Lower is better. Bills rise in steps, one for each further instance, with {text.percent(headroom)} headroom. "
        "The band at the top has the colour of the cheapest option."
        + (" Dotted: the other prices that the config names." if any(len(o.prices) > 1 for o in options) else "")
    )
    return Figure(path, alt, caption)


def _band_of_the_cheapest(axes, verdict: Verdict, config: BenchmarkConfig) -> None:
    for one in cheapest_ranges(verdict, config.traffic.headroom):
        axes.axvspan(one.low, one.high, ymin=0.975, ymax=1.0, color=colour(one.option, config), lw=0)
