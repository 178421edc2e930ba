"""A run's progress, from its folder alone: a reader does not need the process that runs it, or its secrets.

Notebook 03 keeps `progress.json` up to date while it loads; the ledger has endpoints and spend, `guarded/` the processes.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from pydantic import BaseModel, ValidationError

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.formulas import with_latencies
from helpers.metrics.intervals import percentile
from helpers.report.display import Table
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.run.records import read_requests
from helpers.run.whole_files import write_atomically
from helpers.verdict.chosen_points import main_latency

ENDED = ("not begun", "done", "never loaded", "stopped", "failed")
"""Final states, which remain when no process continues the run."""


class OptionProgress(BaseModel):
    """An option's progress."""

    state: str
    """As in `load_events.LoadEvent`; "not begun" before its first."""
    detail: str = ""
    done: int
    total: int
    """Load points; a race finds more as it goes."""


class RunProgress(BaseModel):
    """Notebook 03's progress. Seconds are None where unknown."""

    options: dict[str, OptionProgress]
    seconds_left: float | None
    is_bound: bool
    """True if that is an upper bound, rather than an estimate from the load points so far."""
    is_total_known: bool = True
    """False where what is measured next depends on what is found, as in a race."""
    at: datetime

    def counts(self) -> tuple[int, int]:
        """Load points done, and the total; a failed option counts only those done, as the others will not run."""
        options = self.options.values()
        return sum(o.done for o in options), sum(o.done if o.state == "failed" else o.total for o in options)

    def count_words(self) -> str:
        """How many load points are done, and of how many, where that is known."""
        done, total = self.counts()
        return f"{done} of {total}" if self.is_total_known else f"{done} so far"

    def left_words(self) -> str:
        """The total time left, as a phrase."""
        if not self.is_total_known:
            return "how many follow depends on what is found"
        if self.seconds_left is None:
            return "time left unknown"
        minutes = self.seconds_left / 60
        size = f"{self.seconds_left:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
        return f"{'at most' if self.is_bound else 'about'} {size} left in all"


class Clock:
    """Estimates the time left from the pace of the load points done since this notebook started."""

    def __init__(self, longest_s: float, at_once: int, done: int) -> None:
        self._longest_s, self._at_once, self._done_before = longest_s, at_once, done
        self._began_s: float | None = None

    def left(self, done: int, total: int, now_s: float | None = None) -> tuple[float, bool]:
        """Seconds, and whether they are a bound, which is all that is known before the first load point is done."""
        now_s = time.monotonic() if now_s is None else now_s
        if self._began_s is None:
            self._began_s = now_s
        here, elapsed_s = done - self._done_before, now_s - self._began_s
        if here > 0 and elapsed_s > 0:
            return elapsed_s / here * (total - done), False
        return np.ceil((total - done) / self._at_once) * self._longest_s, True


def write_progress(run: RunFolder, progress: RunProgress) -> None:
    """Write it for readers; a full disk does not stop the load."""
    with suppress(OSError):
        write_atomically(run.path / "progress.json", progress.model_dump_json(indent=1) + "\n")


def read_progress(run: RunFolder) -> RunProgress | None:
    """What notebook 03 wrote last; None if it has not started."""
    with suppress(OSError, ValidationError):
        return RunProgress.model_validate_json((run.path / "progress.json").read_text(encoding="utf-8"))
    return None


def attempt_words(run: RunFolder, load_point: str, config: BenchmarkConfig) -> str:
    """A finished load point: its requests in the steady window, and the SLO's percentile or how many failed."""
    requests = with_latencies(read_requests(run.requests, attempts=[load_point]))
    steady = requests[requests["phase"] == "steady"]
    failed = steady[steady["status"] != "ok"]
    if len(failed):
        kinds = ", ".join(f"{count} {kind}" for kind, count in failed["status"].value_counts().items())
        return f"n = {len(steady):,}, {len(failed):,} failed ({kinds})"
    values = steady[main_latency(config)].dropna().to_numpy(float)
    reached = text.duration(percentile(values, config.slo.percentile))
    return f"n = {len(steady):,}, p{config.slo.percentile:g} {reached}"


