"""The verdict in one small picture: a line for each option, with its price, how sure that is, and how it stands to the SLO."""

from __future__ import annotations

import math
from pathlib import Path

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.charts.scale import Scale
from helpers.report.charts.style import ink_of, save_picture, short_name, shortened
from helpers.report.columns import interval_words
from helpers.report.comparing import more_expensive
from helpers.report.display import Figure, in_html
from helpers.report.price_unit import price_unit, scaled
from helpers.report.report import STATUS_WORDS, by_cost
from helpers.verdict.verdict import Estimate, OptionVerdict, Verdict

WIDTH, ROW_PX, AXIS_PX = 410, 64, 34
"""It fits a phone, so that it is read there without scrolling."""
BARE_ROW_PX = 40
"""Height of the rows where no price is known."""
NAME_PX, PRICES_PX, BAR_Y = 18.0, (18.0, 395.0), 45
NAME_CHARACTERS, WORDS_CHARACTERS = 42, 53
FAR = 4.0
"""Prices beyond this many times the lowest lie beyond the end of the axis."""
MARKS = {"recommended": "✓", "tied": "≈", "feasible": "✓", "infeasible": "✗", "below_quality": "✗", "eliminated": "✗"}
"""Status -> what stands before the name; the others are not decided: a question mark."""
WORDS = STATUS_WORDS | {"recommended": "recommended: meets the SLO", "tied": "meets the SLO, tied with the recommended"}


def verdict_picture(verdict: Verdict, config: BenchmarkConfig, folder: Path) -> Figure:
    """Options by price, those without one last."""
    unit, options = price_unit(verdict), by_cost(verdict)
    costs = {option.option: scaled(option.cost, unit) for option in options}
    known = [cost.value for cost in costs.values() if cost]
    scale = Scale(_top(list(costs.values())), *PRICES_PX)
    words = {o.option: _words(o, costs[o.option], verdict) for o in options}
    rows = [_row(option, costs[option.option], words[option.option], scale, config) for option in options]
    step = ROW_PX if known else BARE_ROW_PX
    inside = "".join(f'<g transform="translate(0 {step * i})">{row}</g>' for i, row in enumerate(rows))
    axis = _axis(scale, len(options), f"price {unit.words}, $") if known else ""
    size = WIDTH, step * len(options) + (AXIS_PX if known else 0)
    path = save_picture(f'<g font-size="12">{axis}{inside}</g>', folder, "verdict", size, larger=1)
    said = "; ".join(f"{option.option}: {words[option.option]}" for option in options)
    estimates = " Hollow: an estimate, not shown to meet the SLO." if any(o.is_estimate for o in options) else ""
    caption = (
        f"Each option's price over the traffic's mix, with its {interval_words(config)}.{estimates}" if known else ""
    )
    return Figure(path, f"Prices {unit.words}. {said}.", caption)


def _words(option: OptionVerdict, cost: Estimate | None, verdict: Verdict) -> str:
    """Its price, how it stands, and how far behind the recommended it is."""
    words = WORDS[option.status]
    if cost is None:
        return words
    if option.status == "feasible" and verdict.recommended is not None:
        words += f", {more_expensive(option.cost.value, verdict.option(verdict.recommended).cost.value)}"
    return f"{text.dollars(cost.value)}, {words}"


def _top(costs: list[Estimate | None]) -> float:
    """The end of the axis, at a tick."""
    known = [cost for cost in costs if cost]
    if not known:
        return 1.0
    highest = max(cost.value if cost.high is None else cost.high for cost in known)
    top = min(1.02 * highest, FAR * min(cost.value for cost in known) or highest) or 1.0
    step = Scale(top, *PRICES_PX).ticks()[1]
    return step * math.ceil(top / step)


def _row(option: OptionVerdict, cost: Estimate | None, words: str, scale: Scale, config: BenchmarkConfig) -> str:
    bold = ' font-weight="bold"' if option.status == "recommended" else ""
    name, words = short_name(option.option, NAME_CHARACTERS, config), shortened(words, WORDS_CHARACTERS)
    return (
        f'<text x="2" y="14" fill="currentColor">{MARKS.get(option.status, "?")}</text>'
        f'<text x="{NAME_PX}" y="14" fill="currentColor" font-size="13"{bold}>{in_html(name)}</text>'
        f'<text x="{NAME_PX}" y="30" fill="currentColor">{in_html(words)}</text>'
        f"{_price(option, cost, scale, config)}"
    )


def _price(option: OptionVerdict, cost: Estimate | None, scale: Scale, config: BenchmarkConfig) -> str:
    """The interval as a line, the price as a dot, which is hollow for an estimate. An arrow where either lies beyond the axis."""
    if cost is None:
        return ""
    ink, middle = ink_of(option.option, config), BAR_Y
    if cost.value > scale.top:
        words, right = f"{text.significant(cost.value)} →", f'x="{scale.end:.1f}" y="{BAR_Y + 4}" text-anchor="end"'
        return f'<text {right} fill="currentColor">{words}</text>'
    low, high = (cost.value if end is None else end for end in (cost.low, cost.high))
    edge = "l-5 -3m5 3l-5 3" if high > scale.top else f"M{scale(high):.1f} {middle - 4}v8"  # an arrow where it goes on
    ends = f"M{scale(low):.1f} {middle - 4}v8M{scale(low):.1f} {middle}H{scale(high):.1f}{edge}"
    fill = "none" if option.is_estimate else ink
    return (
        f'<path d="{ends}" stroke="{ink}" stroke-width="1.6" fill="none"/>'
        f'<circle cx="{scale(cost.value):.1f}" cy="{middle}" r="4.5" stroke="{ink}" stroke-width="1.6" fill="{fill}"/>'
    )


def _axis(scale: Scale, rows: int, label: str) -> str:
    """The grid behind the prices, which leaves the words between them free, and the numbers below it."""
    ticks, floor = scale.ticks(), ROW_PX * rows
    grid = "".join(f"M{scale(value):.1f} {ROW_PX * row + BAR_Y - 9}v18" for value in ticks for row in range(rows))
    numbers = "".join(
        f'<text x="{scale(value):.1f}" y="{floor + 15}" text-anchor="middle" fill="currentColor">{value:,.6g}</text>'
        for value in ticks
    )
    middle = (scale.start + scale.end) / 2
    return (
        f'<path d="{grid}" stroke="currentColor" opacity="0.15"/>{numbers}'
        f'<text x="{middle:.1f}" y="{floor + 32}" text-anchor="middle" fill="currentColor">{label}</text>'
    )
