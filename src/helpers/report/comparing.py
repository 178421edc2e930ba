"""How two amounts compare, in words that are read once."""

from __future__ import annotations

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
    if is_same(value, of):
        return f"{same} to within {text.percent(SAME, 1)}"
    if ratio >= TIMES_FROM:
        return f"{text.significant(ratio, 2)} times {same}"
    return f"{text.percent(abs(ratio - 1), 0 if abs(ratio - 1) >= 0.01 else 1)} {more if ratio > 1 else less}"
