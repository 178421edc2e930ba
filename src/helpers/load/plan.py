"""Which attempts a run is made of, and which comes next. What is on disk is the only state, so any rerun continues."""

from __future__ import annotations

import numpy as np

from helpers.config.benchmark import BenchmarkConfig, slug
from helpers.config.load import LoadLevel, Search
from helpers.config.options import OptionBase
from helpers.config.workload import Dataset
from helpers.load.search import next_level, probe_is_feasible
from helpers.metrics.attempts import repetitions_wanted
from helpers.run.folder import RunFolder
from helpers.run.records import Attempt, AttemptFacts, read_facts, read_requests


def attempts_of(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> list[Attempt]:
    """Every attempt that the config asks of an option; of a search, those measured so far and those of its next probe."""
    return [
        attempt for dataset in config.datasets_of(option) for attempt in _attempts_for(option, dataset, config, run)
    ]


def missing_attempts(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> list[Attempt]:
    """The attempts of an option that have no records yet, in the seeded order in which they are to be run."""
    attempts = attempts_of(option, config, run)
    order = np.random.default_rng([config.seed, *slug(option.name).encode()]).permutation(len(attempts))
    return [attempts[i] for i in order if not (run.requests / f"{attempts[i].id}.parquet").is_file()]


def _attempts_for(option: OptionBase, dataset: Dataset, config: BenchmarkConfig, run: RunFolder) -> list[Attempt]:
    if isinstance(config.load, Search):
        return _search_attempts(option, dataset, config.load, config, run)
    return [
        Attempt(option.name, dataset.name, level, repetition)
        for level in config.load.levels()
        for repetition in range(1, config.load.repetitions + 1)
    ]


def _search_attempts(
    option: OptionBase, dataset: Dataset, search: Search, config: BenchmarkConfig, run: RunFolder
) -> list[Attempt]:
    """First those that are measured, so that each new one has a place, and prompts, of its own; then those to come."""
    by_level: dict[float, list[AttemptFacts]] = {}
    for facts in read_facts(run.requests):
        if (facts.option, facts.dataset) == (option.name, dataset.name):
            by_level.setdefault(facts.level, []).append(facts)
    probes = {}
    for level, mine in sorted(by_level.items()):
        if len(mine) >= repetitions_wanted(mine, search.repetitions):
            requests = read_requests(run.requests, attempts=[f.load_point for f in mine])
            probes[level] = probe_is_feasible(requests, mine, config)
    attempts = [Attempt(option.name, dataset.name, f.load, f.repetition) for mine in by_level.values() for f in mine]
    following = next_level(search, probes)
    if following is not None:
        wanted = repetitions_wanted(by_level.get(following, []), search.repetitions)
        level = LoadLevel(search.level_kind, following)
        probe = [Attempt(option.name, dataset.name, level, repetition) for repetition in range(1, wanted + 1)]
        attempts += [attempt for attempt in probe if attempt not in attempts]
    return attempts
