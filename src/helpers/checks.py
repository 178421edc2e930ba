"""Checks of a measured run. Each that fails becomes a numbered warning in the report, with the rows concerned."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import pandas as pd
from pydantic import BaseModel, ConfigDict

from helpers.config import BenchmarkConfig
from helpers.intervals import samples_to_trust
from helpers.ledger import EndpointRecord
from helpers.number_text import plural
from helpers.records import LoadPointFacts

OUTPUT_LENGTH_TOLERANCE = 0.05
CONCURRENCY_TOLERANCE = 0.98
RATE_TOLERANCE = 0.02
PRICE_AGE_DAYS = 90
PLANNED_ENDS = {"enough requests", "end of the schedule"}
"""Why a load point ends as it should; ramps and traces end with their schedule."""


class ReportWarning(BaseModel):
    """Something that a reader must know before trusting a number."""

    model_config = ConfigDict(frozen=True)
    kind: str
    message: str
    rows: list[str] = []
    """The load points, options or datasets concerned."""


def check_run(
    points: pd.DataFrame,
    requests: pd.DataFrame,
    facts: list[LoadPointFacts],
    endpoints: list[EndpointRecord],
    prompt_warnings: list[str],
    config: BenchmarkConfig,
    today: date,
) -> list[ReportWarning]:
    """All warnings of a run, the gravest first. `points` is the table of `metrics.summarise_load_points`."""
    steady = requests[requests["phase"] == "steady"]
    found = [
        *_missing_points(points, endpoints, config),
        *_missing_repetitions(points, config),
        *_different_models(config),
        *_output_lengths(points, steady, config),
        *_echoed(steady),
        *_client_limited(facts),
        *_not_steady(facts),
        *_errors(points),
        *_few_samples(points, config),
        *_ended_early(facts),
        *_concurrency(points),
        *_arrivals(points),
        *_clock_sources(facts),
        *_token_sources(steady),
        *_repeated_prompts(requests),
        *_not_streamed(steady),
        *_prices(points, endpoints, today),
    ]
    return found + [ReportWarning(kind="prompts", message=text) for text in prompt_warnings]


def same_model(config: BenchmarkConfig) -> bool:
    """Do all options serve the same model?"""
    return len({option.model or config.model.name for option in config.options}) == 1


def same_output_length(points: pd.DataFrame) -> bool:
    """Do the options give answers of the same mean length, within 5%, on every dataset?"""
    lengths = points.dropna(subset=["output_tokens_mean"]).groupby("dataset")["output_tokens_mean"]
    return bool((lengths.max() <= lengths.min() * (1 + OUTPUT_LENGTH_TOLERANCE)).all())


def _missing_points(
    points: pd.DataFrame, endpoints: list[EndpointRecord], config: BenchmarkConfig
) -> Iterable[ReportWarning]:
    have = set(points[["option", "dataset", "load"]].itertuples(index=False, name=None)) if len(points) else set()
    failures = {record.option: record.failure for record in endpoints}
    planned = [level.label for level in config.load.levels()]
    for option in config.options:
        missing = []
        for dataset in config.datasets_of(option):
            if planned:
                loads = [load for load in planned if (option.name, dataset.name, load) not in have]
                missing += [f"{option.name}, {dataset.name}, {load}" for load in loads]
            elif not any(key[:2] == (option.name, dataset.name) for key in have):
                missing.append(f"{option.name}, {dataset.name}: the search measured nothing")
        if missing:
            reason = failures.get(option.name) or "it was not run, or has no steady window"
            count = plural(len(missing), "load point" if planned else "search result")
            yield ReportWarning(kind="missing", message=f"{option.name}: {count} missing: {reason}", rows=missing)


def _missing_repetitions(points: pd.DataFrame, config: BenchmarkConfig) -> Iterable[ReportWarning]:
    short = points[points["repetitions"] < config.load.repetitions]
    if len(short):
        rows = [
            f"{r.option}, {r.dataset}, {r.load}: {r.repetitions} of {config.load.repetitions}"
            for r in short.itertuples()
        ]
        yield ReportWarning(kind="missing", message="Repetitions are missing.", rows=rows)


def _different_models(config: BenchmarkConfig) -> Iterable[ReportWarning]:
    if not same_model(config):
        served = [f"{option.name}: {option.model or config.model.name}" for option in config.options]
        yield ReportWarning(kind="different_models", message="The options do not serve the same model.", rows=served)


def _output_lengths(points: pd.DataFrame, steady: pd.DataFrame, config: BenchmarkConfig) -> Iterable[ReportWarning]:
    if not same_output_length(points):
        rows = [
            f"{row.option}, {row.dataset}, {row.load}: {row.output_tokens_mean:.1f} tokens"
            for row in points.itertuples()
        ]
        yield ReportWarning(
            kind="output_length",
            message="Answers differ in mean length by more than 5%: requests are unequal work, so options are compared "
            "per output token.",
            rows=rows,
        )
    asked = config.generation.max_output_tokens
    ok = steady[steady["status"] == "ok"]
    for word, rows in (("fewer", ok[ok["output_tokens"] < asked]), ("more", ok[ok["output_tokens"] > asked])):
        if len(rows) and (config.generation.fixed_output_length or word == "more"):
            yield ReportWarning(
                kind="output_length",
                message=f"{len(rows)} of {len(ok)} answers have {word} than the {asked} output tokens asked for.",
                rows=sorted(rows["load_point"].unique()),
            )


def _echoed(steady: pd.DataFrame) -> Iterable[ReportWarning]:
    echoed = steady[steady["echoed_prompt"].fillna(False)]
    if len(echoed):
        yield ReportWarning(
            kind="echoed_prompt",
            message=f"{len(echoed)} answers began with the prompt; it was stripped before tokens were counted.",
            rows=sorted(echoed["load_point"].unique()),
        )


def _client_limited(facts: list[LoadPointFacts]) -> Iterable[ReportWarning]:
    rows = [f"{f.load_point}: {'; '.join(f.client_limited)}" for f in facts if f.client_limited]
    if rows:
        yield ReportWarning(
            kind="client_limited",
            message="The client, not the server, shaped these load points: they are shown, but feed no verdict.",
            rows=rows,
        )


def _not_steady(facts: list[LoadPointFacts]) -> Iterable[ReportWarning]:
    """Load points that looked for a steady state and found none; a ramp looks for none."""
    rows = [f"{f.load_point}: {f.steady_because}" for f in facts if f.steady is False]
    if rows:
        yield ReportWarning(
            kind="not_steady",
            message="No steady state was found: these load points cannot show that the SLO is met.",
            rows=rows,
        )


def _errors(points: pd.DataFrame) -> Iterable[ReportWarning]:
    bad = points[points["failures"] > 0]
    if len(bad):
        rows = [f"{r.option}, {r.dataset}, {r.load}: {r.failures} of {r.n}" for r in bad.itertuples()]
        yield ReportWarning(kind="errors", message="Requests failed; they count as infinitely slow.", rows=rows)


def _few_samples(points: pd.DataFrame, config: BenchmarkConfig) -> Iterable[ReportWarning]:
    wanted = samples_to_trust(config.slo.percentile)
    few = points[points["n"] < wanted]
    if len(few):
        rows = [f"{r.option}, {r.dataset}, {r.load}: n = {r.n}" for r in few.itertuples()]
        yield ReportWarning(
            kind="few_samples",
            message=f"Fewer than {wanted} requests, which p{config.slo.percentile:g} wants.",
            rows=rows,
        )


def _ended_early(facts: list[LoadPointFacts]) -> Iterable[ReportWarning]:
    for reason in sorted({f.ended_because for f in facts} - PLANNED_ENDS):
        yield ReportWarning(
            kind="ended_early",
            message=f"Load points ended because of: {reason}.",
            rows=[f.load_point for f in facts if f.ended_because == reason],
        )


def _concurrency(points: pd.DataFrame) -> Iterable[ReportWarning]:
    """Of closed loops only: an open loop has as many requests in flight as the server leaves unanswered."""
    closed = points[points["load_kind"] == "closed_loop"]
    low = closed[closed["achieved_concurrency"] < CONCURRENCY_TOLERANCE * closed["level"]]
    if len(low):
        rows = [f"{r.option}, {r.dataset}: {r.achieved_concurrency:.2f} of {r.level:g} asked" for r in low.itertuples()]
        yield ReportWarning(kind="concurrency", message="Fewer requests were in flight than asked.", rows=rows)


def _arrivals(points: pd.DataFrame) -> Iterable[ReportWarning]:
    """Of open loops only: requests sent per second against those of the schedule that was drawn."""
    scheduled = points[points["asked_rate_per_s"].notna() & points["achieved_rate_per_s"].notna()]
    off = (scheduled["achieved_rate_per_s"] / scheduled["asked_rate_per_s"] - 1).abs()
    rows = [
        f"{r.option}, {r.dataset}, {r.load}: {r.achieved_rate_per_s:.2f} requests/s sent of {r.asked_rate_per_s:.2f} "
        "scheduled"
        for r in scheduled[off > RATE_TOLERANCE].itertuples()
    ]
    if rows:
        yield ReportWarning(
            kind="arrivals",
            message=f"Requests were sent at a rate that differs from the schedule's by more than {RATE_TOLERANCE:.0%}.",
            rows=rows,
        )


def _clock_sources(facts: list[LoadPointFacts]) -> Iterable[ReportWarning]:
    sources: dict[str, set[str]] = {}
    for f in facts:
        sources.setdefault(f.option, set()).add(f.clock_source)
    if set().union(*sources.values()) not in ({"kernel"}, {"user"}, set()):
        rows = [f"{option}: {' and '.join(sorted(used))}" for option, used in sources.items()]
        yield ReportWarning(
            kind="clock_sources",
            message="Receive times come from more than one clock: some from the kernel, some from the load process.",
            rows=rows,
        )


def _token_sources(steady: pd.DataFrame) -> Iterable[ReportWarning]:
    for column in ("prompt_tokens_source", "output_tokens_source"):
        sources = steady.groupby("option")[column].agg(lambda values: " and ".join(sorted(set(values.dropna()))))
        if sources.nunique() > 1 or sources.str.contains(" and ").any():
            rows = [f"{option}: {source}" for option, source in sources.items()]
            yield ReportWarning(
                kind="token_sources", message=f"{column.replace('_', ' ').capitalize()} differs.", rows=rows
            )


def _repeated_prompts(requests: pd.DataFrame) -> Iterable[ReportWarning]:
    """A server that keeps the prefixes of earlier prompts answers a repeated one faster."""
    times_sent = requests.groupby(["option", "prompt_id"]).size()
    repeated = (times_sent > 1).groupby("option").mean()
    rows = [f"{option}: {share:.0%} of its prompts" for option, share in repeated.items() if share > 0]
    if rows:
        yield ReportWarning(
            kind="repeated_prompts",
            message="Prompts were sent more than once: a server with a prefix cache answers repeated ones faster.",
            rows=rows,
        )


def _not_streamed(steady: pd.DataFrame) -> Iterable[ReportWarning]:
    ok = steady[steady["status"] == "ok"]
    rows = sorted(ok.loc[ok["first_token_ns"].isna(), "option"].unique())
    if rows:
        yield ReportWarning(
            kind="not_streamed", message="Answers were not streamed: TTFT and TPOT are unknown.", rows=rows
        )


def _prices(points: pd.DataFrame, endpoints: list[EndpointRecord], today: date) -> Iterable[ReportWarning]:
    measured = [record for record in endpoints if record.option in set(points["option"])]
    unpriced = [record.option for record in measured if record.usd_per_instance_hour is None]
    if unpriced:
        yield ReportWarning(kind="no_price", message="No price is known: measured, but not ranked.", rows=unpriced)
    old = [
        f"{record.option}: {record.price_as_of}"
        for record in measured
        if record.price_as_of and (today - date.fromisoformat(record.price_as_of)).days > PRICE_AGE_DAYS
    ]
    if old:
        yield ReportWarning(
            kind="old_price", message=f"Prices were looked up more than {PRICE_AGE_DAYS} days ago.", rows=old
        )
