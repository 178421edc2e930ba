"""The words and the table of two runs side by side."""

from __future__ import annotations

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.columns import Column, interval_words
from helpers.report.display import Markdown, Prose, Table, code
from helpers.verdict.compare import REAL, Comparison


def comparison_summary(comparison: Comparison | None) -> Prose | None:
    """What changed since the baseline, in a paragraph; None without one."""
    if comparison is None:
        return None
    real = [row for row in comparison.rows if row.change == REAL]
    unknown = sum(row.change is None for row in comparison.rows)
    said = Markdown("Against the baseline run {}, {} of {} differences are real; the others may be chance.").format(
        code(comparison.baseline_run), len(real), len(comparison.rows)
    )
    if unknown:
        said += f" Of {unknown} an interval is unknown, so whether they are real is unknown too."
    if comparison.not_compared:
        said += Markdown(" Not compared: {}.").format("; ".join(comparison.not_compared))
    before, now = comparison.recommended_before, comparison.recommended_now
    if before == now:
        said += f" The recommendation is the same: {_named(now)}."
    else:
        said += Markdown(" **The recommendation changed from {} to {}.**").format(_named(before), _named(now))
    return Prose(said)


def comparison_table(comparison: Comparison | None, config: BenchmarkConfig) -> Table | None:
    """Every compared metric of every load point, real differences first; None without a baseline."""
    if comparison is None:
        return None
    rows = pd.DataFrame([row.model_dump() for row in comparison.rows])
    rows = rows.assign(
        interval=[text.Interval(low, high, 3) for low, high in zip(rows["ratio_low"], rows["ratio_high"], strict=True)],
        change=rows["change"].fillna("unknown"),
        order=(rows["change"] != REAL).astype(int),
    ).sort_values("order", kind="stable")
    columns = [
        "option",
        "dataset",
        "load",
        "metric",
        Column("baseline", "baseline", lambda value, _: text.significant(value)),
        Column("now", "now", lambda value, _: text.significant(value)),
        "ratio",
        Column("interval", f"{interval_words(config)} of the ratio"),
        "change",
    ]
    caption = (
        "This run beside its baseline. A difference is real where the interval of the ratio, widened for as many "
        "comparisons (Bonferroni), does not hold 1."
    )
    return Table(rows, columns, caption)


def _named(option: str | None) -> str:
    return "no option" if option is None else f"“{option}”"
