"""Campaigns of simulated options whose cheapest feasible one is known, drawn from one seed.

What is drawn, each option by itself:

* 3 to 6 options; a third of the campaigns is an open loop (Poisson), the others a closed one at 1, 2, 4 and 8 workers.
  The rates of an open loop are 0.2, 0.4, 0.6 and 0.8 of the median option's capacity, so that some options are
  overloaded. In two of five campaigns there are two datasets, prompts of 100-500 and of 1000-2000 tokens, which share
  the traffic by 20 to 80%; in the others the first alone;
* 1 to 16 slots (log-uniform). A request of 300 prompt and 64 output tokens takes 1 to 4 s in an empty station
  (log-uniform), 10 to 40% of it for the prompt; noise of CV 0.05 to 0.6, lognormal or gamma. In half of the options each
  further request in service lengthens the service by 2 to 30%;
* a price of 1 to 4 $/h (log-uniform);
* in a quarter of the options 0.2 to 8% of the requests fail (log-uniform); in one of four of these a share from 0 to 1 of
  the failures hangs until the client gives up after 60 s, the others fail at once (where all four had hangs, the coverage
  of their rates would fall to 70%: most windows of 120 requests hold none of the rare hangs that decide the truth). The SLO
  allows 3%;
* in half of the options a cold start: the first request takes 1.5 to 4 times as long, decaying over 3 to 15 requests;
* answers of 64 tokens in three of five campaigns; of random length (CV 0.3) with the same mean in 15% of them; of random
  length with a mean of 32 to 128 (log-uniform) of each option's own, so unequal work, in the other quarter;
* the SLO: p95 of latency, with a limit drawn log-uniformly from 0.9 times the smallest to the largest true p95 of all
  load points. So some load points lie at the limit, and sometimes no option is feasible.

A station is known exactly, so its truth comes from a long simulation without cold start. The winner is the option that
meets the SLO on every dataset at the lowest price, each dataset at its cheapest load point within the SLO.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import simulation
from examples import endpoint, make_config
from examples import option as option_data
from simulation import Load, Station, Truth, true_figures

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load_level import LoadLevel
from helpers.run.ledger import EndpointRecord

PERCENT = 95
TIMEOUT_S = 60.0
ERROR_LIMIT = 0.03
LEVELS = (1, 2, 4, 8)
SHARES_OF_CAPACITY = (0.2, 0.4, 0.6, 0.8)
DATASETS = {"short": (100, 500), "long": (1000, 2000), "middle": (500, 1000)}
OUTPUT_TOKENS = 64
LONGEST_OUTPUT = 1024
PROMPTS_PER_REQUEST = 5
"""Prompts of a dataset per request that a steady window must hold: load points that are slow to settle go on so long."""
LENGTH_TOLERANCE = 0.05
"""Options whose mean output lengths differ by more do unequal work, and are compared per output token."""


@dataclass(frozen=True)
class Campaign:
    """Options with known stations, the load that they are put under, and the truth of each load point."""

    seed: int
    stations: dict[str, Station]
    shares: dict[str, float]
    """Dataset -> share of the traffic."""
    levels: tuple[LoadLevel, ...]
    lengths: str
    """`fixed`, `random`, or `unequal`."""
    requests: int
    truths: dict[tuple[str, str, LoadLevel], Truth]
    """By option, dataset and level."""
    limit_s: float
    """Of latency; inf where the SLO limits only others."""
    other_limits_s: dict[str, float] = field(default_factory=dict)
    """`ttft_s`, `tpot_s` -> limit."""
    slower: dict[tuple[str, str, LoadLevel], tuple[float, float]] = field(default_factory=dict)
    """By what the service is multiplied when the load point begins and when it ends, where drift or neighbours do so."""
    at_end: dict[str, float] = field(default_factory=dict)
    """Option -> the same at the end of its visit."""
    visits: dict[str, list[tuple[str, str, LoadLevel]]] = field(default_factory=dict)
    """Option -> its load points in the order in which they are measured; those without one have a random order."""

    @property
    def is_open(self) -> bool:
        """Is it an open loop?"""
        return self.levels[0].is_open

    @cached_property
    def config(self) -> BenchmarkConfig:
        """What a user would have written."""
        fixed = self.lengths == "fixed"
        load = {
            "min_requests": self.requests,
            "max_duration_s": 1e6,
            "request_timeout_s": TIMEOUT_S,
            "repeat_prompts": False,
        }
        if self.is_open:
            load |= {"kind": "open_loop", "rate": [level.value for level in self.levels], "warmup_s": self.warmup_s}
        else:
            load |= {"kind": "closed_loop", "concurrency": [int(level.value) for level in self.levels]}
        bins = [
            {"name": name, "prompt_tokens": list(DATASETS[name]), "count": self.requests * PROMPTS_PER_REQUEST}
            for name in self.shares
        ]
        return make_config(
            options=[option_data(name) for name in self.stations],
            datasets=bins,
            seed=self.seed,
            generation={"max_output_tokens": OUTPUT_TOKENS if fixed else LONGEST_OUTPUT, "fixed_output_length": fixed},
            load=load,
            slo={"percentile": PERCENT, "latency_s": None, **self.limits_s, "error_rate": ERROR_LIMIT},
            traffic={"requests_per_minute": 600, "mix": self.shares},
        )

    @property
    def limits_s(self) -> dict[str, float]:
        """The latency limits of the SLO."""
        of_latency = {"latency_s": self.limit_s} if math.isfinite(self.limit_s) else {}
        return of_latency | self.other_limits_s

    def visit_of(self, option: str) -> list[tuple[str, str, LoadLevel]]:
        """The load points of an option, in the order in which they are measured in full."""
        places = [(option, dataset, level) for dataset in self.shares for level in self.levels]
        rng = np.random.default_rng([self.seed, 8, list(self.stations).index(option)])
        return self.visits.get(option) or [places[i] for i in rng.permutation(len(places))]

    @property
    def warmup_s(self) -> float:
        """Of an open loop: ten times what the median option takes for a request."""
        return 10 * float(np.median([self._alone_s(station) for station in self.stations.values()]))

    @property
    def endpoints(self) -> list[EndpointRecord]:
        """The ledger's entries, with the prices."""
        return [endpoint(name, station.usd_per_hour) for name, station in self.stations.items()]

    @cached_property
    def per_token(self) -> bool:
        """Is the work unequal, so that prices are per output token?"""
        for dataset in self.shares:
            lengths = [truth.output_tokens for (_, name, _), truth in self.truths.items() if name == dataset]
            if max(lengths) > (1 + LENGTH_TOLERANCE) * min(length for length in lengths if length):
                return True
        return False

    def price(self, option: str, dataset: str, level: LoadLevel, *, per_token: bool | None = None) -> float:
        """True price of a load point: $/1k requests, or $/1M output tokens where the work is unequal."""
        truth = self.truths[option, dataset, level]
        per_token = self.per_token if per_token is None else per_token
        amount_per_s = truth.requests_per_s * (truth.output_tokens if per_token else 1)
        if amount_per_s <= 0:
            return math.inf
        return self.stations[option].usd_per_hour / (amount_per_s * 3600) * (1e6 if per_token else 1e3)

    def is_feasible(self, option: str, dataset: str, level: LoadLevel, margin: float = 0.0) -> bool:
        """Does a load point truly meet the SLO, by a margin of this share?"""
        truth = self.truths[option, dataset, level]
        reached = [getattr(truth, f"p_{name}") * (1 + margin) <= limit for name, limit in self.limits_s.items()]
        return all(reached) and truth.error_rate <= ERROR_LIMIT / (1 + margin)

    def true_prices(self, margin: float = 0.0) -> dict[str, float]:
        """Option -> its true price over the traffic, of those that truly meet the SLO on every dataset; cheapest first."""
        prices = {}
        for option in self.stations:
            price = 0.0
            for dataset, share in self.shares.items():
                feasible = [level for level in self.levels if self.is_feasible(option, dataset, level, margin)]
                price += share * min((self.price(option, dataset, level) for level in feasible), default=math.inf)
            if math.isfinite(price):
                prices[option] = price
        return dict(sorted(prices.items(), key=lambda item: item[1]))

    def _alone_s(self, station: Station) -> float:
        return sum(share * station.alone_s(_mean_prompt(name)) for name, share in self.shares.items())