# --- for readers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holder:
    """A process of this machine that runs the run."""

    pid: int
    doing: str
    since: datetime


def holders(run: RunFolder) -> list[Holder]:
    """The registered processes that are alive, the innermost last."""
    import psutil

    found = []
    for entry in sorted((run.path / "guarded").glob("*.json"), key=lambda path: path.stat().st_mtime):
        with suppress(psutil.Error, OSError, ValueError, KeyError):
            content = json.loads(entry.read_text(encoding="utf-8"))
            if psutil.Process(content["pid"]).create_time() == content["started"]:
                since = datetime.fromtimestamp(entry.stat().st_mtime, UTC)
                found.append(Holder(content["pid"], content.get("doing", "a notebook"), since))
    return found


def run_status(run: RunFolder) -> Table:
    """Every option with its endpoint's state, load points and spend; the caption says who runs it and the time left."""
    progress, ledger = read_progress(run), Ledger(run.ledger_file, run.run_id)
    records = {record.option: record for record in ledger.records()}
    options = progress.options if progress else {}
    is_running = bool(holders(run))
    rows = []
    for name in dict.fromkeys([*records, *options]):
        option, record = options.get(name), records.get(name)
        rows.append(
            {
                "option": name,
                "endpoint": record.state if record else "–",
                "load": _load_words(option, is_running, record) if option else "not begun",
                "done": option and option.done,
                "total": option and option.total,
                "usd": None if record is None else 0.0 if record.local else record.cost_usd(),
                "failure": record.why_failed() if record else None,
            }
        )
    columns = ["option", "endpoint", "load", "done", "total", "usd", "failure"]
    caption = f"Run {run.run_id}: {_who_and_what(run, progress)} Spent so far: {text.money(ledger.cost_usd())}."
    return Table(rows, columns, caption)


def _load_words(option: OptionProgress, is_running: bool, record: EndpointRecord | None) -> str:
    """What an option's load is doing, or did last if no process of this machine continues it; why it failed has a column."""
    if option.state == "failed" and record and record.failure:
        return option.state
    words = f"{option.state} {option.detail}".strip()
    return words if is_running or option.state in ENDED else f"was {words}"


def _who_and_what(run: RunFolder, progress: RunProgress | None) -> str:
    """Finished, running (and by which process) or interrupted; with the next step if there is one."""
    here = holders(run)
    if here:
        last = here[-1]
        doing = _notebook_under_way(run) or last.doing
        said = f"{doing} is running (process {last.pid} on this machine, since {last.since:%H:%M} UTC)"
        if progress is None or all(o.done == o.total for o in progress.options.values()):
            return f"{said}."
        return f"{said}, {progress.left_words()} as of {progress.at:%H:%M:%S} UTC."
    left = [record.endpoint_name for record in Ledger(run.ledger_file, run.run_id).remaining()]
    costs = f" {', '.join(left)} may still cost money. Next: make cleanup RUN={run.path}." if left else ""
    if (run.path / "report.html").is_file():
        return f"finished, the report is {run.path / 'report.html'}.{costs}"
    unfinished = _notebook_under_way(run)
    where = f" and {unfinished} did not end" if unfinished else ""
    return f"no process of this machine runs it{where}.{costs} Next: make report RUN={run.path} continues it."


def _notebook_under_way(run: RunFolder) -> str | None:
    """The notebook of the series whose executed copy is incomplete; None if there is none."""
    copies = sorted((run.path / "notebooks").glob("0*.ipynb"), key=lambda path: path.stat().st_mtime)
    if not copies:
        return None
    with suppress(OSError, ValueError, KeyError):
        about = json.loads(copies[-1].read_text(encoding="utf-8"))["metadata"]["papermill"]
        return None if about["end_time"] else copies[-1].stem
    return None
