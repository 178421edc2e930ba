"""Price against latency as hand-written SVG: it is drawn within milliseconds, in the colours of the page that it stands in.

The figures of the report are drawn by `charts`, with the same colours, markers and rules; a redraw there takes a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.formulas import CLIENT_LIMITED, MET
from helpers.report.charts.load_points import dominated
from helpers.report.charts.panels import crossed_out, level_text, ticks
from helpers.report.charts.scale import axis_top, has_failed, open_ended, open_ends
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
from helpers.report.display import in_html
from helpers.verdict.what_if import MONTH, Outcome, with_bills

UNIT_WORDS = {
    "usd_per_1k_requests": "price per 1,000 requests, $",
    "usd_per_1m_output_tokens": "price per 1M output tokens, $",
    MONTH: "price a month, $",
}
PANEL_PX = (360, 290)
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 36, 40
MARKER_PX = 9.0
SHOWN = ["option", "load", "level", "slo", "n", "requests_per_s"]
BLACK = "#000000"
COMMANDS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}


@dataclass(frozen=True)
class _Scale:
    """From a value to pixels; zero lies at `start`, `top` at `end`."""

    top: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value; the end of the axis for one beyond."""
        return self.start + (self.end - self.start) * min(value / self.top, 1.0)

    def ticks(self) -> list[float]:
        return [
            value
            for value in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(0, self.top)
            if 0 <= value <= self.top * 1.001
        ]


def draw(outcome: Outcome, metric: str, unit: str) -> str:
    """The load points by a latency (column of the request records) and a price (one of UNIT_WORDS), as HTML.

    One panel per dataset with the same look as `charts.price_performance`; filled markers are shown to meet the SLO.
    """
    config, verdict = outcome.config, outcome.verdict
    percentile = f"p{config.slo.percentile:g}"
    x, limit = f"{metric}_{percentile}", config.slo.limits_s()[metric]
    points = with_bills(outcome) if unit == MONTH else outcome.points
    drawn = points[np.isfinite(points[x].astype(float)) & np.isfinite(points[unit].astype(float))]
    met = int((points["slo"] == MET).sum())
    summary = f"{met} of {text.plural(len(points), 'load point')} {'is' if met == 1 else 'are'} shown to meet the SLO."
    best = f"Recommended: {verdict.recommended}." if verdict.recommended else "No option is shown to meet the SLO."
    price = UNIT_WORDS[unit].removesuffix(", $")
    alt = f"{price.capitalize()} against {percentile} {LATENCY_WORDS[metric]}. {best} {summary} {ranges(drawn, x, ' s', config)}"
    month = (
        " A month's price is that of the whole traffic on that dataset, in whole instances." if unit == MONTH else ""
    )
    circled = "; circled: recommended" if outcome.verdict.recommended else ""
    caption = (
        f"Lower left is better. Filled: shown to meet the SLO, {met} of {text.plural(len(points), 'load point')}; hollow: not "
        f"shown; faded: another load point is shown to be both faster and cheaper; shaded: within the limit of {limit:g} s"
        f"{circled}. Small numbers: {config.load.level_name}; whiskers: 95% intervals.{month}"
        f"{open_ended(drawn, x, unit)}{crossed_out(drawn)}{left_out(len(points) - len(drawn))}"
    )
    picture = _Picture(outcome, x, unit, limit, f"{percentile} {LATENCY_WORDS[metric]}, s")
    panels = "".join(
        f'<svg viewBox="0 0 {PANEL_PX[0]} {PANEL_PX[1]}" aria-hidden="true">'
        + _panel(picture, dataset.name, drawn[drawn["dataset"] == dataset.name])
        + "</svg>"
        for dataset in config.datasets
    )
    return (
        f'<figure>{_legend(config)}<div class="panels" role="img" aria-label="{in_html(alt)}">{panels}</div>'
        f"<figcaption>{in_html(caption)}</figcaption></figure>"
    )


@dataclass(frozen=True)
class _Picture:
    """What all panels share: the outcome, the columns across and up, the limit in seconds, and a name."""

    outcome: Outcome
    x: str
    y: str
    limit: float
    x_name: str

    def chosen_level(self, option: str, dataset: str) -> float | None:
        """The load at which the recommended option serves a dataset; None for the others."""
        verdict = self.outcome.verdict
        if option != verdict.recommended:
            return None
        return next((p.level for p in verdict.option(option).points if p.dataset == dataset), None)


