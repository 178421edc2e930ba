"""Checks of load points: how load was generated, and how certain the numbers are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.control import Move
from helpers.metrics.formulas import UNDECIDED
from helpers.metrics.looks import looks_of
from helpers.metrics.sample_size import requests_for_percentile
from helpers.number_text import percent, significant
from helpers.run.machine import BUSY_MACHINE, busy_words
from helpers.run.records import ENOUGH_REQUESTS, PROMPTS_RAN_OUT, WHOLE_SCHEDULE, AttemptFacts
from helpers.run.report_warning import ReportWarning
from helpers.verdict.chosen_points import judged_facts, judged_points

CONCURRENCY_TOLERANCE = 0.98
HIT_RATE_TOLERANCE = 0.05
RATE_TOLERANCE = 0.02
PLANNED_ENDS = {ENOUGH_REQUESTS, WHOLE_SCHEDULE}
"""Reasons for which a load point ends as planned; ramps and traces end with their schedule."""
NEXT_STEPS = {
    "max_duration_s": " Their intervals are wider than they were to be. Next: raise load.max_duration_s.",
    PROMPTS_RAN_OUT: " Their intervals are wider than they were to be. Next: raise the `count` of their datasets, with a source "
    "that has more, or set load.repeat_prompts: true.",
}
LESS_IN_FLIGHT = (
    "Fewer requests were in flight than requested. Latency and throughput are those of the lower load: at the requested one "
    "latency would be higher. Next: read these rows at the number that was in flight."
)
TREND = "latency has a trend"
"""How `load.steady` describes a drift over the window."""


def check_load_points(
    points: pd.DataFrame, facts: list[AttemptFacts], config: BenchmarkConfig
) -> Iterable[ReportWarning]:
    """Warnings about how load was generated and how certain the numbers are."""
    judged = judged_facts(facts, config)
    yield from _client_limited(judged)
    yield from _busy_machine(facts)
    yield from _measured_again(facts)
    yield from _not_steady(judged)
    yield from _doubtful_alone([f for f in facts if f not in judged])
    yield from _errors(points)
    yield from _never_answered(points, config)
    yield from _few_samples(judged_points(points, config), config)
    yield from _ended_early(facts)
    yield from _concurrency(points)
    yield from _arrivals(points)
    yield from _clock_sources(facts)
    yield from _hit_rates(points)


def _client_limited(facts: list[AttemptFacts]) -> Iterable[ReportWarning]:
    rows = [f"{f.words}: {'; '.join(f.client_limited)}" for f in facts if f.client_limited]
    if rows:
        yield ReportWarning(
            kind="client_limited",
            message="The client, not the server, limited these load points: they are shown, but the verdict ignores them. "
            "(Answers that the server itself refused or spoiled count all the same.) An option may be cheaper there. Next: send "
            "from a machine with more free CPU, closer to the server.",
            rows=rows,
        )


def _measured_again(facts: list[AttemptFacts]) -> Iterable[ReportWarning]:
    """Load machines that were lost, or whose clocks moved."""
    rows = [f"{f.words}: {'; '.join(f.voided)}" for f in facts if f.voided]
    if rows:
        yield ReportWarning(
            kind="measured_again",
            message="These load points were begun again because of the machines that send (load.cluster); what was measured "
            "before is not counted, and a machine that was lost sent nothing more in this run. Next: see why "
            "(logs/load-*.log); the verdict needs nothing.",
            rows=rows,
        )


def _busy_machine(facts: list[AttemptFacts]) -> Iterable[ReportWarning]:
    """Where the server runs on the machine that sends, other activity of the machine is measured with it."""
    served = [f for f in facts if f.machine is not None and f.machine.serves]
    if busy := [f for f in served if f.machine.is_busy]:
        yield ReportWarning(
            kind=BUSY_MACHINE,
            message=f"{busy_words([f.machine for f in busy])} during {len(busy)} of {len(served)} measurements. An "
            "idle machine may give other figures. Next: close other programs and run it again.",
            rows=[f"{f.words}: {f.machine.words}" for f in busy],
        )


def _not_steady(facts: list[AttemptFacts]) -> Iterable[ReportWarning]:
    """Load points that found no steady state; a ramp does not look for one."""
    unsteady = [f for f in facts if f.steady is False]
    drifting = [f for f in unsteady if f.steady_because.startswith(TREND)]
    others = [f for f in unsteady if f not in drifting]
    for kind, mine, message in (
        ("trend", drifting, "Latency drifts over the window"),
        ("not_steady", others, "No steady state was found"),
    ):
        if mine:
            rows = [f"{f.words}: {f.steady_because}" for f in mine]
            message += (
                ": these load points cannot show that the SLO is met. An option may be cheaper there. Next: measure for longer "
                "(load.min_requests, load.max_duration_s); if they still are not steady, the load is too high."
            )
            yield ReportWarning(kind=kind, message=message, rows=rows)


def _doubtful_alone(facts: list[AttemptFacts]) -> Iterable[ReportWarning]:
    """What parts of a mix are alone is compared, and not judged."""
    doubts = {f.words: [*f.client_limited, *([f.steady_because] if f.steady is False else [])] for f in facts}
    if rows := [f"{words}: {'; '.join(why)}" for words, why in doubts.items() if why]:
        yield ReportWarning(
            kind="doubtful_alone",
            message="Datasets that were loaded alone, for comparison with the mix, found no steady state there, or the client "
            "limited them: what the others do to them may be more or less than the report says. The verdict is without them. "
            "Next: if the comparison matters, measure for longer (load.min_requests, load.max_duration_s).",
            rows=rows,
        )


def _hit_rates(points: pd.DataFrame) -> Iterable[ReportWarning]:
    """Prefix caches that found another share of the prompt tokens than was asked for. One that reports nothing is unknown."""
    known = points.dropna(subset=["asked_hit_rate", "found_hit_rate"])
    off = known[(known["asked_hit_rate"] - known["found_hit_rate"]).abs() > HIT_RATE_TOLERANCE]
    if len(off):
        rows = [
            f"{r.option}, {r.dataset}, {r.load}: asked {percent(r.asked_hit_rate)}, sent {percent(r.sent_hit_rate)}, "
            f"found {percent(r.found_hit_rate)}"
            for r in off.itertuples()
        ]
        yield ReportWarning(
            kind="hit_rate",
            message="Prefix caches found another share of the prompt tokens than prompts.prefix asks: latency and price here are "
            "those at the share that was found. Caches hold whole blocks of tokens, as far as memory goes. Next: if too little "
            "was sent, lower prompts.prefix.groups or raise load.warmup_requests; if too little was found, switch the cache on, "
            "give it more memory, or ask for longer prefixes.",
            rows=rows,
        )


def _errors(points: pd.DataFrame) -> Iterable[ReportWarning]:
    bad = points[points["failures"] > 0].sort_values("error_rate", ascending=False, kind="stable")
    if len(bad):
        rows = [f"{r.option}, {r.dataset}, {r.load}: {r.failures} of {r.n}" for r in bad.itertuples()]
        yield ReportWarning(
            kind="errors",
            message="Requests failed; they count as infinitely slow. Next: see the table of errors for what the server said.",
            rows=rows,
        )


def _never_answered(points: pd.DataFrame, config: BenchmarkConfig) -> Iterable[ReportWarning]:
    """Answers that ended while the model thought."""
    bad = points[points["never_answered"] > 0]
    if len(bad):
        bad = bad.assign(answers=bad["n"] - bad["failures"])
        counts = bad.groupby("option", sort=False)[["never_answered", "answers"]].sum()
        misses = "they miss the limit on ttfa_s" if config.slo.ttfa_s is not None else "no limit of the SLO is on TTFA"
        yield ReportWarning(
            kind="never_answered",
            message="Answers ended while the model was still thinking: users would have seen none of them. They count as "
            f"successes in throughput and price; {misses}. Next: raise generation.max_output_tokens, or let the model think less "
            "(for example extra_body: {reasoning_effort: low}).",
            rows=[f"{option}: {row.never_answered:,} of {row.answers:,} answers" for option, row in counts.iterrows()],
        )


def _few_samples(points: pd.DataFrame, config: BenchmarkConfig) -> Iterable[ReportWarning]:
    """Undecided load points with fewer requests than a window waits for. A race asks for as many as it needs, and says what it
    leaves open.
    """
    slo = config.slo
    needed = math.ceil(
        requests_for_percentile(slo) / min(config.smallest_share(d.name) for d in config.judged_datasets)
    )
    few = points[(points["n"] < needed) & (points["slo"] == UNDECIDED)].sort_values("n", kind="stable")
    if len(few) and looks_of(config) is None:
        rows = [f"{r.option}, {r.dataset}, {r.load}: n = {r.n}" for r in few.itertuples()]
        yield ReportWarning(
            kind="few_samples",
            message=f"Fewer than the {needed} requests that are needed to show p{slo.percentile:g} with {slo.confidence:.0%} "
            "confidence, unless the limit is far away: these load points are undecided, and an option may be cheaper there. "
            f"Next: measure at least {needed} requests at each (load.min_requests, load.max_duration_s, `count` of the "
            "datasets).",
            rows=rows,
        )


def _ended_early(facts: list[AttemptFacts]) -> Iterable[ReportWarning]:
    for reason in sorted({f.ended_because for f in facts} - PLANNED_ENDS):
        yield ReportWarning(
            kind="ended_early",
            message=f"Load points ended early: {reason}.{NEXT_STEPS.get(reason, '')}",
            rows=[f.words for f in facts if f.ended_because == reason],
        )


def _concurrency(points: pd.DataFrame) -> Iterable[ReportWarning]:
    """Closed loops only: in an open loop the server decides how many requests are in flight."""
    closed = points[points["load_kind"] == "closed_loop"]
    closed = closed.iloc[(closed["achieved_concurrency"].astype(float) / closed["level"]).argsort(kind="stable")]
    low = closed[closed["achieved_concurrency"] < CONCURRENCY_TOLERANCE * closed["level"]]
    if len(low):
        rows = [
            f"{r.option}, {r.dataset}: {significant(r.achieved_concurrency)} of {r.level:g} requested"
            for r in low.itertuples()
        ]
        yield ReportWarning(kind="concurrency", message=LESS_IN_FLIGHT, rows=rows)
    high = closed[closed["achieved_concurrency"] > closed["level"] / CONCURRENCY_TOLERANCE]
    if len(high):
        rows = [
            f"{r.option}, {r.dataset}: {significant(r.achieved_concurrency)} of {r.level:g}"
            for r in high[::-1].itertuples()
        ]
        yield ReportWarning(
            kind="concurrency",
            message="More requests were in flight than the concurrency allows: the file has a wrong concurrency or time. These "
            "rows may be better or worse than they seem. Next: correct the file, or leave it out.",
            rows=rows,
        )


def _arrivals(points: pd.DataFrame) -> Iterable[ReportWarning]:
    """Open loops only: requests sent per second, compared with the random schedule."""
    scheduled = points[points["asked_rate_per_s"].notna() & points["achieved_rate_per_s"].notna()]
    off = (scheduled["achieved_rate_per_s"] / scheduled["asked_rate_per_s"] - 1).abs()
    rows = [
        f"{r.option}, {r.dataset}, {r.load}: {r.achieved_rate_per_s:.2f} "
        f"{'sessions' if r.load_kind == 'sessions' else 'requests'}/s sent of {r.asked_rate_per_s:.2f} scheduled"
        for r in scheduled[off > RATE_TOLERANCE].itertuples()
    ]
    if rows:
        yield ReportWarning(
            kind="arrivals",
            message=f"Requests were sent at a rate that differs from the schedule's by more than {RATE_TOLERANCE:.0%}. These "
            "rows are of another load than they name. Next: send from a machine with more free CPU.",
            rows=rows,
        )


def _clock_sources(facts: list[AttemptFacts]) -> Iterable[ReportWarning]:
    sources: dict[str, set[str]] = {}
    for f in facts:
        sources.setdefault(f.option, set()).add(f.clock_source)
    if set().union(*sources.values()) not in ({"kernel"}, {"user"}, set()):
        rows = [f"{option}: {' and '.join(sorted(used))}" for option, used in sources.items()]
        yield ReportWarning(
            kind="clock_sources",
            message="Receive times come from more than one clock: some from the kernel, others from the load process, "
            "which are later by the time until it ran. Next: do not rely on differences as small as the event-loop lag.",
            rows=rows,
        )


def check_moves(moves: Sequence[Move], config: BenchmarkConfig) -> Iterable[ReportWarning]:
    """Options that were slower or faster at the end of their visit than at its start, the most changed first."""
    moved = sorted((move for move in moves if move.is_shown), key=lambda move: -abs(move.change.value))
    if moved:
        repeat = f"load.repetitions: {config.load.repetitions + 1}"
        repeat = f"load.race: false and {repeat}" if config.load.race.enabled else repeat
        yield ReportWarning(
            kind="moved",
            message="The service changed while it was measured. Intervals leave out what changes between load points: "
            f"differences of less than {abs(moved[0].change.value):.0%} from one of these options may be due to that. Next: "
            f"measure again at another hour, or set {repeat}.",
            rows=[f"{move.option}, {move.dataset}, {move.load}: {move_words(move)}" for move in moved],
        )


def move_words(move: Move) -> str:
    """For example: `requests took 9% longer [6%, 12%] at the end of the visit than at its start`."""
    sign = -1 if move.change.value < 0 else 1
    low, high = sorted(sign * bound for bound in (move.change.low, move.change.high))
    return (
        f"requests took {abs(move.change.value):.0%} {'less' if sign < 0 else 'longer'} [{low:.0%}, {high:.0%}] at the end of "
        "the visit than at its start"
    )
