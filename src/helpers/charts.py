"""The figures of a run. Each function draws one SVG into a folder and returns it with its alternative text.

One colour per option in every figure (Okabe and Ito's palette, safe for colour-blind readers), one panel per dataset.
Infinite values (percentiles that touch a failed request) cannot be drawn; captions say how many are left out. Load points
that the client limited are crossed out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator, NullLocator

from helpers import number_text as text
from helpers.config import BenchmarkConfig
from helpers.display import Figure
from helpers.intervals import percentile
from helpers.load_config import LoadLevel
from helpers.metrics import CLIENT_LIMITED, with_latencies
from helpers.verdict import Verdict, main_latency

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FEASIBLE_COLOUR = "#009E73"
PANEL_INCHES = (4.1, 3.3)
PANELS_PER_ROW = 3
LOGARITHMIC_FROM = 20
"""Ratio of the highest to the lowest level from which the axis is logarithmic."""
TICK_GAP = 0.07
"""Least share of the axis between two ticks."""
LATENCY_WORDS = {"latency_s": "end-to-end latency", "ttft_s": "time to first token", "tpot_s": "time per output token"}
COST_WORDS = {
    "usd_per_1k_requests": "price per 1,000 requests, $",
    "usd_per_1m_output_tokens": "price per 1M output tokens, $",
}
STYLE = {
    "svg.hashsalt": "figures",
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


def price_performance(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig, folder: Path) -> Figure:
    """Price against the SLO's latency percentile; the feasible region is shaded and the recommendation named."""
    column = main_latency(config)
    x, y = f"{column}_p{config.slo.percentile:g}", verdict.cost_basis
    limit = config.slo.limits_s()[column]
    drawn = points[np.isfinite(points[x].astype(float)) & points[y].notna()]

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        axes.axvspan(0, limit, color=FEASIBLE_COLOUR, alpha=0.08, lw=0)
        axes.axvline(limit, color=FEASIBLE_COLOUR, lw=1, ls="--")
        for name, mine in _by_option(rows, config):
            axes.errorbar(
                mine[x],
                mine[y],
                xerr=_bars(mine, x),
                yerr=_bars(mine, y),
                color=_colour(name, config),
                marker=_marker(name, config),
                elinewidth=0.8,
                capsize=2,
                label=name,
            )
            for row in mine[mine["level"].isin(_ticks(mine))].itertuples():
                axes.annotate(
                    level_text(row.level),
                    (getattr(row, x), getattr(row, y)),
                    xytext=(4, 4),
                    textcoords="offset points",
                    fontsize=7,
                    color="#444444",
                )
        _cross_out(axes, rows, x, y)
        for option in verdict.options:
            for point in option.points:
                if option.option == verdict.recommended and point.dataset == dataset:
                    axes.scatter(
                        [point.latency_s.value],
                        [point.cost.value],
                        s=170,
                        facecolors="none",
                        edgecolors="black",
                        linewidths=1.3,
                        zorder=5,
                    )
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"p{config.slo.percentile:g} {LATENCY_WORDS[column]}, s")
        axes.set_ylabel(COST_WORDS[y])

    caption = (
        f"Lower left is better. Each point is one load (the small number: {config.load.level_name}), with 95% intervals; "
        f"shaded: within the limit of {limit:g} s; circled: the recommended option's load points."
        f"{_crossed_out(drawn)}{_left_out(len(points) - len(drawn))}"
    )
    best = f"Recommended: {verdict.recommended}." if verdict.recommended else "No option is shown to meet the SLO."
    alt = f"Price against p{config.slo.percentile:g} {LATENCY_WORDS[column]}. {best} " + _ranges(drawn, x, " s", config)
    return _panels("price_performance", drawn, config, folder, panel, alt, caption)