def _panel(picture: _Picture, dataset: str, rows: pd.DataFrame) -> str:
    """The inside of one panel: axes, and per option a faint line, its points with whiskers and their loads."""
    x, y, config = picture.x, picture.y, picture.outcome.config
    across = _Scale(axis_top(rows, x), LEFT, PANEL_PX[0] - RIGHT)
    up = _Scale(axis_top(rows, y), PANEL_PX[1] - BOTTOM, TOP)
    parts = [
        _within(across, picture.limit),
        _axes(across, up, picture.x_name, UNIT_WORDS[y]),
        f'<text class="name" x="{LEFT}" y="12">{in_html(dataset)}</text>',
    ]
    if rows.empty:
        nothing = f'<text x="{LEFT + 12}" y="{PANEL_PX[1] / 2}">nothing to draw: unknown or infinite</text>'
        return "".join([*parts, nothing])
    ends = zip(open_ends(rows, x).T, open_ends(rows, y).T, strict=True)
    intervals = zip(bars(rows, x).T, bars(rows, y).T, dominated(rows, x, y), ends, strict=True)
    points = dict(zip(rows.index, zip(rows[[*SHOWN, x, y]].to_dict("records"), intervals, strict=True), strict=True))
    failed = set(rows.index[has_failed(rows)])
    for name, mine in by_option(rows, config):
        ink, outline = _ink(name, config), _outline(marker(name, config))
        places = {index: (across(points[index][0][x]), up(points[index][0][y])) for index in mine.index}
        track = " ".join(f"{a:.1f},{b:.1f}" for a, b in places.values())
        parts.append(f'<polyline points="{track}" fill="none" stroke="{ink}" opacity="0.35"/>')
        labelled, chosen = set(ticks(mine)), picture.chosen_level(name, dataset)
        for index, at in places.items():
            row, (x_bar, y_bar, is_beaten, (x_open, y_open)) = points[index]
            whiskers = _whiskers(at, (row[x], row[y]), x_bar, y_bar, across, up) + _arrows(at, x_open, y_open)
            if row[x] > across.top or row[y] > up.top:
                parts.append(
                    _off_scale(at, row[x] if row[x] > across.top else row[y], "→" if row[x] > across.top else "↑")
                )
            parts.append(
                f'<g stroke="{ink}" opacity="{0.55 if is_beaten else 1}"><title>{in_html(_words(row, x, y))}</title>'
                f'<path d="{whiskers}" fill="none"/><path transform="translate({at[0]:.1f} {at[1]:.1f})" d="{outline}" '
                f'fill="{ink if row["slo"] == MET else "none"}" pointer-events="all" stroke-width="1.4"/></g>'
            )
            if row["level"] in labelled:
                words = level_text(row["level"])
                parts.append(f'<text class="small" x="{at[0] + 6:.1f}" y="{at[1] - 6:.1f}">{words}</text>')
            if row["slo"] == CLIENT_LIMITED:
                cross = f"M{at[0] - 5:.1f} {at[1] - 5:.1f}l10 10m0 -10l-10 10"
                parts.append(f'<path d="{cross}" stroke="currentColor" stroke-width="1.5"/>')
            if index in failed:
                plus = f"M{at[0] - 6:.1f} {at[1]:.1f}h12m-6 -6v12"
                parts.append(f'<path d="{plus}" stroke="currentColor" stroke-width="1.5"/>')
            if chosen == row["level"]:
                parts.append(_circle(at, name))
    return "".join(parts)


def _within(across: _Scale, limit: float) -> str:
    """The region within the limit, and the line at its end; an arrow where the limit lies beyond the axis."""
    end = min(across(limit), across.end)
    height = PANEL_PX[1] - BOTTOM - TOP
    size = f'x="{LEFT}" y="{TOP}" width="{max(end - LEFT, 0):.1f}" height="{height}"'
    shade = f'<rect {size} fill="{FEASIBLE_COLOUR}" opacity="0.12"/>'
    if limit > across.top:
        return (
            shade + f'<text class="limit" x="{across.end}" y="{TOP - 5}" text-anchor="end">limit {limit:g} s →</text>'
        )
    near_end = end > (LEFT + across.end) / 2
    anchor = f'x="{end + (-4 if near_end else 4):.1f}" text-anchor="{"end" if near_end else "start"}"'
    return (
        f'{shade}<path d="M{end:.1f} {TOP}v{height}" stroke="{FEASIBLE_COLOUR}" stroke-dasharray="5 3" stroke-width="1.5"/>'
        f'<text class="limit" {anchor} y="{TOP - 5}">limit {limit:g} s</text>'
    )


