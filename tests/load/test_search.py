"""The search for the highest feasible level: its steps, and the capacity it finds of a server whose capacity is known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from conftest import small_config
from examples import facts, make_config, request

from helpers.config.load import LoadLevel, Search
from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.option_runner import load_all
from helpers.load import findings
from helpers.load.loopback_stub import LoopbackStub
from helpers.load.plan import attempts_of, missing_attempts
from helpers.load.search import next_level, probe_is_feasible
from helpers.prompts.making import make_prompts
from helpers.run.folder import RunFolder, open_run
from helpers.run.prompt_files import write_prompts
from helpers.run.records import OVERLOAD, Attempt, read_facts, read_requests, write_requests
from local_sagemaker.tiny_model import default_cache_dir


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


def test_a_search_doubles_and_then_halves_the_bracket():
    rates = probes_of(Search(kind="search", over="rate", highest=64, tolerance=0.2), 10)
    assert list(rates) == [1, 2, 4, 8, 16, 11.31, 9.512], "the geometric mean"
    counts = probes_of(Search(kind="search", over="concurrency", highest=64, tolerance=0.1), 18)
    assert list(counts) == [1, 2, 4, 8, 16, 32, 24, 20, 18, 19]


def test_nothing_feasible_ends_at_once_and_the_highest_is_not_exceeded():
    search = Search(kind="search", over="rate", lowest=1, highest=20)
    assert probes_of(search, 0) == {1: False}
    assert max(probes_of(search, math.inf)) == 20


def test_a_lucky_probe_above_a_failed_one_is_not_believed():
    search = Search(kind="search", over="concurrency", highest=64)
    assert next_level(search, {1: True, 2: True, 4: False, 8: True}) == 3
    assert next_level(search, {1: True, 2: True, 3: True, 4: False, 8: True}) is None


# --- load points that could not be judged --------------------------------------------------------------------------


class Records:
    """The records of a search of which each load point turns out as a test wants it."""

    def __init__(self, folder: Path, **load: object) -> None:
        self.config = make_config(load={"kind": "search", "over": "concurrency", "highest": 8, **load})
        self.run = RunFolder(folder)

    def to_come(self) -> list[tuple[float, int]]:
        """(level, repetition) of the load points that are to be measured next."""
        missing = missing_attempts(self.config.options[0], self.config, self.run)
        return sorted((point.level.value, point.repetition) for point in missing)

    def add(self, level: float, repetition: int, latency_s: float = 0.5, **finding: object) -> None:
        """Write a load point; the SLO allows 1 s."""
        point = Attempt("a", "short", LoadLevel("closed_loop", level), repetition)
        here = {"load_point": point.id, "level": level, "repetition": repetition}
        rows = [request(i / 4, latency_s, **here) for i in range(40)]
        write_requests(self.run.requests / f"{point.id}.parquet", rows, facts(**here, **finding))


UNJUDGED = [{"steady": False}, {"client_limited": ["late"]}, {"window_open_ns": None}]


@pytest.mark.parametrize("finding", UNJUDGED)
def test_a_load_point_that_cannot_be_judged_is_measured_again(tmp_path, finding):
    records = Records(tmp_path)
    assert records.to_come() == [(1, 1)]
    records.add(1, 1, latency_s=9, **finding)
    assert records.to_come() == [(1, 2)]
    records.add(1, 2)
    assert records.to_come() == [(2, 1)], "the second repetition decides, by itself"
    records.add(2, 1, **finding)
    records.add(2, 2, **finding)
    assert records.to_come() == [(2, 3)]
    records.add(2, 3, latency_s=9)
    assert records.to_come() == [], "1 is feasible and 2 is not"
    assert len(read_facts(records.run.requests)) == 5, "all records are kept"


@pytest.mark.parametrize("finding", UNJUDGED)
def test_a_level_that_cannot_be_judged_in_three_attempts_is_not_feasible(tmp_path, finding):
    records = Records(tmp_path)
    records.add(1, 1)
    for repetition in (1, 2, 3):
        assert records.to_come() == [(2, repetition)]
        records.add(2, repetition, **finding)
    assert records.to_come() == []


def test_a_level_of_which_too_few_repetitions_can_be_judged_is_not_feasible(tmp_path):
    records = Records(tmp_path, repetitions=2)
    records.add(1, 1)
    for repetition in (2, 3, 4):
        assert records.to_come() == [(1, repetition)]
        records.add(1, repetition, steady=False)
    assert records.to_come() == []


def test_overload_is_the_servers_doing_and_not_measured_again(tmp_path):
    records = Records(tmp_path)
    records.add(1, 1)
    records.add(2, 1, steady=False, ended_because=OVERLOAD)
    assert records.to_come() == []


def test_each_repetition_that_cannot_be_judged_is_replaced(tmp_path):
    records = Records(tmp_path, repetitions=3)
    assert records.to_come() == [(1, 1), (1, 2), (1, 3)]
    records.add(1, 1)
    records.add(1, 2, latency_s=9, steady=False)
    records.add(1, 3, latency_s=9, client_limited=["late"])
    assert records.to_come() == [(1, 4), (1, 5)]
    records.add(1, 4)
    records.add(1, 5)
    assert records.to_come() == [(2, 1), (2, 2), (2, 3)]


def test_every_new_load_point_has_a_place_of_its_own_and_so_prompts_of_its_own(tmp_path):
    records = Records(tmp_path)
    turns = [(1, {}), (2, {"steady": False}), (2, {}), (4, {"steady": False}), (4, {"latency_s": 9}), (3, {})]
    for place, (level, finding) in enumerate(turns):
        [(at, repetition)] = records.to_come()
        assert at == level
        points = attempts_of(records.config.options[0], records.config, records.run)
        assert [(p.level.value, p.repetition) for p in points[place:]] == [(level, repetition)]
        records.add(level, repetition, **finding)
    assert records.to_come() == []


# --- a server whose capacity is known -------------------------------------------------------------------------------


@pytest.mark.timing
@pytest.mark.parametrize(
    ("load", "server", "limit_s", "probes"),
    [
        # c streams on 4 workers: each waits its turn, so latency is c / 4 x 150 ms. The limit lies between c = 8 and 12.
        (
            {"over": "concurrency", "lowest": 4, "highest": 16, "min_requests": 40, "warmup_requests": 1},
            {"service_s": 0.15, "workers": 4},
            0.375,
            {4: True, 8: True, 12: False, 16: False},
        ),
        # 16 workers serve 32 requests/s, each in 0.5 s; beyond that the queue grows as long as requests come.
        (
            {"over": "rate", "lowest": 21, "highest": 64, "min_requests": 48, "arrivals": "constant"},
            {"service_s": 0.5, "workers": 16},
            0.75,
            {21: True, 29.7: True, 42: False},
        ),
    ],
    ids=["concurrency", "rate"],
)
def test_the_capacity_of_a_server_is_found(tmp_path, monkeypatch, load, server, limit_s, probes):
    """The median decides, and each probe is far from the limit: a machine that stands still now and then moves neither.

    Nor does it matter here that it sends some requests late, which would keep a level from being judged.
    """
    monkeypatch.setattr(findings, "LATE_MS", 2000.0)
    load |= {"kind": "search", "tolerance": 0.5, "max_duration_s": 20, "repeat_prompts": True}
    with LoopbackStub() as stub:
        stub.configure(ttft_s=server["service_s"] - 0.005, itl_s=0.001, events=6, workers=server["workers"])
        option = {"name": "stub", "target": "openai", "base_url": f"{stub.url}/v1", "served_model": "m"}
        slo = {"percentile": 50, "error_rate": 0.1, "confidence": 0.9, "latency_s": limit_s}
        datasets = [{"name": "short", "prompt_tokens": [60, 120], "count": 40}]
        path = small_config(tmp_path, options=[option], load=load, slo=slo, datasets=datasets)
        config, run = open_run(str(path), new=True)
        write_prompts(make_prompts(config.benchmark, path.parent, default_cache_dir()).tables, run.payloads)
        start_deployments(config.benchmark, run, on_change=lambda records: None)
        load_all(config.benchmark, run, on_event=lambda event: None)
    assert missing_attempts(config.benchmark.options[0], config.benchmark, run) == [], "the search is at its end"
    measured, requests = read_facts(run.requests), read_requests(run.requests)
    found = {
        level: probe_is_feasible(requests, [f for f in measured if f.level == level], config.benchmark)
        for level in {f.level for f in measured}
    }
    assert found == probes, {f.load_point: (f.steady_because, f.client_limited) for f in measured}
