"""Checks of single requests: what a reader of their summary must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.summary import LoadPoint
from helpers.run.records import ASKED_OUTPUT
from helpers.run.report_warning import ReportWarning
from helpers.verdict.histories import check_histories, turn_tokens


@dataclass(frozen=True)
class LoadPointAudit:
    """What the requests of one load point show beside its metrics; counts are of the steady window, prompts of all phases."""

    option: str
    label: str
    """Option, dataset and load, as warnings name them."""
    answers: int
    longer: int
    """Answers with more output tokens than requested."""
    shorter: int
    echoed: int
    not_streamed: int
    requests: int = 0
    """Of all phases."""
    resent: int = 0
    """Of all phases: sent a second time because the kept-alive connection was closed before the answer."""
    prompt_sources: frozenset[str] = frozenset()
    """Who counted prompt tokens: `server` or `tokenizer`."""
    output_sources: frozenset[str] = frozenset()
    is_of_trace: bool = False
    """Prompts, and the output tokens requested of each answer, are those of a trace."""
    prompts: Counter[str] = field(default_factory=Counter)
    """Prompt -> times sent."""
    turn_tokens: pd.Series = field(default_factory=lambda: pd.Series(dtype=float))


def audit(point: LoadPoint) -> LoadPointAudit:
    """Look over the requests of a load point."""
    steady = point.steady
    ok = steady[steady["ok"]]
    first = point.facts[0]
    same = first.asked_output_tokens
    asked = ok[ASKED_OUTPUT] if same is None else ok[ASKED_OUTPUT].fillna(same)
    times_sent = point.requests["prompt_id"].dropna().value_counts()
    return LoadPointAudit(
        option=first.option,
        label=f"{first.option}, {first.dataset}, {first.load.label}",
        answers=len(ok),
        longer=int((ok["output_tokens"] > asked).fillna(False).sum()),
        shorter=int((ok["output_tokens"] < asked).fillna(False).sum()),
        echoed=int(steady["echoed_prompt"].fillna(False).sum()),
        not_streamed=int(ok["first_token_ns"].isna().sum()),
        requests=len(point.requests),
        resent=int(point.requests["resent"].fillna(False).sum()),
        prompt_sources=frozenset(steady["prompt_tokens_source"].dropna().unique()),
        output_sources=frozenset(steady["output_tokens_source"].dropna().unique()),
        is_of_trace=same is None and bool(asked.notna().any()),
        prompts=Counter(dict(zip(times_sent.index.tolist(), times_sent.tolist(), strict=True))),
        turn_tokens=turn_tokens(point),
    )


# --- single requests ----------------------------------------------------------------------------------------------


def check_requests(audits: list[LoadPointAudit], config: BenchmarkConfig) -> Iterable[ReportWarning]:
    """Warnings about how requests were sent, answered and counted."""
    yield from _token_counts(audits, config)
    yield from _echoed(audits)
    yield from _token_sources(audits, config)
    if config.imported or not (
        config.load.prefix_cache_salt or config.prompts.prefix
    ):  # else requests differ all the same
        yield from _repeated_prompts(audits)
    yield from check_histories([one.turn_tokens for one in audits], config)
    yield from _not_streamed(audits)
    yield from _resent(audits)


def _token_counts(audits: list[LoadPointAudit], config: BenchmarkConfig) -> Iterable[ReportWarning]:
    if config.generation is None:
        return
    of_trace = any(one.is_of_trace for one in audits)
    than = f"than the {config.generation.max_output_tokens} output tokens requested"
    than = "output tokens than requested" if of_trace else than
    total = sum(one.answers for one in audits)
    for word, column, so in (
        ("fewer", "shorter", "less work: the option seems faster and cheaper per request than it is"),
        ("more", "longer", "more work: the option seems slower and more expensive per request than it is"),
    ):
        off = [one for one in audits if getattr(one, column)]
        if off and (config.generation.fixed_output_length or word == "more"):
            count = sum(getattr(one, column) for one in off)
            yield ReportWarning(
                kind="output_length",
                message=f"{count} of {total} answers have {word} {than}. That is {so}. Next: "
                "check that its server obeys `generation`, and how it counts tokens.",
                rows=[f"{one.label}: {getattr(one, column)} of {one.answers}" for one in off],
            )


def _echoed(audits: list[LoadPointAudit]) -> Iterable[ReportWarning]:
    echoed = [one for one in audits if one.echoed]
    if echoed:
        yield ReportWarning(
            kind="echoed_prompt",
            message=f"{sum(one.echoed for one in echoed)} answers began with the prompt; it was stripped before tokens "
            "were counted. No figure contains it, but sending it back takes time. Next: switch the echo off in the server.",
            rows=[f"{one.label}: {one.echoed}" for one in echoed],
        )


def _token_sources(audits: list[LoadPointAudit], config: BenchmarkConfig) -> Iterable[ReportWarning]:
    for name in ("prompt", "output"):
        sources: dict[str, set[str]] = {}
        for one in audits:
            by_tokenizer = _by_tokenizer(one.option, config)
            found = {by_tokenizer if source == "tokenizer" else source for source in getattr(one, f"{name}_sources")}
            sources.setdefault(one.option, set()).update(found)
        if len(set().union(*sources.values())) > 1:
            rows = [f"{option}: {' and '.join(sorted(found))}" for option, found in sources.items()]
            message = f"Some {name} tokens were counted by the server, others by a tokenizer."
            if not any("server" in found for found in sources.values()):
                message = f"Not all {name} tokens were counted with the same tokenizer."
            message += (
                " Prices per token of options that count differently cannot be compared closely. Next: set the same tokenizer "
                "for all options, and have all servers report usage, or none."
            )
            yield ReportWarning(kind="token_sources", message=message, rows=rows)


def _by_tokenizer(option: str, config: BenchmarkConfig) -> str:
    """The tokenizer in words, with its name if it is not the model's."""
    own = None if config.imported else next((o.tokenizer for o in config.options if o.name == option), None)
    return f"tokenizer {own}" if own and own != config.model.tokenizer else "tokenizer"


