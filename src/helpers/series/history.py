"""`make history`: all runs of a config on one self-contained page, wherever the config keeps its runs.

A run that is incomplete or cannot be read is named with the reason.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.file import load_config
from helpers.errors import AnalysisError, RunFolderError, ServingVerdictError, cut
from helpers.report.display import Markdown, Prose, Section, code, section
from helpers.report.history_report import PastRun, changes_table, history_figures, history_summary, verdicts_table
from helpers.run.folder import find_run, run_root, runs_of, write_atomically
from helpers.run.whole_files import keep_private
from helpers.series.page import page_of
from helpers.verdict.analysis import read_points, read_verdict
from helpers.verdict.compare import compare_points, compared
from helpers.verdict.verdict import SCHEMA_VERSION


def write_history(config_path: str) -> tuple[Path, str]:
    """Write `history_<name>.html` beside the runs of a config; returns its path and the sentence at its top.

    Raises RunFolderError where no run can be read, with the reason of each.
    """
    config = load_config(config_path)
    keep_private()
    runs, unread = [], {}
    for where in runs_of(config):
        try:
            runs.append(_read(where))
        except (ServingVerdictError, OSError, ValueError, KeyError) as error:
            unread[where] = _why(error)
    runs.sort(key=lambda run: (run.started_at, run.run_id))
    if not runs:
        reasons = "".join(f"\n{where}: {why}" for where, why in unread.items())
        raise RunFolderError(
            f"{config.benchmark.run_root or run_root(config)}: holds no finished run of {config.benchmark.name!r}. "
            f"Next: make report CONFIG={config_path}{reasons}"
        )
    runs = _each_with_the_one_before(runs, config.benchmark)
    summary = history_summary(runs)
    if unread:
        summary += f" {text.plural(len(unread), 'other run')} could not be read; the page says why."
    path = run_root(config) / f"history_{config.benchmark.name}.html"
    with TemporaryDirectory() as folder:
        figures = history_figures(runs, config.benchmark, Path(folder))
        parts = [
            section("The bottom line", Prose(summary)),
            section("How did price and latency develop?", *figures),
            section("What did each run say?", verdicts_table(runs, config.benchmark)),
            section("What really changed?", changes_table(runs, config.benchmark)),
            _not_read(unread),
        ]
        write_atomically(path, page_of(f"How did {config.benchmark.name} develop?", [part for part in parts if part]))
    return path, summary


def _read(where: str) -> PastRun:
    run = find_run(where)
    about = run.about()
    verdict = read_verdict(run)
    if verdict.schema_version != SCHEMA_VERSION:
        raise RunFolderError(
            f"verdict.json is of version {verdict.schema_version}, and this release reads {SCHEMA_VERSION}. Next: run notebooks "
            "04 and 05 on this run folder again"
        )
    started = datetime.fromisoformat(about["started_at"])
    return PastRun(run.run_id, started.astimezone(UTC), verdict, read_points(run))


def _why(error: Exception) -> str:
    """The reason in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return (
            f"verdict.json cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}. Next: run notebooks 04 and 05 on "
            "this run folder again"
        )
    words = " ".join(str(error).split())
    return cut(words if isinstance(error, ServingVerdictError) else f"damaged: {type(error).__name__}: {words}", 400)


def _each_with_the_one_before(runs: list[PastRun], config: BenchmarkConfig) -> list[PastRun]:
    found = runs[:1]
    for before, run in pairwise(runs):
        try:
            table = compare_points(run.points, before.points, config)
            comparison = compared(
                table, before.points, before.run_id, before.verdict.recommended, run.verdict.recommended
            )
            found.append(replace(run, comparison=comparison))
        except AnalysisError as error:
            found.append(replace(run, why_not_compared=str(error).partition(" Next: ")[0].rstrip(".")))
    return found


def _not_read(unread: dict[str, str]) -> Section | None:
    if not unread:
        return None
    lines = [Markdown("\n* {}: {}").format(code(where), why) for where, why in unread.items()]
    words = Markdown("These runs of the config are not on this page:\n")
    return section("Which runs could not be read?", Prose(words + Markdown().join(lines)))
