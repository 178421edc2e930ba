"""Notices of a run, for runs that nobody watches: how it ended, on success, on failure, when it is stopped, and on a crash.

They are sent when endpoints are deleted and the report is written, so nothing waits for them. What `kill -9` ends is reported by
the watchdog (`endpoints.watchdog`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from helpers import number_text as text
from helpers.config.file import LoadedConfig
from helpers.errors import cut
from helpers.metrics.single_requests import with_measured_limits
from helpers.report.bottom_line_text import bottom_line
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger
from helpers.run.notices import Notice, send
from helpers.run.remote import remote_of
from helpers.verdict import exit_status
from helpers.verdict.analysis import read_verdict
from helpers.verdict.gates import Judged
from helpers.verdict.verdict import Verdict

MOST_CHARACTERS_OF_AN_ERROR = 1500
Say = Callable[[str], None]


@dataclass
class Ending:
    """What is known of a run so far."""

    run: RunFolder | None = None
    judged: Judged | None = None

    def began(self, run: RunFolder) -> None:
        """The run has a folder."""
        self.run = run


@contextmanager
def noticing(config: LoadedConfig, say: Say = print) -> Iterator[Ending]:
    """Send a notice when this block ends, whichever way, to the channels of the config; a failed one is a printed warning."""
    ending = Ending()
    try:
        yield ending
    except BaseException as error:
        _send(config, ending, error, say)
        raise
    _send(config, ending, None, say)


def _send(config: LoadedConfig, ending: Ending, error: BaseException | None, say: Say) -> None:
    notify = config.benchmark.notify
    if notify is None:
        return
    try:
        warnings = send(notify, _notice(config, ending, error))
    except Exception as failed:  # noqa: BLE001 (the run's result and exit status stand)
        warnings = [f"Warning: notify: no notice was sent: {failed!r}. Next: read the run's report or its last lines"]
    for warning in warnings:
        say(warning)


def _notice(config: LoadedConfig, ending: Ending, error: BaseException | None) -> Notice:
    run, judged = ending.run, ending.judged
    status = exit_status.status_of_error(error) if error else judged.status
    words = exit_status.in_words(status) if error else judged.in_words()
    has_report = run is not None and (judged is not None or status in (exit_status.BUDGET, exit_status.NOTHING))
    verdict = read_verdict(run) if has_report and (run.path / "verdict.json").is_file() else None
    name = run.run_id if run else f"of {config.benchmark.name}, which did not begin"
    lines = [f"Run {name}: {words}"]
    if isinstance(error, Exception):  # not a signal
        lines.append(f"{type(error).__name__}: {cut(str(error), MOST_CHARACTERS_OF_AN_ERROR)}")
    if verdict is not None:
        lines += _bottom_line(verdict, config, run)
    usd = None
    if run is not None:
        ledger = Ledger(run.ledger_file, run.run_id)
        usd = ledger.cost_usd()
        lines.append(f"Spent so far: {text.money(usd)}.")
        if left := [record.endpoint_name for record in ledger.remaining()]:
            lines.append(f"May still cost money: {', '.join(left)}. Next: make cleanup RUN={run.path}")
        lines.append(f"{'Report' if verdict else 'Run folder'}: {(where := _where(run, verdict is not None))}")
    fields = {
        "run_id": run and run.run_id,
        "config_name": config.benchmark.name,
        "exit_status": status,
        "status": words,
        "recommended": verdict and verdict.recommended,
        "usd_so_far": usd,
        "where": where if run else None,
    }
    return Notice(f"Run {name}: exit status {status}", "\n".join(lines), fields)


def _bottom_line(verdict: Verdict, config: LoadedConfig, run: RunFolder) -> list[str]:
    """The report's bottom line, without its markup."""
    from bs4 import BeautifulSoup

    benchmark = with_measured_limits(config, run).benchmark
    page = BeautifulSoup(bottom_line(verdict, benchmark).markdown.as_html(), "html.parser")
    return [" ".join(one.get_text().split()) for one in page.find_all(["p", "li"]) if not one.find(["p", "li"])]


def _where(run: RunFolder, has_report: bool) -> str:
    """The report, or the run folder: in S3 where the run has a copy there."""
    remote = remote_of(run.path)
    folder = remote.url if remote else str(run.path)
    return f"{folder}/report.html" if has_report else folder
