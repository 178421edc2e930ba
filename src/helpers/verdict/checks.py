"""Checks of a measured run. Each check that fails becomes a numbered warning in the report, with the rows concerned.

This module checks that everything was measured, that it is comparable, and that it has a price; checks of single requests are in
`request_checks`, those of load points in `load_point_checks`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import date

import numpy as np
import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import Search
from helpers.metrics.control import Move
from helpers.metrics.formulas import MET
from helpers.number_text import duration, plural
from helpers.run.ledger import EndpointRecord
from helpers.run.records import AttemptFacts
from helpers.run.report_warning import ReportWarning
from helpers.verdict.counted import check_counts, counted_apart
from helpers.verdict.histories import are_answered, same_histories
from helpers.verdict.limits import check_server
from helpers.verdict.load_point_checks import check_load_points, check_moves
from helpers.verdict.request_checks import LoadPointAudit, check_requests

LENGTH_TOLERANCE = 0.05
STANDARD_ERRORS = 4
PRICE_AGE_DAYS = 90
NEXT_ONE_MODEL = (
    "serve the same model with all options, or score their answers beside the price (quality in the config)"
)
VERSION = re.compile(r"v?(\d+(?:\.\d+)+)")
WORD_AND_VERSION = re.compile(r"([a-z]+)(\d+(?:\.\d+)+)")


def check_run(
    points: pd.DataFrame,
    audits: list[LoadPointAudit],
    facts: list[AttemptFacts],
    endpoints: list[EndpointRecord],
    prompt_warnings: list[str],
    config: BenchmarkConfig,
    today: date,
    moves: Sequence[Move] = (),
) -> list[ReportWarning]:
    """All warnings of a run, in no order that counts. `points` is the table of `summary.summarise`."""
    found = [
        *_missing_points(points, endpoints, config),
        *_missing_repetitions(points, config),
        *_different_models(config, endpoints),
        *check_counts(points),
        *_lengths(points, endpoints, config),
        *check_requests(audits, config),
        *check_load_points(points, facts, config),
        *check_moves(moves, config),
        *check_server(points),
        *_stale_names(endpoints),
        *_mean_hides_tail(points, config),
        *_prices(points, endpoints, today),
    ]
    return found + [ReportWarning(kind="prompts", message=text) for text in prompt_warnings]


# --- is it comparable? --------------------------------------------------------------------------------------------


def same_model(config: BenchmarkConfig, endpoints: list[EndpointRecord]) -> bool:
    """True if all options serve the same model, as far as their models are known."""
    return len(set(served_models(config, endpoints).values()) - {None}) <= 1


def served_models(config: BenchmarkConfig, endpoints: list[EndpointRecord]) -> dict[str, str | None]:
    """Option -> model: that of the option in the config, else the one that its endpoint was found to serve, else the config's.
    For imported results it is unknown (None) where neither the option nor the files name it.
    """
    found = {record.option: record.model for record in endpoints if record.model}
    default = None if config.imported else config.model.name
    return {option.name: option.model or found.get(option.name) or default for option in config.options}


def same_output_length(points: pd.DataFrame) -> bool:
    """True if the options' answers have the same mean length, within 5%, on every dataset."""
    return not _unequal(points, "output_tokens")


def same_prompts(points: pd.DataFrame) -> bool:
    """True if the options' prompts have the same mean length, within 5%, on every dataset."""
    return not _unequal(points, "prompt_tokens")


def _unequal(points: pd.DataFrame, tokens: str) -> list[str]:
    """Datasets on which the mean lengths of two options, over all their loads, differ by more than 5%, and by more than the
    random choice of prompts explains (four standard errors).
    """
    found = []
    for dataset, here in points.dropna(subset=[f"{tokens}_mean"]).groupby("dataset", sort=False):
        means, errors = [], []
        for _, mine in here.groupby("option"):
            weights = mine["n"] / mine["n"].sum()
            means.append(float((weights * mine[f"{tokens}_mean"]).sum()))
            spread = mine[f"{tokens}_sd"].fillna(0).astype(float)
            errors.append(math.sqrt(float((weights * spread**2).sum()) / mine["n"].sum()))
        longest, shortest = int(np.argmax(means)), int(np.argmin(means))
        difference = means[longest] - means[shortest]
        chance = STANDARD_ERRORS * math.hypot(errors[longest], errors[shortest])
        if difference > max(LENGTH_TOLERANCE * means[shortest], chance):
            found.append(str(dataset))
    return found


