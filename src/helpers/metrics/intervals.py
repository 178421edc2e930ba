"""Percentiles and rates with their uncertainty. Pure functions of numbers.

A failed request counts as a latency of +infinity, so percentiles and intervals may be infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

CONFIDENCE = 0.95
AUTOCORRELATION_PERCENT = 75
FEWEST_FOR_MOMENTS = 10
MOST_LAGS = 2000
FEWEST_FREEDOM = 2.0
"""Degrees of freedom that an interval has at least, however long the memory of its values is."""
LEAST_KEPT = 0.3
"""Share of the variance that is taken to be left at least where the mean is estimated from values with a long memory."""
DIFFER_CONFIDENCE = 0.99


class Estimated(Protocol):
    """An estimate with its bounds."""

    value: float
    low: float
    high: float


class Interval(NamedTuple):
    """A two-sided interval; both None where it cannot be computed."""

    low: float | None
    high: float | None


NO_INTERVAL = Interval(None, None)


def least_difference(one: Estimated, other: Estimated, widening: float = 1.0) -> float:
    """The least by which `one` may exceed `other`, both measured independently and with known bounds.

    The distances from the estimates to the bounds that face each other add as squares (Zou and Donner, *Statistics in Medicine*
    27, 2008), each times `widening`. Two intervals may so overlap a little though their difference is shown.
    """
    if not math.isfinite(one.value - other.value):
        return one.low - other.high
    return one.value - other.value - widening * math.hypot(one.value - one.low, other.high - other.value)


class Sides(NamedTuple):
    """One-sided confidences of the bounds of an interval."""

    low: float
    high: float


def sides_of(confidence: float | Sides) -> Sides:
    """The same confidence for both bounds, unless it says otherwise."""
    return confidence if isinstance(confidence, Sides) else Sides(confidence, confidence)


BOTH = Sides((1 + CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
"""Of a 95% interval."""


def percentile(values: np.ndarray, percent: float) -> float | None:
    """Inclusive percentile with linear interpolation: never outside the data; None for no data.

    Definition 7 of Hyndman and Fan, "Sample quantiles in statistical packages" (1996); with +inf among the values the
    percentile is infinite as soon as it touches one of them.
    """
    if len(values) == 0:
        return None
    return _at(np.sort(values), (len(values) - 1) * percent / 100)


def samples_to_show(percent: float) -> int:
    """Fewest samples for which a percentile is shown: 1 / (1 - p)."""
    return math.ceil(round(100 / (100 - percent), 9))


def design_effect(repetitions: list[np.ndarray], percent: float) -> float:
    """How many requests carry the information of one independent request, at least 1 (Kish 1965).

    Requests wait in the same queue and are alike, so n of them say less about a percentile than n independent ones would.
    `repetitions` hold values in order of sending. The autocorrelation is that of "slower than the upper quartile" (or
    than the percentile itself, if that is lower), which clusters more than what lies further out: see `memory`.
    """
    return _effect(_beyond(repetitions, _quartile(np.concatenate([*repetitions, []]), percent)))


def effect_within(repetitions: list[np.ndarray], percent: float) -> float:
    """The same of requests among those of their own repetition."""
    slower = [mine for part in repetitions for mine in _beyond([part], _quartile(part, percent))]
    return _effect(slower)


def effect_beyond(repetitions: list[np.ndarray], limit: float) -> float:
    """How many requests carry the information of one independent request about the share of them that is beyond a limit, at least
    1: where those beyond it cluster, or where different shares of the repetitions are.
    """
    return _effect(_beyond(repetitions, limit))


def _quartile(values: np.ndarray, percent: float) -> float:
    """Beyond which a quarter of the values lie, or as many as beyond the percentile; NaN without values."""
    if not len(values):
        return math.nan
    quartile = np.quantile(values, min(percent, AUTOCORRELATION_PERCENT) / 100, method="lower")
    return float(quartile if (values > quartile).any() else np.nextafter(quartile, -math.inf))  # many equal at the top


def _beyond(repetitions: list[np.ndarray], value: float) -> list[np.ndarray]:
    """Of each repetition, whether each of its values is beyond `value` (1 or 0), about the mean of all; none where all are, or
    none is.
    """
    beyond = [(part > value).astype(float) for part in repetitions if len(part)]
    share = float(np.concatenate(beyond).mean()) if beyond else 0.0
    return [part - share for part in beyond] if 0 < share < 1 else []


def _effect(parts: list[np.ndarray]) -> float:
    return memory(parts).effect if parts else 1.0


class Memory(NamedTuple):
    """How far values remember those before them."""

    effect: float
    """How many of them tell as much about their mean as one independent value, 1 to n."""
    lags: int
    """Over how many of them."""


def memory(parts: list[np.ndarray]) -> Memory:
    """How far consecutive values remember those before them.

    `parts` are the repetitions, each of consecutive values about the mean of all. The autocorrelation within them is summed by
    Geyer's initial monotone sequence (Statistical Science 7, 1992). Two repetitions or more that are shown to differ by more
    than that explains add the variance between them, as a one-way analysis of variance finds it (Searle, Casella and McCulloch,
    Variance Components, 1992, section 3.6).
    """
    n = sum(len(part) for part in parts)
    variance = sum(float((part**2).sum()) for part in parts) / n
    if variance == 0:
        return Memory(1.0, 1)
    about_own = [part - part.mean() for part in parts]
    within_variance = sum(float((part**2).sum()) for part in about_own) / n
    if within_variance == 0:  # repetitions of one value each: they are all that there is
        return Memory(n / len(parts), n // len(parts))

    def correlation(lag: int) -> float:
        """At a lag, within repetitions; their number / n makes up for the means, which were estimated from the same values."""
        products = sum(float((part[lag:] * part[:-lag]).sum()) for part in about_own if len(part) > lag)
        return products / n / within_variance + len(parts) / n

    longest = max(len(part) for part in parts)
    effect, lags = _initial_monotone(correlation, min(longest // 2, MOST_LAGS))
    if effect <= 1:
        effect, lags = 1.0, 1
    if len(parts) > 1:
        effect = max(1.0, (effect + _between(parts, within_variance, effect)) * within_variance / variance)
    return Memory(min(effect, n), max(1, lags))


def _between(parts: list[np.ndarray], variance: float, within: float) -> float:
    """What differences between repetitions add to a design effect of `within`: Σ m² / n x variance between / variance; 0
    where the mean square between them is no larger than chance makes it (chi-square).
    """
    from scipy import special

    sizes = np.array([len(part) for part in parts], dtype=float)
    k, n = len(sizes), sizes.sum()
    mean_square = sum(float(part.sum()) ** 2 / len(part) for part in parts) / (k - 1)
    ratio = mean_square / (variance * within)
    if ratio * (k - 1) <= float(special.chdtri(k - 1, 1 - DIFFER_CONFIDENCE)):
        return 0.0
    per_repetition = (n - (sizes**2).sum() / n) / (k - 1)
    return float((sizes**2).sum() / n * (ratio - 1) * within / per_repetition)


def _initial_monotone(correlation: Callable[[int], float], most: int) -> tuple[float, int]:
    """Sums of neighbouring lags fall and stay positive in theory: they are added up until they do not; and up to which lag."""
    total, smallest, lags = -1.0, math.inf, 0
    for lag in range(0, most - 1, 2):
        pair = (1.0 if lag == 0 else correlation(lag)) + correlation(lag + 1)
        smallest = min(smallest, pair)
        if smallest <= 0:
            break
        total, lags = total + 2 * smallest, lag + 1
    return total, lags


def percentile_interval(
    values: np.ndarray, percent: float, effect: float = 1.0, by_moments: bool = True, confidence: float = CONFIDENCE
) -> Interval:
    """Interval of a percentile, for non-negative values.

    From order statistics, so no distribution is assumed: the r-th of n independent values lies at or above the
    percentile p with the probability that a Beta(r, n + 1 - r) variable exceeds p (David and Nagaraja, Order Statistics,
    2003, section 7.1); fractional ranks are interpolated (Hutson 1999). n is the effective number, len(values) / `effect`;
    see `design_effect`. `by_moments`: the upper bound is that of `percentile_bound_by_moments` where that is
    lower. Where there are too few values for a bound it is 0 or +inf.
    """
    n = len(values)
    if n < 2:
        return NO_INTERVAL
    effective = n / effect
    tail = (1 - confidence) / 2
    ordered = np.sort(values)
    ranks = [_rank(percent / 100, effective, at_or_above) for at_or_above in (tail, 1 - tail)]
    low, high = (None if rank is None else rank * (n + 1) / (effective + 1) - 1 for rank in ranks)
    most = percentile_bound_by_moments(ordered, percent, 1 - tail, effect) if by_moments else math.inf
    return Interval(
        0.0 if low is None or low < 0 else _at(ordered, min(low, n - 1)),
        most if high is None else min(most, _at(ordered, high)),
    )


def percentile_bound_by_moments(values: np.ndarray, percent: float, confidence: float, effect: float = 1.0) -> float:
    """One-sided upper confidence bound of a percentile from mean and standard deviation, for any distribution.

    Cantelli's inequality: a share 1 - p of values at most lies beyond mean + sd x sqrt(p / (1 - p)). It is wide, but it
    needs no value beyond the percentile, so it shows that a distant limit is met where order statistics cannot. Mean and
    sd enter at upper bounds of their own, each with half the error, for an effective number of len(values) / `effect`
    (the sd's from the sample's kurtosis). Failures (+inf) take their upper bound of the share beyond; +inf where that
    leaves nothing, or for fewer than ten effective values.
    """
    finite = values[np.isfinite(values)]
    n, beyond = len(finite) / effect, 1 - percent / 100
    if len(finite) < len(values):
        failed = share_bounds(len(values) - len(finite), len(values), confidence, effect).high
        beyond = (beyond - failed) / (1 - failed) if failed < beyond else 0.0
    if n < FEWEST_FOR_MOMENTS or beyond <= 0:
        return math.inf
    from scipy import special

    mean, variance = float(finite.mean()), float(finite.var(ddof=1))
    if variance**2 == 0:
        return mean
    kurtosis = float(((finite - mean) ** 4).mean()) / variance**2
    z = float(special.ndtri(1 - (1 - confidence) / 2))
    highest_mean = mean + z * math.sqrt(variance / n)
    highest_variance = variance * (1 + z * math.sqrt(max(kurtosis - 1, 0) / n))
    return highest_mean + math.sqrt(highest_variance * (1 - beyond) / beyond)


def _rank(share: float, n: float, at_or_above: float) -> float | None:
    """The (fractional) rank whose value is at or above the percentile with this probability; None beyond the data."""
    from scipy import optimize, special

    def excess(rank: float) -> float:
        return float(special.betainc(rank, n + 1 - rank, share)) - (1 - at_or_above)

    lowest, highest = 1e-9, n + 1 - 1e-9
    if excess(lowest) < 0 or excess(highest) > 0:
        return None
    return float(optimize.brentq(excess, lowest, highest, xtol=1e-9))


def _at(ordered: np.ndarray, position: float) -> float:
    """The value at a fractional position; +inf beyond the last."""
    below = math.floor(position)
    if position > len(ordered) - 1:
        return math.inf
    share = position - below
    if share == 0:
        return float(ordered[below])
    low, high = float(ordered[below]), float(ordered[below + 1])
    return math.inf if math.isinf(high) else low + (high - low) * share


def ratio_interval(amounts: np.ndarray, durations: np.ndarray, sides: Sides = BOTH) -> Interval:
    """Interval of a rate Σ amounts / Σ durations over independent parts of a measurement: see `rate_interval`."""
    return rate_interval([amounts], [durations], sides)


def rate_interval(
    amounts: list[np.ndarray], durations: list[np.ndarray], sides: Sides = BOTH, *, independent: bool = True
) -> Interval:
    """Interval of a rate Σ amounts / Σ durations, by the ratio estimator with Student's t. An array for each repetition.

    Residuals e = amount - rate x duration have variance s²; the rate's standard error is s / (sqrt(n) x mean duration)
    (Cochran, Sampling Techniques, 1977, section 2.11). Where values are not `independent` the variance rises by their `memory`
    over m lags, made up for the share 2 m / n that is lost with the mean, and the degrees of freedom are n / m (Priestley,
    Spectral Analysis and Time Series, 1981, sections 5.3 and 6.2).
    """
    n, total = sum(len(part) for part in amounts), sum(float(part.sum()) for part in durations)
    if n < 3 or total <= 0:
        return NO_INTERVAL
    rate = sum(float(part.sum()) for part in amounts) / total
    residuals = [a - rate * d for a, d in zip(amounts, durations, strict=True)]
    effect, lags = (1.0, 1) if independent else memory(residuals)
    if lags > 1:
        effect = min(effect / max(LEAST_KEPT, 1 - 2 * lags / n), n)
    squares = sum(float((part**2).sum()) for part in residuals)
    error = math.sqrt(effect * squares / (n - 1) / n) / (total / n)
    from scipy import special

    freedom = max(FEWEST_FREEDOM, n / lags - 1)
    below, above = (float(special.stdtrit(freedom, side)) * error for side in sides)
    return Interval(max(0.0, rate - below), rate + above)


def share_bounds(count: int, total: int, confidence: float, effect: float = 1.0) -> Interval:
    """One-sided lower and upper confidence bound of a share, each at `confidence`.

    Clopper and Pearson (1934), with the effective numbers count / `effect` and total / `effect` where requests are
    alike (Korn and Graubard 1998); see `design_effect`.
    """
    if total == 0:
        return NO_INTERVAL
    from scipy import special

    hits, others = count / effect, (total - count) / effect
    low = 0.0 if count == 0 else float(special.betaincinv(hits, others + 1, 1 - confidence))
    high = 1.0 if count == total else float(special.betaincinv(hits + 1, others, confidence))
    return Interval(low, high)
