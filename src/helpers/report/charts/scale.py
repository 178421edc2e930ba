"""Where axes end, and how it is seen that an interval or a value goes on beyond what can be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.path import Path as Outline
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Affine2D

from helpers import number_text as text
from helpers.metrics.formulas import MISSED
from helpers.report.charts.style import bars

MOSTLY = 0.5
"""Error rate from which a load point has failed, decided or not."""
FAR = 10
"""Values beyond this many times the median do not stretch an axis: they stand at its end, with the value beside an arrow."""
FAR_ON_LOG = 1000
"""The same on a logarithmic axis."""
LIMIT_FAR = 2
"""A limit beyond this many times the highest value does not stretch an axis either."""
LOGARITHMIC_FROM = 10
"""Ratio of the highest to the lowest value from which an axis of values is logarithmic."""
DENSE_BELOW = 60
"""Ratio of the ends of a logarithmic axis up to which each decade has three ticks."""
LONG, MARGIN = 1.5, 0.09
"""How far an interval may stretch a logarithmic axis beyond the values, and the share of it that stays free at each end."""
ARROW_POINTS = 18.0
_ARROW = Outline([(0, 0.35), (0, 1), (-0.16, 0.74), (0, 1), (0.16, 0.74)], [1, 2, 1, 2, 2])


@dataclass(frozen=True)
class Scale:
    """From a value to pixels: `bottom` lies at `start`, `top` at `end`. Logarithmic from a `bottom` above 0 on."""

    top: float
    start: float
    end: float
    bottom: float = 0.0

    def __call__(self, value: float) -> float:
        """The place of a value; an end of the axis for one beyond."""
        share = (value - self.bottom) / (self.top - self.bottom)
        if self.bottom > 0:
            share = np.log(max(value, self.bottom) / self.bottom) / np.log(self.top / self.bottom)
        return self.start + (self.end - self.start) * float(min(max(share, 0.0), 1.0))

    def ticks(self) -> list[float]:
        """Round values along it."""
        if self.bottom > 0:
            steps = (1.0, 2.0, 5.0) if self.top < DENSE_BELOW * self.bottom else (1.0,)
            values = LogLocator(subs=steps).tick_values(self.bottom, self.top)
        else:
            values = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(0, self.top)
        return [float(value) for value in values if self.bottom <= value <= self.top * 1.001]


def is_wide(rows: pd.DataFrame, column: str) -> bool:
    """Do the values of a dataset span so much that their axis is logarithmic? Load points that failed do not count."""
    if not has_failed(rows).all():
        rows = rows[~has_failed(rows)]
    values = rows[column].to_numpy(float)
    known = rows[np.isfinite(values) & ~is_far(values, FAR_ON_LOG)]
    if known.empty or (known[column] <= 0).any():
        return False
    per_dataset = known.groupby("dataset")[column]
    return bool((per_dataset.max() >= LOGARITHMIC_FROM * per_dataset.min()).any())


def axis_ends(rows: pd.DataFrame, column: str, logarithmic: bool) -> tuple[float, float]:
    """Both ends of an axis: 0 and `axis_top`, or where it is logarithmic those between which all values lie, and of their
    intervals what is not long.
    """
    if not logarithmic or rows.empty:
        return 0.0, axis_top(rows, column)
    if not has_failed(rows).all():
        rows = rows[~has_failed(rows)]
    rows = rows[~is_far(rows[column].to_numpy(float), FAR_ON_LOG)]
    values = rows[column].to_numpy(float)
    below, above = bars(rows, column)
    values_low, values_high = float(values.min()), float(values.max())
    low = max(float((values - below).min()), values_low / LONG)
    high = min(float((values + above).max()), values_high * LONG)
    margin = (high / low) ** MARGIN if high > low else LONG
    return low / margin, high * margin


def open_ends(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Is the interval without an end below and above each value, shape (2, n)? It is where a bound is unknown or infinite."""
    if f"{column}_low" not in rows:
        return np.zeros((2, len(rows)), dtype=bool)
    known = np.isfinite(rows[column].to_numpy(float))
    return np.stack([known & ~np.isfinite(rows[f"{column}{end}"].to_numpy(float)) for end in ("_low", "_high")])


