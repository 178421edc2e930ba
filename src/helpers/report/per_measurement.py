"""Tables on the load generator: a row for each load point, or for each measurement where load points were measured repeatedly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from helpers import number_text as text
from helpers.report.columns import Column, numeric
from helpers.report.display import Folded, Table
from helpers.run.records import AttemptFacts


def in_order(facts: Iterable[AttemptFacts]) -> list[AttemptFacts]:
    """By option and dataset, each in order of level and repetition."""
    return sorted(facts, key=lambda f: (f.option, f.dataset, f.level, f.repetition))


def folded(
    line: str,
    facts: list[AttemptFacts],
    cells: Callable[[AttemptFacts], dict[str, object]],
    columns: Sequence[Column | str],
    caption: str,
) -> Folded:
    """A line, and the table behind it: a row for each measurement, with its `cells` behind its names. Which measurement of its
    load point it is stands there only where one has several.
    """
    rows = [
        {"option": f.option, "dataset": f.dataset, "load": f.load.label, "measurement": f.repetition} | cells(f)
        for f in facts
    ]
    which = [numeric("measurement", "measurement", decimals=0)] if _are_repeated(facts) else []
    return Folded(line, Table(rows, ["option", "dataset", "load", *which, *columns], caption))


def _are_repeated(facts: list[AttemptFacts]) -> bool:
    return len({(f.option, f.dataset, f.level) for f in facts}) < len(facts)


def share_of(count: int, facts: list[AttemptFacts]) -> str:
    """For example `2 of 18 load points`."""
    return f"{count:,} of {text.plural(len(facts), 'measurement' if _are_repeated(facts) else 'load point')}"


def spread(prefix: str, values: dict[str, float] | None, *more: str) -> dict[str, float | None]:
    """p50, p99 and max (and more) of a measurement under column names of their own; None where it was not made."""
    return {f"{prefix}_{name}": (values or {}).get(name) for name in (*more, "p50", "p99", "max")}


def spread_columns(prefix: str, header: str, decimals: int, *more: str) -> list[Column]:
    """The columns of `spread`, in ms; only the first has the whole header."""
    return [
        numeric(f"{prefix}_{name}", f"{header} {name}, ms" if i == 0 else f"{name}, ms", decimals=decimals)
        for i, name in enumerate((*more, "p50", "p99", "max"))
    ]