def _axes(across: _Scale, up: _Scale, x_label: str, y_label: str) -> str:
    floor, middle = up.start, (up.start + up.end) / 2
    grid = "".join(f"M{across(v):.1f} {TOP}V{floor}" for v in across.ticks())
    grid += "".join(f"M{LEFT} {up(v):.1f}H{across.end}" for v in up.ticks())
    numbers = "".join(
        f'<text x="{across(v):.1f}" y="{floor + 14}" text-anchor="middle">{v:,.6g}</text>' for v in across.ticks()
    ) + "".join(f'<text x="{LEFT - 5}" y="{up(v) + 4:.1f}" text-anchor="end">{v:,.6g}</text>' for v in up.ticks())
    return (
        f'<path d="{grid}" stroke="currentColor" opacity="0.13"/>'
        f'<path d="M{LEFT} {TOP}V{floor}H{across.end}" fill="none" stroke="currentColor" opacity="0.6"/>{numbers}'
        f'<text x="{(LEFT + across.end) / 2}" y="{floor + 32}" text-anchor="middle">{x_label}</text>'
        f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{y_label}</text>'
    )


def _whiskers(
    at: tuple[float, float],
    value: tuple[float, float],
    x_bar: np.ndarray,
    y_bar: np.ndarray,
    across: _Scale,
    up: _Scale,
) -> str:
    """The 95% intervals of one point, cut off at the end of the axis."""
    left, right = across(value[0] - x_bar[0]), min(across(value[0] + x_bar[1]), across.end)
    low, high = up(value[1] - y_bar[0]), max(up(value[1] + y_bar[1]), up.end)
    return f"M{left:.1f} {at[1]:.1f}H{right:.1f}M{at[0]:.1f} {low:.1f}V{high:.1f}"


def _arrows(at: tuple[float, float], x_open: np.ndarray, y_open: np.ndarray) -> str:
    """Arrows to where an interval has no end: left and right, below and above."""
    heads = {(-1, 0): "l4 -3m-4 3l4 3", (1, 0): "l-4 -3m4 3l-4 3", (0, 1): "l-3 -4m3 4l3 -4", (0, -1): "l-3 4m3 -4l3 4"}
    wanted = zip(heads.items(), (*x_open, *y_open), strict=True)
    return "".join(
        f"M{at[0] + 6 * dx:.1f} {at[1] + 6 * dy:.1f}l{12 * dx} {12 * dy}{head}"
        for ((dx, dy), head), is_open in wanted
        if is_open
    )


def _off_scale(at: tuple[float, float], value: float, arrow: str) -> str:
    """The value of a point that stands at the end of an axis, as it lies beyond."""
    return (
        f'<text class="small" x="{at[0] - 7:.1f}" y="{at[1] + 12:.1f}" text-anchor="end">'
        f"{text.significant(value)} {arrow}</text>"
    )


def _circle(at: tuple[float, float], name: str) -> str:
    """The mark of the recommended option's load point, with its name below, on the side where there is room."""
    anchor = "start" if at[0] < PANEL_PX[0] / 2 else "end"
    below = 22 if at[1] < PANEL_PX[1] - BOTTOM - 26 else -14
    return (
        f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="10" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f'<text class="name" x="{at[0]:.1f}" y="{at[1] + below:.1f}" text-anchor="{anchor}">{in_html(name)}</text>'
    )


def _words(row: dict, x: str, y: str) -> str:
    """What stands beside a point when the pointer rests on it."""
    percentile = x.rpartition("_")[2]
    return (
        f"{row['option']}, {row['load']}: {percentile} {text.duration(row[x])}, {UNIT_WORDS[y].removesuffix(', $')} "
        f"{text.dollars(row[y])}, {text.significant(row['requests_per_s'])} requests/s, n = {row['n']:,}"
    )


def _legend(config: BenchmarkConfig) -> str:
    items = "".join(
        f'<span><svg viewBox="-7 -7 14 14" aria-hidden="true"><path d="{_outline(marker(o.name, config))}" '
        f'fill="{_ink(o.name, config)}"/></svg>{in_html(o.name)}</span>'
        for o in config.options
    )
    return f'<div class="legend">{items}</div>'


def _ink(option: str, config: BenchmarkConfig) -> str:
    """The option's colour; black is that of the text, which is light on a dark page."""
    found = colour(option, config)
    return "currentColor" if found == BLACK else found


@cache
def _outline(name: str) -> str:
    """A marker of matplotlib as the path of an SVG, centred, MARKER_PX high."""
    style = MarkerStyle(name)
    path = style.get_path().transformed(style.get_transform())
    size = MARKER_PX / max(np.ptp(path.vertices[:, 0]), np.ptp(path.vertices[:, 1]))
    steps = []
    for corners, code in path.iter_segments(simplify=False):
        pairs = corners.reshape(-1, 2) * (size, -size)
        steps.append(
            COMMANDS[code] + ("" if code == Outline.CLOSEPOLY else " ".join(f"{a:.2f} {b:.2f}" for a, b in pairs))
        )
    return "".join(steps)
