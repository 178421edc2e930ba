"""Which load points a run is made of, and which comes next. What is on disk is the only state, so any rerun continues."""

from __future__ import annotations

import numpy as np

from helpers.config.benchmark import BenchmarkConfig, slug
from helpers.config.load import LoadLevel, Search
from helpers.config.options import OptionBase
from helpers.config.workload import Dataset
from helpers.load.search import next_level, probe_is_feasible
from helpers.metrics.attempts import repetitions_wanted
from helpers.run.folder import RunFolder
from helpers.run.records import LoadPoint, LoadPointFacts, read_facts, read_requests


def load_points_of(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> list[LoadPoint]:
    """Every load point that the config asks of an option; of a search, those measured so far and those of its next probe."""
    return [point for dataset in config.datasets_of(option) for point in _points_of(option, dataset, config, run)]


def missing_load_points(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> list[LoadPoint]:
    """The load points of an option that have no records yet, in the seeded order in which they are to be run."""
    points = load_points_of(option, config, run)
    order = np.random.default_rng([config.seed, *slug(option.name).encode()]).permutation(len(points))
    return [points[i] for i in order if not (run.requests / f"{points[i].id}.parquet").is_file()]


def _points_of(option: OptionBase, dataset: Dataset, config: BenchmarkConfig, run: RunFolder) -> list[LoadPoint]:
    if isinstance(config.load, Search):
        return _search_points(option, dataset, config.load, config, run)
    return [
        LoadPoint(option.name, dataset.name, level, repetition)
        for level in config.load.levels()
        for repetition in range(1, config.load.repetitions + 1)
    ]


def _search_points(
    option: OptionBase, dataset: Dataset, search: Search, config: BenchmarkConfig, run: RunFolder
) -> list[LoadPoint]:
    """First those that are measured, so that each new one has a place, and prompts, of its own; then those to come."""
    by_level: dict[float, list[LoadPointFacts]] = {}
    for facts in read_facts(run.requests):
        if (facts.option, facts.dataset) == (option.name, dataset.name):
            by_level.setdefault(facts.level, []).append(facts)
    probes = {}
    for level, mine in sorted(by_level.items()):
        if len(mine) >= repetitions_wanted(mine, search.repetitions):
            requests = read_requests(run.requests, load_points=[f.load_point for f in mine])
            probes[level] = probe_is_feasible(requests, mine, config)
    points = [LoadPoint(option.name, dataset.name, f.load, f.repetition) for mine in by_level.values() for f in mine]
    following = next_level(search, probes)
    if following is not None:
        wanted = repetitions_wanted(by_level.get(following, []), search.repetitions)
        level = LoadLevel(search.level_kind, following)
        probe = [LoadPoint(option.name, dataset.name, level, repetition) for repetition in range(1, wanted + 1)]
        points += [point for point in probe if point not in points]
    return points
