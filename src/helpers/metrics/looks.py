"""Bounds that hold at every look, for a race that stops as soon as it has seen enough.

An ordinary 95% bound fails at one look in twenty, so looking again and again until a bound says what one hopes for is wrong far
more often. Here the error is spent: a load point is looked at when it holds n, 2n, 4n, ... requests and at no other time,
and each look spends as much of the error as the share of the most requests that it adds (alpha spending: Lan and DeMets,
Biometrika 70, 1983, with their linear function), so the late looks, which cost most, are the sharpest. By the union bound
(Bonferroni) the race as a whole errs with at most the error that was asked for, whatever is stopped when, and however dependent
the requests are. What could be wrong, and which part of the error it has:

* An option is named at a load that misses the SLO (`MET`). As a rule latency rises with load, so the levels of a dataset are not
  counted: only the lowest that misses could be mistaken. Any option could be; the part is shared among options and datasets.
* The best option is said to miss the SLO where it is cheapest (`MISSED`). Only its own load points count: shared among datasets.
* The best option is said to cost more than another one, whoever that is: their prices are compared, at whatever looks both are.
  Each bound of a price has the part `PRICE`, shared among the other options. Comparisons (`intervals.least_difference`) then err
  half as often again, if the estimates are normal, whichever looks are compared (tests/metrics/test_looks): all parts add up.

The failures of an option, which are pooled over its load points, are looked at after each block. All looks between n and 2n
requests together spend what one at n would, less a fifth: they are so much alike that they err no more often than the one, even
if every 30 requests are looked at (tests/metrics/test_looks).

One thing is a rule, not a proof: that latency rises with load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from helpers.config.benchmark import BenchmarkConfig, ServiceLevel
from helpers.errors import ConfigError
from helpers.metrics.intervals import Sides
from helpers.metrics.sample_size import levels_of, requests_for_slo
from helpers.number_text import plural

WORTH_A_LOOK = 1.4
"""A look that would add less than this to the requests of a load point is left out."""
TIMES_NEEDED = 3
"""A race that states no `max_requests` goes on to this many times the requests that can show the SLO at best."""
POOLED = 4
"""Pooled failures spend their error up to so many times as many requests as a load point may hold; a power of two."""
OFTEN = 0.8
"""Share of their error that they spend, since they are looked at more often than their requests double."""
MET, MISSED, PRICE = 0.3, 0.4, 0.2
"""Parts of the error. Comparisons of prices err half as often again as one bound: 0.3."""


class AsAsked:
    """The confidence of a bound where everything is measured in full, and looked at once."""

    def of_limit(self, asked: float, n: int) -> Sides:
        """Of the bounds on the share of requests beyond a limit, at a load point that holds n requests."""
        return Sides(asked, asked)

    def of_failures(self, asked: float, n: int) -> Sides:
        """The same of failures that are pooled over the load points of an option, which hold n requests together."""
        return Sides(asked, asked)

    def of_rate(self, asked: float, n: int) -> Sides:
        """Of the bounds of a rate, from the confidence of a two-sided interval."""
        return Sides((1 + asked) / 2, (1 + asked) / 2)

    def of_difference(self, asked: float, rivals: int) -> float:
        """By what the distances to these bounds are multiplied where one is compared with so many rivals, in one direction, and
        no comparison is to be wrong (multiple comparisons with the best, Hsu, *Annals of Statistics* 12, 1984; Bonferroni).
        """
        from scipy import special

        return float(special.ndtri(1 - (1 - asked) / max(1, rivals)) / special.ndtri(self.of_rate(asked, 1).high))


AS_ASKED = AsAsked()


@dataclass(frozen=True)
class Looks(AsAsked):
    """When each of the load points of a race is looked at, and how sure each bound has to be."""

    totals: tuple[int, ...]
    """Requests that a load point holds at its first look, its second, ..."""
    options: int = 1
    datasets: int = 1
    levels: int = 1

    def of_limit(self, asked: float, n: int) -> Sides:  # noqa: D102
        error = (1 - asked) * _spent(n, self.totals) / self.datasets
        return Sides(1 - error * MISSED, 1 - error * MET / self.options)

    @property
    def most_pooled(self) -> int:
        """Requests up to which pooled failures spend their error."""
        return POOLED * self.totals[-1]

    def of_failures(self, asked: float, n: int) -> Sides:  # noqa: D102
        totals = list(self.totals)
        while totals[-1] < self.most_pooled:
            totals.append(2 * totals[-1])
        error = (1 - asked) * OFTEN * _spent(n, totals)
        return Sides(1 - error * MISSED, 1 - error * MET / self.options)

    def of_rate(self, asked: float, n: int) -> Sides:  # noqa: D102
        error = (1 - asked) * _spent(n, self.totals) * PRICE / max(1, self.options - 1)
        return Sides(1 - error, 1 - error)

    def of_difference(self, asked: float, rivals: int) -> float:
        """As they are: that is what they are for."""
        return 1.0

    def next_total(self, so_far: int) -> int | None:
        """Requests at the next look of a load point that holds `so_far`; None where it had its last."""
        return next((total for total in self.totals if total >= WORTH_A_LOOK * so_far and total > so_far), None)


def _spent(n: int, totals: Sequence[int]) -> float:
    """Share of the error that a look at n requests spends, of looks at these totals."""
    here = max((total for total in totals if total <= n), default=totals[0])
    before = max((total for total in totals if total < here), default=0)
    return (here - before) / totals[-1]


def looks_of(config: BenchmarkConfig) -> Looks | None:
    """The looks of a config's race; None where every load point is measured in full."""
    race, slo = config.load.race, config.slo
    if config.imported or not race.enabled:
        return None
    found = Looks((race.first_look,), len(config.options), len(config.datasets), levels_of(config))
    while found.totals[-1] < (race.max_requests or TIMES_NEEDED * _needed(found, slo)):
        found = replace(found, totals=(*found.totals, 2 * found.totals[-1]))
    last = race.max_requests or found.totals[-1]
    return replace(found, totals=(*found.totals[:-1], last))