def has_failed(rows: pd.DataFrame) -> np.ndarray:
    """At which load points did more requests fail than the SLO allows, or most of them?"""
    if "slo_error_rate" not in rows:
        return np.zeros(len(rows), dtype=bool)
    return ((rows["slo_error_rate"] == MISSED) | (rows["error_rate"] >= MOSTLY)).to_numpy(bool)


def axis_top(rows: pd.DataFrame, column: str) -> float:
    """The end of an axis that starts at zero: beyond the values but for far ones, and beyond their intervals unless those
    are long. Load points that failed do not stretch it where there are others: few answers make any price.
    """
    if not has_failed(rows).all():
        rows = rows[~has_failed(rows)]
    values = rows[column].to_numpy(float)
    reach = values + bars(rows, column)[1]
    near = np.isfinite(values) & ~is_far(values)
    if not near.any():
        return 1.0
    highest = float(values[near].max())
    top = max(highest * 1.08, min(float(reach[near].max()) * 1.03, highest * 1.6))
    return top if top > 0 else 1.0


def is_far(values: np.ndarray, times: float = FAR) -> np.ndarray:
    """Which values would squash the others, beyond so many times the median?"""
    known = values[np.isfinite(values)]
    return values > times * np.median(known) if len(known) > 2 and np.median(known) > 0 else np.zeros(len(values), bool)


def with_limit(top: float, limit: float) -> float:
    """The end of an axis on which a limit is to be seen, unless it is far."""
    return max(top, limit * 1.05) if limit <= LIMIT_FAR * top else top


def mark_open_ends(axes: Axes, rows: pd.DataFrame, y: str, colour: str) -> None:
    """An arrow at each load point, down or up, where its interval has no end."""
    for turn, is_open in zip((180, 0), open_ends(rows, y), strict=True):
        (arrows,) = axes.plot(
            *(rows[is_open]["level"], rows[is_open][y]),
            ls="none",
            marker=_ARROW.transformed(Affine2D().rotate_deg(turn)),
            markersize=2 * ARROW_POINTS,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=0.9,
            gid="open-end",
        )
        arrows.set_in_layout(False)


def end_at(axes: Axes, rows: pd.DataFrame, y: str, top: float) -> None:
    """Let the axis of `y` end at `top`, and write values beyond at the edge."""
    axes.set_ylim(0, top)
    rows = rows.assign(failed=np.where(has_failed(rows), " +", ""))
    for row in rows[rows[y].to_numpy(float) > top].to_dict("records"):
        axes.annotate(
            f"{text.significant(row[y])} ↑{row['failed']}",
            (row["level"], 0.99),
            xycoords=("data", "axes fraction"),
            ha="right",
            va="top",
            fontsize=7,
            gid="off-scale",
        ).set_in_layout(False)


def open_ended(rows: pd.DataFrame, *columns: str, wide: tuple[str, ...] = ()) -> str:
    """What a caption says of arrows and of values off the scale; the axes of `wide` columns are logarithmic."""
    said = ""
    if any(open_ends(rows, column).any() for column in columns):
        said += " An arrow: the interval has no end on that side, as there were too few requests or too many failures."
    per_panel = [(mine, column) for _, mine in rows.groupby("dataset") for column in columns]
    tops = [axis_ends(mine, column, column in wide)[1] for mine, column in per_panel]
    beyond = sum(int((mine[c].to_numpy(float) > top).sum()) for (mine, c), top in zip(per_panel, tops, strict=True))
    if beyond:
        said += f" {text.plural(beyond, 'value')} off the scale, written at the edge beside an arrow."
    return said
