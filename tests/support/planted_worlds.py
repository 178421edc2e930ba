"""Harder worlds: campaigns as in `planted_campaigns`, each with one thing that makes certainty harder to have.

Every world draws options, prices, and failures as the calm one does, and changes what its line says. Its truth is known as
the calm one's is, from a long simulation that holds what the world holds: drift is averaged over the visit, weather and
stalls over the long run. A neighbour slows a quarter of the load points from beginning to end; the truth is without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from planted_campaigns import (
    DATASETS,
    LEVELS,
    SHARES_OF_CAPACITY,
    Campaign,
    draw_campaign,
    draw_station,
    log_uniform,
    rates_of,
    truths_of,
)
from simulation import Station

from helpers.config.load_level import LoadLevel

NEIGHBOURS = 0.25
"""Share of the load points that one slows."""
Change = Callable[[np.random.Generator], dict]


class World(NamedTuple):
    """What is drawn otherwise than in the calm world."""

    words: str
    change: Change | None = None
    """What each station gets."""
    is_open: bool | None = None
    """None: in a third of the campaigns."""
    shares_of_capacity: tuple[float, ...] = SHARES_OF_CAPACITY
    options: tuple[int, int] = (3, 6)
    datasets: int = 2
    """At most."""
    lengths: str | None = None
    """None: as drawn."""
    twins: bool = False
    """The second option is the first once more, at its price."""
    limit: str = "drawn"
    """`near`: within 1% of a load point's true p95; `other`: TTFT, TPOT or both are limited, or TTFT and latency."""
    neighbour: bool = False


def _weather(rng: np.random.Generator) -> dict:
    return {"weather_cv": float(rng.uniform(0.1, 0.3)), "weather_s": float(rng.uniform(10, 60))}


def _stalls(rng: np.random.Generator, *, of_all: bool) -> dict:
    return {"stall_share": 1 / 200, "stall_s": float(rng.uniform(5, 30)), "stalls_all": of_all}


def _crowded(rng: np.random.Generator) -> dict:
    """Beyond 2 to 4 requests in service, throughput falls as more come."""
    return {
        "slots": 16,
        "knee": int(rng.integers(1, 4)),
        "slowdown": float(rng.uniform(0.6, 1.5)),
    }


WORLDS = {
    "calm": World("the calm world"),
    "drift": World("service 5-15% longer by the end of a visit", lambda rng: {"drift": float(rng.uniform(0.05, 0.15))}),
    "neighbour": World("a quarter of the load points 10-30% slower", neighbour=True),
    "server_stalls": World(
        "1 request in 200 stops the station for 5-30 s", lambda rng: _stalls(rng, of_all=True), lengths="fixed"
    ),
    "request_stalls": World(
        "1 request in 200 takes 5-30 s longer", lambda rng: _stalls(rng, of_all=False), lengths="fixed"
    ),
    "two_kinds": World(
        "5-30% of the answers are 4-8 times as long",
        lambda rng: {"long_share": float(rng.uniform(0.05, 0.3)), "long_times": float(rng.uniform(4, 8))},
        lengths="random",
    ),
    "autocorrelated": World("service varies by CV 10-30% over 10-60 s", _weather),
    "open_loop": World("open loop at 60-95%", is_open=True, shares_of_capacity=(0.6, 0.72, 0.84, 0.95)),
    "near_slo": World("an option's p95 within 1% of the limit", limit="near"),
    "twins": World("two options are the same", twins=True),
    "non_monotone": World("throughput falls beyond 2-4 requests at once", _crowded, is_open=False),
    "heavy_tail": World(
        "answers of lognormal length, CV 1-2",
        lambda rng: {"output_cv": float(rng.uniform(1, 2)), "heavy_tail": True},
        lengths="random",
    ),
    "few_errors": World("0.3-1% of the requests fail", lambda rng: {"error_rate": log_uniform(rng, 0.003, 0.01)}),
    "many_errors": World("2-4% of the requests fail", lambda rng: {"error_rate": log_uniform(rng, 0.02, 0.04)}),
    "two_to_eight": World("2 to 8 options, 1 to 3 datasets", options=(2, 8), datasets=3),
    "ttft_tpot": World("TTFT and TPOT are limited", limit="other"),
}


