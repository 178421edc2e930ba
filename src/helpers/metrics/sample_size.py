"""How many requests an SLO asks for before anything can be said about it, and how many are still lacking.

A limit holds where the upper confidence bound on the share of requests beyond it is at most what the SLO allows. Even without
a single request beyond it that bound is 1 - (1 - confidence)^(1/n) (Clopper and Pearson 1934), so fewer than
log(1 - confidence) / log(1 - share) independent requests can never show it. Nothing here looks at what was measured but
`requests_lacking`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from helpers.config.benchmark import BenchmarkConfig, ServiceLevel
from helpers.config.load import Load, Ramp, Search
from helpers.config.mix import prompts_asked_of
from helpers.errors import ConfigError
from helpers.metrics.intervals import Sides, share_bounds, sides_of

SMALL_ERROR_RATE = 0.001
MOST_TIMES = 1000.0
"""What would take more than this many times the requests that were sent counts as out of reach."""


MOST = 1e18
"""More requests than anybody could send: larger needs are not distinguished."""


def requests_to_show(share: float, confidence: float) -> int:
    """Fewest independent requests that can show that at most this share is beyond a limit: none of them is.

    ValueError for a share of 0, which no number of requests can show.
    """
    if share <= 0:
        raise ValueError("a share of 0 cannot be shown by any number of requests")
    return math.ceil(min(round(math.log(1 - confidence) / math.log1p(-share), 9), MOST))


def requests_for_errors(slo: ServiceLevel) -> int:
    """Fewest requests that can show the error rate."""
    return requests_to_show(slo.error_rate, slo.confidence)


def requests_for_percentile(slo: ServiceLevel) -> int:
    """Fewest independent requests that can show that the percentile is within a latency limit."""
    return requests_to_show(1 - slo.percentile / 100, slo.confidence)


def requests_for_slo(slo: ServiceLevel, levels: int = 1, share: float = 1.0) -> int:
    """Fewest requests at each of an option's `levels` that can show the whole SLO: failures are pooled over them
    (`pooled_failures`), latencies are not. `share`: of the requests, those of the rarest part of a mix, each of which has to meet
    the SLO.
    """
    return max(math.ceil(requests_for_errors(slo) / levels), math.ceil(requests_for_percentile(slo) / share))


def requests_at_each_load(config: BenchmarkConfig) -> int:
    """The same of a config's load points, of those of a mix where it has one."""
    share = min(config.smallest_share(dataset.name) for dataset in config.loaded_datasets)
    return requests_for_slo(config.slo, levels_of(config), share)


def levels_of(config: BenchmarkConfig) -> int:
    """Levels at which each option is measured for certain: one where they are searched for."""
    return 1 if isinstance(config.load, Search) else len(config.load.levels())


def requests_lacking(
    count: int, total: int, share: float, confidence: float | Sides, effect: float = 1.0
) -> int | None:
    """Further requests that would show that at most this share is beyond a limit, if as many of them are as so far.

    `count` of `total` requests were beyond it; `effect` is how many requests carry the information of one. None where no
    number would: as measured, too many are beyond it, or so nearly that a thousand times the requests are too few.
    """
    if share <= 0 or (total and count / total >= share):
        return None
    sure = sides_of(confidence).high
    if total == 0:
        return requests_to_show(share, sure)

    def shows(times: float) -> bool:
        return share_bounds(times * count, times * total, sure, effect).high <= share

    few, many = 1.0, 2.0
    if shows(few):
        return 0
    while not shows(many):
        few, many = many, 2 * many
        if many > MOST_TIMES:
            return None
    while (many - few) * total > 0.01:
        middle = (few + many) / 2
        few, many = (few, middle) if shows(middle) else (middle, many)
    return max(1, math.ceil(round((many - 1) * total, 3)))


def least_effect(effect: float, n: int) -> float:
    """How many of n requests carry the information of one, at the least: two standard errors below the `effect` that was
    estimated from them, 1 or more.

    Its relative standard error is sqrt(2 (2 M + 1) / n) for a sum over M lags (Madras and Sokal, J. Stat. Phys. 50, 1988),
    taken as twice the effect: 64 requests do not tell an effect of 9 from one of 3.
    """
    return max(1.0, effect / (1 + 2 * math.sqrt(2 * (4 * effect + 1) / n)))


class Chance(NamedTuple):
    """How likely it is that a limit will have been shown to be met, or to be missed."""

    met: float
    missed: float


