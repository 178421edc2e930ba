"""What a race took, what it left out, and why."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Search
from helpers.config.options import OptionBase
from helpers.load.race_standing import Bill, Standing, standings_of, total
from helpers.metrics.looks import looks_of
from helpers.metrics.single_requests import with_limits
from helpers.number_text import plural
from helpers.report.charts import race_figure
from helpers.report.columns import Column, numeric
from helpers.report.comparing import listed, quoted
from helpers.report.display import Figure, Table
from helpers.report.price_unit import price_unit
from helpers.report.table_readings import race_reading
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord
from helpers.verdict.verdict import Verdict

SHORT_H = 2
"""Below, a time is given in minutes."""


def draw_race_figure(
    verdict: Verdict, endpoints: Sequence[EndpointRecord], config: BenchmarkConfig, run: RunFolder
) -> Figure | None:
    """What the race measured of each option, against the full grid; None without a race, or without a measurement."""
    if looks_of(config) is None or not any(run.requests.glob("*.parquet")):
        return None
    standings = standings_of(with_limits(config, run), run.requests, endpoints)
    words = {standing.option: standing_words(standing) for standing in standings}
    said = race_title(standings), bill_words(standings)
    return race_figure(standings, words, said, price_unit(verdict), config, run.figures)


def standing_words(standing: Standing) -> str:
    """How an option left the race, or that it did not."""
    if standing.outcome:
        return f"{standing.outcome} {standing.because}".strip()
    if standing.because:
        return f"failed: {standing.because}"
    return "still in the race" if standing.visits else "not measured"


def race_title(standings: Sequence[Standing]) -> str:
    """What the race took of the full grid, in requests."""
    spent, full = _bills(standings)
    if full is None:
        return f"The search sent {_requests(spent)}"
    return (
        f"The race sent {_requests(spent)}, {_share(spent.requests, full.requests)} of the "
        f"{text.number(full.requests)} of the full grid"
    )


def bill_words(standings: Sequence[Standing]) -> str:
    """Requests, time and dollars of the race, so far where it goes on; and what the full grid would take."""
    spent, full = _bills(standings)
    took = listed([_requests(spent), *_time_and_money(spent)])
    so_far = "" if all(standing.outcome or standing.because for standing in standings) else " so far"
    if full is None:
        return f"The search took {took}{so_far}."
    would = [f"{_requests(full)} ({_share(spent.requests, full.requests)})"]
    unknown = [standing.option for standing in standings if standing.full.hours is None]
    if full.hours is None:
        would.append(f"an unknown time, because rates of {listed(map(quoted, unknown))} are unknown")
    else:
        shares = [_share(mine, of) for mine, of in zip(spent[1:], full[1:], strict=True)]
        amounts = zip(_time_and_money(full), shares, strict=False)  # dollars are left out where nothing is billed
        would += [f"{amount} ({share})" if share else amount for amount, share in amounts]
    return (
        f"The race took {took}{so_far}. The full grid (race: false) would take {listed(would)}: an estimate from the rates at "
        "which the options answered; in brackets, what the race took of it."
    )


def _bills(standings: Sequence[Standing]) -> tuple[Bill, Bill | None]:
    """What was taken, and by the full grid; None for a search."""
    full = [s.full for s in standings]
    return total(s.spent for s in standings), None if None in full else total(full)


def _requests(bill: Bill) -> str:
    return text.plural(round(bill.requests), "request")


def _time_and_money(bill: Bill) -> list[str]:
    """Time, and dollars where anything is billed."""
    if bill.hours is None:
        time = "an unknown time"
    elif bill.hours < SHORT_H:
        time = f"{text.significant(bill.hours * 60, 2)} endpoint-minutes"
    else:
        time = f"{text.significant(bill.hours)} endpoint-hours"
    return [time] if bill.usd == 0 else [time, "unknown dollars" if bill.usd is None else text.money(bill.usd)]


def _share(part: float | None, of: float | None) -> str | None:
    return text.percent(part / of) if part is not None and of else None


def race_table(endpoints: Sequence[EndpointRecord], points: pd.DataFrame, config: BenchmarkConfig) -> Table | None:
    """What was not measured, and why: for each option how it left the race, and its loads without a look; None without a race."""
    looks = looks_of(config)
    if looks is None:
        return None
    record = {endpoint.option: endpoint for endpoint in endpoints}
    rows, missing = [], {}
    for option in config.options:
        mine = points[points["option"] == option.name]
        missing[option.name] = _missing(option, set(zip(mine["dataset"], mine["load"], strict=True)), config)
        left = record.get(option.name)
        rows.append(
            {
                "option": option.name,
                "requests": int(mine["n"].sum()),
                "outcome": (left and left.race_outcome) or ("failed" if left and left.failure else "still in it"),
                "because": (left and (left.race_because or left.why_failed())) or "",
                "unseen": "; ".join(_unseen(missing[option.name], config)) or "nothing",
            }
        )
    columns = [
        "option",
        numeric("requests", "requests measured", decimals=0),
        Column("outcome", "left the race as"),
        Column("because", "why, with the prices at that moment", wraps=True),
        Column("unseen", "not measured", wraps=True),
    ]
    caption = (
        f"What was not measured, and why. Load points were looked at {' / '.join(f'{n:,}' for n in looks.totals)} requests, "
        "and only as long as they could change the verdict. Bounds hold at all of these looks, so intervals are wider than those "
        "of single measurements."
    )
    searched = isinstance(config.load, Search)  # most levels of a search are not measured
    left_out = {} if searched else {name: sum(map(len, of.values())) for name, of in missing.items()}
    return Table(rows, columns, caption, race_reading([row["outcome"] for row in rows], left_out))


def _missing(option: OptionBase, known: set[tuple[str, str]], config: BenchmarkConfig) -> dict[str, list[str]]:
    """Dataset -> the loads of an option that are not among the `known` (dataset, load)."""
    labels = [level.label for level in config.load.levels()]
    return {d.name: [each for each in labels if (d.name, each) not in known] for d in config.datasets_of(option)}


def _unseen(missing: dict[str, list[str]], config: BenchmarkConfig) -> list[str]:
    """The load points that are missing, in words; of a search, which has many, their number."""
    if isinstance(config.load, Search):
        levels = plural(len(config.load.levels()), "level")
        return [f"{dataset} at {len(loads)} of the search's {levels}" for dataset, loads in missing.items() if loads]
    return [f"{dataset} at {load}" for dataset, loads in missing.items() for load in loads]
