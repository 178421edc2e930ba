"""Campaigns of one option on several endpoints that differ by a known spread, summarised as those of a run are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from examples import endpoint, facts, make_config, request, requests_table

from helpers.metrics.formulas import with_latencies
from helpers.metrics.summary import LoadPoint, summarise

USD_PER_HOUR, WORKERS, REQUESTS = 3.6, 4, 120
OPTION = {
    "name": "a",
    "target": "sagemaker",
    "api": "openai_chat",
    "local": True,
    "instance_type": "ml.c5.large",
    "container": {"image": "engine"},
}


@dataclass(frozen=True)
class Coverage:
    """Shares of 95% intervals of the price that contain the price of a mean endpoint."""

    with_spread: float
    of_one_endpoint: float
    """Of as many requests to the first endpoint alone."""
    mean_width: float
    """(high - low) / price."""


def coverage(campaigns: int, replicates: int, spread: float, seed: int) -> Coverage:
    """Over campaigns drawn from consecutive seeds."""
    true = USD_PER_HOUR / 3600 / WORKERS * 0.5 * math.exp(spread**2 / 2) * 1e3
    held, plain, widths = 0, 0, []
    for number in range(campaigns):
        row = campaign(seed * 10_000 + number, replicates, spread)
        bounds = [row[f"usd_per_1k_requests{end}"] for end in ("_low", "_high")]
        held += bounds[0] <= true <= bounds[1]
        widths.append((bounds[1] - bounds[0]) / row["usd_per_1k_requests"])
        one = campaign(seed * 10_000 + number, 1, spread, requests=replicates * REQUESTS)
        plain += one["usd_per_1k_requests_low"] <= true <= one["usd_per_1k_requests_high"]
    return Coverage(held / campaigns, plain / campaigns, float(np.mean(widths)))


def campaign(seed: int, replicates: int, spread: float, requests: int = REQUESTS) -> dict:
    """The row of its load point. A request takes 0.5 s in the mean, with CV 0.3, times what its endpoint is slower."""
    draw = np.random.default_rng(seed)
    rows, windows = [], []
    for repetition in range(1, replicates + 1):
        slower = math.exp(draw.normal(0, spread))
        times = slower * draw.gamma(1 / 0.09, 0.5 * 0.09, (WORKERS, requests // WORKERS))
        ends = times.cumsum(axis=1)
        close = float(ends[:, -1].min())
        for worker_ends, worker_times in zip(ends, times, strict=True):
            rows += [
                request(float(end - took), float(took), repetition=repetition, level=float(WORKERS))
                for end, took in zip(worker_ends, worker_times, strict=True)
                if end - took < close
            ]
        windows.append(facts(0.0, close, level=float(WORKERS), repetition=repetition))
    config = make_config([OPTION], load={"concurrency": [WORKERS]}, endpoints={"replicates": replicates})
    table = with_latencies(requests_table(rows)).sort_values(["repetition", "t0_ns"], ignore_index=True)
    return summarise(LoadPoint(windows, table, None), endpoint("a", USD_PER_HOUR), config)
