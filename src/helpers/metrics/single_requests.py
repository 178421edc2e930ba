"""An SLO that follows the machine: a multiple of the latency of single requests, measured before the load.

One request at a time is sent to each option before its load points; the records stand in `single_requests` of the run. The
limit is the multiple of the median, over the dataset that takes longest, of the first option of the config that answered.
It is computed whenever the run is opened, from these records alone, and kept in `slo.json`. Times in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.config.benchmark import BenchmarkConfig, slug
from helpers.config.load import ClosedLoop, LoadLevel
from helpers.run.whole_files import write_atomically

if TYPE_CHECKING:
    from helpers.config.file import LoadedConfig
    from helpers.load.messages import AttemptSpec
    from helpers.run.folder import RunFolder

FOLDER, FILE = "single_requests", "slo.json"
ONE_AT_A_TIME = ClosedLoop(
    concurrency=[1], min_requests=20, warmup_requests=2, max_duration_s=20, repeat_prompts=True, prefix_cache_salt=True
)
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


def single_request_spec(spec: AttemptSpec, run: RunFolder) -> AttemptSpec:
    """Single requests instead of a load point of the same option and dataset."""
    load = ONE_AT_A_TIME.model_copy(update={"request_timeout_s": spec.load.request_timeout_s})
    name = f"{slug(spec.option)}__{slug(spec.dataset)}.parquet"
    changes = {"load": load, "level": LoadLevel("closed_loop", 1), "repetition": 1, "fewest_independent": 1}
    return spec.model_copy(update={**changes, "output_file": str(run.folder(FOLDER) / name)})


def run_single_requests(specs: list[AttemptSpec], send: Callable[[AttemptSpec], object]) -> None:
    """Send them, where they are not yet measured."""
    for spec in specs:
        if not Path(spec.output_file).is_file():
            send(spec)


# --- limits -------------------------------------------------------------------------------------------------------


def with_measured_limits(config: LoadedConfig, run: RunFolder) -> LoadedConfig:
    """The config with numbers for those limits that follow the machine, once single requests are measured."""
    asked = config.benchmark.slo.multiples()
    path = run.path / FILE
    if not asked:
        path.unlink(missing_ok=True)  # of an SLO that the config does not have any more
        return config
    limits = [limit for name, times in asked.items() if (limit := _limit(name, times, config.benchmark, run))]
    if len(limits) < len(asked):
        return config
    text = json.dumps([asdict(limit) for limit in limits], indent=1) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
    slo = config.benchmark.slo.model_copy(update={limit.name: limit.limit_s for limit in limits})
    return replace(config, benchmark=config.benchmark.model_copy(update={"slo": slo}))


def measured_limits(run: RunFolder) -> list[MeasuredLimit]:
    """The limits of the run's SLO that follow the machine."""
    path = run.path / FILE
    return [MeasuredLimit(**one) for one in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def slo_sentence(run: RunFolder) -> str:
    """How limits that follow the machine were found; empty where all are the config's."""
    return "".join(f" The limit follows the machine: {limit.words}." for limit in measured_limits(run))


def _limit(name: str, times: float, config: BenchmarkConfig, run: RunFolder) -> MeasuredLimit | None:
    for option in config.options:
        found = [_median(name, option.name, dataset.name, run) for dataset in config.datasets_of(option)]
        if all(found):
            slowest = max(found, key=lambda one: one.single_request_s)
            limit_s = float(f"{times * slowest.single_request_s:.{DIGITS}g}")
            return replace(slowest, times=times, limit_s=limit_s)
    return None


def _median(name: str, option: str, dataset: str, run: RunFolder) -> MeasuredLimit | None:
    """The median over the answers after warm-up; None where there is none."""
    from helpers.metrics.formulas import with_latencies
    from helpers.run.records import read_facts, read_requests

    path = run.path / FOLDER / f"{slug(option)}__{slug(dataset)}.parquet"
    if not path.is_file():
        return None
    rows = with_latencies(read_requests(path.parent, attempts=[path.stem]))
    values = rows[rows["ok"] & (rows["phase"] != "warmup")][name].dropna()
    if values.empty:
        return None
    (facts,) = [f for f in read_facts(path.parent) if (f.option, f.dataset) == (option, dataset)]
    measured_at = datetime.fromtimestamp(facts.clock_pairs[-1][1] / 1e9, UTC).isoformat(timespec="seconds")
    return MeasuredLimit(name, 0.0, 0.0, float(values.median()), len(values), option, dataset, measured_at)
