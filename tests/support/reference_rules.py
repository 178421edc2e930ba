"""The rules by which the report of January 2024 came to its numbers, so that a test can show that its data are understood.

Nothing in the package uses these rules and no verdict follows them: they average rates instead of dividing totals, cut
decimals off, look at mean latencies only, recommend the highest concurrency within the budget, and compare requests that
did unequal work. Tables are lists of dicts with the file's own column names.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

LATENCY_BUDGET_S = 20
DATASET_OF_INTEREST = "en_3000-4000"
CUT_OFF = (
    "prompt_token_count_mean",
    "prompt_token_throughput",
    "completion_token_count_mean",
    "completion_token_throughput",
    "transactions_per_minute",
)
"""Columns whose means lose their decimals."""
KEYS = ("experiment_name", "payload_file", "instance_type", "concurrency")
SCORE_WEIGHTS = {"price_per_txn": 0.5, "latency_mean": 0.5}
WINNER_ROWS = (
    "experiment_name",
    "payload_file",
    "instance_type",
    "concurrency",
    "error_rate",
    "prompt_token_count_mean",
    "prompt_token_throughput",
    "completion_token_count_mean",
    "completion_token_throughput",
    "latency_mean",
    "transactions_per_minute",
    "price_per_hour",
    "price_per_txn",
)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summarise(volleys: list[dict[str, str]]) -> list[dict]:
    """Means of the volleys' means and rates, per experiment, payload file, instance type and concurrency."""
    groups = defaultdict(list)
    for row in volleys:
        groups[tuple(int(row[key]) if key == "concurrency" else row[key] for key in KEYS)].append(row)

    def mean(rows: list[dict[str, str]], column: str) -> float:
        return sum(float(row[column]) for row in rows) / len(rows)

    return [
        dict(zip(KEYS, key, strict=True))
        | {"error_rate": round(mean(rows, "error_rate"), 2)}
        | {column: int(mean(rows, column)) for column in CUT_OFF}
        | {"latency_mean": round(mean(rows, "latency_mean"), 2)}
        for key, rows in sorted(groups.items())
    ]


def with_prices_and_scores(summary: list[dict], prices: dict[str, float]) -> list[dict]:
    """The rows of the dataset of interest, best score first: half for a low price, half for a low latency."""
    rows = []
    for row in summary:
        if DATASET_OF_INTEREST in row["payload_file"]:
            per_hour = prices[row["instance_type"]]
            priced = row | {
                "price_per_hour": per_hour,
                "price_per_txn": per_hour / (row["transactions_per_minute"] * 60),
            }
            score = sum(weight / priced[column] for column, weight in SCORE_WEIGHTS.items())
            rows.append(priced | {"score": score})
    return sorted(rows, key=lambda row: -row["score"])


def winner_table(winner: dict) -> str:
    """The table about the winner, as Markdown."""
    shown = winner | {"price_per_txn": round(winner["price_per_txn"], 4)}
    lines = [f"| {name} | {shown[name]} |" for name in WINNER_ROWS]
    return "\n".join(["| Information | Value |", "|-----|-----|", *lines])


def winner_sentence(winner: dict, summary: list[dict]) -> str:
    """The sentence of the report's summary."""
    instances = ", ".join(f"`{name}`" for name in sorted({row["instance_type"] for row in summary}))
    return (
        f'We did performance benchmarking for the `Llama2-13b` model on "{instances}" instances on multiple datasets and based '
        f"on the test results the best price performance for dataset `{DATASET_OF_INTEREST}` is provided by the "
        f"`{winner['instance_type']}` instance type."
    )


def recommendations(summary: list[dict]) -> list[str]:
    """One table row per instance type and payload file: the highest concurrency whose mean latency is in the budget."""
    best: dict[tuple[str, str], dict] = {}
    for row in summary:
        key = row["instance_type"], row["payload_file"]
        if (
            row["latency_mean"] <= LATENCY_BUDGET_S
            and row["concurrency"] > best.get(key, {"concurrency": 0})["concurrency"]
        ):
            best[key] = row
    return [_recommendation(row) for _, row in sorted(best.items())]


def _recommendation(row: dict) -> str:
    level, payload, instance = row["concurrency"], row["payload_file"], row["instance_type"]
    return (
        f"|`{payload}`|`{instance}`|The best option for staying within a latency budget of `{LATENCY_BUDGET_S} seconds` on a "
        f"`{instance}` for the `{payload}` dataset is a `concurrency level of {level}`. A concurrency level of {level} achieves "
        f"an `average latency of {row['latency_mean']} seconds`, for an `average prompt size of "
        f"{row['prompt_token_count_mean']} tokens` and `completion size of {row['completion_token_count_mean']} tokens` with "
        f"`{row['transactions_per_minute']} transactions/minute`.|"
    )
