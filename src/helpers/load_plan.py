"""Which load points a run is made of, and which comes next. What is on disk is the only state, so any rerun continues."""

from __future__ import annotations

import numpy as np

from helpers.config import BenchmarkConfig, Dataset, OptionBase, slug
from helpers.load_config import LoadLevel, Search
from helpers.records import LoadPoint, LoadPointFacts, read_facts, read_requests
from helpers.run_folder import RunFolder
from helpers.search import next_level, probe_is_feasible


def load_points_of(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> list[LoadPoint]:
    """Every load point that the config asks of an option; of a search, the probes so far and the next."""
    return [
        LoadPoint(option.name, dataset.name, level, repetition)
        for dataset in config.datasets_of(option)
        for level in _levels(option, dataset, config, run)
        for repetition in range(1, config.load.repetitions + 1)
    ]


def missing_load_points(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> list[LoadPoint]:
    """The load points of an option that have no records yet, in the seeded order in which they are to be run."""
    points = load_points_of(option, config, run)
    order = np.random.default_rng([config.seed, *slug(option.name).encode()]).permutation(len(points))
    return [points[i] for i in order if not (run.requests / f"{points[i].id}.parquet").is_file()]


def _levels(option: OptionBase, dataset: Dataset, config: BenchmarkConfig, run: RunFolder) -> list[LoadLevel]:
    if not isinstance(config.load, Search):
        return config.load.levels()
    probes = _probes(option, dataset, config, run)
    following = next_level(config.load, probes)
    values = [*probes, *([] if following is None else [following])]
    return [LoadLevel(config.load.level_kind, value) for value in values]


def _probes(option: OptionBase, dataset: Dataset, config: BenchmarkConfig, run: RunFolder) -> dict[float, bool]:
    """Level -> did it meet the SLO, of every level all of whose repetitions are measured."""
    facts = [f for f in read_facts(run.requests) if (f.option, f.dataset) == (option.name, dataset.name)]
    by_level: dict[float, list[LoadPointFacts]] = {}
    for fact in facts:
        by_level.setdefault(fact.level, []).append(fact)
    return {
        level: probe_is_feasible(read_requests(run.requests, load_points=[f.load_point for f in mine]), mine, config)
        for level, mine in sorted(by_level.items())
        if len(mine) >= config.load.repetitions
    }
