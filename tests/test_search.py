"""The search for the highest feasible level: its steps, and the capacity it finds of a server whose capacity is known."""

from __future__ import annotations

import math

import pytest
from conftest import small_config

from helpers.deployments import load_all, start_deployments
from helpers.load.loopback_stub import LoopbackStub
from helpers.load_config import Search
from helpers.load_plan import missing_load_points
from helpers.local_sagemaker.tiny_model import default_cache_dir
from helpers.prompt_files import write_prompts
from helpers.prompts import make_prompts
from helpers.records import read_facts
from helpers.run_folder import open_run
from helpers.search import next_level


def probes_of(search: Search, capacity: float) -> dict[float, bool]:
    probes: dict[float, bool] = {}
    while (level := next_level(search, probes)) is not None:
        assert level not in probes
        probes[level] = level <= capacity
        assert len(probes) <= search.most_levels
    return probes


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 8, 100, 127, 128])
def test_a_whole_capacity_is_found_exactly_or_within_the_tolerance(capacity):
    search = Search(kind="search", over="concurrency", lowest=1, highest=128, tolerance=0.05)
    probes = probes_of(search, capacity)
    best = max(level for level, feasible in probes.items() if feasible)
    assert best <= capacity
    assert capacity - best < max(1, 0.05 * capacity)
    assert all(level % 1 == 0 for level in probes)


@pytest.mark.parametrize("capacity", [0.7, 3.3, 60.0, 499.0])
def test_a_rate_is_found_within_the_tolerance(capacity):
    search = Search(kind="search", over="rate", lowest=0.5, highest=500, tolerance=0.02)
    best = max(level for level, feasible in probes_of(search, capacity).items() if feasible)
    assert capacity / 1.021 <= best <= capacity


def test_nothing_feasible_ends_at_once_and_the_highest_is_not_exceeded():
    search = Search(kind="search", over="rate", lowest=1, highest=20)
    assert probes_of(search, 0) == {1: False}
    assert max(probes_of(search, math.inf)) == 20


def test_a_lucky_probe_above_a_failed_one_is_not_believed():
    search = Search(kind="search", over="concurrency", highest=64)
    assert next_level(search, {1: True, 2: True, 4: False, 8: True}) == 3
    assert next_level(search, {1: True, 2: True, 3: True, 4: False, 8: True}) is None


WORKERS, SERVICE_S = 4, 0.04


@pytest.mark.parametrize(
    ("over", "capacity", "limits"),
    [
        # c streams on 4 workers: each waits its turn, so latency is service time x c / 4; the limit allows c = 10.
        ("concurrency", 10, {"latency_s": SERVICE_S * 10.5 / WORKERS}),
        # 4 workers serve 100 requests/s; the tail at constant arrivals stays flat up to there.
        ("rate", WORKERS / SERVICE_S, {"latency_s": SERVICE_S * 3}),
    ],
)
def test_the_capacity_of_a_server_is_found(tmp_path, over, capacity, limits):
    load = {
        "kind": "search",
        "over": over,
        "lowest": 4 if over == "concurrency" else 20,
        "highest": 32 if over == "concurrency" else 400,
        "tolerance": 0.1,
        "min_requests": 60,
        "max_duration_s": 6,
        "request_timeout_s": 20,
        "repeat_prompts": True,
        **({"arrivals": "constant"} if over == "rate" else {"warmup_requests": 1}),
    }
    with LoopbackStub() as stub:
        stub.configure(ttft_s=SERVICE_S - 0.005, itl_s=0.001, events=6, workers=WORKERS)
        option = {"name": "stub", "target": "openai", "base_url": f"{stub.url}/v1", "served_model": "m"}
        slo = {"percentile": 90, "error_rate": 0.1, "confidence": 0.9, **limits}
        datasets = [{"name": "short", "prompt_tokens": [60, 120], "count": 40}]
        path = small_config(tmp_path, options=[option], load=load, slo=slo, datasets=datasets)
        config, run = open_run(str(path), new=True)
        write_prompts(make_prompts(config.benchmark, path.parent, default_cache_dir()).tables, run.payloads)
        start_deployments(config.benchmark, run, on_change=lambda records: None)
        load_all(config.benchmark, run, on_event=lambda event: None)
    facts = {f.level: f for f in read_facts(run.requests)}
    assert missing_load_points(config.benchmark.options[0], config.benchmark, run) == [], "the search is at its end"
    infeasible = min(level for level in facts if level > capacity)
    feasible = max(level for level in facts if level <= capacity)
    assert feasible >= capacity / 1.11 - 1, facts.keys()
    assert infeasible <= capacity * 1.22 + 1, facts.keys()
