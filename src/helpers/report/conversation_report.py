"""What happens in conversations: latency by turn and by length of the context, and what became of the sessions."""

from __future__ import annotations

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.parts import read_parts
from helpers.metrics.turns import at_lowest_load, by_context, by_turn, count_sessions, read_turns
from helpers.report.columns import Column, numeric
from helpers.report.comparing import compared, counted, listed, quoted
from helpers.report.display import Prose, Table
from helpers.report.load_report import LATENCY_NAME
from helpers.report.mix_report import part_columns, with_intervals
from helpers.run.folder import RunFolder
from helpers.run.records import read_facts
from helpers.verdict.chosen_points import main_latency, percentile_column

INTRODUCTION = (
    "Each turn sends all that was said before it, so prompts grow with the conversation, and so does the time to the first "
    "token, unless the server keeps what it has read in a prefix cache:"
)
FEWEST = 10
"""Requests of a turn whose median is worth a sentence."""
ENDS = {
    "completed": "was completed",
    "failed": "ended at a turn that failed",
    "too_long": "ended before a turn that would have exceeded the context",
    "unfinished": "was cut off by the end of the load",
}


def conversation_tables(run: RunFolder, config: BenchmarkConfig) -> list[Prose | Table]:
    """Latency by turn and by length of the context at the lowest load, and how sessions ended; none without conversations."""
    turns = read_turns(run.requests, config)
    if turns is None:
        return []
    facts, percent = read_facts(run.requests), config.slo.percentile
    lowest = at_lowest_load(turns, facts)
    tables: list[Prose | Table] = [Prose(INTRODUCTION)]
    if len(lowest):
        rows = by_turn(lowest, percent)
        caption = (
            "Latency by turn, at the lowest load of each option and dataset that the client did not limit, where requests wait "
            "least for each other; prompt tokens include the history."
        )
        tables.append(Table(rows, _columns(Column("turn", "turn"), percent), caption, turns_reading(rows)))
        rows = by_context(lowest, percent)
        if len(rows) and config.part_in_words is None:
            caption = "The same requests by the length of their prompt: about a quarter of each dataset's in each row."
            tables.append(Table(rows, _columns(Column("context", "prompt tokens"), percent), caption))
    if config.part_in_words is not None and len(parts := read_parts(run.requests, facts, config)):
        tables.append(_bins_table(parts, config))
    sessions = count_sessions(turns, facts, run.payloads)
    columns = [
        *("option", "dataset", "load"),
        numeric("begun", "sessions", decimals=0),
        *(numeric(name, words.removeprefix("was "), decimals=0) for name, words in ENDS.items()),
    ]
    caption = "What became of the sessions, warm-up and drain among them. The end of the load cuts off those that are under way."
    return [*tables, Table(sessions, columns, caption, sessions_reading(sessions))]


def _bins_table(parts: pd.DataFrame, config: BenchmarkConfig) -> Table:
    lengths = {each.name: each.prompt_tokens for one in config.datasets for each in one.bins or ()}
    rows = with_intervals(parts, config).assign(
        tokens=[f"{low:,} to {high - 1:,}" for low, high in map(lengths.__getitem__, parts["part"])]
    )
    columns = ["option", "dataset", "load", Column("part", "bin"), Column("tokens", "prompt tokens")]
    caption = (
        "Turns of the steady window by the length of their context, in the bins of the config. Each bin has to meet the SLO by "
        "itself; one with too few turns to know its percentile is not shown to."
    )
    return Table(rows, [*columns, *part_columns("% of the turns", config)], caption, bins_reading(parts, config))


def bins_reading(parts: pd.DataFrame, config: BenchmarkConfig) -> str:
    """The percentile of the SLO's latency in each bin, at the first option's highest load."""
    first = parts.iloc[0]
    mine = parts[(parts["option"] == first["option"]) & (parts["dataset"] == first["dataset"])]
    mine = mine[mine["level"] == mine["level"].max()]
    column = percentile_column(config)
    if column not in mine:
        return ""
    said = [f"{_reached(row[column])} in {row['part']} (n = {row['n']:,})" for _, row in mine.iterrows()]
    name = f"p{config.slo.percentile:g} {LATENCY_NAME[main_latency(config)]}"
    return (
        f"Of {quoted(first['option'])} on {first['dataset']}, at {mine['load'].iloc[0]}, the {name} is {listed(said)}."
    )


def _reached(seconds: float) -> str:
    return "unknown" if pd.isna(seconds) else "infinite" if seconds == float("inf") else text.duration(seconds)


def _columns(first: Column, percent: float) -> list[Column | str]:
    return [
        *("option", "dataset", "load"),
        first,
        "n",
        "prompt_tokens_mean",
        *(
            numeric(f"{column}_{which}", f"{name} {header}, s", decimals=3)
            for column, name in (("ttft_s", "TTFT"), ("latency_s", "latency"))
            for which, header in (("p50", "p50"), ("high", f"p{percent:g}"))
        ),
    ]


def turns_reading(rows: pd.DataFrame) -> str:
    """How the median TTFT (latency where answers were not streamed) of the first option's last turn compares with its first."""
    mine = rows[(rows["option"] == rows["option"].iloc[0]) & (rows["dataset"] == rows["dataset"].iloc[0])]
    mine = mine[mine["n"] >= FEWEST]
    if len(mine) < 2:
        return ""
    first, last = mine.iloc[0], mine.iloc[-1]
    column, name = ("latency_s_p50", "latency") if pd.isna(first["ttft_s_p50"]) else ("ttft_s_p50", "TTFT")
    if pd.isna(first[column]) or pd.isna(last[column]) or not (first[column] < float("inf") > last[column]):
        return ""
    than = compared(last[column], first[column], "more", "less", "as much")
    at = [f"{text.duration(row[column])} at turn {row['turn']}{_with_tokens(row)}" for row in (first, last)]
    where = f"{quoted(first['option'])} on {first['dataset']}, at {first['load']},"
    return f"Of {where} the median {name} is {' and '.join(at)}: {than}."


def _with_tokens(row: pd.Series) -> str:
    tokens = row["prompt_tokens_mean"]
    return f" ({text.number(tokens)} prompt tokens on average)" if text.is_known(tokens) else ""


def sessions_reading(sessions: pd.DataFrame) -> str:
    """How many sessions ended in which way, over all load points."""
    return counted("session", {words: int(sessions[name].sum()) for name, words in ENDS.items()})
