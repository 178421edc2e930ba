"""A busy machine is late, and what its client was late for is not judged: not where a test looks at what judgements lead to."""

import math

from helpers.load import findings

NEVER = dict.fromkeys(("BUSY_SHARE", "IDLE_SHARE", "STANDSTILL_SHARE", "LATE_MS", "LOOP_LAG_MS"), math.inf)


def bear_a_busy_machine(patch: object = None) -> None:
    """In this process, until the patch is undone, no lateness of the client keeps a load point from being judged."""
    for name, limit in NEVER.items():
        (patch.setattr if patch else setattr)(findings, name, limit)
