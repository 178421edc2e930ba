"""A planted campaign (`planted_campaigns`) raced: the project decides what is measured next, the simulator measures it.

Everything but the campaign's endpoints is the product's own: what comes next follows from the records on disk.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import planted_records
from examples import summarise_load_points
from planted_campaigns import TIMEOUT_S, Campaign, load_of
from planted_rules import Answer, answer_of
from simulation import Served, draw_weather, draw_work, serve

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Race
from helpers.load.race import Leave
from helpers.load.race_state import block_size, blocks_of, points_of, step_of
from helpers.run.ledger import EndpointRecord
from helpers.run.records import Attempt, read_facts
from helpers.verdict.judging import judge


class Raced(NamedTuple):
    """What became of a raced campaign."""

    answer: Answer
    left: dict[str, Leave]
    sent: int
    """Requests, warm-up and drain among them."""


class _Block(Campaign):
    """The campaign while one block is conducted, which holds so many requests."""

    @cached_property
    def config(self) -> BenchmarkConfig:
        config = super().config
        return config.model_copy(update={"load": config.load.model_copy(update={"warmup_requests": 1})})


def raced_config(campaign: Campaign, **race: object) -> BenchmarkConfig:
    """The campaign's config with a race; prompts may repeat, so that none runs out."""
    load = campaign.config.load.model_copy(update={"race": Race(**race), "repeat_prompts": True})
    return campaign.config.model_copy(update={"load": load})


def race(campaign: Campaign, folder: Path, **settings: object) -> Raced:
    """Race the options of a campaign, cheapest per hour first, into a folder of request records."""
    config = raced_config(campaign, **settings)
    endpoints = {record.option: record for record in campaign.endpoints}
    left, sent = {}, 0
    for option in sorted(config.options, key=lambda one: endpoints[one.name].usd_per_option_hour()):
        while not isinstance(step := step_of(option, config, folder, campaign.endpoints), Leave):
            level = next(one for one in campaign.levels if one.value == step.level)
            known = points_of(option, config, folder, endpoints[option.name])[step.dataset]
            n = next(point.n for point in known if point.level == step.level)
            repetition = len(blocks_of(option.name, step.dataset, level, folder)) + 1
            point = Attempt(option.name, step.dataset, level, repetition)
            sent += measure_block(campaign, point, block_size(level, n, config), n, folder)
        left[option.name] = step
    marked = [
        record.model_copy(update={"race_outcome": left[record.option].outcome, "race_because": "it lost"})
        for record in endpoints.values()
    ]
    return Raced(_judged(campaign, config, marked, folder), left, sent)


def measure_block(campaign: Campaign, point: Attempt, size: int, so_far: int, folder: Path) -> int:
    """Simulate one block whose steady window holds `size` requests, after `so_far` in earlier ones, and write its records;
    returns how many were sent.
    """
    station, level = campaign.stations[point.option], point.level
    place = [list(campaign.stations).index(point.option), list(campaign.shares).index(point.dataset)]
    rng = np.random.default_rng([campaign.seed, 5, *place, campaign.levels.index(level), point.repetition])
    streams = 40 if level.is_open else int(level.value)
    count = 4 * size + 8 * streams + 100
    slower = planted_records.slower_of(campaign, (point.option, point.dataset, level), count, so_far)
    work = draw_work(station, load_of(point.dataset, level), count, rng, cold=point.repetition == 1, slower=slower)
    how: dict[str, object] = {"concurrency": [streams]}
    after_last_s = math.inf
    if level.is_open:
        arrivals_s = np.cumsum(rng.exponential(1 / level.value, count + 1))
        how, after_last_s = {"arrivals_s": arrivals_s[:-1, None]}, arrivals_s[-1]
    how |= {"stall_s": work.stall_s[:, None], "weather": draw_weather([station], rng)}
    served = serve([station], work.service_s[:, None], work.refused[:, None], TIMEOUT_S, **how)
    mine = Served(*(part[:, 0] for part in served))
    fields = {**vars(replace(campaign, requests=size))}
    fields.pop("config", None)
    block = (Campaign if point.repetition == 1 or level.is_open else _Block)(**fields)
    return planted_records.write_point(point, mine, work, after_last_s, block, folder, is_block=True)


def _judged(campaign: Campaign, config: BenchmarkConfig, endpoints: list[EndpointRecord], folder: Path) -> Answer:
    points = summarise_load_points(folder, read_facts(folder), endpoints, config)
    return answer_of(campaign, points, judge(points, endpoints, [], config, "planted"))
