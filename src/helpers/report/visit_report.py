"""Did the service change while it was measured? What early and late measurements of the same load points say."""

from __future__ import annotations

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.control import FOLDER, LEAST, Move, read_moves
from helpers.report.columns import Column, numeric
from helpers.report.display import Table
from helpers.report.table_readings import moves_reading
from helpers.run.folder import RunFolder


def visit_table(run: RunFolder, config: BenchmarkConfig) -> Table | None:
    """For each option that was measured both early and late at a load point how its latency changed; None where none was."""
    moves = read_moves(run.requests, run.path / FOLDER, config)
    if not moves:
        return None
    rows = [
        {
            "option": move.option,
            "where": f"{move.dataset}, {move.load}",
            "first_n": move.first_n,
            "last_n": move.last_n,
            "change": f"{move.change.value:+.0%} [{move.change.low:+.0%}, {move.change.high:+.0%}]",
            "finding": _finding(move),
        }
        for move in moves
    ]
    columns = [
        "option",
        Column("where", "measured at"),
        numeric("first_n", "answers, early", decimals=0),
        numeric("last_n", "answers, late", decimals=0),
        Column("change", "latency, late against early"),
        "finding",
    ]
    caption = (
        "Did the service change while it was measured? An early and a late measurement of the same load point, of each option "
        "that has two that are long enough. The intervals hold for all of these options at once, at 95%. The late ones that were "
        "measured for this alone count nowhere else."
    )
    return Table(rows, columns, caption, moves_reading(moves))


def _finding(move: Move) -> str:
    most = max(abs(move.change.low), abs(move.change.high))
    return "changed" if move.is_shown else f"none beyond {LEAST:.0%} is shown; {most:.0%} at most"
