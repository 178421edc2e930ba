"""A serving station whose true latency, throughput and error rate are known: a first-in-first-out queue before k slots.

A request waits for a free slot, which stands for a sequence in a continuous batch. In the slot it takes

    (prefill_s_per_token x prompt tokens + s_per_output_token x output tokens) x noise x (1 + slowdown x others)

with noise of mean 1, and `others` the requests in service when it enters (less those that do not slow it: `knee`). What makes
a world harder is drawn on top: stalls of single requests or of the whole station, two kinds of requests, lengths with a heavy
tail, a drift, and weather: a service that is slower and faster by turns, whose logarithm is a first-order autoregression.

Load is a closed loop (a worker sends when its last answer ended) or an open one (arrivals are given). Requests that fail do so
at once, before the queue, or they hang in their slot until the client gives up. The first requests of a cold station are
slower.

Arrays have the shape (requests, lanes): each lane is a load point, or one of several independent passes over it, and all
lanes are stepped together. Requests of a lane are in order of being sent, so that the first-come recursion of Kiefer and
Wolfowitz (1955) is exact. Times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

WORKER_GAP_S = 0.001
"""Workers of a closed loop start one after the other."""
QUICK_ERROR_S = 0.02
"""A request that is refused is answered after this time."""
WEATHER_STEPS = 8
"""Steps of the weather in the time of its autocorrelation."""
WEATHER_LENGTH = 4096
"""Steps until it comes again."""


@dataclass(frozen=True)
class Station:
    """One option, as it truly is."""

    slots: int
    prefill_s_per_token: float
    s_per_output_token: float
    noise_cv: float = 0.0
    noise: Literal["lognormal", "gamma"] = "lognormal"
    slowdown: float = 0.0
    """Share by which each further request in service lengthens the service."""
    output_tokens: float = 64
    output_cv: float = 0.0
    """0: every answer has `output_tokens`; else their CV (gamma, rounded)."""
    error_rate: float = 0.0
    hang_share: float = 0.0
    """Share of the errors that hang until the client gives up; the others are refused at once."""
    cold_excess: float = 0.0
    """The first request is longer by this share of its time; the excess decays over `cold_requests`."""
    cold_requests: float = 1.0
    usd_per_hour: float = 1.0
    knee: int = 0
    """So many other requests in service do not slow a request."""
    stall_share: float = 0.0
    """Share of the requests that stall for `stall_s`: alone, or with them the whole station."""
    stall_s: float = 0.0
    stalls_all: bool = False
    long_share: float = 0.0
    """Share of the requests whose answer is `long_times` as long."""
    long_times: float = 1.0
    heavy_tail: bool = False
    """Lengths of answers are lognormal instead of gamma."""
    drift: float = 0.0
    """Over the visit the service becomes longer by this share."""
    weather_cv: float = 0.0
    weather_s: float = 1.0
    """Time in which its autocorrelation falls to 1/e."""

    def alone_s(self, prompt_tokens: float) -> float:
        """Mean time of a request in an empty, warm station."""
        output_tokens = self.output_tokens * (1 + self.long_share * (self.long_times - 1))
        served_s = self.prefill_s_per_token * prompt_tokens + self.s_per_output_token * output_tokens
        return served_s * (1 + self.drift / 2) + self.stall_share * self.stall_s

    def capacity_per_s(self, prompt_tokens: float, timeout_s: float) -> float:
        """Requests per second that keep all slots busy; those that hang keep theirs for `timeout_s`."""
        slowed = 1 + self.slowdown * max(0, self.slots - 1 - self.knee)
        served_s = (1 - self.error_rate) * self.alone_s(prompt_tokens) * slowed
        return self.slots / (served_s + self.error_rate * self.hang_share * timeout_s)


@dataclass(frozen=True)
class Load:
    """What a lane is exposed to: prompts of a length bin [from, to), and workers or a Poisson rate."""

    prompt_tokens: tuple[int, int]
    concurrency: int | None = None
    rate_per_s: float | None = None

    @property
    def mean_prompt_tokens(self) -> float:
        """Of prompts spread evenly over the bin."""
        return (self.prompt_tokens[0] + self.prompt_tokens[1] - 1) / 2


class Work(NamedTuple):
    """What the requests ask for, and what becomes of them."""

    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    service_s: np.ndarray
    """Alone in the station; inf for one that hangs."""
    prefill_share: np.ndarray
    refused: np.ndarray
    stall_s: np.ndarray
    """For how long the whole station stands still when the request enters it."""


class Served(NamedTuple):
    """When the requests were sent, entered a slot, and were done, and which were answered."""

    sent_s: np.ndarray
    start_s: np.ndarray
    done_s: np.ndarray
    ok: np.ndarray
    worker: np.ndarray
    """Which worker of a closed loop sent it; -1 in an open loop."""


def draw_work(
    station: Station, load: Load, count: int, rng: np.random.Generator, *, cold: bool, slower: np.ndarray | float = 1.0
) -> Work:
    """Requests of one lane, in order of being sent. `slower`: what drift and neighbours make of their service."""
    prompts = rng.integers(*load.prompt_tokens, size=count)
    outputs = np.full(count, round(station.output_tokens))
    if station.output_cv:
        drawn = station.output_tokens * _mean_one(station.output_cv, station.heavy_tail, count, rng)
        outputs = np.maximum(1, np.round(drawn)).astype(int)
    if station.long_share:
        outputs = np.where(
            rng.random(count) < station.long_share, np.round(outputs * station.long_times), outputs
        ).astype(int)
    prefill_s, decode_s = station.prefill_s_per_token * prompts, station.s_per_output_token * outputs
    service_s = (prefill_s + decode_s) * _noise(station, count, rng) * slower
    if cold:
        service_s *= 1 + station.cold_excess * np.exp(-np.arange(count) / station.cold_requests)
    failed, hangs = rng.random(count) < station.error_rate, rng.random(count) < station.hang_share
    stall_s = np.zeros(count)
    if station.stall_share:
        stall_s = np.where(rng.random(count) < station.stall_share, station.stall_s, 0.0)
        service_s = service_s + stall_s
    return Work(
        prompt_tokens=prompts,
        output_tokens=outputs,
        service_s=np.where(failed & hangs, np.inf, service_s),
        prefill_share=prefill_s / (prefill_s + decode_s),
        refused=failed & ~hangs,
        stall_s=stall_s * station.stalls_all,
    )


def _noise(station: Station, count: int, rng: np.random.Generator) -> np.ndarray:
    if station.noise_cv == 0:
        return np.ones(count)
    return _mean_one(station.noise_cv, station.noise == "lognormal", count, rng)


def _mean_one(cv: float, lognormal: bool, count: int, rng: np.random.Generator) -> np.ndarray:
    """Independent values of mean 1: lognormal, or gamma."""
    if not lognormal:
        return rng.gamma(cv**-2, cv**2, count)
    variance = math.log1p(cv**2)
    return rng.lognormal(-variance / 2, math.sqrt(variance), count)


class Weather(NamedTuple):
    """What multiplies the service of each lane over time: one value every `step_s`, again from the start at the end."""

    step_s: np.ndarray
    slower: np.ndarray
    """(steps, lanes)"""


def draw_weather(stations: Sequence[Station], rng: np.random.Generator) -> Weather | None:
    """Lognormal with mean 1, autocorrelated as exp(-t / `weather_s`); None where no station has any."""
    if not any(station.weather_cv for station in stations):
        return None
    sd = np.sqrt(np.log1p(np.array([station.weather_cv for station in stations]) ** 2))
    kept = math.exp(-1 / WEATHER_STEPS)
    values = np.empty((WEATHER_LENGTH, len(stations)))
    values[0] = rng.standard_normal(len(stations))
    fresh = rng.standard_normal(values.shape) * math.sqrt(1 - kept**2)
    for i in range(1, len(values)):
        values[i] = kept * values[i - 1] + fresh[i]
    step_s = np.array([station.weather_s for station in stations]) / WEATHER_STEPS
    return Weather(step_s, np.exp(sd * values - sd**2 / 2))


def serve(
    stations: Sequence[Station],
    service_s: np.ndarray,
    refused: np.ndarray,
    timeout_s: float,
    *,
    concurrency: Sequence[int] | None = None,
    arrivals_s: np.ndarray | None = None,
    stall_s: np.ndarray | None = None,
    weather: Weather | None = None,
) -> Served:
    """Send the requests of all lanes, one station per lane: a closed loop of `concurrency` workers each, or an open
    loop with requests at `arrivals_s`.
    """
    count, lanes = service_s.shape
    slots = np.array([station.slots for station in stations])
    slowdown, knee = (np.array([getattr(station, name) for station in stations]) for name in ("slowdown", "knee"))
    stalling = stall_s is not None and stall_s.any(axis=1)
    free_s = np.where(np.arange(slots.max())[:, None] < slots, 0.0, np.inf)
    absent = slots.max() - slots
    if arrivals_s is None:
        workers = np.arange(max(concurrency))[:, None]
        ready_s = np.where(workers < np.array(concurrency), workers * WORKER_GAP_S, np.inf)
    sent, start, done = (np.empty((count, lanes)) for _ in range(3))
    worker = np.full((count, lanes), -1)
    lane = np.arange(lanes)
    for i in range(count):
        if arrivals_s is None:
            worker[i] = ready_s.argmin(0)
            sent[i] = ready_s[worker[i], lane]
        else:
            sent[i] = arrivals_s[i]
        slot = free_s.argmin(0)
        slot_free_s = free_s[slot, lane]
        start[i] = np.maximum(sent[i], slot_free_s)
        others = (free_s > start[i]).sum(0) - absent
        given_up_s = sent[i] + timeout_s
        lasts_s = service_s[i] * (1 + slowdown * np.maximum(others - knee, 0))
        if weather is not None:
            lasts_s = lasts_s * weather.slower[(start[i] / weather.step_s).astype(int) % len(weather.slower), lane]
        done[i] = np.minimum(start[i] + lasts_s, given_up_s)
        never_in = refused[i] | (start[i] >= given_up_s)
        done[i] = np.where(refused[i], sent[i] + QUICK_ERROR_S, done[i])
        free_s[slot, lane] = np.where(never_in, slot_free_s, done[i])
        if stall_s is not None and stalling[i]:
            until_s = np.where((stall_s[i] > 0) & ~never_in, start[i] + stall_s[i], 0.0)
            free_s = np.maximum(free_s, until_s)
        if arrivals_s is None:
            ready_s[worker[i], lane] = done[i]
    return Served(sent, start, done, ~refused & (done < sent + timeout_s), worker)


# --- the truth ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """Of a load point, in the steady state. A failure is infinitely slow."""

    p_latency_s: float
    """The percentile of latency; inf where the load exceeds what the station can serve."""
    relative_error: float
    """Standard error of that percentile, from independent passes, as a share of it."""
    error_rate: float
    requests_per_s: float
    """Answered ones."""
    output_tokens: float
    """Mean of the answered ones."""
    overloaded: bool
    p_ttft_s: float = 0.0
    p_tpot_s: float = 0.0
    """The percentile of the two; inf as above."""


def true_figures(
    stations: Sequence[Station],
    loads: Sequence[Load],
    timeout_s: float,
    percent: float,
    seed: Sequence[int],
    *,
    requests: int = 60_000,
    passes: int = 12,
) -> list[Truth]:
    """Simulate each load point for `requests` requests after the start, in `passes` independent passes, all warm.

    The loads are all closed loops or all open ones. What is left out at the start of a pass: a tenth of a pass in a closed
    loop, two fifths in an open one, whose queue takes longer to fill.
    """
    is_open = loads[0].rate_per_s is not None
    kept = math.ceil(requests / passes)
    skipped = math.ceil(kept * (0.4 if is_open else 0.1))
    count = kept + skipped
    rng = np.random.default_rng(seed)
    lanes = [(s, load) for s, load in zip(stations, loads, strict=True) for _ in range(passes)]
    works = [
        draw_work(station, load, count, rng, cold=False, slower=1 + station.drift * (number % passes + 0.5) / passes)
        for number, (station, load) in enumerate(lanes)
    ]
    service_s = np.stack([work.service_s for work in works], axis=1)
    refused = np.stack([work.refused for work in works], axis=1)
    how = {"concurrency": [load.concurrency for _, load in lanes]}
    if is_open:
        gaps = [rng.exponential(1 / load.rate_per_s, count) for _, load in lanes]
        how = {"arrivals_s": np.cumsum(np.stack(gaps, axis=1), axis=0)}
    stalls = np.stack([work.stall_s for work in works], axis=1)
    alone = [station for station, _ in lanes]
    served = serve(alone, service_s, refused, timeout_s, stall_s=stalls, weather=draw_weather(alone, rng), **how)
    outputs, prefill = (np.stack([getattr(w, n) for w in works], axis=1) for n in ("output_tokens", "prefill_share"))
    found = []
    for number, (station, load) in enumerate(zip(stations, loads, strict=True)):
        mine = slice(number * passes, (number + 1) * passes)
        kept_of_it = Served(*(part[skipped:, mine] for part in served))
        overloaded = is_open and load.rate_per_s >= station.capacity_per_s(load.mean_prompt_tokens, timeout_s)
        found.append(_truth(load, kept_of_it, outputs[skipped:, mine], prefill[skipped:, mine], percent, overloaded))
    return found


def _truth(
    load: Load, served: Served, outputs: np.ndarray, prefill: np.ndarray, percent: float, overloaded: bool
) -> Truth:
    in_service_s = served.done_s - served.start_s
    ttft_s = np.where(served.ok, served.start_s - served.sent_s + prefill * in_service_s, np.inf)
    has_tpot = ~served.ok | (outputs > 1)
    tpot_s = np.where(served.ok, (1 - prefill) * in_service_s / np.maximum(outputs - 1, 1), np.inf)[has_tpot]
    latency_s = np.where(served.ok, served.done_s - served.sent_s, np.inf)
    answered = float(served.ok.mean())
    if load.rate_per_s is None:
        per_s = float((served.sent_s.shape[0] - 1) / (served.sent_s[-1] - served.sent_s[0]).mean()) * answered
    else:
        per_s = load.rate_per_s * answered
    p_latency_s = upper_percentile(latency_s.ravel(), percent)
    relative_error = 0.0
    by_pass = [upper_percentile(one, percent) for one in latency_s.T]
    if np.isfinite(by_pass).all() and len(by_pass) > 1:
        relative_error = float(np.std(by_pass, ddof=1) / math.sqrt(len(by_pass)) / p_latency_s)
    return Truth(
        p_latency_s=math.inf if overloaded else p_latency_s,
        relative_error=relative_error,
        error_rate=1 - answered,
        requests_per_s=per_s,
        output_tokens=float(outputs[served.ok].mean()) if served.ok.any() else 0.0,
        overloaded=overloaded,
        p_ttft_s=math.inf if overloaded else upper_percentile(ttft_s.ravel(), percent),
        p_tpot_s=upper_percentile(tpot_s, percent),
    )


def upper_percentile(values: np.ndarray, percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed."""
    rank = math.ceil(len(values) * percent / 100 - 1e-9) - 1
    return float(np.partition(values, rank)[rank])
