"""When the requests of an open loop are sent: drawn once, from one seed, before the start, and checked after the run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from helpers.config.load import OpenLoop, Ramp, Search, TraceReplay
from helpers.config.load_level import LoadLevel
from helpers.prompts.traces import read_trace
from helpers.run.prompt_files import ARRIVAL
from helpers.run.records import ArrivalFacts

DISPERSION_ARRIVALS = 10
"""Arrivals that a window of the dispersion index holds on average; at least as many windows are wanted."""


def draw_arrivals(
    load: OpenLoop | TraceReplay | Ramp | Search,
    level: LoadLevel,
    seed: int,
    base_dir: Path,
    prompts_of_trace: str | None = None,
) -> np.ndarray:
    """Offsets of all arrivals from the start, ns, int64, ascending, up to the load's longest duration.

    `seed` is the attempt's own; `prompts_of_trace` a file of prompts that have the times of a trace, in its order. Raises
    ConfigError where a trace cannot be read.
    """
    rng = np.random.default_rng(seed)
    if isinstance(load, TraceReplay):
        if prompts_of_trace is None:
            seconds = read_trace(load, base_dir).seconds / level.value
        else:
            arrivals_ns = pq.read_table(prompts_of_trace, columns=[ARRIVAL])[ARRIVAL].to_numpy()
            seconds = (arrivals_ns - arrivals_ns[0]) / 1e9 / level.value
        seconds = seconds[seconds <= load.max_duration_s]
    elif isinstance(load, Ramp):
        seconds = _ramp_seconds(load, rng)
    else:
        seconds = np.cumsum(_gaps(load, level.value, load.max_duration_s, rng))
        seconds = seconds[seconds <= load.max_duration_s]
    return np.round(seconds * 1e9).astype("int64")


def _gaps(load: OpenLoop | Search, rate: float, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """Gaps between arrivals, s, mean 1 / rate; more than fill the duration."""
    expected = rate * duration_s
    if load.arrivals == "constant":
        return np.full(math.ceil(expected) + 1, 1 / rate)
    shape = 1.0 if load.arrivals == "poisson" else load.burstiness
    count = math.ceil(expected + 6 * math.sqrt(expected / shape) + 20)
    return rng.gamma(shape, 1 / (rate * shape), count)


def _ramp_seconds(load: Ramp, rng: np.random.Generator) -> np.ndarray:
    """Arrivals whose rate changes evenly: unit-rate arrivals, put through the inverse of the cumulative rate.

    Cumulative rate: L(t) = a t + (b - a) t² / 2 T (time-change of a Poisson process, e.g. Çinlar 1975, section 4.7).
    """
    a, slope = load.from_rate, (load.to_rate - load.from_rate) / load.duration_s
    total = (load.from_rate + load.to_rate) / 2 * load.duration_s
    if load.arrivals == "constant":
        units = np.arange(1, math.floor(total) + 1, dtype=float)
    else:
        units = np.cumsum(rng.exponential(size=math.ceil(total + 6 * math.sqrt(total) + 20)))
        units = units[units <= total]
    if slope == 0:
        return units / a
    return 2 * units / (a + np.sqrt(np.maximum(a * a + 2 * slope * units, 0)))


def arrival_facts(times_ns: np.ndarray) -> ArrivalFacts | None:
    """Rate and regularity of arrivals; None for fewer than two.

    rate            (n - 1) / (last - first), per second;
    gap_cv          standard deviation of the gaps / their mean: 0 constant, 1 Poisson;
    dispersion      variance / mean of the counts in windows of equal length (index of dispersion; Fano 1947): 0 constant,
                    1 Poisson, more in bursts; None for fewer than a hundred arrivals;
    autocorrelation of successive gaps (lag 1): 0 where gaps are independent, None where they do not vary.
    """
    if len(times_ns) < 2:
        return None
    times = np.sort(times_ns).astype(float) / 1e9
    gaps = np.diff(times)
    length = times[-1] - times[0]
    return ArrivalFacts(
        requests=len(times),
        rate=float(len(gaps) / length) if length > 0 else math.inf,
        gap_cv=float(gaps.std(ddof=1) / gaps.mean()) if len(gaps) > 1 and length > 0 else None,
        dispersion=_dispersion(times),
        autocorrelation=_lag_one(gaps),
    )


def _dispersion(times: np.ndarray) -> float | None:
    windows = len(times) // DISPERSION_ARRIVALS
    if windows < DISPERSION_ARRIVALS or times[-1] <= times[0]:
        return None
    counts, _ = np.histogram(times, bins=windows)
    return float(counts.var(ddof=1) / counts.mean())


def _lag_one(gaps: np.ndarray) -> float | None:
    if len(gaps) < 3 or gaps.std() < 1e-6 * gaps.mean():
        return None
    centred = gaps - gaps.mean()
    return float((centred[1:] * centred[:-1]).sum() / (centred**2).sum())