def _different_models(config: BenchmarkConfig, endpoints: list[EndpointRecord]) -> Iterable[ReportWarning]:
    if config.quality is None and not same_model(config, endpoints):
        served = [f"{name}: {model or 'unknown'}" for name, model in served_models(config, endpoints).items()]
        next_step = "if these names mean the same model, write `model: ...` in the options"
        message = (
            "The options do not serve the same model, so they are compared per output token. Whether the cheapest answers as "
            f"well as the others is not measured. Next: {next_step if config.imported else NEXT_ONE_MODEL}."
        )
        yield ReportWarning(kind="different_models", message=message, rows=served)


def _lengths(points: pd.DataFrame, endpoints: list[EndpointRecord], config: BenchmarkConfig) -> Iterable[ReportWarning]:
    is_same = same_model(config, endpoints)
    if config.quality is not None and not is_same:  # each model has tokens of its own
        return
    are_counted_apart = bool(counted_apart(points, config, is_same, same_lengths=False))
    what_follows = "requests are unequal work, so options are compared per output token"
    if are_counted_apart:
        what_follows = "but tokens were not counted alike, so it is not known whether requests are unequal work"
    for tokens, kind, message, next_step in (
        (
            "prompt_tokens",
            "prompt_length",
            "Prompts differ in mean length by more than 5%",
            "send all options the same prompts, in the same chat template",
        ),
        (
            "output_tokens",
            "output_length",
            "Answers differ in mean length by more than 5%",
            "have all options answer with as many tokens (generation.fixed_output_length), if their servers can",
        ),
    ):
        next_step = "set the same tokenizer for all options" if are_counted_apart else next_step
        if kind == "prompt_length" and are_answered(config):
            next_step += f"; for histories of the same length, {same_histories(config)}"
        datasets = _unequal(points, tokens)
        if datasets:
            here = points[points["dataset"].isin(datasets)].dropna(subset=[f"{tokens}_mean"])
            yield ReportWarning(
                kind=kind,
                message=f"{message}{',' if are_counted_apart else ':'} {what_follows}. Next: {next_step}.",
                rows=[
                    f"{row['option']}, {row['dataset']}, {row['load']}: {row[f'{tokens}_mean']:.1f} tokens"
                    for _, row in here.iterrows()
                ],
            )


def _stale_names(endpoints: list[EndpointRecord]) -> Iterable[ReportWarning]:
    rows = []
    for record in endpoints:
        image = (record.image or "").rpartition("/")[2]
        ran = _versions(image)
        for words, version in _versions(record.option):
            others = [v for w, v in ran if w & words]
            if others and not any(_same_version(version, v) for v in others):
                rows.append(f"{record.option}: the name says {version}, its image is {image}")
    if rows:
        yield ReportWarning(
            kind="stale_name",
            message="An option's name gives another version than the image that ran. All figures are those of the image. Next: "
            "rename the option.",
            rows=rows,
        )


def _versions(name: str) -> list[tuple[set[str], str]]:
    """Version numbers in a name, each with the words before it: `djl-0.24.0-sdk2.14` has djl 0.24.0 and sdk 2.14."""
    found, words = [], set()
    for part in re.split(r"[\s\-_:,/()]+", name.lower()):
        if version := VERSION.fullmatch(part):
            found.append((words, version[1]))
            words = set()
        elif both := WORD_AND_VERSION.fullmatch(part):
            found.append((words | {both[1]}, both[2]))
            words = set()
        elif part:
            words = words | {part}
    return found


def _same_version(one: str, other: str) -> bool:
    """Equal as far as both go: 0.26 is 0.26.0."""
    return all(a == b for a, b in zip(one.split("."), other.split("."), strict=False))


# --- is anything missing, hidden or unpriced? ---------------------------------------------------------------------


def _missing_points(
    points: pd.DataFrame, endpoints: list[EndpointRecord], config: BenchmarkConfig
) -> Iterable[ReportWarning]:
    have = set(points[["option", "dataset", "load"]].itertuples(index=False, name=None)) if len(points) else set()
    failures = {record.option: record.why_failed() for record in endpoints}
    planned = [] if isinstance(config.load, Search) else [level.label for level in config.load.levels()]
    raced = {record.option for record in endpoints if record.race_outcome}
    for option in (option for option in config.options if option.name not in raced):
        missing = []
        for dataset in config.datasets_of(option):
            if planned:
                loads = [load for load in planned if (option.name, dataset.name, load) not in have]
                missing += [f"{option.name}, {dataset.name}, {load}" for load in loads]
            elif not any(key[:2] == (option.name, dataset.name) for key in have):
                missing.append(f"{option.name}, {dataset.name}: the search measured nothing")
        if missing:
            reason = failures.get(option.name) or (
                "it was not run, or has no steady window. The verdict is without that. Next: run notebooks 02 and 03 on this "
                "run again: they measure what is missing"
            )
            count = plural(len(missing), "load point" if planned else "search result")
            yield ReportWarning(kind="missing", message=f"{option.name}: {count} missing: {reason}", rows=missing)


