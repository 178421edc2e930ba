"""What limits each option: what its server said of itself while it was loaded."""

from __future__ import annotations

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.report.columns import numeric
from helpers.report.comparing import counted, quoted
from helpers.report.display import Table
from helpers.report.load_report import level_column
from helpers.verdict.limits import Limit, has_server_side, limits_of

BOUND = {
    "client": "is client-bound",
    "memory": "is memory-bound",
    "queue": "is queue-bound",
    "compute": "is compute-bound",
}
SHOWN = (
    numeric("server_running", "running", decimals=1),
    numeric("server_waiting", "waiting", decimals=1),
    numeric("kv_cache", "KV cache, %", decimals=0),
    numeric("server_preemptions", "preemptions", decimals=0),
    numeric("gpu", "GPU, %", decimals=0),
    numeric("gpu_memory", "GPU memory, %", decimals=0),
    numeric("cpu", "CPU, %", decimals=0),
    numeric("memory", "memory, %", decimals=0),
    numeric("server_acceptance_length", "acceptance length, tokens", decimals=2),
)
PERCENTS = ("kv_cache", "gpu", "gpu_memory", "cpu", "memory")


def limits_table(points: pd.DataFrame, config: BenchmarkConfig) -> Table | None:
    """What servers said at each load point, and one sentence for each option; None where none was asked."""
    rows = has_server_side(points)
    if rows.empty:
        return None
    rows = rows.assign(
        **{name: rows[f"server_{name}"].astype(float) * 100 for name in PERCENTS if f"server_{name}" in rows}
    )
    known = [column for column in SHOWN if column.key in rows and rows[column.key].notna().any()]
    caption = (
        "What each server reported in the steady windows: means of requests that ran and that waited, of the share of the KV "
        "cache in use and of how busy its processors were"
    )
    keys = {column.key for column in known}
    if "server_preemptions" in keys:
        caption += "; preemptions are running requests that had to make room"
    if keys & {"gpu_memory", "memory"}:
        caption += "; memory is the share of it that was in use"
    if "server_acceptance_length" in keys:
        caption += "; acceptance length is the mean of tokens for each step of speculative decoding"
    said = " ".join(limit_words(limit) for limit in limits_of(points, config))
    return Table(rows, ["option", "dataset", level_column(config), *known], f"{caption}.", f"{said}{_trouble(rows)}")


def limits_title(points: pd.DataFrame, config: BenchmarkConfig) -> str:
    """How many options are limited by what at their highest loads; empty where no server was asked."""
    kinds = [limit.kind for limit in limits_of(points, config)]
    words = {**BOUND, "unknown": "has no known limit"}
    does = {words[kind]: kinds.count(kind) for kind in words}
    return f"{counted('option', does).removesuffix('.')} at the highest load" if kinds else ""


def limit_words(limit: Limit) -> str:
    """What limits an option at its highest load, as a sentence."""
    where = f"{quoted(limit.option)} on {limit.dataset} at {limit.load}"
    if limit.kind == "unknown":
        return f"What limits {where} is unknown: {limit.because}."
    return f"{where} {BOUND[limit.kind]}: {limit.because}."


def _trouble(rows: pd.DataFrame) -> str:
    """Whose server could not be read throughout."""
    if "server_trouble" not in rows:
        return ""
    troubled = rows.dropna(subset=["server_trouble"]).drop_duplicates("option")
    return "".join(  # each behind a sentence
        f" What the server of {quoted(row.option)} says of itself was not read throughout: {row.server_trouble}."
        for row in troubled.itertuples()
    )