def share_spent_at(look: int) -> float:
    """Share of the error that the look of this number, from 1 on, spends where nobody knows how many there will be: 6 / (π k)²,
    which add up to 1 (Euler).
    """
    return 6 / (math.pi * look) ** 2


def surely(config: BenchmarkConfig) -> AsAsked:
    """The confidence of single bounds, from the one that is asked for all of them."""
    return looks_of(config) or AS_ASKED


def _needed(looks: Looks, slo: ServiceLevel) -> int:
    sure = slo.model_copy(update={"confidence": looks.of_limit(slo.confidence, looks.totals[-1]).high})
    return requests_for_slo(sure, looks.datasets * looks.levels)


def refuse_short_race(config: BenchmarkConfig) -> None:
    """Raise ConfigError where no load point of a race can hold as many requests as its bounds ask for."""
    looks = looks_of(config)
    if looks is None:
        return
    needed = _needed(looks, config.slo)
    words = (
        f"bounds that hold at {len(looks.totals)} looks, for {plural(looks.options, 'option')} and "
        f"{plural(looks.datasets, 'dataset')} at once, can show the SLO only by {needed} requests or more at a load"
    )
    if looks.totals[-1] < needed:
        raise ConfigError(
            f"load.race.max_requests: {looks.totals[-1]} cannot lead to a verdict: {words}. Expected {needed} or more. Next: "
            "raise it, or leave it out"
        )
    for i, dataset in enumerate(config.datasets):
        if dataset.count < needed and not config.load.repeat_prompts:
            raise ConfigError(
                f"datasets.{i}.count: {dataset.count} prompts of {dataset.name!r} cannot lead to a verdict: {words}, and "
                f"prompts are not repeated. Expected {needed} or more. Next: raise `count`, set load.repeat_prompts: true, or "
                "load.race: false"
            )
