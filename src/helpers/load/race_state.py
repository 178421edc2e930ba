"""What the race knows: from the request records of a run, which are its only state, to `race_points`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import ROOM, ROUNDS, Search, closed_loop_prompts
from helpers.config.load_level import LoadLevel
from helpers.config.options import OptionBase
from helpers.config.strict import slug
from helpers.config.workload import Dataset
from helpers.load.full_grid import requests_of_grid
from helpers.load.price_bound import cannot_win, most_of
from helpers.load.race import Leave, Measure, next_step
from helpers.load.race_points import BASES, Point, Points, Price, own_price
from helpers.metrics.attempts import MORE_ATTEMPTS, could_be_judged, is_overloaded
from helpers.metrics.formulas import MET, MISSED, UNDECIDED
from helpers.metrics.looks import Looks, looks_of
from helpers.metrics.pooled_failures import judge_across_loads
from helpers.metrics.sample_size import Chance, chance_to_decide, least_effect
from helpers.metrics.summary import read_load_points, summarise
from helpers.run.ledger import EndpointRecord
from helpers.run.records import AttemptFacts, read_attempt_facts, read_requests

LEAST_LEFT = 0.1
"""Share of `max_duration_s` below which no further block begins."""
LEAST_CHANCE = 0.1
"""A load point that is less likely than this to be decided by its last look is left undecided."""
EARLIEST = 2
"""No load point is left so before it holds so many times the requests of a first look: bad luck looks like a bad server."""
MOST_OF_GRID = 1.1
"""A race begins nothing more once it has sent so many times the requests of the full grid, but what is `KEPT`."""
KEPT = 0.5
"""Share of an option's part of the full grid that is kept for it, whatever others took."""


def traffic_of(config: BenchmarkConfig) -> dict[str, float]:
    """Dataset -> share of the traffic, of those that have one: the others decide nothing."""
    return {name: share for name, share in config.traffic_mix().items() if share > 0}


def step_of(
    option: OptionBase, config: BenchmarkConfig, requests: Path, endpoints: Sequence[EndpointRecord]
) -> Measure | Leave:
    """What to do with an option, given the records of the run and the prices of its endpoints."""
    record = {endpoint.option: endpoint for endpoint in endpoints}
    shares, leader = _shares(option, config), leader_of(config, requests, endpoints, option.name)
    if leader is not None and not _files_of(option, requests):
        least = least_prices_of(option, config, record.get(option.name))
        if cannot_win(least, [price.high for price in leader]):
            return Leave("never loaded", tuple(Price(low, low, low) for low in least))
    mine = points_of(option, config, requests, record.get(option.name))
    if took_its_part(option, config, requests):
        mine = {name: [replace(point, is_spent=True) for point in levels] for name, levels in mine.items()}
    return next_step(mine, shares, leader, config.load.race.indifference, climbs=isinstance(config.load, Search))


def took_its_part(option: OptionBase, config: BenchmarkConfig, requests: Path) -> bool:
    """Has a race sent `MOST_OF_GRID` times what the full grid would, less `KEPT` for each option that was not loaded yet? Then no
    further block of this one begins, unless it has had less than that part itself. A search has no full grid.
    """
    if isinstance(config.load, Search):
        return False
    sent, most = {}, 0.0
    for other in config.options:
        files = _files_of(other, requests)
        sent[other.name] = sent_of([read_block(file) for file in files])
        is_to_come = not files and other.name != option.name
        most += (MOST_OF_GRID - KEPT * is_to_come) * _grid_of(other, config, requests)
    return sum(sent.values()) >= most and sent[option.name] >= KEPT * _grid_of(option, config, requests)


def _grid_of(option: OptionBase, config: BenchmarkConfig, requests: Path) -> float:
    """Requests that the full grid would send to an option."""
    load_points = len(config.datasets_of(option)) * len(config.load.levels())
    return requests_of_grid(option, config) + load_points * waited_for(option, config, requests)


def waited_for(option: OptionBase, config: BenchmarkConfig, requests: Path) -> float:
    """Requests that the first block of a load point took on average, beyond those that it was to have, until it was steady. In
    the full grid each load point would wait as long. 0 before any is measured.
    """
    waited = []
    for dataset in config.datasets_of(option):
        found = _blocks(option.name, dataset.name, requests)
        for level in config.load.possible_levels():
            if level.slug in found:
                sent = sent_of([read_block(found[level.slug][0])])
                waited.append(max(0.0, sent - requests_of_block(level, 0, config)))
    return sum(waited) / len(waited) if waited else 0.0


def _files_of(option: OptionBase, requests: Path) -> list[Path]:
    """The files of all blocks of an option."""
    return list(requests.glob(f"{slug(option.name)}__*.parquet"))


