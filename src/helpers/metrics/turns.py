"""Conversations, from their request records: latency by turn and by length of the context, and what became of the sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.strict import slug
from helpers.metrics.formulas import with_failures, with_latencies
from helpers.metrics.intervals import percentile, samples_to_show
from helpers.run.prompt_columns import TURNS_PREFIX
from helpers.run.records import AttemptFacts, read_requests

IDENTITY = ["option", "dataset", "load_point", "level", "prompt_id", "session_id", "turn"]
MEASURED = [
    "phase",
    "status",
    "prompt_tokens",
    "output_tokens",
    "scheduled_ns",
    "sent_ns",
    "first_token_ns",
    "first_answer_ns",
    "answered",
    "last_token_ns",
]
POINT = ["option", "dataset", "level"]
SINGLE_TURNS = 8
"""Turns that have a row of their own; those that follow share one."""
QUARTERS = (25, 50, 75)


def read_turns(requests_dir: Path, config: BenchmarkConfig) -> pd.DataFrame | None:
    """The requests of conversations, options in the config's order, `with_latencies`, and their `load` in words; None where there
    are none.
    """
    if config.conversations is None or not any(requests_dir.glob("*.parquet")):
        return None
    turns = with_latencies(read_requests(requests_dir, [*IDENTITY, *MEASURED]))
    turns = turns[turns["turn"].notna()]
    place = {option.name: i for i, option in enumerate(config.options)}
    turns = turns.iloc[turns["option"].map(place).argsort(kind="stable")]
    kind = config.load.level_kind
    loads = [LoadLevel(kind, level).label for level in turns["level"]]
    return turns.assign(load=loads) if len(turns) else None


def at_lowest_load(turns: pd.DataFrame, facts: list[AttemptFacts]) -> pd.DataFrame:
    """The requests of the steady windows of each option and dataset at its lowest load, where they wait least for each other;
    loads that the client limited are left out.
    """
    limited = [f.load_point for f in facts if f.client_limited]
    steady = turns[(turns["phase"] == "steady") & ~turns["load_point"].isin(limited)]
    return steady[steady["level"] == steady.groupby(["option", "dataset"])["level"].transform("min")]


def by_turn(turns: pd.DataFrame, percent: float) -> pd.DataFrame:
    """One row per option, dataset and turn (`turn`: its number as text): see `_row`."""
    number = turns["turn"].astype(int).clip(upper=SINGLE_TURNS + 1)
    names = {SINGLE_TURNS + 1: f"{SINGLE_TURNS + 1} and later"}
    return _rows(turns, number, "turn", percent, lambda turn: names.get(turn, str(turn)))


def by_context(turns: pd.DataFrame, percent: float) -> pd.DataFrame:
    """One row per option, dataset and quarter of the dataset's requests by prompt tokens (`context`: from and to, as text)."""
    known = turns[turns["prompt_tokens"].notna()]
    tokens = known["prompt_tokens"].astype(int)
    quarter, names = pd.Series(0, index=known.index), {}
    for i, (_, mine) in enumerate(tokens.groupby(known["dataset"], sort=False)):
        edges = np.unique(np.percentile(mine, QUARTERS, method="lower"))
        of_mine = np.searchsorted(edges, mine.to_numpy()) + i * (len(QUARTERS) + 1)  # up to an edge, it included
        quarter[mine.index] = of_mine
        names |= {key: f"{here.min():,} to {here.max():,}" for key, here in mine.groupby(of_mine)}
    return _rows(known, quarter, "context", percent, names.__getitem__)


def _rows(turns: pd.DataFrame, keys: pd.Series, name: str, percent: float, words) -> pd.DataFrame:
    grouped = turns.groupby(["option", "dataset", "load", keys.rename("key")], sort=False)
    rows = [
        {"option": option, "dataset": dataset, "load": load, "key": key, name: words(key)} | _row(here, percent)
        for (option, dataset, load, key), here in grouped
    ]
    order = {option: i for i, option in enumerate(dict.fromkeys(turns["option"]))}
    rows.sort(key=lambda row: (order[row["option"]], row["dataset"], row["key"]))
    return pd.DataFrame(rows)


def _row(here: pd.DataFrame, percent: float) -> dict[str, float | None]:
    """n, the mean prompt tokens, median and percentile of TTFT and latency, failures as +inf; None where unknown or too few."""
    ok = here["ok"].to_numpy(dtype=bool)
    tokens = here["prompt_tokens"].dropna()
    row: dict[str, float | None] = {"n": len(here), "prompt_tokens_mean": float(tokens.mean()) if len(tokens) else None}
    for column in ("ttft_s", "latency_s"):
        values = with_failures(here[column], ok) if here[column].notna().any() else np.empty(0)
        row[f"{column}_p50"] = percentile(values, 50)
        row[f"{column}_high"] = percentile(values, percent) if len(values) >= samples_to_show(percent) else None
    return row


def count_sessions(turns: pd.DataFrame, facts: list[AttemptFacts], payload_dir: Path) -> pd.DataFrame:
    """One row per load point: sessions `begun`, and of these `completed` (the last turn was answered), `failed` (a turn failed),
    `too_long` (the next turn would have exceeded the context) and `unfinished` (the load ended before). All phases count.
    """
    last = turns.sort_values("turn", kind="stable").groupby(["load_point", "session_id"], sort=False).tail(1)
    planned = _turns_of_prompts(payload_dir, turns["dataset"].unique())
    whole = last["prompt_id"].str.rpartition("-")[0].map(planned)
    ended = last.assign(
        completed=(last["ok"] & (last["turn"] == whole)).astype(bool), failed=(~last["ok"]).astype(bool)
    )
    too_long = {f.load_point: f.context_ends or 0 for f in facts}
    rows = []
    for (option, dataset, level), here in ended.groupby(POINT, sort=False):
        counts = {
            "begun": len(here),
            "completed": int(here["completed"].sum()),
            "failed": int(here["failed"].sum()),
            "too_long": sum(too_long[name] for name in here["load_point"].unique()),
        }
        counts["unfinished"] = counts["begun"] - counts["completed"] - counts["failed"] - counts["too_long"]
        rows.append({"option": option, "dataset": dataset, "level": level, "load": here["load"].iloc[0], **counts})
    return pd.DataFrame(rows).sort_values("level", ignore_index=True, kind="stable")


def _turns_of_prompts(payload_dir: Path, datasets: np.ndarray) -> dict[str, int]:
    found: dict[str, int] = {}
    column = f"{TURNS_PREFIX}prompt_tokens"
    for dataset in datasets:
        table = pq.read_table(payload_dir / f"{slug(dataset)}.parquet", columns=["prompt_id", column])
        found |= dict(zip(table["prompt_id"].to_pylist(), map(len, table[column].to_pylist()), strict=True))
    return found
