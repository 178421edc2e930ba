"""The columns of all tables: header with its unit, and how values are written. A table names them by key; a column of text whose
key is its header needs no entry here.

Keys of measurements are the columns of metrics/load_points.csv, which docs/metrics.md defines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from helpers import number_text
from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.looks import looks_of


@dataclass(frozen=True)
class Column:
    """A column of a table: where its values are, its header with the unit, and how they are written."""

    key: str
    header: str
    write: Callable[[float | None, int], str] | None = None
    """(value, decimals of the column) -> text; None: text as it is."""
    best: str | None = None
    """`lowest` or `highest`: that value is marked in words."""
    wraps: bool = False
    """Long text that may be broken into lines."""


def numeric(
    key: str, header: str, best: str | None = None, decimals: int | None = None, at_most: int | None = None
) -> Column:
    """A right-aligned column of numbers, all with the same decimals: these, or as many as the smallest needs, but `at_most`."""

    def write(value: float | None, needed: int) -> str:
        fitting = needed if at_most is None else min(needed, at_most)
        return number_text.number(value, fitting if decimals is None else decimals)

    return Column(key, header, write, best)


CATALOGUE = {
    column.key: column
    for column in (
        # prompts
        numeric("asked", "asked", decimals=0),
        numeric("made", "made", decimals=0),
        numeric("min_prompt_tokens", "shortest, tokens", decimals=0),
        numeric("median_prompt_tokens", "median, tokens", decimals=0),
        numeric("max_prompt_tokens", "longest, tokens", decimals=0),
        Column("answers", "have answers"),
        numeric("prompt_tokens", "tokens", decimals=0),
        Column("beginning", "beginning", wraps=True),
        # verdict and load points
        Column("shown", "SLO met there"),
        Column("reason", "why", wraps=True),
        numeric("n", "n", decimals=0),
        numeric("error_rate", "error rate", decimals=3),
        numeric("prompt_tokens_mean", "prompt tokens, mean", decimals=0),
        numeric("prompt_tokens_per_s", "prompt tokens/s", decimals=0),
        numeric("output_tokens_mean", "output tokens, mean", decimals=1),
        numeric("output_tokens_per_s", "output tokens/s", decimals=0),
        numeric("requests_per_minute", "requests/min", decimals=0),
        numeric("latency_s_mean_ok", "latency, mean, s", at_most=3),
        numeric("usd_per_hour", "$/h of the option", decimals=3),
        Column("slo", "SLO"),
        numeric("achieved_concurrency", "in flight, mean", decimals=2),
        numeric("failures", "failures", decimals=0),
        numeric("requests_per_s", "requests/s", at_most=2),
        numeric("ttft_s_p50", "TTFT p50, s", at_most=3),
        numeric("tpot_s_p50", "TPOT p50, s", at_most=4),
        numeric("asked_hit_rate", "hit rate asked, %", decimals=1),
        numeric("sent_hit_rate", "sent, %", decimals=1),
        numeric("found_hit_rate", "found, %", decimals=1),
        Column("kind", "what happened", wraps=True),
        numeric("failed", "requests", decimals=0),
        numeric("share", "% of those sent there", decimals=1),
        Column("where", "at", wraps=True),
        Column("example", "for example", wraps=True),
        # loads
        Column("instance_type", "instance type"),
        Column("highest", "highest load within the SLO", wraps=True),
        Column("recommendation", "recommendation", wraps=True),
        # capacity and cost
        Column("bound", "it serves"),
        numeric("capacity", "requests/min per instance", decimals=0),
        numeric("instances", "instances", decimals=0),
        numeric("utilisation", "utilisation, %", decimals=0),
        numeric("usd_per_fleet_hour", "$/h of all instances", decimals=3),
        numeric("usd_per_month", "$/month", decimals=0),
        Column("by_hour", "instances by hour", wraps=True),
        numeric("usd_per_month_fixed", "$/month, fixed fleet", decimals=0),
        numeric("saved", "saved, %", decimals=0),
        Column("status", "verdict"),
        numeric("traffic", "requests/min", decimals=0),
        numeric("served_requests_per_s", "requests/s served", at_most=2),
        numeric("served_output_tokens_per_s", "output tokens/s served", decimals=0),
        Column("name", "price"),
        Column("amount", "$"),
        Column("source", "source", wraps=True),
        Column("as_of", "looked up on"),
        numeric("startup_s", "start-up, s", decimals=1),
        numeric("first_answer_s", "first answer, s", decimals=2),
        Column("first_ratio", "first 10 ÷ steady"),
        numeric("minutes", "lived, min", decimals=1),
        numeric("usd_per_option_hour", "$/h of the option", decimals=3),
        numeric("usd", "spent, $", decimals=2),
        Column("price_source", "price from", wraps=True),
        # two runs
        numeric("ratio", "now ÷ baseline", decimals=3),
        Column("change", "difference"),
        # deployments
        Column("image", "image or model", wraps=True),
        Column("settings", "serving settings", wraps=True),
        # endpoints
        Column("sent", "sent", wraps=True),
        numeric("latency_s", "answered after, s"),
        numeric("output_tokens", "output tokens, by the server", decimals=0),
        Column("notes", "how it answered", wraps=True),
        # the plan
        Column("makes", "makes", wraps=True),
        Column("basis", "the estimate rests on", wraps=True),
        numeric("needed", "needed at once", decimals=0),
        numeric("limit", "quota", decimals=0),
        numeric("in_use", "in use now", decimals=0),
        Column("enough", "enough?", wraps=True),
        # machines of the plan
        Column("machine_image", "machine image", wraps=True),
        Column("accelerators", "accelerators", wraps=True),
        Column("disk", "disk", wraps=True),
        # the load generator
        numeric("processes", "load processes", decimals=0),
        Column("clock", "receive stamps by"),
        Column("cpu", "CPU of each, %"),
        Column("limited", "limited by the client?", wraps=True),
        numeric("count", "connections", decimals=0),
        numeric("window_s", "window, s", decimals=1),
        Column("ended", "window closed by"),
        Column("because", "finding", wraps=True),
        numeric("concurrency", "concurrency", decimals=0),
        numeric("cpu_ms_per_request", "CPU per request, ms", decimals=3),
        # runs and progress
        numeric("elapsed_s", "s since create", decimals=1),
        Column("failure", "failure", wraps=True),
        Column("why", "why", wraps=True),
        numeric("done", "load points done", decimals=0),
        numeric("total", "of", decimals=0),
    )
}


def interval_words(config: BenchmarkConfig) -> str:
    """What the interval beside a number is called: that of a race is wider, as the race looks again and again."""
    return "95% interval" if looks_of(config) is None else "interval at every look"


def interval_column(key: str, config: BenchmarkConfig) -> Column:
    """A column of intervals under its true name."""
    return Column(key, interval_words(config))


def column(key: str, best: str | None = None) -> Column:
    """A column of the catalogue; `best` marks its `lowest` or `highest` value."""
    return replace(CATALOGUE[key], best=best)
