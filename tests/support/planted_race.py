"""A planted campaign (`planted_campaigns`) raced: the project decides what is measured next, the simulator measures it.

Everything but the campaign's endpoints is the product's own: what comes next follows from the records on disk.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from examples import summarise_load_points
from planted_campaigns import Campaign
from planted_records import write_block, write_control
from planted_rules import Answer, answer_of

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.race import Race
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


def raced_config(campaign: Campaign, **race: object) -> BenchmarkConfig:
    """The campaign's config with a race; prompts may repeat, so that none runs out."""
    load = campaign.config.load.model_copy(update={"race": Race(**race), "repeat_prompts": True})
    return campaign.config.model_copy(update={"load": load})


def race(campaign: Campaign, folder: Path, **settings: object) -> Raced:
    """Race the options of a campaign, cheapest per hour first, into a folder of request records.

    Drift goes on over the visit of each option, which is as long as the race makes it: a rehearsal shows how long.
    """
    lengths = dict.fromkeys(campaign.stations, 1)
    if any(station.drift for station in campaign.stations.values()):
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as rehearsal:
            lengths = _race(campaign, Path(rehearsal), lengths, settings)[1]
    left, sent = _race(campaign, folder, lengths, settings)
    marked = [
        record.model_copy(update={"race_outcome": left[record.option].outcome, "race_because": "it lost"})
        for record in campaign.endpoints
    ]
    return Raced(_judged(campaign, raced_config(campaign, **settings), marked, folder), left, sum(sent.values()))


def _race(campaign: Campaign, folder: Path, lengths: dict[str, int], settings: dict) -> tuple[dict, dict[str, int]]:
    """Why each option left, and how many requests it was sent. Drift goes on over `lengths` requests of each option."""
    config = raced_config(campaign, **settings)
    endpoints = {record.option: record for record in campaign.endpoints}
    left, sent = {}, dict.fromkeys(endpoints, 0)
    for option in sorted(config.options, key=lambda one: endpoints[one.name].usd_per_option_hour()):
        begin_s = 0.0
        while not isinstance(step := step_of(option, config, folder, campaign.endpoints), Leave):
            level = next(one for one in config.load.possible_levels() if one.value == step.level)
            known = points_of(option, config, folder, endpoints[option.name])[step.dataset]
            n = next((point.n for point in known if point.level == step.level), 0)
            repetition = len(blocks_of(option.name, step.dataset, level, folder)) + 1
            point, size = Attempt(option.name, step.dataset, level, repetition), block_size(level, n, config)
            warm = {"warmup_requests": 1} if repetition > 1 and not level.is_open else {}
            load = config.load.model_copy(update={"min_requests": size, **warm})
            slower = _slower(campaign, point, size, sent[option.name] / lengths[option.name], lengths[option.name])
            written = write_block(campaign, point, load, slower, folder, begin_s)
            begin_s, sent[option.name] = begin_s + written.lasted_s, sent[option.name] + written.requests
        left[option.name] = step
        write_control(campaign, option.name, folder, campaign.at_end.get(option.name, 1.0), begin_s)
    return left, sent


def _slower(campaign: Campaign, point: Attempt, size: int, so_far: float, length: int) -> np.ndarray:
    """What drift makes of each request of a block, or a neighbour of its load point."""
    streams = 40 if point.level.is_open else int(point.level.value)
    count = 4 * size + 8 * streams + 100
    drift = campaign.stations[point.option].drift
    if drift:
        return 1 + drift * np.minimum(so_far + np.arange(count) / length, 1)
    return np.full(count, campaign.slower.get((point.option, point.dataset, point.level), (1.0,))[0])


def _judged(campaign: Campaign, config: BenchmarkConfig, endpoints: list[EndpointRecord], folder: Path) -> Answer:
    points = summarise_load_points(folder, read_facts(folder), endpoints, config)
    return answer_of(campaign, points, judge(points, endpoints, [], config, "planted"))