def least_prices_of(
    option: OptionBase, config: BenchmarkConfig, endpoint: EndpointRecord | None
) -> tuple[float, float]:
    """The least that an option can cost over its traffic, before it is measured, in each of the `BASES`; 0 if unknown."""
    share = sum(_shares(option, config).values())
    per_request, per_token = most_of(option, config).least_prices(endpoint and endpoint.usd_per_option_hour())
    return share * per_request, share * per_token


def leader_of(
    config: BenchmarkConfig, requests: Path, endpoints: Sequence[EndpointRecord], but: str | None = None
) -> tuple[Price, ...] | None:
    """What the best option costs that is shown to meet the SLO, and has passed the gate of `quality` if there is one: of each
    basis the lowest upper bound; None without one.
    """
    record = {endpoint.option: endpoint for endpoint in endpoints}
    prices, is_gated = [], config.quality is not None and config.quality.gate is not None
    for option in config.options:
        if is_gated and not (option.name in record and record[option.name].quality_gate == "passed"):
            continue
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
    """Every level of every dataset of the traffic, measured or not; of a search no more than `most_levels` are measured.

    A rate that is measured only to show room at the highest is none of them: the one that `needs` it names it.
    """
    files = tuple(sorted(_files_of(option, requests)))
    key = repr(config), option.name, endpoint and endpoint.price, files, tuple(map(written_ns, files))
    return _points(_Held(key, option, config, requests, endpoint))


@lru_cache(maxsize=200)
def _points(held: _Held) -> Points:
    option, config, requests, endpoint = held.arguments
    looks, levels, asked = looks_of(config), config.load.possible_levels(), set(config.load.levels())
    datasets = {dataset.name: dataset for dataset in config.datasets_of(option)}
    blocks, measured = {}, {}
    for name in _shares(option, config):
        found = _blocks(option.name, name, requests)
        for level in levels:
            files = found.get(level.slug, [])
            blocks[name, level] = [read_block(file) for file in files]
            if (row := row_of(files, config, endpoint)) is not None:
                measured[name, level] = row
    judged = judge_across_loads(pd.DataFrame(measured.values()), config).to_dict("records")
    rows = dict(zip(measured, judged, strict=True))
    alike = [row for row in judged if row["failures_pooled_over"] > 1]
    pooled = sum(int(row["failures"]) for row in alike), sum(int(row["n"]) for row in alike)
    may_repeat = sum(not could_be_judged(block.facts) for mine in blocks.values() for block in mine) <= MORE_ATTEMPTS
    points = {
        (name, level): _point(
            level,
            rows.get((name, level)),
            mine,
            pooled,
            may_repeat,
            None if blocks[name, levels[-1]] else levels[-1].value,
            datasets[name],
            config,
            looks,
        )
        for (name, level), mine in blocks.items()
        if level in asked
    }
    return {
        name: _no_more_than(config.load.most_levels, [point for (of, _), point in points.items() if of == name])
        for name in _shares(option, config)
    }


def _no_more_than(most: int, points: list[Point]) -> list[Point]:
    """The levels of a dataset; those without a look are spent where so many had one."""
    if sum(point.is_measured or point.is_unjudged for point in points) < most:
        return points
    return [point if point.is_measured else replace(point, is_spent=True) for point in points]


def row_of(files: Sequence[Path], config: BenchmarkConfig, endpoint: EndpointRecord | None) -> dict | None:
    """The summary of a load point from the files of its blocks (`summary.summarise`); None where nothing of it counts."""
    key = str(config.slo), endpoint and endpoint.price, tuple(map(written_ns, files)), tuple(files)
    return _summarised(_Held(key, files, config, endpoint)) if files else None


class _Held:
    """Arguments of a function that are told apart by what its result rests on."""

    def __init__(self, key: tuple, *arguments: object) -> None:
        self.key, self.arguments = key, arguments

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.key == other.key


@lru_cache(maxsize=2000)
def _summarised(held: _Held) -> dict | None:
    files, config, endpoint = held.arguments
    facts = [read_block(file).facts for file in files]
    point = next(iter(read_load_points(files[0].parent, facts, config)), None)
    return None if point is None else summarise(point, endpoint, config)


class Block(NamedTuple):
    """What is known of a block besides its requests."""

    facts: AttemptFacts
    lasted_s: float
    """From the first request that was sent to the last answer."""


def read_block(file: Path) -> Block:
    """A finished block."""
    return _read_block(file, written_ns(file))


def written_ns(file: Path) -> int:
    """When a file was written: a block whose server was lost is set aside, and measured again under its name."""
    return file.stat().st_mtime_ns


