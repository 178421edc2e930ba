"""Price against latency as hand-written SVG, which takes milliseconds: inline in the panel, a file in the report."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.formulas import MET
from helpers.report.charts.labels import Box, Labels
from helpers.report.charts.load_points import latency_to_draw
from helpers.report.charts.panels import PANELS_PER_ROW, crossed_out, level_text, ticks
from helpers.report.charts.price_marks import (
    BOTTOM,
    LEFT,
    PANEL_PX,
    RIGHT,
    SAME_PLACE_PX,
    TOP,
    Mark,
    Picture,
    drawn_mark,
    marks_of,
    outline_of,
)
from helpers.report.charts.scale import Scale, axis_ends, is_wide, open_ended, with_limit
from helpers.report.charts.style import (
    CHARACTER_PX,
    LATENCY_WORDS,
    LIMIT_COLOUR,
    by_option,
    ink_of,
    left_out,
    marker,
    ranges,
    save_picture,
)
from helpers.report.columns import interval_words
from helpers.report.display import Figure, in_html
from helpers.report.price_unit import PriceUnit, price_unit
from helpers.verdict.chosen_points import main_latency
from helpers.verdict.what_if import MONTH, Outcome

GAP_PX, LEGEND_PX = 10, 18
SMALL_PX, NAME_PX = (5.8, 9.0), (7.7, 11.0)
"""Widths of a character, and sizes, of small letters and of bold ones."""
NAMED = "option"
"""Class of names of options."""
NAMES_UP_TO = 6
"""Options that have their names beside their marks where there is room."""


def price_performance(outcome: Outcome, folder: Path) -> Figure | None:
    """The load points by the SLO's latency and the verdict's price, as a file; None where no load point has both."""
    config, verdict = outcome.config, outcome.verdict
    unit = price_unit(verdict, outcome.points)
    metric = main_latency(config)
    picture = Picture(outcome, *latency_to_draw(outcome.points, config), unit, config.slo.limits_s()[metric])
    drawn = picture.drawn()
    if drawn.empty:
        return None
    inside, size = _alone(picture, drawn)
    path = save_picture(inside, folder, "price_performance", size)
    return Figure(path, *_alt_and_caption(picture, drawn))


def draw(outcome: Outcome, metric: str, unit: PriceUnit) -> str:
    """The load points by a latency (column of the request records) and a price, as HTML with a panel per dataset."""
    config = outcome.config
    percentile = f"p{config.slo.percentile:g}"
    x, x_name = f"{metric}_{percentile}", f"{percentile} {LATENCY_WORDS[metric]}"
    picture = Picture(outcome, x, x_name, unit, config.slo.limits_s()[metric])
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


def _alt_and_caption(picture: Picture, drawn: pd.DataFrame) -> tuple[str, str]:
    outcome, x, unit = picture.outcome, picture.x, picture.unit
    config, recommended = outcome.config, outcome.verdict.recommended
    count = text.plural(len(outcome.points), "load point")
    met = int((outcome.points["slo"] == MET).sum())
    summary = f"{met} of {count} {'is' if met == 1 else 'are'} shown to meet the SLO."
    none = "No option is recommended." if outcome.verdict.has_gate else "No option is shown to meet the SLO."
    best = f"Recommended: {recommended}." if recommended else none
    alt = f"Price {unit.words} against {picture.x_name}. {best} {summary} {ranges(drawn, x, ' s', config)}"
    wide = tuple(column for column in (x, unit.column) if is_wide(drawn, column))
    month = " A month's price is that of the whole traffic on that dataset, in whole instances."
    caption = (
        f"Lower left is better. Filled: shown to meet the SLO, {met} of {count}; hollow: not shown; faded: another load point "
        f"is shown to be both faster and cheaper; shaded: beyond the limit of {picture.limit:g} s"
        f"{'; circled: recommended' if recommended else ''}. Small numbers, where there is room: {config.load.level_name}; "
        f"whiskers: {interval_words(config)}."
        f"{month if unit.column == MONTH else ''}{open_ended(drawn, x, unit.column, wide=wide)}{crossed_out(drawn)}"
        f"{left_out(len(outcome.points) - len(drawn))}"
    )
    return alt, caption


def _alone(picture: Picture, drawn: pd.DataFrame) -> tuple[str, tuple[float, float]]:
    """The inside of a picture that stands alone: the legend where marks lack names, below it the panels in rows; and its size."""
    panels = _panels(picture, drawn)
    step = PANEL_PX[0] + GAP_PX
    width = step * min(PANELS_PER_ROW, len(panels)) - GAP_PX
    legend, top = ("", 0.0) if _are_named(panels, drawn) else _legend(picture.outcome.config, width)
    height = top + PANEL_PX[1] * -(-len(panels) // PANELS_PER_ROW)
    inside = "".join(
        f'<g transform="translate({step * (i % PANELS_PER_ROW)} {top + PANEL_PX[1] * (i // PANELS_PER_ROW)})">{panel}</g>'
        for i, panel in enumerate(panels)
    )
    return f"{legend}{inside}", (width, height)


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
    return f'<path d="{outline_of(marker(option, config))}" fill="{ink_of(option, config)}"/>'


def _panels(picture: Picture, drawn: pd.DataFrame) -> list[str]:
    names = [dataset.name for dataset in picture.outcome.config.judged_datasets]
    wide = is_wide(drawn, picture.x), is_wide(drawn, picture.unit.column)
    return [_panel(picture, name, drawn[drawn["dataset"] == name], wide) for name in names]


def _scales(picture: Picture, rows: pd.DataFrame, wide: tuple[bool, bool]) -> tuple[Scale, Scale]:
    """Across and up; `wide`: which of them is logarithmic."""
    (left, right), (low, high) = (
        axis_ends(rows, column, logarithmic)
        for column, logarithmic in zip((picture.x, picture.unit.column), wide, strict=True)
    )
    across = Scale(with_limit(right, picture.limit), LEFT, PANEL_PX[0] - RIGHT, left)
    return across, Scale(high, PANEL_PX[1] - BOTTOM, TOP, low)


def _panel(picture: Picture, dataset: str, rows: pd.DataFrame, wide: tuple[bool, bool]) -> str:
    """The inside of one panel: axes, and per option a faint line, its points with whiskers, their loads and its name."""
    across, up = _scales(picture, rows, wide)
    x_label, y_label = (
        f"{words} (log scale)" if logarithmic else words
        for words, logarithmic in zip((f"{picture.x_name}, s", f"price {picture.unit.words}, $"), wide, strict=True)
    )
    parts = [
        _beyond(across, picture.limit),
        _axes(across, up, x_label, y_label),
        f'<text class="name" x="{LEFT}" y="12">{in_html(dataset)}</text>',
    ]
    if rows.empty:
        nothing = f'<text x="{LEFT + 12}" y="{PANEL_PX[1] / 2}">nothing to draw: unknown or infinite</text>'
        return "".join([*parts, nothing])
    marks = marks_of(picture, rows, across, up)
    for name, mine in _per_option(marks).items():
        track = " ".join(f"{mark.at[0]:.1f},{mark.at[1]:.1f}" for mark in mine)
        ink = ink_of(name, picture.outcome.config)
        parts.append(f'<polyline points="{track}" fill="none" stroke="{ink}" opacity="0.35"/>')
        parts += [drawn_mark(mark, picture) for mark in mine]
    return "".join([*parts, *_labels(picture, rows, marks)])


def _per_option(marks: list[Mark]) -> dict[str, list[Mark]]:
    found: dict[str, list[Mark]] = {}
    for mark in marks:
        found.setdefault(mark.row["option"], []).append(mark)
    return found


def _are_named(panels: list[str], drawn: pd.DataFrame) -> bool:
    """Does every option that has marks have its name beside them in each panel?"""
    wanted = drawn.groupby("dataset")["option"].nunique().sum()
    return sum(panel.count(f'class="{NAMED}') for panel in panels) == wanted


def _labels(picture: Picture, rows: pd.DataFrame, marks: list[Mark]) -> list[str]:
    """Values beyond an axis, the name of the recommended option at its load, loads, and the other names, each where there is
    room.
    """
    per_option, config = _per_option(marks), picture.outcome.config
    frame = Box(LEFT + 1, TOP + 1, PANEL_PX[0], PANEL_PX[1] - BOTTOM - 1)
    labels = Labels(
        frame,
        [box for mark in marks for box in mark.boxes()],
        [tuple(m.at for m in mine) for mine in per_option.values()],
    )
    ticked = {name: set(ticks(mine)) for name, mine in by_option(rows, config)}
    wanted = [(mark.beyond, SMALL_PX, "small", [mark]) for mark in marks if mark.beyond]
    wanted += [(mark.row["option"], NAME_PX, f"{NAMED} name", [mark]) for mark in marks if mark.is_chosen]
    shown = [mark for mark in marks if mark.row["level"] in ticked[mark.row["option"]] and not mark.beyond]
    for i, mark in enumerate(shown):
        words = level_text(mark.row["level"])
        if not any(m.row["level"] == mark.row["level"] and math.dist(m.at, mark.at) < SAME_PLACE_PX for m in shown[:i]):
            wanted.append((words, SMALL_PX, "small", [mark]))
    if len(per_option) <= NAMES_UP_TO:
        ends = {name: mine[::-1] for name, mine in per_option.items() if not any(mark.is_chosen for mark in mine)}
        wanted += [(name, (CHARACTER_PX, NAME_PX[1]), NAMED, mine) for name, mine in ends.items()]
    said = []
    for words, (character_px, size), kind, at in wanted:
        others = [] if kind == "small" else [mark for mark in marks if mark.row["option"] != at[0].row["option"]]
        apart = [Box.around(mark.at, mark.half) for mark in others]
        place = labels.place(character_px * len(words), size, [Box.around(mark.at, mark.half) for mark in at], apart)
        if place:
            said.append(f'<text class="{kind}" x="{place[0]:.1f}" y="{place[1]:.1f}">{in_html(words)}</text>')
    return said


def _beyond(across: Scale, limit: float) -> str:
    """The region beyond the limit, and the line at its begin; an arrow where the limit lies beyond the axis."""
    if limit > across.top:
        return f'<text class="limit" x="{across.end}" y="{TOP - 5}" text-anchor="end">limit {limit:g} s →</text>'
    begin = across(limit)
    height = PANEL_PX[1] - BOTTOM - TOP
    size = f'x="{begin:.1f}" y="{TOP}" width="{across.end - begin:.1f}" height="{height}"'
    near_end = begin > (LEFT + across.end) / 2
    anchor = f'x="{begin + (-4 if near_end else 4):.1f}" text-anchor="{"end" if near_end else "start"}"'
    return (
        f'<rect {size} fill="currentColor" opacity="0.07"/>'
        f'<path d="M{begin:.1f} {TOP}v{height}" stroke="{LIMIT_COLOUR}" stroke-dasharray="5 3" stroke-width="1.5"/>'
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
