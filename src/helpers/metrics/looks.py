"""Bounds that hold at every look at once, for whoever stops at what he sees.

An ordinary 95% bound fails at one look in twenty, so whoever looks again and again until a bound says what he hopes for is wrong
far more often. Here the error is spent: a load point is looked at when it holds n, 2n, 4n, ... requests and at no other time,
and each of these looks gets an even share of the error (alpha spending: Lan and DeMets, Biometrika 70, 1983, with Pocock's
even boundary, Biometrika 64, 1977), as does each load point of the race (Bonferroni). By the union bound all bounds of all
load points at all looks hold together with the confidence that was asked for, whatever is stopped when, and however dependent
the requests are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helpers.config.benchmark import BenchmarkConfig, ServiceLevel
from helpers.config.load import Ramp
from helpers.errors import ConfigError
from helpers.metrics.sample_size import requests_for_slo

WORTH_A_LOOK = 1.4
"""A look that would add less than this to the requests of a load point is left out."""
TIMES_NEEDED = 2
"""A race that states no `max_requests` goes on to this many times the requests that can show the SLO at best."""


@dataclass(frozen=True)
class Looks:
    """When each of the load points of a race is looked at, and how sure each bound has to be."""

    totals: tuple[int, ...]
    """Requests that a load point holds at its first look, its second, ..."""
    points: int
    """Load points that share the error."""

    def sure(self, asked: float) -> float:
        """The confidence of a single bound with which all of them hold together at the confidence that is asked for."""
        return 1 - (1 - asked) / (len(self.totals) * self.points)

    def next_total(self, so_far: int) -> int | None:
        """Requests at the next look of a load point that holds `so_far`; None where it had its last."""
        return next((total for total in self.totals if total >= WORTH_A_LOOK * so_far and total > so_far), None)


def looks_of(config: BenchmarkConfig) -> Looks | None:
    """The looks of a config's race; None where every load point is measured in full, as a ramp always is."""
    race, slo = config.load.race, config.slo
    if config.imported or not race.enabled or isinstance(config.load, Ramp):
        return None
    points = sum(len(config.datasets_of(option)) for option in config.options) * config.load.most_levels
    found = Looks((race.first_look,), points)
    while found.totals[-1] < (race.max_requests or TIMES_NEEDED * _needed(found, slo)):
        found = Looks((*found.totals, 2 * found.totals[-1]), points)
    last = race.max_requests or found.totals[-1]
    return Looks((*found.totals[:-1], last), points)


def _needed(looks: Looks, slo: ServiceLevel) -> int:
    return requests_for_slo(slo.model_copy(update={"confidence": looks.sure(slo.confidence)}))


def refuse_short_race(config: BenchmarkConfig) -> None:
    """Raise ConfigError where no load point of a race can hold as many requests as its bounds ask for."""
    looks = looks_of(config)
    if looks is None:
        return
    needed = _needed(looks, config.slo)
    words = (
        f"bounds that hold at {len(looks.totals)} looks for {looks.points} load points at once can show the SLO only by {needed} "
        "requests or more at a load"
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


def surely(config: BenchmarkConfig) -> Callable[[float], float]:
    """The confidence of a bound, from the one that is asked for: `Looks.sure` in a race, else just that."""
    looks = looks_of(config)
    return (lambda asked: asked) if looks is None else looks.sure
