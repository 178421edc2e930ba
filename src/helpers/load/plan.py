"""Which attempts a run is made of, and which comes next. What is on disk is the only state, so any rerun continues."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Load, Search
from helpers.config.options import OptionBase
from helpers.config.strict import slug
from helpers.load.control import control_attempt, control_of
from helpers.load.race import Measure
from helpers.load.race_state import block_size, blocks_of, points_of, read_block, seconds_left, sent_of, step_of
from helpers.metrics.control import FOLDER
from helpers.metrics.looks import looks_of
from helpers.metrics.sample_size import load_for_slo, requests_for_percentile
from helpers.metrics.single_requests import with_limits
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger
from helpers.run.prompt_files import smallest_share_of_turns
from helpers.run.records import Attempt

GOLDEN = (math.sqrt(5) - 1) / 2
"""Steps of this share of a circle keep any few places far apart: of a search nobody knows which levels it will measure."""


def attempts_of(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> list[Attempt]:
    """Every attempt that the config asks of an option; of a race, the blocks measured so far and the next one."""
    if looks_of(config) is not None:
        return _race_attempts(option, config, run)
    each = config.load.repetitions  # of each replicate, whose repetitions are numbered after those of the one before
    first = 0 if option.replicate is None else each * (option.replicate - 1)
    last = config.attempts_per_load_point if option.replicate is None else first + each
    return [
        Attempt(option.measured_as, dataset.name, level, repetition)
        for dataset in config.datasets_of(option)
        for level in config.load.levels()
        for repetition in range(first + 1, last + 1)
    ]


def missing_attempts(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> list[Attempt]:
    """The attempts of an option that have no records yet, in the seeded order in which they are to be run; when there are none
    left, the control block that ends its visit.
    """
    attempts = attempts_of(option, config, run)
    order = np.random.default_rng([config.seed, *slug(option.name).encode()]).permutation(len(attempts))
    missing = [attempts[i] for i in order if not file_of(attempts[i], run).is_file()]
    control = None if missing else control_attempt(option, config, run)
    return missing if control is None else [control]


def count_attempts(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> tuple[int, int]:
    """How many attempts of an option are measured, and how many there are, without its control block."""
    attempts = attempts_of(option, config, run)
    return sum(file_of(attempt, run).is_file() for attempt in attempts), len(attempts)


def file_of(attempt: Attempt, run: RunFolder) -> Path:
    """Where the records of an attempt are."""
    return (run.folder(FOLDER) if attempt.is_control else run.requests) / f"{attempt.id}.parquet"


def _race_attempts(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> list[Attempt]:
    blocks = [
        Attempt(option.name, dataset.name, level, int(file.stem.rpartition("r")[-1]))
        for dataset in config.datasets_of(option)
        for level in config.load.possible_levels()
        for file in blocks_of(option.name, dataset.name, level, run.requests)
    ]
    endpoints = Ledger(run.ledger_file, run.run_id).records()
    if any(record.option == option.name and record.race_outcome for record in endpoints):
        return blocks
    step = step_of(option, with_limits(config, run), run.requests, endpoints)
    if not isinstance(step, Measure):
        return blocks
    level = next(level for level in config.load.possible_levels() if level.value == step.level)
    so_far = [p.repetition for p in blocks if (p.dataset, p.level) == (step.dataset, level)]
    return [*blocks, Attempt(option.name, step.dataset, level, max(so_far, default=0) + 1)]


class Asked(NamedTuple):
    """What an attempt is asked for."""

    load: Load
    fewest_independent: int
    """Independent requests that the SLO's percentile asks of its window."""
    start_of_prompts: float
    """Share of the shuffled prompts at which it starts, so that load points share as few as may be."""


def asked_of(attempt: Attempt, option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> Asked:
    """The load of an attempt, and the prompts with which it starts: a block goes on where the last one of its level ended."""
    if attempt.is_control:
        return _control_asked(attempt, option, config, run)
    if looks_of(config) is None:
        attempts = [a for a in attempts_of(option, config, run) if a.dataset == attempt.dataset]
        share = config.smallest_share(attempt.dataset) * smallest_share_of_turns(run.payloads, attempt.dataset)
        needed = requests_for_percentile(config.slo) / share
        independent = math.ceil(needed / config.attempts_per_load_point)
        return Asked(load_for_slo(config), independent, attempts.index(attempt) / len(attempts))
    record = Ledger(run.ledger_file, run.run_id).record(option.name)
    levels = points_of(option, with_limits(config, run), run.requests, record)[attempt.dataset]
    place = next((i for i, known in enumerate(levels) if known.level == attempt.level.value), None)
    n = 0 if place is None else levels[place].n  # a rate that is to show room is measured once
    size = block_size(attempt.level, n, config)
    blocks = [read_block(file) for file in blocks_of(option.name, attempt.dataset, attempt.level, run.requests)]
    step = GOLDEN if isinstance(config.load, Search) else 1 / len(levels)
    start = ((place or 0) * step + sent_of(blocks) / _prompts(attempt.dataset, config)) % 1
    asked: dict[str, object] = {"min_requests": size, "max_duration_s": seconds_left(blocks, config)}
    if n and hasattr(config.load, "warmup_requests"):
        asked["warmup_requests"] = 1  # the server is warm, and each worker has to have answered once
    return Asked(config.load.model_copy(update=asked), 1, start)


def _control_asked(attempt: Attempt, option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> Asked:
    control = control_of(option, config, run)
    start = asked_of(replace(attempt, is_control=False), option, config, run).start_of_prompts
    if looks_of(config) is None:  # that is where the first attempt at its level began
        sent = sent_of([read_block(file_of(replace(attempt, is_control=False), run))])
        start = (start + sent / _prompts(attempt.dataset, config)) % 1
    return Asked(config.load.model_copy(update=control.asked(config.load)), 1, start)


def _prompts(dataset: str, config: BenchmarkConfig) -> int:
    return next(known.count for known in config.loaded_datasets if known.name == dataset)
