"""A search is a race over many levels: which levels there are, which it looks at, and that no single look bounds it for ever."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from conftest import small_config
from examples import endpoint, facts, make_config, request
from patience import bear_a_busy_machine
from planted_search import Server, by_estimates, raced

from helpers.config.load import MOST_LEVELS, Search
from helpers.config.load_level import LoadLevel
from helpers.endpoints.deployments import start_deployments
from helpers.endpoints.loading import load_all
from helpers.load.loopback_stub import LoopbackStub
from helpers.load.plan import asked_of, attempts_of, missing_attempts
from helpers.load.race_state import points_of
from helpers.prompts.making import make_prompts
from helpers.run.folder import RunFolder, open_run
from helpers.run.prompt_files import write_prompts
from helpers.run.records import OVERLOAD, Attempt, read_facts, write_requests
from local_sagemaker.tiny_model import default_cache_dir

COUNTS = Search(kind="search", over="concurrency", lowest=1, highest=128)
RATES = Search(kind="search", over="rate", lowest=1, highest=128)


# --- the levels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "search",
    [
        COUNTS,
        RATES,
        Search(kind="search", over="rate", lowest=0.5, highest=500, tolerance=0.02),
        Search(kind="search", over="rate", lowest=0.003, highest=0.7, tolerance=0.9),
        Search(kind="search", over="rate", lowest=1, highest=1.3, tolerance=0.001),
        Search(kind="search", over="concurrency", lowest=7, highest=7),
    ],
)
def test_no_two_neighbours_are_farther_apart_than_the_tolerance(search):
    levels = [level.value for level in search.levels()]
    assert (levels[0], levels[-1]) == (search.lowest, search.highest)
    for one, following in itertools.pairwise(levels):
        step = 1 if search.over == "concurrency" else 0
        assert one < following <= max(one * (1 + search.tolerance) * (1 + 1e-9), one + step)
    assert search.over == "rate" or all(level % 1 == 0 for level in levels)
    assert len({level.slug for level in search.levels()}) == len(levels), "each has files of its own"
    assert 1 <= search.most_levels <= len(levels) <= MOST_LEVELS


def test_rates_are_short_figures():
    search = Search(kind="search", over="rate", lowest=0.5, highest=4, tolerance=0.2)
    assert [f"{level.value:g}" for level in search.levels()] == [
        *("0.5", "0.6", "0.7", "0.8", "0.9", "1", "1.2", "1.4", "1.6", "1.9", "2.2", "2.6", "3", "3.6", "4"),
    ]


# --- the decisions --------------------------------------------------------------------------------------------------


def test_first_looks_double_from_the_lowest_and_then_halve_the_bracket():
    measured = raced(COUNTS, Server(45, 1)).measured
    assert list(dict.fromkeys(measured))[:8] == [1, 2, 4, 8, 16, 32, 63, 44]


UNLUCKY, LUCKY = (4, 3), (63, 0)
"""Slow requests in the first look at a level far below a capacity of 45, where none is to be expected, and far above, where a
third is.
"""


@pytest.mark.parametrize("planted", [None, UNLUCKY, LUCKY])
def test_one_look_by_luck_does_not_bound_a_search_for_ever(planted):
    found = [raced(COUNTS, Server(45, seed, planted)) for seed in range(40)]
    assert sum(0.8 * 45 <= one.level <= 45 for one in found) >= 38
    assert not any(one.level > 45 for one in found), "it never says that a level meets the SLO which does not"
    assert max(len(set(one.measured)) for one in found) <= COUNTS.most_levels


@pytest.mark.parametrize("planted", [UNLUCKY, LUCKY])
def test_where_each_probe_decides_by_its_estimate_one_by_luck_bounds_the_search_for_ever(planted):
    """Else the test above could not fail."""
    assert not any(0.8 * 45 <= by_estimates(COUNTS, Server(45, seed, planted)).level <= 45 for seed in range(40))


def test_rates_beyond_the_limit_are_not_tried_again_and_again():
    """A queue that grows is worse than a further look: nothing above twice the capacity is looked at."""
    for seed in range(20):
        assert max(raced(RATES, Server(11, seed)).measured) <= 22


# --- records of a search --------------------------------------------------------------------------------------------


class Records:
    """The records of a search of which each load point turns out as a test wants it."""

    def __init__(self, folder: Path, **load: object) -> None:
        load = {"over": "concurrency", "highest": 8, "repeat_prompts": True, **load}
        self.config = make_config(load={"kind": "search", **load}, slo={"percentile": 90, "latency_s": 1})
        self.run = RunFolder(folder)
        self.run.requests.mkdir(exist_ok=True)

    def to_come(self) -> list[tuple[float, int]]:
        """(level, repetition) of the block that is to be measured next."""
        missing = missing_attempts(self.config.options[0], self.config, self.run)
        return [(attempt.level.value, attempt.repetition) for attempt in missing]

    def add(self, level: float, repetition: int, latency_s: float = 0.5, **finding: object) -> None:
        """Write a block; the SLO allows 1 s."""
        point = Attempt("a", "short", LoadLevel("closed_loop", level), repetition)
        here = {"load_point": point.id, "level": level, "repetition": repetition}
        rows = [request(i / 4, latency_s, **here) for i in range(40)]
        write_requests(
            self.run.requests / f"{point.id}.parquet", rows, facts(load_kind="closed_loop", **here, **finding)
        )


UNJUDGED = [{"steady": False}, {"client_limited": ["late"]}, {"window_open_ns": None}]


@pytest.mark.parametrize("finding", UNJUDGED)
def test_a_level_that_cannot_be_judged_is_measured_again_and_then_ends_the_climb(tmp_path, finding):
    records = Records(tmp_path)
    for level in (1, 2):
        assert records.to_come() == [(level, 1)]
        records.add(level, 1)
    for repetition in (1, 2, 3):
        assert records.to_come() == [(4, repetition)]
        records.add(4, repetition, **finding)
    assert records.to_come() == [(3, 1)], "as if 4 had missed the SLO, but only for the bracket"
    point = points_of(records.config.options[0], records.config, records.run.requests, endpoint("a"))["short"][3]
    assert (point.level, point.state, point.is_unjudged) == (4, "undecided", True)
    assert len(read_facts(records.run.requests)) == 5, "all records are kept"


def test_overload_is_the_servers_doing_and_not_measured_again(tmp_path):
    records = Records(tmp_path)
    records.add(1, 1)
    records.add(2, 1, steady=False, ended_because=OVERLOAD)
    assert records.to_come() == [(1, 2)]


def test_a_search_looks_at_no_more_levels_than_it_says(tmp_path):
    records = Records(tmp_path, highest=64, tolerance=0.9)
    levels = [level.value for level in records.config.load.levels()]
    most = records.config.load.most_levels
    for level in levels[:most]:
        records.add(level, 1)
    points = points_of(records.config.options[0], records.config, records.run.requests, endpoint("a"))["short"]
    assert all(point.is_spent for point in points if not point.is_measured)


def test_each_level_begins_at_prompts_of_its_own(tmp_path):
    records = Records(tmp_path, highest=64)
    option, starts = records.config.options[0], []
    for level in (1, 2, 4, 8, 16, 32, 64):
        [(at, _)] = records.to_come()
        assert at == level
        attempt = attempts_of(option, records.config, records.run)[-1]
        starts.append(asked_of(attempt, option, records.config, records.run).start_of_prompts)
        records.add(level, 1)
    gaps = [min(abs(a - b), 1 - abs(a - b)) for a, b in itertools.combinations(starts, 2)]
    assert min(gaps) > 1 / len(starts) / 4


# --- a server whose capacity is known -------------------------------------------------------------------------------


@pytest.mark.timing
@pytest.mark.parametrize(
    ("load", "server", "limit_s", "within", "beyond"),
    [
        # c streams on 4 workers: each waits its turn, so latency is c / 4 x 150 ms. The limit lies between c = 8 and 11.
        (
            {"over": "concurrency", "lowest": 4, "highest": 16, "tolerance": 0.4, "warmup_requests": 1},
            {"service_s": 0.15, "workers": 4},
            0.36,
            9,
            12,
        ),
        # 12 workers serve 24 requests/s, each in 0.5 s; beyond that the queue grows as long as requests come.
        (
            {"over": "rate", "lowest": 15, "highest": 64, "tolerance": 0.99, "arrivals": "constant"},
            {"service_s": 0.5, "workers": 12},
            0.75,
            15,
            29,
        ),
    ],
    ids=["concurrency", "rate"],
)
def test_the_capacity_of_a_server_is_found(tmp_path, monkeypatch, load, server, limit_s, within, beyond):
    """The median decides, and each level is far from the limit: a machine that stands still now and then moves neither."""
    bear_a_busy_machine(monkeypatch)
    load |= {"kind": "search", "max_duration_s": 30, "repeat_prompts": True}
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
    [option] = config.benchmark.options
    assert missing_attempts(option, config.benchmark, run) == [], "the search is at its end"
    points = points_of(option, config.benchmark, run.requests, None)["short"]
    assert max(point.level for point in points if point.is_within) == within, points
    assert min(point.level for point in points if point.state == "missed") == beyond, points
