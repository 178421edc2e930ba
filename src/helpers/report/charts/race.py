"""A race in one picture, as hand-written SVG: in notebook 03 while it goes on, and in the report.

A row for each option, in the order in which they were measured: at the left the requests that it took, a piece for each load
point, over what the full grid would have sent; at the right what it costs, as far as that is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.load.race_points import BASES, UNKNOWN, Price
from helpers.load.race_standing import Standing
from helpers.report.charts.panels import level_text
from helpers.report.charts.scale import Scale
from helpers.report.charts.style import CHARACTER_PX, SHOWN_LARGER, ink_of, save_picture, short_name, shortened
from helpers.report.display import Figure, in_html
from helpers.report.price_unit import PriceUnit

WIDTH, MARGIN_PX = 760, 10
REQUESTS_PX, PRICES_PX = (0.0, 440.0), (480.0, 740.0)
TOP, ROW_PX, BAR_Y, BAR_PX, AXIS_PX = 4, 48, 20, 14, 40
BOLD, SMALL = 'font-weight="bold"', 'font-size="9" opacity="0.75"'
MIDDLE, END = 'text-anchor="middle"', 'text-anchor="end"'
"""Attributes of text: a page may strip styles."""
SMALL_PX = 4.9
"""Width of a small character."""
NAME_CHARACTERS = 40
"""Of a longer name the beginning is shown."""
FAR = 3
"""Prices beyond this many times the leader's lie beyond the end of the axis."""
NEARLY = 0.93
"""Share of the axis from which there is no room for the rest of an interval."""
FADED = 0.45
GONE = ("infeasible", "more expensive", "not cheaper", "never loaded")
"""Outcomes of options that lost."""
PALE = "pale: of the full grid"


