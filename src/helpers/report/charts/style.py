"""What all figures share: one colour and marker per option, the look, and what is said of what cannot be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FEASIBLE_COLOUR = "#009E73"
LATENCY_WORDS = {"latency_s": "end-to-end latency", "ttft_s": "time to first token", "tpot_s": "time per output token"}
STYLE = {
    "svg.hashsalt": "figures",
    "text.parse_math": False,  # a dollar is a dollar, in names too
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
}


def colour(option: str, config: BenchmarkConfig) -> str:
    """The colour of an option, the same in every figure."""
    return PALETTE[[o.name for o in config.options].index(option) % len(PALETTE)]


def marker(option: str, config: BenchmarkConfig) -> str:
    """The marker of an option, the same in every figure."""
    return MARKERS[[o.name for o in config.options].index(option) % len(MARKERS)]


def by_option(rows: pd.DataFrame, config: BenchmarkConfig) -> Iterator[tuple[str, pd.DataFrame]]:
    """Option and its rows, in the config's order; options without rows are passed over."""
    for option in config.options:
        mine = rows[rows["option"] == option.name]
        if len(mine):
            yield option.name, mine


def bars(rows: pd.DataFrame, column: str) -> np.ndarray | None:
    """Lengths of the interval below and above each value, shape (2, n); unknown or infinite ends have no bar."""
    if f"{column}_low" not in rows:
        return None
    value = rows[column].to_numpy(float)
    lengths = np.stack([value - rows[f"{column}_low"].to_numpy(float), rows[f"{column}_high"].to_numpy(float) - value])
    return np.where(np.isfinite(lengths), np.maximum(lengths, 0), 0)


def ranges(rows: pd.DataFrame, column: str, unit: str, config: BenchmarkConfig) -> str:
    """The smallest and largest value of each option, in words."""
    parts = []
    for name, mine in by_option(rows, config):
        low, high = mine[column].min(), mine[column].max()
        parts.append(f"{name}: {text.significant(low)} to {text.significant(high)}{unit}")
    return "; ".join(parts) + "."


def left_out(count: int) -> str:
    """What a caption says of load points without a place in the figure."""
    return f" {text.plural(count, 'load point')} cannot be drawn: unknown or infinite." if count else ""


@contextmanager
def style() -> Iterator[None]:
    """Draw with the look of all figures."""
    with mpl.rc_context(STYLE):
        yield


def save(canvas: Canvas, folder: Path, name: str) -> Path:
    """Write an SVG that is the same whenever the data are."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    canvas.savefig(path, metadata={"Date": None})
    return path
