"""How a race stands, for readers: what each option took and shows so far, and what the full grid would have taken. From the
request records and the ledger alone.

How long the full grid (`full_grid`) takes follows from the rates at which the option answered. In a closed loop the rate between
two measured levels is interpolated; below the lowest it is in proportion to the concurrency, above the highest it is that of the
highest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Load, Search
from helpers.config.load_level import LoadLevel
from helpers.config.options import OptionBase
from helpers.load.full_grid import full_load, full_requests
from helpers.load.race_points import Price, price_so_far
from helpers.load.race_state import blocks_of, points_of, read_block, row_of, traffic_of, waited_for, written_ns
from helpers.run.ledger import EndpointRecord
from helpers.run.records import read_requests


class Bill(NamedTuple):
    """What something takes; None where that is unknown."""

    requests: float
    """Warm-up and drain among them."""
    hours: float | None
    """Of endpoints, from create to delete; of load, where the run makes no endpoint."""
    usd: float | None


NOTHING = Bill(0, 0.0, 0.0)


class Visit(NamedTuple):
    """Blocks of one load point, one after the other."""

    dataset: str
    level: LoadLevel
    requests: int


@dataclass(frozen=True)
class Standing:
    """How one option stands."""

    option: str
    visits: tuple[Visit, ...]
    """In the order in which they were measured."""
    prices: tuple[Price, ...] | None
    """In each of the `race_points.BASES` (`race_points.price_so_far`)."""
    spent: Bill
    full: Bill | None
    """What its part of the full grid would have taken; None for a search, which has none."""
    rows: tuple[dict, ...]
    """Of its load points (`summary.summarise`)."""
    outcome: str | None
    """How it left the race; None while it is in it, or where its endpoint failed."""
    because: str
    """Why it left or failed; else empty."""


def standings_of(config: BenchmarkConfig, requests: Path, endpoints: Sequence[EndpointRecord]) -> list[Standing]:
    """Every option of a race, in the order in which they were measured; those without a look come last."""
    record = {endpoint.option: endpoint for endpoint in endpoints}
    found = []
    for option in config.options:
        files = _files(option, config, requests)
        standing = _standing(option, config, requests, record.get(option.name), files)
        found.append((_first_ns(files), standing))
    return [standing for _, standing in sorted(found, key=lambda one: one[0])]


def total(bills: Iterable[Bill]) -> Bill:
    """The sum; an amount is unknown where one is."""
    columns = list(zip(*bills, strict=True)) or [(0,)] * 3
    return Bill(*(None if None in column else sum(column) for column in columns))


def _standing(
    option: OptionBase,
    config: BenchmarkConfig,
    requests: Path,
    endpoint: EndpointRecord | None,
    files: dict[tuple[str, LoadLevel], list[Path]],
) -> Standing:
    rows = {place: row_of(mine, config, endpoint) for place, mine in files.items()}
    rows = {place: row for place, row in rows.items() if row is not None}
    shares = {name: share for name, share in traffic_of(config).items() if any(d == name for d, _ in files)}
    has_failed = endpoint is not None and endpoint.failure is not None and endpoint.race_outcome is None
    visits = _visits(files)
    loaded_s = float(sum(read_block(file).lasted_s for mine in files.values() for file in mine))
    spent = Bill(sum(visit.requests for visit in visits), *_hours_and_dollars(endpoint, loaded_s))
    full = spent if has_failed else None
    if full is None and not isinstance(config.load, Search):
        full = _full(option, config, rows, waited_for(option, config, requests), spent, loaded_s, endpoint)
    return Standing(
        option=option.name,
        visits=visits,
        prices=price_so_far(points_of(option, config, requests, endpoint), shares) if rows else None,
        spent=spent,
        full=full,
        rows=tuple(rows.values()),
        outcome=endpoint and endpoint.race_outcome,
        because=(endpoint and (endpoint.race_because or endpoint.why_failed())) or "",
    )


def _files(option: OptionBase, config: BenchmarkConfig, requests: Path) -> dict[tuple[str, LoadLevel], list[Path]]:
    """(dataset, level) -> the files of its blocks, of every load point of the config."""
    places = [
        (dataset.name, level) for dataset in config.datasets_of(option) for level in config.load.possible_levels()
    ]
    return {place: blocks_of(option.name, *place, requests) for place in places}


def _visits(files: dict[tuple[str, LoadLevel], list[Path]]) -> tuple[Visit, ...]:
    blocks = sorted((_sending(file), *place) for place, mine in files.items() for file in mine)
    visits: list[Visit] = []
    for (_, sent), dataset, level in blocks:
        if visits and visits[-1][:2] == (dataset, level):
            visits[-1] = Visit(dataset, level, visits[-1].requests + sent)
        else:
            visits.append(Visit(dataset, level, sent))
    return tuple(visits)


def _first_ns(files: dict[tuple[str, LoadLevel], list[Path]]) -> float:
    return min((_sending(file).began_ns for mine in files.values() for file in mine), default=math.inf)


class _Sending(NamedTuple):
    """When the first request of a block was sent, by the wall clock, as a race may go on after a restart; and how many were."""

    began_ns: int
    requests: int


def _sending(file: Path) -> _Sending:
    return _read_sending(file, written_ns(file))


@lru_cache(maxsize=2000)
def _read_sending(file: Path, _: int) -> _Sending:
    monotonic_ns, wall_ns = read_block(file).facts.clock_pairs[0]
    sent_ns = read_requests(file.parent, ["sent_ns"], [file.stem])["sent_ns"]
    known = sent_ns.dropna()
    return _Sending(int(wall_ns + known.min() - monotonic_ns) if len(known) else wall_ns, len(sent_ns))


def _hours_and_dollars(endpoint: EndpointRecord | None, loaded_s: float) -> tuple[float | None, float | None]:
    """So far, whether or not the endpoint is still there."""
    if endpoint is None:
        return 0.0, 0.0
    billed_hours = endpoint.billed_hours()
    usd = 0.0 if endpoint.local else endpoint.cost_usd()
    return loaded_s / 3600 if billed_hours is None else billed_hours, usd


def _full(
    option: OptionBase,
    config: BenchmarkConfig,
    rows: dict[tuple[str, LoadLevel], dict],
    waited: float,
    spent: Bill,
    loaded_s: float,
    endpoint: EndpointRecord | None,
) -> Bill:
    """As the race took it, with the load of the full grid in place of the race's; each load point of it waits for `waited` more
    requests.
    """
    load, sent, lasts_s = full_load(config), 0.0, 0.0
    for dataset in config.datasets_of(option):
        for level in load.levels():
            point = _full_point(level, load, waited, _rate(level, dataset.name, rows))
            sent += point[0]
            lasts_s = None if lasts_s is None or point[1] is None else lasts_s + point[1]
    if lasts_s is None or endpoint is None or not rows:
        return Bill(sent, None, None)
    further_hours = (lasts_s - loaded_s) / 3600
    return Bill(sent, spent.hours + further_hours, _full_dollars(endpoint, spent, sent, further_hours))


def _full_dollars(endpoint: EndpointRecord, spent: Bill, sent: float, further_hours: float) -> float | None:
    if endpoint.is_billed_per_token:
        return spent.usd * sent / spent.requests if spent.usd is not None and spent.requests else None
    usd_per_hour = endpoint.usd_per_option_hour()
    if endpoint.local or endpoint.billed_hours() is None:  # nothing is billed by the hour
        return spent.usd
    return None if spent.usd is None or usd_per_hour is None else spent.usd + usd_per_hour * further_hours


def _full_point(level: LoadLevel, load: Load, waited: float, rate_per_s: float | None) -> tuple[float, float | None]:
    """Requests and seconds of a load point, which ends at `max_duration_s`; None where its rate is unknown."""
    sent = full_requests(level, load) + waited
    if level.is_open:
        return sent, sent / level.value
    if rate_per_s is None:
        return sent, None
    lasts_s = min(sent / rate_per_s, load.max_duration_s) if rate_per_s else load.max_duration_s
    return min(sent, rate_per_s * lasts_s) if rate_per_s else sent, lasts_s


def _rate(level: LoadLevel, dataset: str, rows: dict[tuple[str, LoadLevel], dict]) -> float | None:
    """Requests that end per second at a level of a closed loop, failures among them; None where no level was measured."""
    known = sorted((at.value, row["n"] / row["window_s"]) for (name, at), row in rows.items() if name == dataset)
    if not known:
        return None
    levels, rates = zip((0.0, 0.0), *known, strict=True)
    return float(np.interp(level.value, levels, rates))
