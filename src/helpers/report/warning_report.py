"""The numbered warnings, by what they mean for the verdict."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from helpers.report.display import Markdown, Prose
from helpers.run.report_warning import gravest_first
from helpers.verdict.verdict import Verdict

MOST_NAMED = 3
MOST_ROWS = 6
"""Rows of a warning that are shown all."""


def warning_list(verdict: Verdict) -> Prose:
    """The numbered warnings, under what they mean for the verdict, with the rows concerned: all where they are few, else the
    worst and how many more there are.
    """
    if not verdict.warnings:
        return Prose("Every check passed: there is no warning.")
    options, parts = [option.option for option in verdict.options], []
    numbered = enumerate(gravest_first(verdict.warnings), start=1)
    for weight, group in groupby(numbered, key=lambda one: one[1].weight):
        items = []
        for i, warning in group:
            items.append(Markdown("{}. **{}**").format(i, warning.message))
            items += [Markdown("    * {}").format(row) for row in _few_rows(warning.rows, options)]
        parts += [Markdown("{}:").format(weight), Markdown("\n").join(items)]
    return Prose(Markdown("\n\n").join(parts))


def _few_rows(rows: list[str], options: list[str]) -> list[str]:
    """The rows of a warning if they are few; else the first, which are the worst, and how many more there are of which option."""
    if len(rows) <= MOST_ROWS:
        return rows
    more = rows[MOST_NAMED:]
    longest_first = sorted(options, key=len, reverse=True)
    of = Counter(next((name for name in longest_first if row.startswith(name)), "") for row in more)
    counts = ", ".join(f"{of[name]:,} of {name}" for name in options if of[name])
    return [
        *rows[:MOST_NAMED],
        f"and {len(more):,} more{f': {counts}' if counts else ''} (all: verdict.json, warnings)",
    ]
