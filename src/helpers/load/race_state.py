"""What the race knows: from the request records of a run, which are its only state, to the points of `race`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import ROUNDS, LoadLevel, closed_loop_prompts
from helpers.config.options import OptionBase
from helpers.config.workload import Dataset
from helpers.load.race import BASES, Leave, Measure, Point, Points, Price, next_step, own_price
from helpers.metrics.attempts import MORE_ATTEMPTS, could_be_judged, was_overloaded
from helpers.metrics.formulas import UNDECIDED
from helpers.metrics.looks import Looks, looks_of
from helpers.metrics.pooled_failures import judge_across_loads
from helpers.metrics.summary import read_load_points, summarise
from helpers.run.ledger import EndpointRecord
from helpers.run.records import Attempt, AttemptFacts, read_attempt_facts, read_requests

LEAST_LEFT = 0.1
"""Share of `max_duration_s` below which no further block begins."""
FUTILE_FROM = 0.5
"""Share of the most requests from which estimates say whether more looks can decide."""


def traffic_of(config: BenchmarkConfig) -> dict[str, float]:
    """Dataset -> share of the traffic, of those that have one: the others decide nothing."""
    return {name: share for name, share in config.traffic_mix().items() if share > 0}


def step_of(
    option: OptionBase, config: BenchmarkConfig, requests: Path, endpoints: Sequence[EndpointRecord]
) -> Measure | Leave:
    """What to do with an option, given the records of the run and the prices of its endpoints."""
    record = {endpoint.option: endpoint for endpoint in endpoints}
    shares = _shares(option, config)
    mine = points_of(option, config, requests, record.get(option.name))
    return next_step(mine, shares, leader_of(config, requests, endpoints, option.name), config.load.race.indifference)


def leader_of(
    config: BenchmarkConfig, requests: Path, endpoints: Sequence[EndpointRecord], but: str | None = None
) -> tuple[Price, ...] | None:
    """What the best option costs that is shown to meet the SLO: of each basis the lowest upper bound; None without one."""
    record = {endpoint.option: endpoint for endpoint in endpoints}
    prices = []
    for option in config.options:
        if option.name != but and _shares(option, config).keys() == traffic_of(config).keys():
            price = own_price(points_of(option, config, requests, record.get(option.name)), traffic_of(config))
            prices += [price] if price is not None and math.isfinite(price[0].value) else []
    if not prices:
        return None
    return tuple(min((price[i] for price in prices), key=lambda one: one.high) for i in range(len(BASES)))


def _shares(option: OptionBase, config: BenchmarkConfig) -> dict[str, float]:
    runs = {dataset.name for dataset in config.datasets_of(option)}
    return {name: share for name, share in traffic_of(config).items() if name in runs}


def points_of(option: OptionBase, config: BenchmarkConfig, requests: Path, endpoint: EndpointRecord | None) -> Points:
    """Every level of every dataset of the traffic, measured or not."""
    looks, levels = looks_of(config), sorted(config.load.levels())
    datasets = {dataset.name: dataset for dataset in config.datasets_of(option)}
    key = str(config.slo), endpoint and endpoint.price
    blocks, measured = {}, {}
    for place in ((name, level) for name in _shares(option, config) for level in levels):
        files = blocks_of(option.name, *place, requests)
        blocks[place] = [read_block(file) for file in files]
        if files and (row := _summarised(_Held(config, endpoint, (*key, tuple(files))))) is not None:
            measured[place] = row
    judged = judge_across_loads(pd.DataFrame(measured.values()), config).to_dict("records")
    rows = dict(zip(measured, judged, strict=True))
    in_all = sum(int(row["n"]) for row in judged)
    points = {
        (name, level): _point(
            level, rows.get((name, level)), blocks[name, level], in_all, datasets[name], config, looks
        )
        for name, level in blocks
    }
    return {name: [points[name, level] for level in levels] for name in _shares(option, config)}


class _Held:
    """Arguments of a summary that are told apart by what it rests on."""

    def __init__(self, config: BenchmarkConfig, endpoint: EndpointRecord | None, key: tuple) -> None:
        self.config, self.endpoint, self.key = config, endpoint, key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.key == other.key


@lru_cache(maxsize=2000)
def _summarised(held: _Held) -> dict | None:
    files = held.key[-1]
    facts = [read_block(file).facts for file in files]
    point = next(iter(read_load_points(files[0].parent, facts, held.config)), None)
    return None if point is None else summarise(point, held.endpoint, held.config)


class Block(NamedTuple):
    """What is known of a block besides its requests."""

    facts: AttemptFacts
    lasted_s: float
    """From the first request that was sent to the last answer."""


@lru_cache(maxsize=2000)
def read_block(file: Path) -> Block:
    """A finished block, whose file does not change any more."""
    sent = read_requests(file.parent, ["sent_ns", "done_ns"], [file.stem])
    first_ns, last_ns = sent["sent_ns"].min(), sent["done_ns"].max()
    is_known = not pd.isna(first_ns) and not pd.isna(last_ns)
    return Block(read_attempt_facts(file), (last_ns - first_ns) / 1e9 if is_known else 0.0)


def blocks_of(option: str, dataset: str, level: LoadLevel, requests: Path) -> list[Path]:
    """The files of a load point's blocks, in the order in which they were measured."""
    stem = Attempt(option, dataset, level, 0).id.removesuffix("0")
    files = [file for file in requests.glob(f"{stem}*.parquet") if file.stem.removeprefix(stem).isdigit()]
    return sorted(files, key=lambda file: int(file.stem.removeprefix(stem)))


