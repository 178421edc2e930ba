"""Figures of single requests and prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.metrics.intervals import percentile
from helpers.report.charts.line_names import name_lines
from helpers.report.charts.panels import panels
from helpers.report.charts.style import (
    LATENCY_WORDS,
    LIMIT_COLOUR,
    PALETTE,
    THOUSANDS,
    by_option,
    colour,
    ranges,
    save,
    style,
)
from helpers.report.display import Figure
from helpers.run.prompt_files import read_all_prompts

SHORT_S = 0.1
"""Latencies of which all are shorter are drawn in milliseconds."""


def latency_by_prompt_length(samples: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure | None:
    """End-to-end latency of every successful request against its prompt tokens, at each option's lowest load; None where
    no single request is known.
    """
    lowest = at_lowest_level(samples)
    if lowest["prompt_tokens"].isna().all():
        return None
    path = _against_length(lowest, "prompt_tokens", "latency_s", "end-to-end latency", config, folder)
    alt = f"Latency of {len(lowest):,} requests against prompt tokens. " + ranges(lowest, "latency_s", " s", config)
    caption = f"Lower is better. One dot per successful request at {_load_words(lowest, 'lowest', config)}."
    return Figure(path, alt, caption)


def latency_by_mean_prompt_length(points: pd.DataFrame, config: BenchmarkConfig, folder: Path) -> Figure | None:
    """The same of imported results without single requests: one dot per load point, means against means, at each option's
    lowest load; None where they hold no lengths or no latencies.
    """
    known = points.dropna(subset=["prompt_tokens_mean", "latency_s_mean_ok"])
    if known.empty:
        return None
    lowest = at_lowest(known)
    words = "mean end-to-end latency"
    path = _against_length(lowest, "prompt_tokens_mean", "latency_s_mean_ok", words, config, folder)
    alt = "Mean latency against mean prompt tokens. " + ranges(lowest, "latency_s_mean_ok", " s", config)
    caption = (
        f"Lower is better. One dot per option and dataset at {_load_words(lowest, 'lowest', config)}: the mean of its successful "
        "requests, of which single ones are not in the files."
    )
    return Figure(path, alt, caption)


def _against_length(rows: pd.DataFrame, x: str, y: str, words: str, config: BenchmarkConfig, folder: Path) -> Path:
    """Draw latencies against prompt lengths; many dots are small and light."""
    size, alpha = (8, 0.55) if x == "prompt_tokens" else (30, 0.9)
    with style():
        canvas = Canvas(figsize=(7.5, 3.6), layout="constrained")
        axes = canvas.add_subplot()
        for name, mine in by_option(rows, config):
            look = {"s": size, "alpha": alpha, "linewidths": 0, "color": colour(name, config)}
            axes.scatter(mine[x].astype(float), mine[y], label=name, **look)
        axes.set_xlabel("prompt tokens" if x == "prompt_tokens" else "mean prompt tokens")
        axes.set_ylabel(f"{words}, s")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(THOUSANDS)
        name_lines(canvas, axes)
        return save(canvas, folder, "tokens_vs_latency")


def distribution(samples: pd.DataFrame, column: str, config: BenchmarkConfig, folder: Path) -> Figure | None:
    """Cumulative distribution of a latency at the highest load that all options share, failures as never finished; None
    where no request has that latency.
    """
    if samples[column].isna().all():
        return None
    drawn = at_highest_shared_level(samples)
    limit = config.slo.limits_s().get(column)
    unit, scale = ("ms", 1000) if drawn[column].max() < SHORT_S else ("s", 1)

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        right = rows[column].max() * scale * 1.05
        for name, mine in by_option(rows, config):
            values = (mine[column] * scale).where(mine["ok"], right * 2).dropna()
            if len(values):
                axes.ecdf(values.to_numpy(float), color=colour(name, config), label=name)
        if limit is not None:
            axes.axvline(limit * scale, color=LIMIT_COLOUR, lw=1, ls="--")
        axes.set_xlabel(f"{LATENCY_WORDS[column]}, {unit}")
        axes.set_ylabel("share of requests")
        if np.isfinite(right) and (right := max(right, (limit or 0) * scale)) > 0:
            axes.set_xlim(0, right)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))

    medians = {name: percentile(mine[column].dropna().to_numpy(float), 50) for name, mine in by_option(drawn, config)}
    load = _load_words(drawn, "highest shared", config)
    alt = f"Distribution of {LATENCY_WORDS[column]} at {load}. Medians: " + ", ".join(
        f"{name} {text.duration(median)}" for name, median in medians.items()
    )
    caption = f"Further left is better. Share of requests at {load} that were as fast."
    return panels(column.removesuffix("_s"), drawn, config, folder, panel, alt, caption)


def prompt_lengths(payload_dir: Path, config: BenchmarkConfig, folder: Path) -> Figure:
    """Histogram of prompt lengths, one panel per dataset."""
    prompts = read_all_prompts(payload_dir)

    def panel(axes: Axes, dataset: str, rows: pd.DataFrame) -> None:
        axes.hist(rows["prompt_tokens"].astype(float), bins=20, color=PALETTE[0], edgecolor="white", linewidth=0.5)
        axes.set_xlabel("prompt tokens")
        axes.set_ylabel("prompts")

    spans = prompts.groupby("dataset")["prompt_tokens"].agg(["min", "median", "max"])
    alt = "Prompt lengths. " + "; ".join(
        f"{name}: {row['min']:.0f} to {row['max']:.0f} tokens, median {row['median']:.0f}"
        for name, row in spans.iterrows()
    )
    return panels("prompt_lengths", prompts, config, folder, panel, alt, "Prompts per length in tokens.", legend=False)


def at_lowest_level(requests: pd.DataFrame) -> pd.DataFrame:
    """The successes at each option's lowest level of each dataset."""
    return at_lowest(requests[requests["ok"].astype(bool)])


def at_lowest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows at each option's lowest level of each dataset."""
    return rows[rows["level"] == rows.groupby(["option", "dataset"])["level"].transform("min")]


def at_highest_shared_level(requests: pd.DataFrame) -> pd.DataFrame:
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
