"""A mix (`load.mix`): several datasets on one server at once, each of which has to meet the SLO by itself. The bins of context
length of conversations (`bins` of a dataset) are such parts as well.

A load point of a mix meets a latency limit only where each of its parts is shown to, and misses it where one is shown to; so as
feasible it errs with no more than the error of one part (an intersection-union test: Berger, Technometrics 24, 1982), and for
missed the error is shared among the parts. Its percentiles are those of the part that comes off worst. Failures are those of all
requests together, but for a part that fails more than the others (Fisher's exact test): its own count. Rates and prices are those
of the whole.
"""

from __future__ import annotations

import math

import pandas as pd

from helpers.config.benchmark import ServiceLevel
from helpers.metrics import formulas as metrics
from helpers.metrics.formulas import MET, MISSED, UNDECIDED
from helpers.metrics.intervals import Interval, Sides, percentile
from helpers.metrics.load_point_latencies import LoadPointLatencies
from helpers.metrics.looks import AsAsked
from helpers.metrics.pooled_failures import DIFFERS_P, fisher_p
from helpers.run.records import PART


def latencies_of(here: pd.DataFrame, *, is_open: bool, sure: AsAsked) -> LoadPointLatencies | MixLatencies:
    """The latencies of the requests of a steady window; of a mix, those of its parts."""
    kind = MixLatencies if here[PART].notna().any() else LoadPointLatencies
    return kind(here, is_open=is_open, sure=sure)


class _Shared(AsAsked):
    """The confidences of the bounds of several parts: that any of them is shown to miss a limit errs as rarely as asked."""

    def __init__(self, sure: AsAsked, parts: int) -> None:
        self._sure, self._parts = sure, parts

    def of_limit(self, asked: float, n: int) -> Sides:
        sides = self._sure.of_limit(asked, n)
        return sides._replace(low=1 - (1 - sides.low) / self._parts)


class MixLatencies:
    """As `LoadPointLatencies`, of a mix. `part_<latency>`: the part that a percentile and a state are of; `part_error_rate`, with
    `part_failures` and `part_n`: the one that fails more than the others, None as a rule.
    """

    def __init__(self, here: pd.DataFrame, *, is_open: bool, sure: AsAsked) -> None:
        self._whole = LoadPointLatencies(here, is_open=is_open, sure=sure)
        self.failure_effect = self._whole.failure_effect
        parts = {str(name): mine for name, mine in here.groupby(PART, observed=False)}
        shared = _Shared(sure, len(parts))
        self._parts = {name: LoadPointLatencies(mine, is_open=is_open, sure=shared) for name, mine in parts.items()}

    def error_rate_interval(self) -> Interval:
        """95% interval of the error rate of all requests."""
        return self._whole.error_rate_interval()

    def percentiles(self, column: str, percent: float) -> dict[str, float | str | None]:
        """The columns of a latency of the slowest part, or of one with too few requests to know; the mean is that of all."""
        name = max(self._parts, key=lambda part: self._reached(part, column, percent))
        return self._of_part(name, column, percent)

    def slo_columns(self, slo: ServiceLevel, steady: bool | None, client_limited: bool) -> dict:
        """As `LoadPointLatencies.slo_columns`, with the percentiles of the part that decides each limit. What is lacking is in
        requests of the whole mix.
        """
        of_parts = {name: part.slo_columns(slo, steady, client_limited) for name, part in self._parts.items()}
        row = self._whole.slo_columns(slo, steady, client_limited)
        is_within = row["estimates_within_slo"]
        for column, limit in slo.limits_s().items():
            reached = {name: self._reached(name, column, slo.percentile) for name in of_parts}
            gravest = max(of_parts, key=lambda name: (_GRAVITY[of_parts[name][f"slo_{column}"]], reached[name]))
            row |= self._of_part(gravest, column, slo.percentile)
            row |= self._decided_by(gravest, column, of_parts[gravest], ("slo", "limit_effect", "beyond", "lacking"))
            is_within &= all(_is_within(part, column, slo.percentile, limit) for part in self._parts.values())
        row |= {"part_error_rate": None, "part_failures": None, "part_n": None}
        if (name := self._failing_part()) is not None:
            part = self._parts[name]
            row |= {"part_error_rate": name, "part_failures": part.failures, "part_n": part.n}
            row |= self._decided_by(name, "error_rate", of_parts[name], ("slo", "lacking"))
            is_within &= part.failures <= slo.error_rate * part.n
        states = [row[f"slo_{column}"] for column in (*slo.limits_s(), "error_rate")]
        client_limited = row["slo"] == metrics.CLIENT_LIMITED
        return row | {"estimates_within_slo": is_within, "slo": metrics.judged_state(states, steady, client_limited)}

    def _reached(self, name: str, column: str, percent: float) -> float:
        """The percentile of a part; inf where it is not known."""
        known = self._parts[name].percentiles(column, percent)[f"{column}_p{percent:g}"]
        return math.inf if known is None else known

    def _of_part(self, name: str, column: str, percent: float) -> dict:
        mean = f"{column}_mean_ok"
        row = self._parts[name].percentiles(column, percent)
        return row | {mean: self._whole.percentiles(column, percent)[mean], f"part_{column}": name}

    def _decided_by(self, name: str, limit: str, found: dict, columns: tuple[str, ...]) -> dict:
        row = {f"{column}_{limit}": found[f"{column}_{limit}"] for column in columns}
        if lacking := row[f"lacking_{limit}"]:
            n = self._parts[name].n  # of a part without requests, no number of such requests shows anything
            row[f"lacking_{limit}"] = math.ceil(lacking * self._whole.n / n) if n else None
        return row

    def _failing_part(self) -> str | None:
        """The part that fails more often than the others, by more than chance; of several the worst."""
        effect, whole = self.failure_effect, self._whole
        found = {}
        for name, part in self._parts.items():
            counts = part.failures, part.n, whole.failures - part.failures, whole.n - part.n
            failures, n, others, n_others = (round(count / effect) for count in counts)
            if (
                part.failures * whole.n > whole.failures * part.n
                and fisher_p(failures, n, others, n_others) < DIFFERS_P
            ):
                found[name] = part.failures / part.n
        return max(found, key=found.__getitem__, default=None)


_GRAVITY = {MET: 0, UNDECIDED: 1, MISSED: 2}


def _is_within(part: LoadPointLatencies, column: str, percent: float, limit: float) -> bool:
    """Is the percentile within a limit as measured, however few requests there are, or has no request this latency?"""
    reached = percentile(part.values(column), percent)
    return part.n > 0 and (reached is None or reached <= limit)