def draw_campaign(seed: int, requests: int = 120, truth_requests: int = 60_000, cache: Path | None = None) -> Campaign:
    """The campaign of a seed. `cache`: a folder that keeps truths, which take most of the time."""
    rng = np.random.default_rng([seed, 0])
    is_open = rng.random() < 1 / 3
    lengths = str(rng.choice(["fixed", "random", "unequal"], p=[0.6, 0.15, 0.25]))
    shares = {"short": 1.0}
    if rng.random() < 0.4:
        share = round(float(rng.uniform(0.2, 0.8)), 2)
        shares = {"short": share, "long": round(1 - share, 2)}
    stations = {f"option-{i}": draw_station(lengths, rng) for i in range(1, rng.integers(3, 7) + 1)}
    levels = tuple(LoadLevel("closed_loop", float(c)) for c in LEVELS)
    if is_open:
        levels = rates_of(stations, shares)
    truths = truths_of(seed, stations, shares, levels, truth_requests, cache)
    known = [truth.p_latency_s for truth in truths.values() if math.isfinite(truth.p_latency_s)]
    limit_s = log_uniform(rng, 0.9 * min(known), max(known))
    return Campaign(seed, stations, shares, levels, lengths, requests, truths, limit_s)


def draw_station(lengths: str, rng: np.random.Generator) -> Station:
    alone_s, prefill_share = log_uniform(rng, 1, 4), rng.uniform(0.1, 0.4)
    fails, is_cold, slows = rng.random() < 0.25, rng.random() < 0.5, rng.random() < 0.5
    return Station(
        slots=round(log_uniform(rng, 1, 16)),
        prefill_s_per_token=alone_s * prefill_share / 300,
        s_per_output_token=alone_s * (1 - prefill_share) / OUTPUT_TOKENS,
        noise_cv=float(rng.uniform(0.05, 0.6)),
        noise="gamma" if rng.random() < 0.5 else "lognormal",
        slowdown=float(rng.uniform(0.02, 0.3)) if slows else 0.0,
        output_tokens=log_uniform(rng, 32, 128) if lengths == "unequal" else OUTPUT_TOKENS,
        output_cv=0.0 if lengths == "fixed" else 0.3,
        error_rate=log_uniform(rng, 0.002, 0.08) if fails else 0.0,
        hang_share=max(0.0, float(rng.uniform(-3, 1))) if fails else 0.0,
        cold_excess=float(rng.uniform(0.5, 3)) if is_cold else 0.0,
        cold_requests=float(rng.uniform(3, 15)),
        usd_per_hour=log_uniform(rng, 1, 4),
    )