def draw_world(name: str, seed: int, requests: int, truth_requests: int, cache: Path | None) -> Campaign:
    """The campaign of a seed in a world."""
    world = WORLDS[name]
    if name == "calm":
        return draw_campaign(seed, requests, truth_requests, cache)
    rng = np.random.default_rng([seed, 6, list(WORLDS).index(name)])
    is_open = bool(rng.random() < 1 / 3) if world.is_open is None else world.is_open
    lengths = world.lengths or str(rng.choice(["fixed", "random", "unequal"], p=[0.6, 0.15, 0.25]))
    shares = _shares(world, rng)
    stations = _stations(world, lengths, rng)
    levels = tuple(LoadLevel("closed_loop", float(c)) for c in LEVELS)
    if is_open:
        levels = rates_of(stations, shares, world.shares_of_capacity)
    truths = truths_of(seed, stations, shares, levels, truth_requests, cache)
    limits = _limits(world, list(truths.values()), rng)
    campaign = Campaign(
        seed, stations, shares, levels, lengths, requests, truths, limits.pop("latency_s", math.inf), limits
    )
    return _changing(world, campaign, rng)


def _shares(world: World, rng: np.random.Generator) -> dict[str, float]:
    count = int(rng.integers(1, world.datasets + 1))
    drawn = rng.dirichlet(np.full(count, 3.0))
    return dict(zip(list(DATASETS)[:count], (drawn / drawn.sum()).tolist(), strict=True))


def _stations(world: World, lengths: str, rng: np.random.Generator) -> dict[str, Station]:
    count = int(rng.integers(world.options[0], world.options[1] + 1))
    stations = [draw_station(lengths, rng) for _ in range(count)]
    if world.change:
        stations = [replace(station, **world.change(rng)) for station in stations]
    if world.twins:
        stations[1] = stations[0]
    return {f"option-{i}": station for i, station in enumerate(stations, 1)}


def _limits(world: World, truths: list, rng: np.random.Generator) -> dict[str, float]:
    """The latency limits of the SLO, drawn as in the calm world."""

    def drawn(name: str, low: float = 0.9) -> float:
        known = [getattr(truth, f"p_{name}") for truth in truths]
        known = [value for value in known if math.isfinite(value)]
        if world.limit == "near":
            return float(rng.choice(known) * rng.uniform(0.99, 1.01))
        return log_uniform(rng, low * min(known), max(known))

    if world.limit != "other":
        return {"latency_s": drawn("latency_s")}
    names = [["ttft_s"], ["tpot_s"], ["ttft_s", "tpot_s"], ["latency_s", "ttft_s"]][int(rng.integers(4))]
    return {name: drawn(name, 1.5 if len(names) > 1 else 0.9) for name in names}


def _changing(world: World, campaign: Campaign, rng: np.random.Generator) -> Campaign:
    """The campaign with what drift and neighbours do to each load point, and to the end of each visit: the load points of an
    option are visited one after the other, in an order of their own.
    """
    slower, at_end, visits = {}, {}, {}
    for option, station in campaign.stations.items():
        mine = [where for where in campaign.truths if where[0] == option]
        visits[option] = [mine[number] for number in rng.permutation(len(mine))]
        for place, where in enumerate(visits[option]):
            if station.drift:
                slower[where] = tuple(1 + station.drift * (place + end) / len(mine) for end in (0, 1))
            elif world.neighbour and rng.random() < NEIGHBOURS:
                slower[where] = (float(rng.uniform(1.1, 1.3)),) * 2
        at_end[option] = 1 + station.drift
    if world.neighbour:
        at_end = {o: float(rng.uniform(1.1, 1.3)) if rng.random() < NEIGHBOURS else 1.0 for o in campaign.stations}
    return replace(campaign, slower=slower, at_end=at_end, visits=visits)
