"""The bill over a range of traffic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.charts.style import colour, save, style
from helpers.report.display import Figure
from helpers.verdict.capacity import (
    HIGHEST_TRAFFIC,
    HOURS_PER_MONTH,
    LOWEST_TRAFFIC,
    candidates,
    cheapest_ranges,
    fleet,
)
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
        for option in options:
            for price in option.prices or [None]:
                usd = [fleet(option, t, headroom, price).usd_per_fleet_hour for t in traffic]
                first = price is None or price == option.prices[0]
                axes.plot(
                    traffic,
                    np.array(usd, dtype=float) * HOURS_PER_MONTH,
                    color=colour(option.option, config),
                    ls="-" if first else ":",
                    label=option.option if first else f"{option.option}, {price.name}",
                )
        wanted = config.traffic.requests_per_minute
        if LOWEST_TRAFFIC <= wanted <= HIGHEST_TRAFFIC:
            late = wanted > np.sqrt(LOWEST_TRAFFIC * HIGHEST_TRAFFIC)
            axes.axvline(wanted, color="#777777", lw=0.9, ls="--")
            axes.annotate(
                "the traffic planned for",
                (wanted, 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(-4 if late else 4, 0),
                textcoords="offset points",
                ha="right" if late else "left",
                fontsize=8,
                color="#555555",
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis, steps in ((axes.xaxis, (1.0,)), (axes.yaxis, (1.0, 2.0, 5.0))):
            axis.set_major_locator(LogLocator(subs=steps))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel("requests per minute")
        axes.set_ylabel("$ per month")
        _band_of_the_cheapest(axes, verdict, config)
        axes.legend(loc="upper left", fontsize=8)
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