def rates_of(
    stations: dict[str, Station], shares: dict[str, float], shares_of_capacity: tuple[float, ...] = SHARES_OF_CAPACITY
) -> tuple[LoadLevel, ...]:
    """Of the longest prompts' capacity, so that most options can serve most rates."""
    longest = max(_mean_prompt(name) for name in shares)
    capacity = float(np.median([station.capacity_per_s(longest, TIMEOUT_S) for station in stations.values()]))
    return tuple(LoadLevel("open_loop", float(f"{share * capacity:.3g}")) for share in shares_of_capacity)


def _mean_prompt(dataset: str) -> float:
    return Load(DATASETS[dataset]).mean_prompt_tokens


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def load_of(dataset: str, level: LoadLevel) -> Load:
    """What a station is exposed to at a load point."""
    if level.is_open:
        return Load(DATASETS[dataset], rate_per_s=level.value)
    return Load(DATASETS[dataset], concurrency=int(level.value))


def truths_of(
    seed: int,
    stations: dict[str, Station],
    shares: dict[str, float],
    levels: tuple[LoadLevel, ...],
    requests: int,
    cache: Path | None,
) -> dict[tuple[str, str, LoadLevel], Truth]:
    keys = [(option, dataset, level) for option in stations for dataset in shares for level in levels]
    what = json.dumps([seed, requests, {name: asdict(s) for name, s in stations.items()}, [str(key) for key in keys]])
    simulator = Path(simulation.__file__).read_bytes()
    path = cache and cache / f"{hashlib.sha256(what.encode() + simulator).hexdigest()[:24]}.json"
    if path and path.is_file():
        return dict(zip(keys, (Truth(**values) for values in json.loads(path.read_text())), strict=True))
    found = true_figures(
        [stations[option] for option, _, _ in keys],
        [load_of(dataset, level) for _, dataset, level in keys],
        TIMEOUT_S,
        PERCENT,
        [seed, 1],
        requests=requests,
    )
    if path:
        cache.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(truth) for truth in found]))
    return dict(zip(keys, found, strict=True))
