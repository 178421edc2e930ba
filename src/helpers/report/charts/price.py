"""Price against latency as hand-written SVG, which takes milliseconds: inline in the panel, a file in the report."""

from __future__ import annotations

import math
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
from helpers.report.charts.labels import Box, Labels
from helpers.report.charts.load_points import latency_to_draw
from helpers.report.charts.panels import PANELS_PER_ROW, crossed_out, level_text, ticks
from helpers.report.charts.scale import Scale, axis_ends, has_failed, is_wide, open_ended, open_ends, with_limit
from helpers.report.charts.style import (
    CHARACTER_PX,
    LATENCY_WORDS,
    LIMIT_COLOUR,
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
CIRCLE_PX = 10.0
SMALL_PX, NAME_PX = (5.8, 9.0), (7.7, 11.0)
"""Widths of a character, and sizes, of small letters and of bold ones."""
NAMED = "option"
"""Class of names of options."""
NAMES_UP_TO = 6
"""Options that have their names beside their marks where there is room."""
SAME_PLACE_PX, WIDER = 3.0, 0.5
"""Marks nearer than this hide one another, so each is larger than the one on it, by this share of it."""
ARROW_PX = (5.0, 12.0)
"""Lengths of an arrow: the shortest, and where there is room."""
SHOWN = ["option", "dataset", "load", "level", "slo", "n", "requests_per_s"]
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


def _file(picture: _Picture, drawn: pd.DataFrame) -> str:
    """An SVG that stands alone: the legend where marks lack names, below it the panels in rows."""
    panels = _panels(picture, drawn)
    step = PANEL_PX[0] + GAP_PX
    width = step * min(PANELS_PER_ROW, len(panels)) - GAP_PX
    legend, top = ("", 0.0) if _are_named(panels, drawn) else _legend(picture.outcome.config, width)
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
    names = [dataset.name for dataset in picture.outcome.config.judged_datasets]
    wide = is_wide(drawn, picture.x), is_wide(drawn, picture.unit.column)
    return [_panel(picture, name, drawn[drawn["dataset"] == name], wide) for name in names]


def _scales(picture: _Picture, rows: pd.DataFrame, wide: tuple[bool, bool]) -> tuple[Scale, Scale]:
    """Across and up; `wide`: which of them is logarithmic."""
    (left, right), (low, high) = (
        axis_ends(rows, column, logarithmic)
        for column, logarithmic in zip((picture.x, picture.unit.column), wide, strict=True)
    )
    across = Scale(with_limit(right, picture.limit), LEFT, PANEL_PX[0] - RIGHT, left)
    return across, Scale(high, PANEL_PX[1] - BOTTOM, TOP, low)


def _panel(picture: _Picture, dataset: str, rows: pd.DataFrame, wide: tuple[bool, bool]) -> str:
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
    marks = _marks(picture, rows, across, up)
    for name, mine in _per_option(marks).items():
        track = " ".join(f"{mark.at[0]:.1f},{mark.at[1]:.1f}" for mark in mine)
        ink = ink_of(name, picture.outcome.config)
        parts.append(f'<polyline points="{track}" fill="none" stroke="{ink}" opacity="0.35"/>')
        parts += [_drawn(mark, picture) for mark in mine]
    return "".join([*parts, *_labels(picture, rows, marks)])


@dataclass(frozen=True)
class _Mark:
    """A load point in a panel: its row, its place, how large it is, and what of it lies where."""

    row: dict
    at: tuple[float, float]
    size: float
    """Against that of a mark with none on it."""
    is_beaten: bool
    has_failed: bool
    is_chosen: bool
    whiskers: tuple[tuple[float, float], tuple[float, float]]
    """From left to right, and from low to high."""
    arrows: tuple[tuple[float, float, float], ...]
    """Direction across and up, and length, of each end that is open."""
    beyond: str
    """The value and an arrow, where it lies beyond an axis."""

    @property
    def half(self) -> float:
        """Half of what its shape, and the sign or circle on it, take."""
        return CIRCLE_PX + 0.7 if self.is_chosen else self.size * (MARKER_PX / 2 + 0.7)

    @property
    def is_limited(self) -> bool:
        return self.row["slo"] == CLIENT_LIMITED

    def boxes(self) -> list[Box]:
        """What its shape, its whiskers and its arrows take."""
        (left, right), (low, high) = self.whiskers
        x, y = self.at
        found = [Box.around(self.at, self.half), Box(left, y - 1, right, y + 1), Box(x - 1, high, x + 1, low)]
        for dx, dy, length in self.arrows:
            ends = [(x + dx * by, y + dy * by) for by in (6, 6 + length)]
            across, along = zip(*ends, strict=True)
            side = (3 * abs(dy), 3 * abs(dx))
            found.append(Box(min(across) - side[0], min(along) - side[1], max(across) + side[0], max(along) + side[1]))
        return found


def _marks(picture: _Picture, rows: pd.DataFrame, across: Scale, up: Scale) -> list[_Mark]:
    """In the order in which they are drawn."""
    x, y, config = picture.x, picture.unit.column, picture.outcome.config
    records = rows[[*SHOWN, x, y]].to_dict("records")
    bar, opened = [bars(rows, c).T for c in (x, y)], [open_ends(rows, c).T for c in (x, y)]
    beaten, failed = dominated(rows, x, y).to_numpy(), has_failed(rows)
    order = [rows.index.get_loc(i) for _, mine in by_option(rows, config) for i in mine.index]
    places = {i: (across(records[i][x]), up(records[i][y])) for i in order}
    marks = []
    for number, i in enumerate(order):
        row, at = records[i], places[i]
        on_it = {records[j]["option"] for j in order[number + 1 :] if math.dist(places[j], at) < SAME_PLACE_PX}
        is_chosen = picture.chosen_level(row["option"], row["dataset"]) == row["level"]
        out = f"{text.significant(row[y])} ↑" if row[y] > up.top else ""
        out = f"{text.significant(row[x])} →" if row[x] > across.top else out
        marks.append(
            _Mark(
                row,
                at,
                1 + WIDER * len(on_it - {row["option"]}),
                bool(beaten[i]),
                bool(failed[i]),
                is_chosen,
                tuple(
                    (scale(row[c] - b[i][0]), scale(row[c] + b[i][1]))
                    for c, scale, b in zip((x, y), (across, up), bar, strict=True)
                ),
                _arrows(at, opened[0][i], opened[1][i], bool(out)),
                out,
            )
        )
    return marks


def _per_option(marks: list[_Mark]) -> dict[str, list[_Mark]]:
    found: dict[str, list[_Mark]] = {}
    for mark in marks:
        found.setdefault(mark.row["option"], []).append(mark)
    return found


def _arrows(
    at: tuple[float, float], x_open: np.ndarray, y_open: np.ndarray, is_beyond: bool
) -> tuple[tuple[float, float, float], ...]:
    """To where an interval has no end, left and right, below and above, as far as there is room; none of a value that itself
    lies beyond an axis, which is said beside it.
    """
    room = (at[0] - LEFT, PANEL_PX[0] - RIGHT - at[0], PANEL_PX[1] - BOTTOM - at[1], at[1] - TOP)
    wanted = zip(((-1, 0), (1, 0), (0, 1), (0, -1)), room, (*x_open, *y_open), strict=True)
    return tuple(
        (dx, dy, max(ARROW_PX[0], min(ARROW_PX[1], free - 6)))
        for (dx, dy), free, is_open in wanted
        if is_open and not is_beyond
    )


def _drawn(mark: _Mark, picture: _Picture) -> str:
    """A load point's shape, whiskers and arrows, and the signs on it."""
    config, (x, y), (across, along) = picture.outcome.config, mark.at, mark.whiskers
    ink, outline = ink_of(mark.row["option"], config), _outline(marker(mark.row["option"], config))
    heads = {(-1, 0): "l4 -3m-4 3l4 3", (1, 0): "l-4 -3m4 3l-4 3", (0, 1): "l-3 -4m3 4l3 -4", (0, -1): "l-3 4m3 -4l3 4"}
    arrows = "".join(
        f"M{x + 6 * dx:.1f} {y + 6 * dy:.1f}l{length * dx:g} {length * dy:g}{heads[dx, dy]}"
        for dx, dy, length in mark.arrows
    )
    whiskers = f"M{across[0]:.1f} {y:.1f}H{across[1]:.1f}M{x:.1f} {along[0]:.1f}V{along[1]:.1f}{arrows}"
    shape = (
        f'<g stroke="{ink}" opacity="{0.55 if mark.is_beaten else 1}"><title>{in_html(_words(picture, mark.row))}</title>'
        f'<path d="{whiskers}" fill="none"/><path class="mark" transform="translate({x:.1f} {y:.1f}) scale({mark.size:g})" '
        f'd="{outline}" fill="{ink if mark.row["slo"] == MET else "none"}" pointer-events="all" stroke-width="1.4"/></g>'
    )
    signs = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" if mark.is_limited else ""
    signs += f"M{x - 6:.1f} {y:.1f}h12m-6 -6v12" if mark.has_failed else ""
    signs += f"M{x - CIRCLE_PX:.1f} {y:.1f}a{CIRCLE_PX:g} {CIRCLE_PX:g} 0 1 1 0 .01z" if mark.is_chosen else ""
    return shape + (f'<path d="{signs}" fill="none" stroke="currentColor" stroke-width="1.5"/>' if signs else "")


def _are_named(panels: list[str], drawn: pd.DataFrame) -> bool:
    """Does every option that has marks have its name beside them in each panel?"""
    wanted = drawn.groupby("dataset")["option"].nunique().sum()
    return sum(panel.count(f'class="{NAMED}') for panel in panels) == wanted


def _labels(picture: _Picture, rows: pd.DataFrame, marks: list[_Mark]) -> list[str]:
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
