"""What the server of a load point said of itself: the columns `server_...` of metrics/load_points.csv.

Gauges are means over the samples of the steady windows, counters what they rose by between two samples around them. Counts and
latencies are compared over whole attempts, warm-up and drain included, for a server does not know which request was which.
Unknown is None; where no server was asked, or none answered, there are no columns at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.config.containers.accelerators import instance_of
from helpers.metrics.summary import LoadPoint
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.run.records import AttemptFacts
from helpers.run.server_samples import CLOUDWATCH, PROMETHEUS, read_samples

WAITS = 1.0
"""Requests that wait in a sample of a queue that is not empty."""


class _Attempt(NamedTuple):
    """One repetition: its samples of /metrics and of CloudWatch, and its requests."""

    facts: AttemptFacts
    scraped: pd.DataFrame
    published: pd.DataFrame
    requests: pd.DataFrame

    def gauge(self, name: str) -> np.ndarray:
        """The values within the window."""
        rows = self.scraped[self.scraped["name"] == name]
        inside = rows["time_ns"].between(self.facts.window_open_ns, self.facts.window_close_ns)
        return rows.loc[inside, "value"].to_numpy(float)

    def rise(self, name: str, whole: bool = False) -> tuple[float, float] | None:
        """By how much a counter rose, and within how many s, between the samples that enclose the window, or those that enclose
        all requests; None where it is unknown, or fell because the server started anew.
        """
        rows = self.scraped[self.scraped["name"] == name]
        times, values = rows["time_ns"].to_numpy("int64"), rows["value"].to_numpy(float)
        if len(rows) < 2 or (np.diff(values) < 0).any():
            return None
        first, last = 0, len(rows) - 1
        if whole:
            sent, done = self.requests["sent_ns"].min(), self.requests["done_ns"].max()
            if pd.isna(sent) or pd.isna(done) or times[0] > sent or times[-1] < done:
                return None
        else:
            first = max(int(np.searchsorted(times, self.facts.window_open_ns, "right")) - 1, 0)
            last = min(int(np.searchsorted(times, self.facts.window_close_ns)), last)
        if last <= first:
            return None
        return float(values[last] - values[first]), float(times[last] - times[first]) / 1e9


def server_columns(point: LoadPoint, run: RunFolder, endpoint: EndpointRecord | None) -> dict[str, float | str | None]:
    """The columns of a load point; empty where nothing was asked of its server."""
    read = {facts.load_point: read_samples(run, facts.load_point) for facts in point.facts}
    if not any(read.values()):
        return {}
    attempts = []
    for facts in point.facts:
        if read[facts.load_point]:
            rows = read[facts.load_point][0]
            mine = point.requests[point.requests["repetition"] == facts.repetition]
            sources = (rows[rows["source"] == source] for source in (PROMETHEUS, CLOUDWATCH))
            attempts.append(_Attempt(facts, *sources, mine))
    troubles = [each[1] for each in read.values() if each and each[1]]
    row = {"server_trouble": troubles[0] if troubles else None} | _gauges(attempts)
    row |= _counters(attempts) | _utilisations(attempts, endpoint, run)
    is_whole = len(attempts) == len(point.facts)
    return row | (_compared(attempts) if is_whole else dict.fromkeys(_compared([])))


def _gauges(attempts: list[_Attempt]) -> dict[str, float | None]:
    found = {
        name: np.concatenate([each.gauge(name) for each in attempts])
        for name in ("running", "waiting", "kv_cache", "acceptance_length")
    }
    row: dict[str, float | None] = {"server_samples": max(map(len, found.values()))}
    for name, values in found.items():
        row[f"server_{name}"] = float(values.mean()) if len(values) else None
    row["server_running_max"] = float(found["running"].max()) if len(found["running"]) else None
    waiting = found["waiting"]
    row["server_waiting_share"] = float((waiting >= WAITS).mean()) if len(waiting) else None
    return row


def _counters(attempts: list[_Attempt]) -> dict[str, float | None]:
    preemptions = _sum(each.rise("preemptions") for each in attempts)
    row = {"server_preemptions": preemptions and preemptions[0]}
    accepted, drafts = (_sum(each.rise(name) for each in attempts) for name in ("accepted_tokens", "drafts"))
    if accepted and drafts and drafts[0]:
        row["server_acceptance_length"] = 1 + accepted[0] / drafts[0]
    return row


def _utilisations(attempts: list[_Attempt], endpoint: EndpointRecord | None, run: RunFolder) -> dict[str, float | None]:
    """Shares of all cores, of all GPUs and of their memory, and of the machine's. CloudWatch adds up those of single cores and
    GPUs, so how many there are must be known.
    """
    cpu = _sum(each.rise("cpu_s") for each in attempts)
    cores = np.concatenate([each.gauge("cpu_cores") for each in attempts])
    gpus = vcpus = None
    if endpoint is not None:
        instance = instance_of(endpoint.instance_type)
        gpus, vcpus = (instance.count, instance.vcpus) if instance else (None, None)
        vcpus = run.about()["machine"]["vcpus"] if endpoint.local else vcpus
    return {
        "server_cpu": cpu[0] / cpu[1] / cores.mean()
        if cpu and len(cores)
        else _published(attempts, "CPUUtilization", vcpus),
        "server_memory": _published(attempts, "MemoryUtilization", 1),
        "server_gpu": _published(attempts, "GPUUtilization", gpus),
        "server_gpu_memory": _published(attempts, "GPUMemoryUtilization", gpus),
    }


def _published(attempts: list[_Attempt], name: str, units: int | None) -> float | None:
    """Mean share of a utilisation that CloudWatch has in percent of one of `units`, over the periods within the windows."""
    values = []
    for each in attempts:
        rows = each.published[each.published["name"] == name]
        ends = rows["time_ns"] + rows["period_s"] * 1e9
        inside = (rows["time_ns"] >= each.facts.window_open_ns) & (ends <= each.facts.window_close_ns)
        values += rows.loc[inside, "value"].tolist()
    return float(np.mean(values)) / 100 / units if values and units else None


def _compared(attempts: list[_Attempt]) -> dict[str, float | None]:
    """How many requests client and server counted, and how long they took by either, from the send to the end."""
    served = _sum(each.rise("requests", whole=True) for each in attempts)
    time_s, count = (
        _sum(each.rise(name, whole=True) for each in attempts) for name in ("latency_sum_s", "latency_count")
    )
    ok = [each.requests[each.requests["ok"]] for each in attempts]
    took_s = [(mine["done_ns"] - mine["sent_ns"]).astype(float) / 1e9 for mine in ok]
    known = served is not None
    return {
        "server_requests": served and served[0],
        "client_requests": sum(map(len, ok)) if known else None,
        "client_failures": sum(int((~each.requests["ok"]).sum()) for each in attempts) if known else None,
        "server_latency_s_mean": time_s[0] / count[0] if time_s and count and count[0] else None,
        "client_latency_s_mean": float(pd.concat(took_s).mean()) if known and sum(map(len, took_s)) else None,
    }


def _sum(rises: Iterable[tuple[float, float] | None]) -> tuple[float, float] | None:
    """Of several attempts; None where one is unknown."""
    found = list(rises)
    if not found or None in found:
        return None
    return sum(rise[0] for rise in found), sum(rise[1] for rise in found)
