"""How numbers are written. The only place where anything is rounded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

UNKNOWN = "–"
MULTIPLES = {1e3: "1,000", 1e6: "1M"}
"""The numbers of requests or tokens that a price may be of, with how they are written."""


def decimals_for(values: Iterable[float | None], significant: int = 3) -> int:
    """Decimals that a column needs to show its smallest non-zero value with `significant` digits."""
    sizes = [abs(v) for v in values if is_known(v) and math.isfinite(v) and v != 0]
    if not sizes:
        return 0
    return min(6, max(0, significant - 1 - math.floor(math.log10(min(sizes)))))


def number(value: float | None, decimals: int = 0) -> str:
    """A number with thousands separators; a dash if it is unknown."""
    if not is_known(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞"
    return f"{value:,.{decimals}f}"


def significant(value: float | None, digits: int = 3) -> str:
    """A number with a few significant digits, for prose."""
    return number(value, decimals_for([value], digits))


def dollars(value: float | None) -> str:
    """Dollars with a few significant digits, without cents from $100."""
    return UNKNOWN if not is_known(value) else f"${significant(value)}"


def dollars_apart(one: float, other: float) -> tuple[str, str]:
    """Two amounts of dollars, with as many significant digits as tell them apart, at most six."""
    written = [(f"${significant(one, digits)}", f"${significant(other, digits)}") for digits in range(3, 7)]
    return next((pair for pair in written if pair[0] != pair[1]), written[0])


def money(usd: float | None) -> str:
    """An amount of dollars, with cents below $10."""
    return UNKNOWN if not is_known(usd) else f"${number(usd, 0 if usd >= 10 else 2)}"


def multiple_for(prices: Iterable[float | None], usual: float) -> float:
    """The multiple (a key of MULTIPLES) that puts most of these prices of one between $0.10 and $1,000; else `usual`."""
    known = [price for price in prices if is_known(price)]
    return max((usual, *MULTIPLES), key=lambda of: sum(0.1 <= price * of < 1000 for price in known))


def percent(share: float | None, decimals: int = 0) -> str:
    """A share in percent."""
    return UNKNOWN if not is_known(share) else f"{share * 100:.{decimals}f}%"


def duration(seconds: float | None) -> str:
    """A latency, with a few significant digits: milliseconds below one second, else seconds."""
    if not is_known(seconds):
        return UNKNOWN
    return f"{significant(seconds * 1000)} ms" if seconds < 1 else f"{significant(seconds)} s"


@dataclass(frozen=True)
class Interval:
    """The bounds of an interval, which is written in brackets; unknown where neither is known."""

    low: float | None
    high: float | None
    decimals: int

    def __str__(self) -> str:
        if not is_known(self.low) and not is_known(self.high):
            return UNKNOWN
        high = number(self.high, self.decimals) if is_known(self.high) else "∞"
        return f"[{number(self.low, self.decimals)}, {high}]"


NO_INTERVAL = Interval(None, None, 0)


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def some(items: Iterable[str], most: int = 3) -> str:
    """The first of some items, and how many more there are, for example `a; b; c; and 4 more`."""
    items = list(items)
    more = len(items) - most
    return "; ".join(items[:most]) + (f"; and {more:,} more" if more > 0 else "")


def is_known(value: float | None) -> bool:
    """False for None and NaN."""
    return value is not None and value == value
