"""How amounts compare and what is counted, in words that are read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from helpers import number_text as text

SAME = 0.005
"""Amounts that differ by less than this share are said to be the same."""
TIMES_FROM = 2.0
"""Ratios from here on are said as times."""


def is_same(value: float, of: float) -> bool:
    """Do two amounts differ by less than `SAME`?"""
    return abs(value - of) < SAME * abs(of) or value == of


def more_expensive(cost: float, of: float) -> str:
    """For example `50% more expensive`, `2.3 times as expensive`, or `as expensive to within 0.5%`."""
    return compared(cost, of, "more expensive", "cheaper", "as expensive")


def compared(value: float, of: float, more: str, less: str, same: str) -> str:
    """How a value compares with another one above 0: in percent, from twice on in times."""
    if of <= 0 or value <= 0:
        return f"{same} as nothing" if value == of else more if value > of else less
    ratio = value / of
    if value == of:
        return same
    if is_same(value, of):
        return f"{same} to within {text.percent(SAME, 1)}"
    if ratio >= TIMES_FROM:
        return f"{text.significant(ratio, 2)} times {same}"
    return f"{text.percent(abs(ratio - 1), 0 if abs(ratio - 1) >= 0.01 else 1)} {more if ratio > 1 else less}"


def counted(noun: str, does: Mapping[str, int]) -> str:
    """For example `Of 3 options 2 meet the SLO and 1 is not decided.`; `does`: what one of them does -> how many do it."""
    parts = [f"{count:,} {does_it if count == 1 else _of_many(does_it)}" for does_it, count in does.items() if count]
    total = sum(does.values())
    if len(parts) == 1:
        whole = {1: f"The {noun}", 2: f"Both {noun}s"}.get(total, f"All {total:,} {noun}s")
        return f"{whole} {parts[0].split(' ', 1)[1]}."
    return f"Of {total:,} {noun}s {listed(parts)}."


def _of_many(does_it: str) -> str:
    """What several do, from what one does."""
    verb, *others = does_it.split(" ", 1)
    return " ".join([{"is": "are", "has": "have", "was": "were"}.get(verb, verb.removesuffix("s")), *others])


def listed(parts: Iterable[str]) -> str:
    """For example `a, b and c`."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def quoted(name: str) -> str:
    """A name as it stands in prose."""
    return f"“{name}”"