def _missing_repetitions(points: pd.DataFrame, config: BenchmarkConfig) -> Iterable[ReportWarning]:
    short = points[points["repetitions"] < config.attempts_per_load_point]
    if len(short):
        rows = [
            f"{r.option}, {r.dataset}, {r.load}: {r.repetitions} of {config.attempts_per_load_point}"
            for r in short.itertuples()
        ]
        yield ReportWarning(
            kind="few_repetitions",
            message="Repetitions are missing. Intervals are wider than they would be, or of another kind. Next: run notebooks "
            "02 and 03 on this run again: they measure what is missing.",
            rows=rows,
        )


def _mean_hides_tail(points: pd.DataFrame, config: BenchmarkConfig) -> Iterable[ReportWarning]:
    """Load points whose mean is within a limit and whose tail is not: because of slow answers, or only because of failures."""
    slow, failed = [], []
    for column, limit in config.slo.limits_s().items():
        tail = f"{column}_p{config.slo.percentile:g}"
        hidden = points[(points[f"{column}_mean_ok"] <= limit) & (points[tail] > limit) & (points["slo"] != MET)]
        for _, row in hidden.sort_values([tail, "error_rate"], ascending=False, kind="stable").iterrows():
            words = f"{row['option']}, {row['dataset']}, {row['load']}: mean {duration(row[f'{column}_mean_ok'])}, "
            if column == "ttfa_s" and row["never_answered"] and math.isinf(row[tail]):
                continue  # a warning of its own says it
            if math.isinf(row[tail]):
                failed.append(words + f"{int(row['failures'])} of {int(row['n'])} requests failed, limit {limit:g} s")
            else:
                slow.append(
                    words + f"p{config.slo.percentile:g} {duration(row[tail])}, limit {limit:g} s{_with_failures(row)}"
                )
    if slow:
        yield ReportWarning(
            kind="mean_hides_tail",
            message=f"The mean meets the limit, but p{config.slo.percentile:g} does not: a report of means would pass these. "
            f"The verdict goes by p{config.slo.percentile:g}.",
            rows=slow,
        )
    if failed:
        yield ReportWarning(
            kind="errors_hide_tail",
            message=f"Errors are the cause, not latency: more than {1 - config.slo.percentile / 100:.3g} of the requests "
            f"failed, so p{config.slo.percentile:g} is missed however fast the answers are. The mean of the answers is within "
            "the limit. Next: find the cause of the errors; a faster option would not help.",
            rows=failed,
        )


def _with_failures(row: pd.Series) -> str:
    return f", with {int(row['failures'])} of {int(row['n'])} failed" if row["failures"] else ""


def _prices(points: pd.DataFrame, endpoints: list[EndpointRecord], today: date) -> Iterable[ReportWarning]:
    measured = [record for record in endpoints if record.option in set(points["option"])]
    unpriced = [record.option for record in measured if record.price is None]
    if unpriced:
        yield ReportWarning(
            kind="no_price",
            message="No price is known: measured, but not ranked. Any of these might be the cheapest. Next: set `price` in the "
            "option.",
            rows=unpriced,
        )
    old = [record for record in measured if _has_old_price(record, today)]
    if old:
        may_reorder = len({record.instance_type for record in measured}) > 1
        yield ReportWarning(
            kind="old_price",
            message=f"Prices were looked up more than {PRICE_AGE_DAYS} days ago. If they have changed, so has every amount in "
            f"dollars{', and perhaps which option is the cheapest' if may_reorder else ''}. Next: set `price` of the option to "
            "today's, and run notebooks 04 and 05 again: nothing is measured anew.",
            rows=[f"{record.option}: {record.price.as_of}" for record in old],
        )


def _has_old_price(record: EndpointRecord, today: date) -> bool:
    """True where a price that somebody will pay was looked up long ago; what runs on this machine has a stand-in for one."""
    as_of = record.price.as_of if record.price and not record.local else None
    return as_of is not None and (today - as_of).days > PRICE_AGE_DAYS
