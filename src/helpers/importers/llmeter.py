"""LLMeter (awslabs): `responses.jsonl` of a result folder, one line per request, with `summary.json` next to it.

Latencies are in seconds. Send times are in whole seconds, too coarse for a window, so a run is one group in which each
latency is known. `summary.json` has the clients, the duration of the run and the model; a later run into the same
folder overwrites it, but appends its responses.
"""

from __future__ import annotations

import json
import math

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.config.options import ImportedOption
from helpers.errors import ResultFileError
from helpers.importers.files import OpenedFile, read_objects
from helpers.importers.found import Found, FoundPoint, Served
from helpers.importers.rows import Row, clean
from helpers.run.group_records import Group

TOOL = "LLMeter"
RESPONSE = ("response_text", "time_to_last_token", "num_tokens_output")
SUMMARY = ("total_requests", "clients", "total_test_time")
STATISTICS = ("failed_requests", "failed_requests_rate", "time_to_last_token-p50")
UNKNOWN = (
    "when requests were sent (whole seconds are kept)",
    "how much of the time was ramp-up and tail",
    "whether a steady state was reached",
    "chunks of the answers",
    "who counted the tokens",
)


def read(file: OpenedFile, option: ImportedOption, config: BenchmarkConfig) -> Found:
    """One load point: the responses of the summary's run."""
    rows = read_objects(file, f"a response of {TOOL}")
    if not set(rows[0].values).issuperset(RESPONSE):
        raise ResultFileError(
            f"{file.shown}: holds a summary of {TOOL}. Expected its responses.jsonl, which has all the data. Next: write "
            "`path: .../responses.jsonl`; if it is missing, measure with `output_path` set"
        )
    for row in rows:
        row.require(RESPONSE, f"a response of {TOOL}")
    summary = _beside(file)
    clients, mine = summary.optional_number("clients"), _of_the_last_run(rows, summary, file)
    unknown = UNKNOWN if summary.values.get("total_test_time") else (*UNKNOWN, "rates (summary.json is missing)")
    point = FoundPoint(
        where=file.shown,
        dataset=None,
        level=LoadLevel("closed_loop", clients) if clients else None,
        groups=[_group(mine, summary, file)],
        unknown=unknown,
    )
    earlier = len(rows) - len(mine)
    words = f"{file.shown}: {earlier} responses of earlier runs in the same folder, whose summary was overwritten"
    return Found([point], _served(summary), [words] if earlier else [])


def _of_the_last_run(rows: list[Row], summary: Row, file: OpenedFile) -> list[Row]:
    """The responses that `summary.json` covers, without those of earlier runs."""
    counted = summary.optional_count("total_requests")
    if counted is not None and counted > len(rows):
        raise ResultFileError(
            f"{file.shown}: holds {len(rows)} responses, {summary.where} counts {counted}. Expected all of them. Next: copy both "
            "files again, or measure again with a separate `output_path`"
        )
    return rows[-counted:] if counted else rows


def _group(rows: list[Row], summary: Row, file: OpenedFile) -> Group:
    """All responses as one group; failed ones have no latency and usually no tokens."""
    ok = [row for row in rows if row.optional_text("error") is None]
    latency_s = [row.number("time_to_last_token") for row in ok]
    ttft_s = [row.optional_number("time_to_first_token") for row in ok]
    return Group(
        requests=len(rows),
        failures=len(rows) - len(ok),
        wall_s=summary.optional_number("total_test_time"),
        latency_mean_s=math.fsum(latency_s) / len(ok) if ok else None,
        prompt_tokens=_total(ok, "num_tokens_input"),
        output_tokens=_total(ok, "num_tokens_output"),
        source=file.shown,
        latency_s=latency_s,
        ttft_s=None if None in ttft_s else ttft_s,
        tpot_s=None if None in ttft_s else _tpot_s(ok, latency_s, ttft_s),
    )


def _tpot_s(rows: list[Row], latency_s: list[float], ttft_s: list[float]) -> list[float] | None:
    """TPOT of answers with at least two tokens; None if the tokens of one are unknown."""
    tokens = [row.optional_count("num_tokens_output") for row in rows]
    if None in tokens:
        return None
    times = zip(latency_s, ttft_s, tokens, strict=True)
    return [(last - first) / (n - 1) for last, first, n in times if n >= 2] or None


def _total(rows: list[Row], key: str) -> int | None:
    tokens = [row.optional_count(key) for row in rows]
    return None if None in tokens else sum(tokens)


def _beside(file: OpenedFile) -> Row:
    """`summary.json`, else clients and endpoint from `run_config.json`; empty if the folder has neither."""
    for name in ("summary.json", "run_config.json"):
        path = file.path.with_name(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            continue
        row = Row(str(path.relative_to(file.path.parent)), content if isinstance(content, dict) else {})
        if "endpoint" not in row.values:
            return row
        endpoint = row.section("endpoint")
        return Row(row.where, {**row.values, **(endpoint.section("__llmeter_state__").values or endpoint.values)})
    return Row(file.shown, {})


def _served(summary: Row) -> Served:
    """The model's id, or the endpoint's name: LLMeter gives a SageMaker endpoint's name if the caller gave no id."""
    model, endpoint = summary.optional_text("model_id"), summary.optional_text("endpoint_name")
    return Served(TOOL, model=None if model == endpoint else model, deployment=endpoint and clean(endpoint))