def _repeated_prompts(audits: list[LoadPointAudit]) -> Iterable[ReportWarning]:
    """A server with a prefix cache answers a repeated prompt faster."""
    sent: dict[str, Counter[str]] = {}
    for one in audits:
        sent.setdefault(one.option, Counter()).update(one.prompts)
    repeated = {option: sum(times > 1 for times in prompts.values()) for option, prompts in sent.items()}
    rows = [f"{option}: {count:,} of its {len(sent[option]):,} prompts" for option, count in repeated.items() if count]
    if rows:
        why, next_step = "", "raise the `count` of the datasets, or set load.prefix_cache_salt: true"
        if any(one.is_of_trace for one in audits):
            why, next_step = ", by the trace or because it was replayed more than once", "replay it once, at one speed"
        yield ReportWarning(
            kind="repeated_prompts",
            message=f"Prompts were sent more than once{why}: a server with a prefix cache answers repeated ones faster. With "
            f"such a cache an option may be slower, and more expensive, on prompts that do not repeat. Next: {next_step}.",
            rows=rows,
        )


def _not_streamed(audits: list[LoadPointAudit]) -> Iterable[ReportWarning]:
    rows = sorted({one.option for one in audits if one.not_streamed})
    if rows:
        yield ReportWarning(
            kind="not_streamed",
            message="Answers were not streamed: TTFT and TPOT are unknown, and no limit on them can be judged. Next: if the SLO "
            "needs them, use an `api` that streams.",
            rows=rows,
        )


def _resent(audits: list[LoadPointAudit]) -> Iterable[ReportWarning]:
    sent, resent = Counter(), Counter()
    for one in audits:
        sent[one.option] += one.requests
        resent[one.option] += one.resent
    if total := sum(resent.values()):
        were = "request was" if total == 1 else "requests were"
        yield ReportWarning(
            kind="resent",
            message=f"{total:,} {were} sent a second time on a new connection, because the server closed the kept-alive one "
            "before it answered. In a closed loop, latency counts from the second send. Next: if there are many, let the server "
            "or the proxy in front of it keep idle connections open for longer.",
            rows=[f"{option}: {resent[option]:,} of {sent[option]:,}" for option in sent if resent[option]],
        )