def chance_to_decide(count: int, total: int, most: int, share: float, sure: Sides, effect: float = 1.0) -> Chance:
    """How likely are `most` requests to show that at most `share` of them is beyond a limit, or that more are, after `count` of
    `total`?

    Predictive probability (Spiegelhalter, Freedman and Blackburn, Controlled Clinical Trials 7, 1986): those to come are
    beta-binomial, with Jeffreys' prior. `sure` are the confidences of the bounds on missing and on meeting it; `effect` is how
    many requests carry the information of one.
    """
    from scipy import special

    n, hits = round(total / effect), round(count / effect)
    left = max(0, round(most / effect) - n)
    more = np.arange(left + 1)
    a, b = hits + 0.5, n - hits + 0.5
    log_p = (
        special.gammaln(left + 1)
        - special.gammaln(more + 1)
        - special.gammaln(left - more + 1)
        + special.betaln(a + more, b + left - more)
        - special.betaln(a, b)
    )
    p, at_end = np.exp(log_p), hits + more
    is_met = special.bdtr(at_end, n + left, share) <= 1 - sure.high
    is_missed = 1 - special.bdtr(at_end - 1, n + left, share) <= 1 - sure.low
    return Chance(float(p[is_met].sum()), float(p[is_missed & (at_end > 0)].sum()))


# --- can a config reach a verdict? --------------------------------------------------------------------------------


def load_for_slo(config: BenchmarkConfig) -> Load:
    """The config's load, with `min_requests` raised to what the SLO's error rate asks of a repetition."""
    if config.slo.error_rate == 0:
        return config.load
    needed = math.ceil(requests_for_errors(config.slo) / (levels_of(config) * config.attempts_per_load_point))
    return config.load.model_copy(update={"min_requests": max(config.load.min_requests, needed)})


def fewest_prompts_to_decide(config: BenchmarkConfig) -> int:
    """Prompts (turns of conversations) that the largest load point sends at least before the SLO can be shown, unless they are
    repeated.
    """
    load = config.load
    if config.slo.error_rate == 0 or isinstance(load, Ramp):
        return load.fewest_prompts()
    needed = math.ceil(requests_at_each_load(config) / config.attempts_per_load_point)
    return load.model_copy(update={"min_requests": max(load.min_requests, needed)}).fewest_prompts()


def refuse_what_cannot_decide(config: BenchmarkConfig) -> None:
    """Raise ConfigError where no load point can hold as many requests as the SLO asks for, whatever the servers do.

    Ramps never show that an SLO is met, and are not run for that; traces are as long as they are.
    """
    slo, load = config.slo, config.load
    if config.imported or isinstance(load, Ramp):
        return
    if slo.error_rate == 0:
        smallest = requests_to_show(SMALL_ERROR_RATE, slo.confidence)
        raise ConfigError(
            "slo.error_rate: 0 cannot be shown by any number of requests, so no option could be recommended. Expected a share "
            f"above 0. Next: write for example {SMALL_ERROR_RATE:g}, which {smallest} requests without a failure can show"
        )
    at_each = requests_at_each_load(config)
    needed = math.ceil(at_each / config.attempts_per_load_point)
    words = (
        f"the SLO (p{slo.percentile:g}, at most {slo.error_rate:.3g} errors, {slo.confidence:.3g} confidence) can be shown "
        f"only by {at_each} requests or more at each load, even if none of them is slow or fails"
    )
    if load.level_kind == "open_loop":
        _refuse_short(config, needed, words)
    fewest = fewest_prompts_to_decide(config)
    for i, dataset in enumerate(config.datasets):
        brings_its_own = load.repeat_prompts or load.may_bring_prompts or config.conversations is not None
        expected = prompts_asked_of(config, dataset, fewest)
        if dataset.count < expected and not brings_its_own:
            raise ConfigError(
                f"datasets.{i}.count: {dataset.count} prompts of {dataset.name!r} cannot lead to a verdict: {words}; with "
                f"warm-up and drain a load point sends {fewest}, and prompts are not repeated. Expected {expected} or more. "
                "Next: raise `count`, set load.repeat_prompts: true, or allow more in `slo`"
            )


def _refuse_short(config: BenchmarkConfig, needed: int, words: str) -> None:
    """Raise ConfigError where not even the highest rate sends enough within its time."""
    load, rate = config.load, config.load.largest_level().value
    sent = _sent_within(config, rate)
    if sent < needed:
        longest = math.ceil(needed / rate + load.warmup_s)
        raise ConfigError(
            f"load.max_duration_s: {load.max_duration_s:g} s at {rate:g} requests/s hold about {sent:.0f} requests, which "
            f"cannot lead to a verdict: {words}. Expected {longest} s or more. Next: raise max_duration_s, or allow more in "
            "`slo`"
        )


def rates_too_short(config: BenchmarkConfig) -> list[float]:
    """The rates of an open loop at which a load point ends before it can hold the requests that the SLO asks for."""
    if config.load.level_kind != "open_loop" or isinstance(config.load, Search) or config.slo.error_rate == 0:
        return []
    needed = requests_at_each_load(config) / config.attempts_per_load_point
    return [level.value for level in config.load.levels() if _sent_within(config, level.value) < needed]


def _sent_within(config: BenchmarkConfig, rate: float) -> float:
    return rate * (config.load.max_duration_s - config.load.warmup_s)
