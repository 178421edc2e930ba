"""Price against latency as hand-written SVG, which takes milliseconds: inline in the panel, a file in the report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.formulas import CLIENT_LIMITED, MET
from helpers.report.charts.load_points import latency_to_draw
from helpers.report.charts.panels import PANELS_PER_ROW, crossed_out, level_text, ticks
from helpers.report.charts.scale import Scale, axis_top, has_failed, open_ended, open_ends, with_limit
from helpers.report.charts.style import (
    CHARACTER_PX,
    FEASIBLE_COLOUR,
    LATENCY_WORDS,
    bars,
    by_option,
    ink_of,
    left_out,
    marker,
    ranges,
    stand_alone,
)
from helpers.report.columns import interval_words
from helpers.report.display import Figure, in_html
from helpers.report.price_unit import PriceUnit, price_unit
from helpers.run.whole_files import write_atomically
from helpers.verdict.chosen_points import main_latency
from helpers.verdict.what_if import MONTH, Outcome, with_bills

PANEL_PX = (360, 290)
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 36, 40
GAP_PX, LEGEND_PX = 10, 18
MARKER_PX = 9.0
SHOWN = ["option", "load", "level", "slo", "n", "requests_per_s"]
COMMANDS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}


@dataclass(frozen=True)
class _Picture:
    """What all panels share: the outcome, the column across with its name, the price up, and the limit in seconds."""

    outcome: Outcome
    x: str
    x_name: str
    unit: PriceUnit
    limit: float

    def drawn(self) -> pd.DataFrame:
        """The load points that have a place, prices in the picture's unit."""
        points = with_bills(self.outcome) if self.unit.column == MONTH else self.outcome.points
        y = self.unit.column
        known = points[np.isfinite(points[self.x].astype(float)) & np.isfinite(points[y].astype(float))]
        return known.assign(**{c: known[c] * self.unit.scale for c in (y, f"{y}_low", f"{y}_high") if c in known})

    def chosen_level(self, option: str, dataset: str) -> float | None:
        """The load at which the recommended option serves a dataset; None for the others."""
        verdict = self.outcome.verdict
        if option != verdict.recommended:
            return None
        return next((p.level for p in verdict.option(option).points if p.dataset == dataset), None)


def price_performance(outcome: Outcome, folder: Path) -> Figure | None:
    """The load points by the SLO's latency and the verdict's price, as a file; None where no load point has both."""
    config, verdict = outcome.config, outcome.verdict
    unit = price_unit(verdict, outcome.points)
    metric = main_latency(config)
    picture = _Picture(outcome, *latency_to_draw(outcome.points, config), unit, config.slo.limits_s()[metric])
    drawn = picture.drawn()
    if drawn.empty:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "price_performance.svg"
    write_atomically(path, _file(picture, drawn))
    return Figure(path, *_alt_and_caption(picture, drawn))


def draw(outcome: Outcome, metric: str, unit: PriceUnit) -> str:
    """The load points by a latency (column of the request records) and a price, as HTML with a panel per dataset."""
    config = outcome.config
    percentile = f"p{config.slo.percentile:g}"
    x, x_name = f"{metric}_{percentile}", f"{percentile} {LATENCY_WORDS[metric]}"
    picture = _Picture(outcome, x, x_name, unit, config.slo.limits_s()[metric])
    drawn = picture.drawn()
    alt, caption = _alt_and_caption(picture, drawn)
    panels = "".join(
        f'<svg viewBox="0 0 {PANEL_PX[0]} {PANEL_PX[1]}" aria-hidden="true">{panel}</svg>'
        for panel in _panels(picture, drawn)
    )
    legend = "".join(
        f'<span><svg viewBox="-7 -7 14 14" aria-hidden="true">{_key(option.name, config)}</svg>{in_html(option.name)}</span>'
        for option in config.options
    )
    return (
        f'<figure><div class="legend">{legend}</div><div class="panels" role="img" aria-label="{in_html(alt)}">{panels}</div>'
        f"<figcaption>{in_html(caption)}</figcaption></figure>"
    )


def _alt_and_caption(picture: _Picture, drawn: pd.DataFrame) -> tuple[str, str]:
    outcome, x, unit = picture.outcome, picture.x, picture.unit
    config, recommended = outcome.config, outcome.verdict.recommended
    count = text.plural(len(outcome.points), "load point")
    met = int((outcome.points["slo"] == MET).sum())
    summary = f"{met} of {count} {'is' if met == 1 else 'are'} shown to meet the SLO."
    best = f"Recommended: {recommended}." if recommended else "No option is shown to meet the SLO."
    alt = f"Price {unit.words} against {picture.x_name}. {best} {summary} {ranges(drawn, x, ' s', config)}"
    month = " A month's price is that of the whole traffic on that dataset, in whole instances."
    caption = (
        f"Lower left is better. Filled: shown to meet the SLO, {met} of {count}; hollow: not shown; faded: another load point "
        f"is shown to be both faster and cheaper; shaded: within the limit of {picture.limit:g} s"
        f"{'; circled: recommended' if recommended else ''}. Small numbers: {config.load.level_name}; whiskers: "
        f"{interval_words(config)}."
        f"{month if unit.column == MONTH else ''}{open_ended(drawn, x, unit.column)}{crossed_out(drawn)}"
        f"{left_out(len(outcome.points) - len(drawn))}"
    )
    return alt, caption


