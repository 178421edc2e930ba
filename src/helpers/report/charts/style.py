"""What all figures share: one colour and marker per option, the look, and what is said of what cannot be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import takewhile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.run.whole_files import write_atomically

PALETTE = ("#0072B2", "#C68700", "#009E73", "#CC79A7", "#3A96CC", "#D55E00", "#000000", "#6B6B00")
"""Colours of Okabe and Ito, which are told apart by all kinds of eyes; orange, sky blue and yellow darker, as they would be too
pale on white (below 3:1). On a dark page they are what they were.
"""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LIMIT_COLOUR = "#444444"
"""Of the SLO's limits: no option has it."""
BLACK = "#000000"
ON_DARK = {
    "#ffffff": "#16181c",
    "#e3e3e3": "#3a3d43",
    "#000000": "#e8e8e8",
    "#444444": "#b8b8b8",
    "#555555": "#a8a8a8",
    "#777777": "#a8a8a8",
    "#0072b2": "#3d9bdc",
    "#c68700": "#e69f00",
    "#3a96cc": "#56b4e9",
    "#6b6b00": "#f0e442",
}
"""Colours of paper, grid, ink and too dark lines -> what they are where the reader's page is dark."""
SHOWN_LARGER = 1.25
"""Size of a hand-written picture on a page, against the pixels that it is drawn in."""
CHARACTER_PX = 6.4
LETTERS = {
    "svg": "font-size: 11px; overflow: visible",
    "text": "fill: currentColor",
    ".small": "font-size: 9px; opacity: .75",
    ".name": "font-weight: bold",
    ".limit": "font-weight: bold; opacity: .85",
}
"""Rules for what stands in a panel, which the page or the file that it stands in has to have."""
THIN, THICK, THICKER = 1.4, 4.6, 1.4
"""Widths of a line with none on it and, at most, of the lowest, and by how much each is wider than the one on it."""
SAME, STRETCH = 1e-6, 0.1
"""Values that are equal, and the share of a line over which it hides another."""
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.10g}")
LATENCY_WORDS = {
    "latency_s": "end-to-end latency",
    "ttft_s": "time to first token",
    "ttfa_s": "time to the answer's first token",
    "tpot_s": "time per output token",
}
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


def shortened(words: str, most: int) -> str:
    """Words cut to so many characters."""
    return words if len(words) <= most else f"{words[: most - 1].rstrip()}…"


def short_name(option: str, most: int, config: BenchmarkConfig) -> str:
    """An option's name cut to so many characters: at its end, or, where options of the config would then be called alike, in the
    words with which all of them begin, or in its middle.
    """
    names = [o.name for o in config.options]
    alike = sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*map(str.split, names), strict=False)))
    half = (most - 1) // 2
    ways = (
        {name: shortened(name, most) for name in names},
        {name: shortened(f"…{' '.join(name.split()[alike:])}", most) for name in names},
        {name: name if len(name) <= most else f"{name[:half]}…{name[-half:]}" for name in names},
    )
    return next((way for way in ways if len(set(way.values())) == len(names)), ways[0])[option]


def colour(option: str, config: BenchmarkConfig) -> str:
    """The colour of an option, the same in every figure."""
    return PALETTE[[o.name for o in config.options].index(option) % len(PALETTE)]


def ink_of(option: str, config: BenchmarkConfig) -> str:
    """The option's colour in a hand-written picture; black is that of the text, which is light on a dark page."""
    found = colour(option, config)
    return "currentColor" if found == BLACK else found


def marker(option: str, config: BenchmarkConfig) -> str:
    """The marker of an option, the same in every figure."""
    return MARKERS[[o.name for o in config.options].index(option) % len(MARKERS)]


def widths(series: Sequence[np.ndarray]) -> list[float]:
    """Of lines over the same places: one is wider than those that lie on it over a tenth of its length, so that it is seen."""
    on_it = [
        sum(np.mean(np.isclose(mine, other, rtol=SAME)) >= STRETCH for other in series[i + 1 :])
        for i, mine in enumerate(series)
    ]
    return [width_below(count, len(series)) for count in on_it]


def width_below(count: int, of: int) -> float:
    """Width of a line that so many others lie on, of all lines."""
    return THIN + count * min(THICKER, (THICK - THIN) / of)


def by_option(rows: pd.DataFrame, config: BenchmarkConfig) -> Iterator[tuple[str, pd.DataFrame]]:
    """Option and its rows, in the config's order; options without rows are passed over."""
    for option in config.options:
        mine = rows[rows["option"] == option.name]
        if len(mine):
            yield option.name, mine


def bars(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Lengths of the interval below and above each value, shape (2, n); zero where an end is unknown or infinite."""
    if f"{column}_low" not in rows:
        return np.zeros((2, len(rows)))
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
    """Write an SVG that is the same whenever the data are, and dark on a dark page, also as an image of it."""
    folder.mkdir(parents=True, exist_ok=True)
    path, drawn = folder / f"{name}.svg", StringIO()
    rules = dark_rules('[style*="{way}: {colour}"]')  # matplotlib writes colours into `style`
    canvas.savefig(drawn, format="svg", metadata={"Date": None})
    write_atomically(path, drawn.getvalue().replace("</style>", f"{rules}</style>", 1))
    return path


def stand_alone(inside: str, width: float, height: float, larger: float = SHOWN_LARGER) -> str:
    """A hand-written picture as a file, shown so much larger, with the colours of a light and a dark page."""
    rules = " ".join(f"{what} {{{rule}}}" for what, rule in LETTERS.items())
    dark = dark_rules('[{way}="{colour}" i]')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * larger:g}" height="{height * larger:g}" '
        f'viewBox="0 0 {width:g} {height:g}" color="{BLACK}" font-family="system-ui, sans-serif"><style>{rules} {dark}</style>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{inside}</svg>\n'
    )


def save_picture(inside: str, folder: Path, name: str, size: tuple[float, float], larger: float = SHOWN_LARGER) -> Path:
    """Write a hand-written picture of this width and height as `stand_alone` has it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    write_atomically(path, stand_alone(inside, *size, larger))
    return path


def dark_rules(selector: str) -> str:
    """What has a colour (`selector`, of `way` and `colour`) has its other one on a dark page; letters have none, so black."""
    rules = [f"svg {{color: {ON_DARK['#000000']}; fill: {ON_DARK['#000000']}}}"]
    for light, dark in ON_DARK.items():
        rules += [
            f"{selector.format(way=way, colour=light)} {{{way}: {dark} !important}}" for way in ("fill", "stroke")
        ]
    return f"@media (prefers-color-scheme: dark) {{{' '.join(rules)}}}"
