"""The load points in a panel of price against latency: where they lie, what of them lies where, and how they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

from helpers import number_text as text
from helpers.metrics.formulas import CLIENT_LIMITED, MET
from helpers.report.charts.labels import Box
from helpers.report.charts.scale import Scale, has_failed, open_ends
from helpers.report.charts.style import bars, by_option, ink_of, marker
from helpers.report.display import in_html
from helpers.report.price_unit import PriceUnit
from helpers.verdict.what_if import MONTH, Outcome, with_bills

PANEL_PX = (360, 290)
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 36, 40
MARKER_PX = 9.0
CIRCLE_PX = 10.0
SAME_PLACE_PX, WIDER = 3.0, 0.5
"""Marks nearer than this hide one another, so each is larger than the one on it, by this share of it."""
ARROW_PX = (5.0, 12.0)
"""Lengths of an arrow: the shortest, and where there is room."""
SHOWN = ["option", "dataset", "load", "level", "slo", "n", "requests_per_s"]
COMMANDS = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}


@dataclass(frozen=True)
class Picture:
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


@dataclass(frozen=True)
class Mark:
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


def marks_of(picture: Picture, rows: pd.DataFrame, across: Scale, up: Scale) -> list[Mark]:
    """The load points of a panel in the order in which they are drawn."""
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
            Mark(
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


def drawn_mark(mark: Mark, picture: Picture) -> str:
    """A load point's shape, whiskers and arrows, and the signs on it."""
    config, (x, y), (across, along) = picture.outcome.config, mark.at, mark.whiskers
    ink, outline = ink_of(mark.row["option"], config), outline_of(marker(mark.row["option"], config))
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
    signs = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" if mark.row["slo"] == CLIENT_LIMITED else ""
    signs += f"M{x - 6:.1f} {y:.1f}h12m-6 -6v12" if mark.has_failed else ""
    signs += f"M{x - CIRCLE_PX:.1f} {y:.1f}a{CIRCLE_PX:g} {CIRCLE_PX:g} 0 1 1 0 .01z" if mark.is_chosen else ""
    return shape + (f'<path d="{signs}" fill="none" stroke="currentColor" stroke-width="1.5"/>' if signs else "")


def _words(picture: Picture, row: dict) -> str:
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
def outline_of(name: str) -> str:
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