def _point(
    level: LoadLevel,
    row: Mapping | None,
    blocks: list[Block],
    of_option: int,
    dataset: Dataset,
    config: BenchmarkConfig,
    looks: Looks,
) -> Point:
    unjudged = sum(not could_be_judged(block.facts) for block in blocks)
    n = int(row["n"]) if row and unjudged < len(blocks) else 0
    is_spent = unjudged > MORE_ATTEMPTS or looks.next_total(n) is None
    is_spent = is_spent or seconds_left(blocks, config) < LEAST_LEFT * config.load.max_duration_s
    if not is_spent and not config.load.repeat_prompts:
        is_spent = sent_of(blocks) + requests_of_block(level, n, config) > dataset.count
    if row is None or unjudged == len(blocks):
        return Point(level.value, level.is_open, 0, is_spent=is_spent)
    is_spent = is_spent or _is_futile(row, n, of_option, config, looks)
    state = "missed" if any(was_overloaded(block.facts) for block in blocks) else row["slo"]
    return Point(
        level.value,
        level.is_open,
        n,
        state if state in ("met", "missed") else "undecided",
        bool(row["estimates_within_slo"]) and state != "missed",
        tuple(_price(row, basis) for basis in BASES),
        is_spent,
    )


def _is_futile(row: Mapping, n: int, of_option: int, config: BenchmarkConfig, looks: Looks) -> bool:
    """Would all looks to come at a load point not decide it, if requests go on as so far?

    Either it is within a latency limit as measured, but too near; or the failures of the option, which are judged over all of its
    `of_option` requests, are too near the limit to be told from it.
    """
    left = looks.totals[-1] - n

    def is_out_of_reach(name: str) -> bool:
        lacking = row[f"lacking_{name}"]
        return row[f"slo_{name}"] == UNDECIDED and (pd.isna(lacking) or lacking > left)

    if of_option >= looks.totals[-1] and is_out_of_reach("error_rate"):
        return True
    if n < FUTILE_FROM * looks.totals[-1] or row["slo"] != UNDECIDED or not row["estimates_within_slo"]:
        return False
    return any(map(is_out_of_reach, config.slo.limits_s()))


def _price(row: Mapping, basis: str) -> Price:
    value, low, high = (row[f"{basis}{bound}"] for bound in ("", "_low", "_high"))
    return Price(math.inf if value is None else value, 0.0 if low is None else low, math.inf if high is None else high)


def seconds_left(blocks: list[Block], config: BenchmarkConfig) -> float:
    """Of `max_duration_s`, which all blocks of a load point share, with their warm-ups and drains."""
    return config.load.max_duration_s - sum(block.lasted_s for block in blocks)


def sent_of(blocks: Sequence[Block]) -> int:
    """Requests that the blocks of a load point sent, warm-up and drain among them."""
    return sum(process.requests for block in blocks for process in block.facts.processes)


def block_size(level: LoadLevel, n: int, config: BenchmarkConfig) -> int:
    """Requests of the next steady window of a load point that holds n: up to its next look, in whole rounds of its workers."""
    size = (looks_of(config).next_total(n) or n) - n
    if level.is_open:
        return size
    workers = int(level.value)
    return workers * max(ROUNDS, math.ceil(size / workers))


def requests_of_block(level: LoadLevel, n: int, config: BenchmarkConfig) -> int:
    """Requests that the next block sends at least."""
    size = block_size(level, n, config)
    if level.kind != "closed_loop":
        return size
    return closed_loop_prompts(config.load.model_copy(update={"min_requests": size}), int(level.value))
