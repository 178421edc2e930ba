"""Do the client and CloudWatch agree on how many requests an option answered, and on how long they took?

CloudWatch counts by the minute, and a minute may hold parts of several load points, so all those of an option are compared
together. Whether ModelLatency of a streamed answer ends with its first or its last part is not documented: with OverheadLatency
it has to lie between the client's TTFT and its latency.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.strict import slug
from helpers.metrics import control, single_requests
from helpers.metrics.answers import count_answers
from helpers.metrics.replicates import replicate_of
from helpers.number_text import duration, plural
from helpers.run.finished_point import SET_ASIDE
from helpers.run.folder import RunFolder
from helpers.run.records import AttemptFacts, read_requests
from helpers.run.report_warning import ReportWarning
from helpers.run.server_samples import CLOUDWATCH, read_samples
from helpers.verdict.limits import FASTER_S, SLOWER, SLOWER_S

SHARE_MORE, MORE = 0.05, 20
"""Invocations beyond the requests that need no explanation: first requests, and what was under way when a process was killed."""


class _Option(NamedTuple):
    requests: pd.DataFrame
    published: pd.Series
    """Sums over all minutes, by name."""


def check_published(run: RunFolder, facts: list[AttemptFacts], config: BenchmarkConfig) -> Iterator[ReportWarning]:
    """Warnings with both numbers; none where CloudWatch was not read, or not to its end."""
    more, apart = [], []
    for option in dict.fromkeys(each.option for each in facts):
        found = _option(run, [each for each in facts if each.option == option], config)
        if found is None:
            continue
        sent, counted = len(found.requests) + _sent_besides(option, run), found.published.get("Invocations", 0.0)
        if counted > sent * (1 + SHARE_MORE) + MORE:
            more.append(f"{option}: {counted:,.0f} invocations by CloudWatch, {plural(sent, 'request')} by the client")
            continue
        if (said := _latencies(found)) is not None:
            apart.append(f"{option}: {said}")
    if more:
        yield ReportWarning(
            kind="other_traffic",
            message="The endpoint was invoked more often than this run did it: others used it at the same time, so the option "
            "may be faster and cheaper than measured. Next: measure while nobody else uses it.",
            rows=more,
        )
    if apart:
        yield ReportWarning(
            kind="server_latency",
            message="The client and CloudWatch do not agree on how long requests took (ModelLatency + OverheadLatency). What the "
            "client saw beyond that was spent on the way to AWS and back. Next: send from the same region; the verdict goes by "
            "the client's.",
            rows=apart,
        )


def _sent_besides(option: str, run: RunFolder) -> int:
    """What this run sent that is of no load point: single requests, control blocks, what was set aside, answers to score."""
    folders = run.path / single_requests.FOLDER, run.path / control.FOLDER, run.requests / SET_ASIDE
    files = [path for folder in folders for path in folder.rglob(f"{slug(option)}__*.parquet")]
    return sum(pq.read_metadata(path).num_rows for path in files) + count_answers(option, run)[0]


def _option(run: RunFolder, facts: list[AttemptFacts], config: BenchmarkConfig) -> _Option | None:
    tables = []
    for each in facts:
        read = read_samples(run, each.load_point)
        if read is None or read[1] or not (read[0]["source"] == CLOUDWATCH).any():
            return None
        monotonic, wall = each.clock_pairs[0]
        minute = ((read[0]["time_ns"] + (wall - monotonic)) / 1e9).round()
        tables.append(read[0].assign(minute=minute, endpoint=replicate_of(each, config)))
    rows = pd.concat(tables).drop_duplicates(["name", "minute", "endpoint"])
    requests = read_requests(
        run.requests, ["status", "sent_ns", "first_token_ns", "done_ns"], [f.load_point for f in facts]
    )
    return _Option(requests, rows.groupby("name")["value"].sum())


def _latencies(found: _Option) -> str | None:
    """Both means in words, where they cannot both be right."""
    sums, ok = found.published, found.requests[found.requests["status"] == "ok"]
    if not sums.get("ModelLatencyCount") or not sums.get("OverheadLatencyCount") or ok.empty:
        return None
    server_s = sum(sums[name] / sums[f"{name}Count"] for name in ("ModelLatency", "OverheadLatency")) / 1e6
    latency_s = float((ok["done_ns"] - ok["sent_ns"]).astype(float).mean()) / 1e9
    first = ok["first_token_ns"].fillna(ok["done_ns"])
    first_s = float((first - ok["sent_ns"]).astype(float).mean()) / 1e9
    if first_s <= max(SLOWER * server_s, server_s + SLOWER_S) and server_s <= latency_s * SLOWER + FASTER_S:
        return None
    return (
        f"mean latency {duration(latency_s)} by the client, its first token after {duration(first_s)}; "
        f"{duration(server_s)} by CloudWatch"
    )
