"""What the race (`helpers.load.race`) asks of the campaign: in which order options come up, how many at once, and what is noted
when one leaves.
"""

from __future__ import annotations

import math

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase, SageMakerOption
from helpers.load.race import Leave, Outcome
from helpers.load.race_state import leader_of, step_of
from helpers.metrics.looks import looks_of
from helpers.number_text import MULTIPLES, dollars, multiple_for, plural
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger
from helpers.run.records import read_facts

AT_ONCE = 2
"""In a race one endpoint is loaded while the next one starts."""
WORDS: dict[Outcome, str] = {
    "infeasible": "it misses the SLO at every load that it could win at",
    "more expensive": "at best it costs more than the leader",
    "not cheaper": "it is not cheaper than the leader by more than load.race.indifference",
    "settled": "nothing more would change the verdict",
}


def race_order(config: BenchmarkConfig, ledger: Ledger) -> list[OptionBase]:
    """The options in the order in which they come up: in a race the cheapest per hour first, unknown prices last; else the
    config's.
    """
    if looks_of(config) is None:
        return list(config.options)
    price = {record.option: record.usd_per_option_hour() for record in ledger.records()}

    def usd_per_hour(option: OptionBase) -> float:
        known = price.get(option.name)
        return math.inf if known is None else known

    return sorted(config.options, key=usd_per_hour)


def endpoints_at_once(config: BenchmarkConfig) -> int:
    """How many endpoints may exist: in a race the one under load and the next, unless they are local and cost nothing."""
    most = config.endpoints.max_parallel_endpoints
    is_local = any(isinstance(option, SageMakerOption) and option.local for option in config.options)
    return most if looks_of(config) is None or is_local else min(most, AT_ONCE)


def first_endpoints(config: BenchmarkConfig) -> int:
    """How many endpoints notebook 02 starts: in a race the next one comes up while the first is loaded."""
    is_paid = looks_of(config) is not None and endpoints_at_once(config) <= AT_ONCE
    return 1 if is_paid else endpoints_at_once(config)


def note_leave(option: OptionBase, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> None:
    """Write into the ledger why an option left the race, with the bounds at that moment; nothing without a race."""
    record = ledger.record(option.name)
    if looks_of(config) is None or record is None or record.race_outcome:
        return
    step = step_of(option, config, run.requests, ledger.records())
    if isinstance(step, Leave):
        ledger.update(option.name, race_outcome=step.outcome, race_because=_because(step, option, config, run, ledger))


def _because(step: Leave, option: OptionBase, config: BenchmarkConfig, run: RunFolder, ledger: Ledger) -> str:
    """For example: `after 230 requests: at best it costs more than the leader (at least $0.41 against at most $0.35 per 1,000
    requests)`.
    """
    sent = sum(process.requests for f in read_facts(run.requests) if f.option == option.name for process in f.processes)
    leader = leader_of(config, run.requests, ledger.records(), option.name)
    words = f"after {plural(sent, 'request')}: {WORDS[step.outcome]}"
    if step.prices and leader:
        low, high = step.prices[0].low / 1e3, leader[0].high / 1e3
        of = multiple_for([low, high], 1e3)
        words += f" (at least {dollars(low * of)} against at most {dollars(high * of)} per {MULTIPLES[of]} requests)"
    return words