def _file(picture: _Picture, drawn: pd.DataFrame) -> str:
    """An SVG that stands alone: the legend, below it the panels in rows, with the colours of a light and a dark page."""
    panels = _panels(picture, drawn)
    step = PANEL_PX[0] + GAP_PX
    width = step * min(PANELS_PER_ROW, len(panels)) - GAP_PX
    legend, top = _legend(picture.outcome.config, width)
    height = top + PANEL_PX[1] * -(-len(panels) // PANELS_PER_ROW)
    inside = "".join(
        f'<g transform="translate({step * (i % PANELS_PER_ROW)} {top + PANEL_PX[1] * (i // PANELS_PER_ROW)})">{panel}</g>'
        for i, panel in enumerate(panels)
    )
    return stand_alone(f"{legend}{inside}", width, height)


def _legend(config: BenchmarkConfig, width: float) -> tuple[str, float]:
    """Markers with the names of the options, in rows of at most `width` pixels; and the height of them all."""
    parts, across, row = [], 0.0, 0
    for option in config.options:
        needed = 26 + CHARACTER_PX * len(option.name)
        if across and across + needed > width:
            across, row = 0.0, row + 1
        parts.append(
            f'<g transform="translate({across + 10:g} {(row + 0.6) * LEGEND_PX:g})">{_key(option.name, config)}'
            f'<text x="9" y="4">{in_html(option.name)}</text></g>'
        )
        across += needed
    return "".join(parts), (row + 1) * LEGEND_PX + GAP_PX


def _key(option: str, config: BenchmarkConfig) -> str:
    return f'<path d="{_outline(marker(option, config))}" fill="{ink_of(option, config)}"/>'


def _panels(picture: _Picture, drawn: pd.DataFrame) -> list[str]:
    names = [dataset.name for dataset in picture.outcome.config.datasets]
    return [_panel(picture, name, drawn[drawn["dataset"] == name]) for name in names]


def _panel(picture: _Picture, dataset: str, rows: pd.DataFrame) -> str:
    """The inside of one panel: axes, and per option a faint line, its points with whiskers and their loads."""
    x, y, config = picture.x, picture.unit.column, picture.outcome.config
    across = Scale(with_limit(axis_top(rows, x), picture.limit), LEFT, PANEL_PX[0] - RIGHT)
    up = Scale(axis_top(rows, y), PANEL_PX[1] - BOTTOM, TOP)
    parts = [
        _within(across, picture.limit),
        _axes(across, up, f"{picture.x_name}, s", f"price {picture.unit.words}, $"),
        f'<text class="name" x="{LEFT}" y="12">{in_html(dataset)}</text>',
    ]
    if rows.empty:
        nothing = f'<text x="{LEFT + 12}" y="{PANEL_PX[1] / 2}">nothing to draw: unknown or infinite</text>'
        return "".join([*parts, nothing])
    ends = zip(open_ends(rows, x).T, open_ends(rows, y).T, strict=True)
    intervals = zip(bars(rows, x).T, bars(rows, y).T, dominated(rows, x, y), ends, strict=True)
    points = dict(zip(rows.index, zip(rows[[*SHOWN, x, y]].to_dict("records"), intervals, strict=True), strict=True))
    failed, labels = set(rows.index[has_failed(rows)]), []
    for name, mine in by_option(rows, config):
        ink, outline = ink_of(name, config), _outline(marker(name, config))
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
                f'<g stroke="{ink}" opacity="{0.55 if is_beaten else 1}"><title>{in_html(_words(picture, row))}</title>'
                f'<path d="{whiskers}" fill="none"/><path transform="translate({at[0]:.1f} {at[1]:.1f})" d="{outline}" '
                f'fill="{ink if row["slo"] == MET else "none"}" pointer-events="all" stroke-width="1.4"/></g>'
            )
            if row["level"] in labelled:
                words = level_text(row["level"])
                away = 10 if chosen == row["level"] else 6
                labels.append(f'<text class="small" x="{at[0] + away:.1f}" y="{at[1] - away:.1f}">{words}</text>')
            if row["slo"] == CLIENT_LIMITED:
                cross = f"M{at[0] - 5:.1f} {at[1] - 5:.1f}l10 10m0 -10l-10 10"
                parts.append(f'<path d="{cross}" stroke="currentColor" stroke-width="1.5"/>')
            if index in failed:
                plus = f"M{at[0] - 6:.1f} {at[1]:.1f}h12m-6 -6v12"
                parts.append(f'<path d="{plus}" stroke="currentColor" stroke-width="1.5"/>')
            if chosen == row["level"]:
                parts.append(_circle(at, name))
    return "".join([*parts, *labels])


def _within(across: Scale, limit: float) -> str:
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


def _axes(across: Scale, up: Scale, x_label: str, y_label: str) -> str:
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
    across: Scale,
    up: Scale,
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
    """The mark of the recommended option's load point, with its name below or, at the floor, above, within the panel."""
    below = 22 if at[1] < PANEL_PX[1] - BOTTOM - 26 else -14
    half = CHARACTER_PX * len(name) / 2
    middle = max(min(at[0], PANEL_PX[0] - half), LEFT + half)
    return (
        f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="10" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f'<text class="name" x="{middle:.1f}" y="{at[1] + below:.1f}" text-anchor="middle">{in_html(name)}</text>'
    )


def _words(picture: _Picture, row: dict) -> str:
    """What stands beside a point when the pointer rests on it."""
    unit, x_short = picture.unit, picture.x_name.split()[0]
    return (
        f"{row['option']}, {row['load']}: {x_short} {text.duration(row[picture.x])}, price {unit.words} "
        f"{text.dollars(row[unit.column])}, {text.significant(row['requests_per_s'])} requests/s, n = {row['n']:,}"
    )


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
