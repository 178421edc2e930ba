"""The control block: at the end of an option's visit one more short block at a load point that was measured early.

It shows whether the service moved meanwhile (`helpers.metrics.control`). Nothing is measured where two blocks of a load point
are far apart already, or where no block is small enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import ROUNDS, LoadBase
from helpers.config.load_level import LoadLevel
from helpers.config.options import OptionBase
from helpers.config.strict import slug
from helpers.load.race_state import Block, read_block, sent_of
from helpers.metrics.control import FOLDER, apart, comparable, is_controlled, visit_of
from helpers.run.folder import RunFolder
from helpers.run.ledger import READY, Ledger
from helpers.run.records import Attempt

SHARE = 0.05
"""Of the requests that an option was sent, and of the time that it was loaded, that a control block may add."""
FEWEST = 20
"""Requests of its window: fewer are not judged steady."""
WARM_UP_AND_DRAIN = 3
"""Requests of each worker outside of the window: its first, one in flight at the close, and one until the last is answered."""


class Control(NamedTuple):
    """A control block to be measured."""

    dataset: str
    level: LoadLevel
    requests: int
    """Of its window."""
    seconds: float
    """Of load, at most."""

    def asked(self, load: LoadBase) -> dict[str, object]:
        """What it changes of the config's load: the server is warm, and each worker has to have answered once."""
        least = {"min_requests": self.requests, "min_duration_s": 0.0, "target_relative_ci": None, "warmup_requests": 1}
        return {**least, "max_duration_s": min(self.seconds, load.max_duration_s)}


def control_attempt(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> Attempt | None:
    """The control block of an option whose load points are measured; None where it has one, or none is to be measured.

    It belongs to the visit: once the endpoint is gone, none is brought up for it.
    """
    record = Ledger(run.ledger_file, run.run_id).record(option.name)
    is_up = record is not None and record.state in READY
    if not is_up or any((run.path / FOLDER).glob(f"{slug(option.name)}__*.parquet")):
        return None
    control = control_of(option, config, run)
    return None if control is None else Attempt(option.name, control.dataset, control.level, 1, is_control=True)


def control_of(option: OptionBase, config: BenchmarkConfig, run: RunFolder) -> Control | None:
    """What follows from the blocks of an option that are on disk."""
    if not is_controlled(option, config):
        return None
    files = run.requests.glob(f"{slug(option.name)}__*.parquet")
    return choose_control([read_block(file) for file in files])


def choose_control(blocks: Sequence[Block]) -> Control | None:
    """Of the load points at which a block is small enough: the one at which a steady drift would show best, by the time since it
    was first measured and the root of the requests that it is given.
    """
    facts = [block.facts for block in blocks]
    if not blocks or apart(facts) is not None:
        return None
    visit, found = visit_of(facts), {}
    firsts = {(f.dataset, f.load): f for f in reversed(comparable(facts))}
    for place, first in firsts.items():
        block = next(block for block in blocks if block.facts is first)
        per_s = sent_of([block]) / block.lasted_s
        most = SHARE * min(sent_of(blocks), per_s * sum(block.lasted_s for block in blocks))
        requests = math.floor(most - WARM_UP_AND_DRAIN * first.level)
        if requests >= max(FEWEST, ROUNDS * first.level):
            shows = (visit.end_ns - visit_of([first]).middle_ns) * math.sqrt(requests)
            found[place] = shows, requests, float(most / per_s)
    if not found:
        return None
    place = max(found, key=lambda one: found[one][0])
    return Control(*place, *found[place][1:])