@lru_cache(maxsize=2000)
def _read_block(file: Path, _: int) -> Block:
    sent = read_requests(file.parent, ["sent_ns", "done_ns"], [file.stem])
    first_ns, last_ns = sent["sent_ns"].min(), sent["done_ns"].max()
    is_known = not pd.isna(first_ns) and not pd.isna(last_ns)
    return Block(read_attempt_facts(file), float(last_ns - first_ns) / 1e9 if is_known else 0.0)


def blocks_of(option: str, dataset: str, level: LoadLevel, requests: Path) -> list[Path]:
    """The files of a load point's blocks, in the order in which they were measured."""
    return _blocks(option, dataset, requests).get(level.slug, [])


def _blocks(option: str, dataset: str, requests: Path) -> dict[str, list[Path]]:
    """The same of every level, by its slug: a search has too many to ask the folder for each."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for file in requests.glob(f"{slug(option)}__{slug(dataset)}__*.parquet"):
        level, repetition = file.stem.split("__")[2:]
        found.setdefault(level, []).append((int(repetition.removeprefix("r")), file))
    return {level: [file for _, file in sorted(files)] for level, files in found.items()}


def _point(
    level: LoadLevel,
    row: Mapping | None,
    blocks: list[Block],
    pooled: tuple[int, int],
    may_repeat: bool,
    highest: float | None,
    dataset: Dataset,
    config: BenchmarkConfig,
    looks: Looks,
) -> Point:
    """`highest`: a level that was not measured yet, and would show room at those not far below it."""
    unjudged = sum(not could_be_judged(block.facts) for block in blocks)
    says_something = row is not None and (unjudged < len(blocks) or row["slo"] == MISSED)
    n = int(row["n"]) if says_something else 0
    is_spent = looks.next_total(n) is None or (unjudged > 0 and not may_repeat)
    is_spent = is_spent or seconds_left(blocks, config) < LEAST_LEFT * config.load.max_duration_s
    if not is_spent and not config.load.repeat_prompts:
        is_spent = sent_of(blocks) + requests_of_block(level, n, config) > dataset.count
    if not says_something:
        return Point(level.value, level.is_open, 0, is_spent=is_spent, is_unjudged=bool(blocks) and is_spent)
    own = int(row["failures"]), int(row["n"])
    may_show_room = row["shows_room"] == False and highest and ROOM * config.load.largest_level().value < level.value  # noqa: E712
    needs = highest if may_show_room else None
    has_room = row["shows_room"] != False or needs is not None  # noqa: E712
    is_futile = _is_futile(row, pooled if row["failures_pooled_over"] > 1 else own, has_room, config, looks)
    state = "missed" if is_overloaded([block.facts for block in blocks]) else row["slo"]
    return Point(
        level.value,
        level.is_open,
        n,
        state if state in ("met", "missed") else "undecided",
        bool(row["estimates_within_slo"]) and state != "missed",
        tuple(_price(row, basis) for basis in BASES),
        is_spent,
        is_futile,
        looks.totals[-1],
        needs,
    )


def _is_futile(row: Mapping, failures: tuple[int, int], has_room: bool, config: BenchmarkConfig, looks: Looks) -> bool:
    """Would the looks to come hardly decide a load point: was it not steady, or would they hardly do so even if its requests are
    as little alike as they may be? `failures` are those of all loads of the option that do not differ, and of how many
    requests: they go on for `looks.most_pooled`.
    """
    slo, most = config.slo, looks.totals[-1]
    if row["slo"] != UNDECIDED:
        return False
    if row["steady"] == False:  # noqa: E712
        return True
    if has_room and int(row["n"]) < EARLIEST * looks.totals[0]:
        return False
    effect = least_effect(float(row["failure_effect"]), int(row["n"]))
    chances = [
        chance_to_decide(
            *failures, looks.most_pooled, slo.error_rate, looks.of_failures(slo.confidence, looks.most_pooled), effect
        )
        if row["slo_error_rate"] == UNDECIDED
        else Chance(1.0, 0.0)
    ]
    for name in slo.limits_s():
        n, beyond = int(row[f"{name}_n"]), int(row[f"beyond_{name}"])
        effect = least_effect(row[f"limit_effect_{name}"], n) if n else 1.0  # no answer has this latency
        of_limit = beyond, n, most, 1 - slo.percentile / 100, looks.of_limit(slo.confidence, most), effect
        chance = chance_to_decide(*of_limit) if n else Chance(0.0, 0.0)
        chances.append(Chance(1.0, 0.0) if row[f"slo_{name}"] == MET else Chance(chance.met * has_room, chance.missed))
    return max(min(c.met for c in chances), max(c.missed for c in chances)) < LEAST_CHANCE


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