def latency_by_load(points: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure:
    """The SLO's latency percentile against the load, with the SLO line."""
    column = main_latency(config)
    y = f"{column}_p{config.slo.percentile:g}"
    limit = config.slo.limits_s()[column]
    drawn = points[np.isfinite(points[y].astype(float))]

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        axes.axhline(limit, color=FEASIBLE_COLOUR, lw=1, ls="--")
        axes.annotate(
            f"limit {limit:g} s",
            (0.01, limit),
            xycoords=("axes fraction", "data"),
            ha="left",
            va="bottom",
            fontsize=7,
            color=FEASIBLE_COLOUR,
        )
        _lines(axes, rows, y, config)
        axes.set_ylabel(f"p{config.slo.percentile:g} {LATENCY_WORDS[column]}, s")

    caption = f"Lower is better. Whiskers are 95% intervals.{_crossed_out(drawn)}{_left_out(len(points) - len(drawn))}"
    alt = (
        f"p{config.slo.percentile:g} {LATENCY_WORDS[column]} against {config.load.level_name}. "
        f"{_ranges(drawn, y, ' s', config)}"
    )
    return _panels("load_vs_latency", drawn, config, folder, panel, alt, caption)


def throughput_by_load(points: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure:
    """Requests answered per second against the load; in an open loop with the line on which all are answered."""
    offered = config.load.level_kind == "open_loop"

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        _lines(axes, rows, "requests_per_s", config)
        if offered and len(rows):
            ends = [rows["level"].min(), rows["level"].max()]
            axes.plot(ends, ends, color="#777777", lw=0.8, ls=":", marker="none", zorder=1)
        axes.set_ylabel("requests per second")

    alt = f"Request throughput against {config.load.level_name}. {_ranges(points, 'requests_per_s', ' requests/s', config)}"
    bend = (
        "Where a line leaves the dotted one, more requests come than are answered."
        if offered
        else "Where a line goes flat, further requests only wait."
    )
    caption = f"Higher is better. Whiskers are 95% intervals. {bend}{_crossed_out(points)}"
    return _panels("load_vs_throughput", points, config, folder, panel, alt, caption)


def latency_by_prompt_length(requests: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure:
    """End-to-end latency of every successful request against its prompt tokens, at each option's lowest load."""
    ok = with_latencies(requests[requests["phase"] == "steady"]).query("ok")
    lowest = ok[ok["level"] == ok.groupby(["option", "dataset"])["level"].transform("min")]
    with _style():
        canvas = Canvas(figsize=(7.5, 3.6), layout="constrained")
        axes = canvas.add_subplot()
        for name, mine in _by_option(lowest, config):
            axes.scatter(
                mine["prompt_tokens"].astype(float),
                mine["latency_s"],
                s=8,
                alpha=0.55,
                linewidths=0,
                color=_colour(name, config),
                label=name,
            )
        axes.set_xlabel("prompt tokens")
        axes.set_ylabel("end-to-end latency, s")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left", fontsize=8)
        path = _save(canvas, folder, "tokens_vs_latency")
    alt = f"Latency of {len(lowest):,} requests against prompt tokens. " + _ranges(lowest, "latency_s", " s", config)
    caption = f"Lower is better. One dot per successful request at {_load_words(lowest, 'lowest', config)}."
    return Figure(path, alt, caption)


def distribution(requests: pd.DataFrame, column: str, config: BenchmarkConfig, folder: Path) -> Figure:
    """Cumulative distribution of a latency at the highest load that all options share, failures as never finished."""
    import seaborn as sns

    measured = with_latencies(requests[requests["phase"] == "steady"])
    drawn = _at_highest_shared_level(measured)
    limit = config.slo.limits_s().get(column)

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        right = rows[column].max() * 1.05
        for name, mine in _by_option(rows, config):
            values = mine[column].where(mine["ok"], right * 2).dropna()
            sns.ecdfplot(x=values.to_numpy(float), ax=axes, color=_colour(name, config), label=name)
        if limit is not None:
            axes.axvline(limit, color=FEASIBLE_COLOUR, lw=1, ls="--")
        axes.set_xlabel(f"{LATENCY_WORDS[column]}, s")
        axes.set_ylabel("share of requests")
        if np.isfinite(right):
            axes.set_xlim(0, max(right, limit or 0))
        axes.xaxis.set_major_locator(MaxNLocator(6))

    medians = {name: percentile(mine[column].dropna().to_numpy(float), 50) for name, mine in _by_option(drawn, config)}
    load = _load_words(drawn, "highest shared", config)
    alt = f"Distribution of {LATENCY_WORDS[column]} at {load}. Medians: " + ", ".join(
        f"{name} {text.duration(median)}" for name, median in medians.items()
    )
    caption = f"Further left is better. Share of requests at {load} that were as fast."
    return _panels(column.removesuffix("_s"), drawn, config, folder, panel, alt, caption)


def error_rates(points: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure:
    """Error rate against the load."""

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        _lines(axes, rows.assign(error_percent=rows["error_rate"] * 100), "error_percent", config)
        axes.axhline(config.slo.error_rate * 100, color=FEASIBLE_COLOUR, lw=1, ls="--")
        axes.set_ylabel("failed requests, %")

    ranges = _ranges(points.assign(e=points["error_rate"] * 100), "e", "%", config)
    alt = f"Error rate against {config.load.level_name}. {ranges}"
    caption = f"Lower is better. The dashed line is the limit.{_crossed_out(points)}"
    return _panels("error_rates", points, config, folder, panel, alt, caption)


def prompt_lengths(prompts: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure:
    """Histogram of prompt lengths, one panel per dataset."""

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        axes.hist(rows["prompt_tokens"].astype(float), bins=20, color=PALETTE[0], edgecolor="white", linewidth=0.5)
        axes.set_xlabel("prompt tokens")
        axes.set_ylabel("prompts")

    spans = prompts.groupby("dataset")["prompt_tokens"].agg(["min", "median", "max"])
    alt = "Prompt lengths. " + "; ".join(
        f"{name}: {row['min']:.0f} to {row['max']:.0f} tokens, median {row['median']:.0f}"
        for name, row in spans.iterrows()
    )
    return _panels("prompt_lengths", prompts, config, folder, panel, alt, "Prompts per length in tokens.", legend=False)


# --- shared by all ------------------------------------------------------------------------------------------------


def _panels(
    name: str,
    rows: pd.DataFrame,
    config: BenchmarkConfig,
    folder: Path,
    draw: Callable[[Axes, str, pd.DataFrame], None],
    alt: str,
    caption: str,
    legend: bool = True,
) -> Figure:
    """One panel per dataset, a legend above them all."""
    datasets = [dataset.name for dataset in config.datasets]
    across = min(PANELS_PER_ROW, len(datasets))
    down = -(-len(datasets) // across)
    with _style():
        canvas = Canvas(figsize=(PANEL_INCHES[0] * across, PANEL_INCHES[1] * down), layout="constrained")
        for i, dataset in enumerate(datasets):
            axes = canvas.add_subplot(down, across, i + 1)
            axes.set_title(dataset, loc="left", fontweight="bold")
            draw(axes, dataset, rows[rows["dataset"] == dataset])
        handles, labels = canvas.axes[0].get_legend_handles_labels()
        if legend and handles:
            canvas.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)), fontsize=8)
        path = _save(canvas, folder, name)
    return Figure(path, alt, caption)


def _lines(axes: Axes, rows: pd.DataFrame, y: str, config: BenchmarkConfig) -> None:
    """A line per option over the levels of the load."""
    for name, mine in _by_option(rows, config):
        axes.errorbar(
            mine["level"],
            mine[y],
            yerr=_bars(mine, y),
            color=_colour(name, config),
            marker=_marker(name, config),
            elinewidth=0.8,
            capsize=2,
            label=name,
        )
    _cross_out(axes, rows, "level", y)
    axes.set_xlabel(config.load.level_name)
    if len(rows):
        axes.set_xscale("log" if _is_wide(rows) else "linear")
        axes.set_xticks(_ticks(rows), labels=[level_text(level) for level in _ticks(rows)])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=0)


def _is_wide(rows: pd.DataFrame) -> bool:
    return rows["level"].max() >= LOGARITHMIC_FROM * rows["level"].min()


def _ticks(rows: pd.DataFrame) -> list[float]:
    return spaced(sorted(rows["level"].unique()), logarithmic=_is_wide(rows))


def spaced(levels: list[float], logarithmic: bool) -> list[float]:
    """Of ascending levels those that may stand as ticks without touching: the highest, and down from there."""
    places = np.log(levels) if logarithmic else np.array(levels, dtype=float)
    least = TICK_GAP * (places[-1] - places[0])
    kept = [len(levels) - 1]
    for i in range(len(levels) - 2, -1, -1):
        if places[kept[-1]] - places[i] >= least:
            kept.append(i)
    return [levels[i] for i in reversed(kept)]


def level_text(level: float) -> str:
    """A level beside a point or under a tick, with at most four digits that count."""
    return f"{float(f'{level:.4g}'):g}"


def _at_highest_shared_level(requests: pd.DataFrame) -> pd.DataFrame:
    """For each dataset the requests at the highest level at which every option was measured; if there is none, at each
    option's highest.
    """
    parts = []
    for _, rows in requests.groupby("dataset", sort=False):
        shared = set.intersection(*(set(mine) for _, mine in rows.groupby("option")["level"]))
        highest = max(shared) if shared else rows.groupby("option")["level"].transform("max")
        parts.append(rows[rows["level"] == highest])
    return pd.concat(parts) if parts else requests


def _load_words(requests: pd.DataFrame, which: str, config: BenchmarkConfig) -> str:
    """The load of these requests if it is one, else which load it is."""
    levels = requests["level"].unique()
    if len(levels) == 1:
        return LoadLevel(config.load.level_kind, float(levels[0])).label
    return f"the {which} load of each dataset"


def _cross_out(axes: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    limited = rows[rows["slo"] == CLIENT_LIMITED]
    if len(limited):
        axes.scatter(limited[x], limited[y], marker="x", color="black", s=45, linewidths=1.3, zorder=6)


def _crossed_out(rows: pd.DataFrame) -> str:
    return " Crossed out: limited by the client, not judged." if (rows["slo"] == CLIENT_LIMITED).any() else ""


def _bars(rows: pd.DataFrame, column: str) -> np.ndarray | None:
    """Lengths of the interval below and above each value, shape (2, n); unknown or infinite ends have no bar."""
    if f"{column}_low" not in rows:
        return None
    value = rows[column].to_numpy(float)
    lengths = np.stack([value - rows[f"{column}_low"].to_numpy(float), rows[f"{column}_high"].to_numpy(float) - value])
    return np.where(np.isfinite(lengths), np.maximum(lengths, 0), 0)


def _by_option(rows: pd.DataFrame, config: BenchmarkConfig):
    for option in config.options:
        mine = rows[rows["option"] == option.name]
        if len(mine):
            yield option.name, mine


def _colour(option: str, config: BenchmarkConfig) -> str:
    return PALETTE[[o.name for o in config.options].index(option) % len(PALETTE)]


def _marker(option: str, config: BenchmarkConfig) -> str:
    return MARKERS[[o.name for o in config.options].index(option) % len(MARKERS)]


def _ranges(rows: pd.DataFrame, column: str, unit: str, config: BenchmarkConfig) -> str:
    """The smallest and largest value of each option, in words."""
    parts = []
    for name, mine in _by_option(rows, config):
        low, high = mine[column].min(), mine[column].max()
        parts.append(f"{name}: {text.significant(low)} to {text.significant(high)}{unit}")
    return "; ".join(parts) + "."


def _left_out(count: int) -> str:
    return f" {text.plural(count, 'load point')} cannot be drawn: unknown or infinite." if count else ""


@contextmanager
def _style():
    with mpl.rc_context(STYLE):
        yield


def _save(canvas: Canvas, folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    canvas.savefig(path, metadata={"Date": None})
    return path
