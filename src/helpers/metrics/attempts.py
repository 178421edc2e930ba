"""Which attempts at a load point count: a race repeats one that says nothing about its server.

What went wrong during an attempt (the client was late, the machine stood still) is neither the server's fault nor its merit.
A further attempt takes its place; the records of both are kept.
"""

from __future__ import annotations

from helpers.run.records import OVERLOAD, PROMPTS_RAN_OUT, AttemptFacts

MORE_ATTEMPTS = 2
"""Further attempts that a load point of a race may get because some could not be judged."""


def could_be_judged(facts: AttemptFacts) -> bool:
    """Does an attempt speak for or against its server: it was in a steady state (or none was looked for), or it was
    overloaded, and the client did not limit it?
    """
    if facts.client_limited or facts.window_s is None:
        return False
    return facts.steady is not False or was_overloaded(facts)


def was_overloaded(facts: AttemptFacts) -> bool:
    """Did more come than was served, so that latency rose throughout?"""
    return facts.ended_because == OVERLOAD


def is_overloaded(facts: list[AttemptFacts]) -> bool:
    """Was a load point overloaded for most of the time that it was measured? A race that looks again and again sees one that was
    not rise by chance.
    """
    measured_s = [f.window_s or 0.0 for f in facts]
    return 2 * sum(s for s, f in zip(measured_s, facts, strict=True) if was_overloaded(f)) > sum(measured_s)


def end_columns(facts: list[AttemptFacts]) -> dict[str, str | bool | None]:
    """Why the attempts of a load point ended, for its row: every reason, and whether two of them are among the reasons."""
    reasons = [reason for reason in dict.fromkeys(f.ended_because for f in facts) if reason]
    return {
        "ended_because": "; ".join(reasons) or None,
        "prompts_ran_out": PROMPTS_RAN_OUT in reasons,
        "overloaded": is_overloaded(facts),
    }


def repetitions_that_count(facts: list[AttemptFacts], repetitions: int) -> list[AttemptFacts]:
    """Of the facts of one load point: those that could be judged, if they are as many as were asked; else all, for then nothing
    has taken the place of those that could not be.
    """
    judged = [f for f in facts if could_be_judged(f)]
    return judged if len(judged) >= repetitions else facts
