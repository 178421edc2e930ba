"""An SLO that follows the machine: a multiple of the latency of single requests, measured before the load.

One request at a time is sent to each option before its load points; the records stand in `single_requests` of the run. The
limit is the multiple of the median, over the dataset that takes longest, of the first option of the config that answered.
It is computed from these records alone; `slo.json` shows it to readers. Times in seconds.

A race decides by the limit from its first block on, so there it never changes: the config's first option comes up first, the
next one takes its place where it does not answer, and once an option has set the limit no other sends single requests.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import ClosedLoop
from helpers.config.load_level import LoadLevel
from helpers.config.strict import slug
from helpers.run.whole_files import write_atomically

if TYPE_CHECKING:
    from helpers.config.file import LoadedConfig
    from helpers.run.folder import RunFolder

FOLDER, FILE = "single_requests", "slo.json"
ONE_AT_A_TIME = ClosedLoop(
    concurrency=[1], min_requests=20, warmup_requests=2, max_duration_s=20, repeat_prompts=True, prefix_cache_salt=True
)
SINGLE = LoadLevel("closed_loop", 1)
DIGITS = 3
"""Significant digits of a limit that was measured."""


@dataclass(frozen=True)
class MeasuredLimit:
    """A limit of the SLO that follows the machine, and what it rests on."""

    name: str
    """Column of the request records, for example `latency_s`."""
    limit_s: float
    times: float
    single_request_s: float
    """The median."""
    requests: int
    option: str
    dataset: str
    measured_at: str
    """UTC, ISO 8601."""

    @property
    def words(self) -> str:
        """For a reader: the limit, and how it was found."""
        return (
            f"{self.limit_s:g} s = {self.times:g} × {self.single_request_s:.3g} s, the median {self.name.removesuffix('_s')} of "
            f"{self.requests} single requests of {self.dataset} to “{self.option}”, measured before the load on "
            f"{datetime.fromisoformat(self.measured_at):%Y-%m-%d %H:%M} UTC"
        )


def single_requests_file(option: str, dataset: str, run: RunFolder) -> Path:
    """Where the records of an option's single requests of a dataset are."""
    return run.path / FOLDER / f"{slug(option)}__{slug(dataset)}.parquet"


# --- limits -------------------------------------------------------------------------------------------------------


def with_measured_limits(config: LoadedConfig, run: RunFolder) -> LoadedConfig:
    """As `with_limits`, for a run that is opened; notes in `slo.json` how the limits were found."""
    path, limits = run.path / FILE, _limits(config.benchmark, run)
    if not limits:
        path.unlink(
            missing_ok=True
        )  # of an SLO that the config does not have any more, or of an option that was corrected
        return config
    text = json.dumps([asdict(limit) for limit in limits], indent=1) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
    return replace(config, benchmark=with_limits(config.benchmark, run))


def with_limits(config: BenchmarkConfig, run: RunFolder) -> BenchmarkConfig:
    """The config with numbers for limits that follow the machine; unchanged as long as one of them is not measured."""
    limits = {limit.name: limit.limit_s for limit in _limits(config, run)}
    return config.model_copy(update={"slo": config.slo.model_copy(update=limits)}) if limits else config


def measured_limits(run: RunFolder) -> list[MeasuredLimit]:
    """The limits of the run's SLO that follow the machine."""
    path = run.path / FILE
    return [MeasuredLimit(**one) for one in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def slo_sentence(run: RunFolder) -> str:
    """How limits that follow the machine were found; empty where all are the config's."""
    return "".join(f" The limit follows the machine: {limit.words}." for limit in measured_limits(run))


def _limits(config: BenchmarkConfig, run: RunFolder) -> list[MeasuredLimit]:
    """All limits that follow the machine; none as long as one of them is not measured."""
    limits = [_limit(name, times, config, run) for name, times in config.slo.multiples().items()]
    return [] if None in limits else limits


def _limit(name: str, times: float, config: BenchmarkConfig, run: RunFolder) -> MeasuredLimit | None:
    for option in config.deployed().options:
        found = [_median(name, option.name, dataset.name, run) for dataset in config.parts_of(option)]
        if all(found):
            slowest = max(found, key=lambda one: one.single_request_s)
            limit_s = float(f"{times * slowest.single_request_s:.{DIGITS}g}")
            return replace(slowest, times=times, limit_s=limit_s)
    return None


def _median(name: str, option: str, dataset: str, run: RunFolder) -> MeasuredLimit | None:
    """The median over the answers after warm-up; None where there is none."""
    path = single_requests_file(option, dataset, run)
    return _median_of(path, path.stat().st_mtime_ns, name) if path.is_file() else None


@lru_cache(maxsize=200)
def _median_of(path: Path, mtime_ns: int, name: str) -> MeasuredLimit | None:
    """Read once: a race asks before each of its steps."""
    from helpers.metrics.formulas import with_latencies
    from helpers.run.records import read_attempt_facts, read_requests

    rows = with_latencies(read_requests(path.parent, attempts=[path.stem]))
    values = rows[rows["ok"] & (rows["phase"] != "warmup")][name].dropna()
    if values.empty or not math.isfinite(values.median()):  # no answer came behind the thinking
        return None
    facts = read_attempt_facts(path)
    measured_at = datetime.fromtimestamp(facts.clock_pairs[-1][1] / 1e9, UTC).isoformat(timespec="seconds")
    about = facts.option, facts.dataset, measured_at
    return MeasuredLimit(name, 0.0, 0.0, float(values.median()), len(values), *about)
