"""What the race (`helpers.load.race`) asks of the campaign: in which order options come up, how many at once, who sets a limit
that follows the machine, for which option it is still worth waiting, and what is noted when one leaves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Semaphore

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase, PythonOption, SageMakerOption
from helpers.endpoints.quality_pass import compared_with, lacks_answers
from helpers.load.plan import missing_attempts
from helpers.load.price_bound import most_of
from helpers.load.race import Leave, Outcome
from helpers.load.race_state import leader_of, least_prices_of, step_of, took_its_part
from helpers.metrics.intervals import least_difference
from helpers.metrics.looks import looks_of
from helpers.metrics.single_requests import measured_limits, with_limits
from helpers.number_text import MULTIPLES, dollars, dollars_apart, multiple_for, plural, significant
from helpers.run.aws_errors import Cause
from helpers.run.finished_point import set_aside
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger
from helpers.run.records import read_facts

AT_ONCE = 2
"""In a race one endpoint is loaded while the next one starts."""
LOOK_S = 2.0
"""Time between two looks whether an option that waits for its load may still win."""
OPEN = "where it may win it is neither shown to meet the SLO nor to miss it"
WORDS: dict[Outcome, str] = {
    "infeasible": "it misses the SLO at every load that it could win at",
    "more expensive": "at best it costs more than the leader",
    "not cheaper": "it is not cheaper than the leader by more than load.race.indifference",
    "settled": "no further look is likely to change the verdict",
    "undecided": f"{OPEN}, and no look is left that is likely to decide that",
    "never loaded": "even at the most that it can serve it costs more than the leader",
}


def race_order(config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> list[OptionBase]:
    """The options in the order in which they come up: the config's without a race.

    In a race the one that costs least per output token at the most that it can serve comes first, if that is known of all that
    have a price; else the cheapest per hour. Unknown prices come last. The option with whose answers a gate compares those of the
    others comes before them, and where the SLO follows the machine, the config's first: it sets the limit.
    """
    if looks_of(config) is None:
        return list(config.options)
    record = {each.option: each for each in ledger.records()}
    usd_per_hour = {name: each.usd_per_option_hour() for name, each in record.items()}
    priced = [option for option in config.options if usd_per_hour.get(option.name) is not None]
    least = {option.name: least_prices_of(option, config, record[option.name])[1] for option in priced}
    price = least if all(least.values()) else usd_per_hour
    places = {option.name: price[option.name] for option in priced}
    in_order = sorted(config.options, key=lambda option: places.get(option.name, math.inf))
    in_order.sort(key=lambda option: option.name != compared_with(config))
    if config.slo.multiples() or measured_limits(run):
        in_order.sort(key=lambda option: option != config.options[0])
    return in_order


def endpoints_at_once(config: BenchmarkConfig) -> int:
    """How many endpoints may exist: in a race the one under load and the next, unless they are local and cost nothing."""
    most = config.endpoints.max_parallel_endpoints
    is_local = any(isinstance(option, SageMakerOption) and option.local for option in config.options)
    return most if looks_of(config) is None or is_local else min(most, AT_ONCE)


def served_at_once(config: BenchmarkConfig) -> int:
    """How many options notebook 03 serves: in a race one, and the next one where its endpoint takes a while to start."""
    if looks_of(config) is None or any(_starts_slowly(option) for option in config.options):
        return endpoints_at_once(config)
    return 1


def _starts_slowly(option: OptionBase) -> bool:
    if isinstance(option, SageMakerOption):
        return option.deploy and not option.local
    return isinstance(option, PythonOption)


def first_endpoints(config: BenchmarkConfig) -> int:
    """How many endpoints notebook 02 starts: in a race the next one comes up while the first is loaded."""
    is_paid = looks_of(config) is not None and endpoints_at_once(config) <= AT_ONCE
    return 1 if is_paid else endpoints_at_once(config)


def is_wanted(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> bool:
    """False once nothing more is asked of an option, as when a race has found a leader that it cannot beat."""
    if looks_of(config) is None or missing_attempts(option, config, run):
        return True
    ledger = Ledger(run.ledger_file, run.run_id)
    record = ledger.record(option.name)
    return record is not None and record.race_outcome is not None and lacks_answers(option, config, run, ledger)


@contextmanager
def place_for(option: OptionBase, places: Semaphore, config: BenchmarkConfig, run: RunFolder) -> Iterator[None]:
    """One of the places of options under load, which is waited for only as long as the option is wanted."""
    has_place = places.acquire(blocking=False)
    while not has_place and is_wanted(option, config, run):
        has_place = places.acquire(timeout=LOOK_S)
    try:
        yield
    finally:
        if has_place:
            places.release()


def limits_to_measure(config: BenchmarkConfig, run: RunFolder) -> list[str]:
    """Limits of the SLO for which single requests are to be sent to an option: in a race until they are set."""
    return list((config if looks_of(config) is None else with_limits(config, run)).slo.multiples())


def lacks_limits(config: BenchmarkConfig, run: RunFolder) -> bool:
    """Is this a race that cannot decide anything yet?"""
    return looks_of(config) is not None and bool(limits_to_measure(config, run))


def note_no_limit(
    option: OptionBase, records: list[Path], config: BenchmarkConfig, run: RunFolder, ledger: Ledger
) -> None:
    """Write into the ledger that the single requests of an option set no limit; they are set aside: a rerun sends them again."""
    kept = [set_aside(file) for file in records]
    limits = " and ".join(f"slo.{name}" for name in limits_to_measure(config, run))
    failure = (
        f"option {option.name!r}: its single requests give no value for {limits}, so it was not raced. Their records are in "
        f"{kept[0].parent}. Next: see there why they failed (for ttft_s, ttfa_s and tpot_s answers must be streamed), or write "
        f"{limits} in seconds"
    )
    ledger.update(option.name, failure=failure, cause=Cause.OTHER)


def note_leave(option: OptionBase, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> None:
    """Write into the ledger why an option left the race, with the bounds at that moment; nothing without a race."""
    record = ledger.record(option.name)
    if looks_of(config) is None or record is None or record.race_outcome:
        return
    config = with_limits(config, run)
    step = step_of(option, config, run.requests, ledger.records())
    if isinstance(step, Leave):
        ledger.update(option.name, race_outcome=step.outcome, race_because=_because(step, option, config, run, ledger))


def end_state(option: OptionBase, ledger: Ledger) -> str:
    """How an option ended of which nothing more is to be measured: `done` or `never loaded`."""
    record = ledger.record(option.name)
    return "never loaded" if record is not None and record.race_outcome == "never loaded" else "done"


def _because(step: Leave, option: OptionBase, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> str:
    """For example `after 230 requests: at best it costs more than the leader ($0.41 against $0.35 per 1,000 requests, at least
    $0.02 more)`.
    """
    sent = sum(process.requests for f in read_facts(run.requests) if f.option == option.name for process in f.processes)
    leader = leader_of(config, run.requests, ledger.records(), option.name)
    when = f"after {plural(sent, 'request')}" if sent else "before any load"
    words = f"{when}: {WORDS[step.outcome]}"
    if step.outcome == "undecided" and took_its_part(option, config, run.requests):
        words = f"{when}: {OPEN}, and the race has sent as many requests as it may"
    if step.prices and leader:
        of = multiple_for([step.prices[0].value / 1e3, leader[0].value / 1e3], 1e3)
        mine, of_leader = dollars_apart(step.prices[0].value * of / 1e3, leader[0].value * of / 1e3)
        more = least_difference(step.prices[0], leader[0]) * of / 1e3
        by = f"at least {dollars(more)} more" if more >= 0 else f"at most {dollars(-more)} less"
        words += f" ({mine} against {of_leader} per {MULTIPLES[of]} requests, {by})"
    if step.outcome != "never loaded":
        return words
    most = most_of(option, config)
    return f"{words}; its most is {significant(most.output_tokens_per_s)} output tokens/s, {most.because}"