def race_picture(
    standings: Sequence[Standing], words: Mapping[str, str], alt: str, unit: PriceUnit, config: BenchmarkConfig
) -> str:
    """The picture as HTML, for a page that may be light or dark."""
    inside, height = _draw(standings, words, unit, config)
    return (
        f'<svg role="img" aria-label="{in_html(alt)}" viewBox="{-MARGIN_PX} 0 {WIDTH + 2 * MARGIN_PX} {height}" '
        f'style="width:100%;max-width:{WIDTH * SHOWN_LARGER:g}px" xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    )


def race_figure(
    standings: Sequence[Standing],
    words: Mapping[str, str],
    said: tuple[str, str],
    unit: PriceUnit,
    config: BenchmarkConfig,
    folder: Path,
) -> Figure:
    """The picture as a file; `said` is its title, which is its conclusion, and the sentence of what the race took."""
    title, sentence = said
    inside, height = _draw(standings, words, unit, config)
    placed = f'<g transform="translate({MARGIN_PX} 0)">{inside}</g>'
    path = save_picture(placed, folder, "race", (WIDTH + 2 * MARGIN_PX, height))
    rows = "; ".join(
        f"{s.option}: {text.plural(round(s.spent.requests), 'request')}, {words[s.option]}" for s in standings
    )
    caption = (
        f"{sentence} Options in the order in which they were measured; each piece of a bar is a load point, with its "
        f"{config.load.level_name}. Prices: the estimate, from the least that an option may cost at loads that are not ruled out "
        "to the most where it is shown to meet the SLO; an arrow where it is not. Dashed: the most that the leader costs. Faded: "
        "out of the race, or not measured."
    )
    return Figure(path, f"{title}. {rows}.", caption, title)


def _draw(
    standings: Sequence[Standing], words: Mapping[str, str], unit: PriceUnit, config: BenchmarkConfig
) -> tuple[str, float]:
    """The inside of an SVG that is `WIDTH` wide, and its height. `words` say how each option stands; prices are of `unit`."""
    floor = TOP + ROW_PX * len(standings)
    prices = {standing.option: _price_in(standing, unit) for standing in standings}
    most = max(max(standing.spent.requests, (standing.full or standing.spent).requests) for standing in standings)
    across = Scale(most * 1.02 or 1.0, *REQUESTS_PX)
    leader = min((price.high for price in prices.values() if price), default=math.inf)
    along = Scale(_price_top(list(prices.values()), leader), *PRICES_PX)
    parts = [
        _axis(across, len(standings), "requests" + (f" ({PALE})" if standings[0].full else "")),
        _axis(along, len(standings), f"price {unit.words}, $"),
    ]
    if math.isfinite(leader):
        line = _in_rows([along(leader)], len(standings))
        parts.append(f'<path d="{line}" stroke="currentColor" stroke-width="1.3" stroke-dasharray="4 2"/>')
    for i, standing in enumerate(standings):
        inside = _row(standing, words[standing.option], prices[standing.option], across, along, config)
        parts.append(f'<g transform="translate(0 {TOP + ROW_PX * i})">{inside}</g>')
    return f'<g font-size="11">{"".join(parts)}</g>', floor + AXIS_PX


def _price_in(standing: Standing, unit: PriceUnit) -> Price | None:
    """An option's price in the unit; None where nothing is known of it, or it misses the SLO."""
    if standing.prices is None:
        return None
    price = standing.prices[BASES.index(unit.column)]
    if price == UNKNOWN:
        return None
    return Price(*(end * unit.scale for end in price))


def _price_top(prices: Sequence[Price | None], leader: float) -> float:
    known = [end for price in prices if price for end in price if math.isfinite(end)]
    highest = max(known, default=0.0) * 1.1 or 1.0
    return min(highest, FAR * leader) or 1.0  # what costs nothing has a price too


def _row(
    standing: Standing, words: str, price: Price | None, across: Scale, along: Scale, config: BenchmarkConfig
) -> str:
    """One option: its name and how it stands, and below them its requests and its price."""
    ink = ink_of(standing.option, config)
    name = short_name(standing.option, NAME_CHARACTERS, config)
    at = 16 + (CHARACTER_PX + 0.4) * len(name) + 8
    said = shortened(words, int((WIDTH - at) / SMALL_PX))
    opacity = FADED if standing.outcome in GONE or not standing.visits else 1
    full = across((standing.full or standing.spent).requests) - across(0)
    pale = f'<rect y="{BAR_Y}" width="{full:.1f}" height="{BAR_PX}" fill="currentColor" opacity="0.12"/>'
    return (
        f'<rect y="2" width="10" height="10" fill="{ink}" opacity="{opacity}"/>'
        f"{_text(16, 11, name, BOLD)}{_text(at, 11, said, SMALL)}{pale}"
        f'<g fill="{ink}" opacity="{opacity}">{_pieces(standing, across)}</g>{_numbers(standing, across, config)}'
        f'<g stroke="{ink}" fill="{ink}" opacity="{opacity}">{_interval(price, along)}</g>'
    )


def _pieces(standing: Standing, across: Scale) -> str:
    parts, so_far = [], 0
    for visit in standing.visits:
        begin, so_far = across(so_far), so_far + visit.requests
        width = max(across(so_far) - begin - 1, 0.5)
        parts.append(
            f'<rect x="{begin:.1f}" y="{BAR_Y}" width="{width:.1f}" height="{BAR_PX}">'
            f"<title>{in_html(f'{visit.dataset}, {visit.level.label}: {visit.requests:,} requests')}</title></rect>"
        )
    return "".join(parts)


def _numbers(standing: Standing, across: Scale, config: BenchmarkConfig) -> str:
    """The load of each piece below it where there is room, with the dataset where there are several."""
    parts, so_far, is_free_from = [], 0, 0.0
    for visit in standing.visits:
        begin, so_far = across(so_far), so_far + visit.requests
        level, room = level_text(visit.level.value), across(so_far) - begin
        words = f"{visit.dataset} {level}" if len(config.datasets) > 1 else level
        words = words if SMALL_PX * len(words) <= room else level
        left = begin + (room - SMALL_PX * len(words)) / 2
        if left >= is_free_from:
            parts.append(_text(left, BAR_Y + BAR_PX + 9, words, SMALL))
            is_free_from = left + SMALL_PX * len(words) + 3
    return "".join(parts)


def _interval(price: Price | None, along: Scale) -> str:
    """From the least to the most, with the estimate; an arrow where it goes on beyond the axis."""
    if price is None:
        return ""
    middle, end = BAR_Y + BAR_PX / 2, f"{along.end:.1f}"
    arrow = f'<path d="M{end} {middle}l-6 -4v8z" stroke="none"/>' if price.high > along.top else ""
    if price.low > NEARLY * along.top:
        words = f"at least {text.significant(price.low)}"
        return f'{arrow}<g stroke="none">{_text(along.end - 9, middle + 3, words, f"{SMALL} {END}")}</g>'
    low, high = along(price.low), along(price.high)
    edge = "" if arrow else f"M{high:.1f} {middle - 4}v8"
    line = f'<path d="M{low:.1f} {middle - 4}v8M{low:.1f} {middle}H{high:.1f}{edge}" fill="none" stroke-width="1.4"/>'
    dot = (
        f'<circle cx="{along(price.value):.1f}" cy="{middle}" r="4" stroke="none"/>' if price.value <= along.top else ""
    )
    return f"{line}{arrow}{dot}"


def _axis(scale: Scale, rows: int, label: str) -> str:
    """The grid behind the bars of each row, and below them all the numbers with what they are."""
    ticks, floor = scale.ticks(), TOP + ROW_PX * rows
    grid = _in_rows(map(scale, ticks), rows)
    return (
        f'<path d="{grid}" stroke="currentColor" opacity="0.2"/>'
        f'<path d="M{scale.start} {floor}H{scale.end}" stroke="currentColor" opacity="0.6"/>'
        f"{''.join(_text(scale(value), floor + 14, f'{value:,.6g}', MIDDLE) for value in ticks)}"
        f"{_text((scale.start + scale.end) / 2, floor + 32, label, MIDDLE)}"
    )


def _in_rows(places: Iterable[float], rows: int) -> str:
    """Upright lines behind the bars of each row, which leave the words between them free."""
    tops = [TOP + ROW_PX * row + BAR_Y - 4 for row in range(rows)]
    return "".join(f"M{x:.1f} {top}v{BAR_PX + 8}" for x in places for top in tops)


def _text(x: float, y: float, words: str, how: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="currentColor" {how}>{in_html(words)}</text>'
