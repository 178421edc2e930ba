"""From a run folder's request records to its tables, and reading these back from their files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.options import OptionBase
from helpers.endpoints.pricing import price_of
from helpers.errors import AnalysisError
from helpers.importers.importing import import_warnings
from helpers.metrics.control import FOLDER, read_moves
from helpers.metrics.failure_counts import count_failures
from helpers.metrics.formulas import LATENCIES
from helpers.metrics.groups import read_groups, summarise_groups
from helpers.metrics.pooled_failures import judge_across_loads
from helpers.metrics.quality import AnswerQuality, read_quality
from helpers.metrics.server_load import server_columns
from helpers.metrics.summary import LoadPoint, no_load_points, read_load_points, summarise
from helpers.run.folder import RunFolder, write_atomically
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.run.prompt_files import read_prompt_warnings
from helpers.run.records import AttemptFacts, read_facts
from helpers.run.report_warning import ReportWarning, gravest_first
from helpers.run.whole_files import damage_in_words
from helpers.verdict.checks import check_run
from helpers.verdict.group_checks import group_warnings
from helpers.verdict.hit_rates import HitRates
from helpers.verdict.published import check_published
from helpers.verdict.request_checks import audit
from helpers.verdict.verdict import Verdict

POINTS_FILE = "load_points.csv"
FAILURES_FILE = "failures.csv"
WARNINGS_FILE = "warnings.json"
SAMPLES_PER_LOAD_POINT = 5000
TEXT_COLUMNS = (
    "option",
    "dataset",
    "load",
    "not_steady",
    "ended_because",
    "commonest_failure",
    "output_tokens_source",
    "prompt_tokens_source",
    *(f"part_{name}" for name in (*LATENCIES, "error_rate")),
)
SAMPLE_KEYS = ["option", "dataset", "level"]
SAMPLED = ["ok", "prompt_tokens", "latency_s", "ttft_s", "tpot_s"]


@dataclass(frozen=True)
class Measurements:
    """All measurements of a run."""

    points: pd.DataFrame
    """One row per load point: `summary.summarise`, with `HitRates.of`."""
    samples: pd.DataFrame
    """Requests of the steady windows for figures, at most SAMPLES_PER_LOAD_POINT of each load point: option, dataset, level, ok,
    prompt_tokens, latency_s, ttft_s, tpot_s."""
    facts: list[AttemptFacts]
    endpoints: list[EndpointRecord]
    warnings: list[ReportWarning]
    failures: pd.DataFrame
    """Failed requests by load point and kind: `failure_counts.count_failures`."""
    quality: dict[str, AnswerQuality] = field(default_factory=dict)
    """Option -> how right its answers are; empty where they are not scored."""


def read_measurements(config: BenchmarkConfig, run: RunFolder) -> Measurements:
    """Read the request records, load point by load point, and the groups of imported results, and summarise them.

    Raises AnalysisError where nothing was measured and no failure of an option explains it.
    """
    facts = read_facts(run.requests)
    endpoints = read_endpoints(config, run)
    endpoint = {record.option: record for record in endpoints}
    rows, audits, samples, hit_rates = [], [], [], HitRates(run, config)
    for point in read_load_points(run.requests, facts, config):
        record = endpoint.get(point.facts[0].option)
        rows.append(summarise(point, record, config) | hit_rates.of(point) | server_columns(point, run, record))
        audits.append(audit(point))
        samples.append(_sample(point, config.seed))
    groups = read_groups(run)
    grouped = summarise_groups(run, endpoints, config)
    if not rows and grouped.empty and not any(record.failure for record in endpoints):
        raise AnalysisError(
            f"{run.requests}: no load point has a steady window. Next: look at the errors in the request records and at "
            f"{run.logs}, then run 03_run_inference again"
        )
    measured = pd.DataFrame(rows) if rows else no_load_points(config)
    points = measured if grouped.empty else pd.concat([pd.DataFrame(rows), grouped], ignore_index=True)
    points = judge_across_loads(points.apply(_numbers_as_numbers), config)
    found = [
        *check_run(
            points,
            audits,
            facts,
            endpoints,
            read_prompt_warnings(run.payloads),
            config,
            datetime.now(UTC).date(),
            read_moves(run.requests, run.path / FOLDER, config),
        ),
        *check_published(run, facts, config),
        *group_warnings(groups, grouped, config),
        *import_warnings(run),
    ]
    drawn = pd.concat(samples, ignore_index=True) if samples else pd.DataFrame(columns=[*SAMPLED, *SAMPLE_KEYS])
    failures = count_failures(run.requests, facts, groups)
    quality = read_quality(config, run)
    return Measurements(points, drawn, facts, endpoints, gravest_first(found), failures, quality)


def _numbers_as_numbers(column: pd.Series) -> pd.Series:
    """A column that is empty, or holds numbers and None, as floats: as it is when read back from its file."""
    known = column.dropna()
    is_other = column.dtype != object or known.map(lambda value: isinstance(value, str | bool)).any()
    return column if is_other else column.astype(float)


def _sample(point: LoadPoint, seed: int) -> pd.DataFrame:
    """Requests of a load point for figures: all, or a random part of them in the order of sending."""
    here = point.steady
    if len(here) > SAMPLES_PER_LOAD_POINT:
        here = here.sample(SAMPLES_PER_LOAD_POINT, random_state=seed).sort_index()
    first = point.facts[0]
    return here[SAMPLED].assign(option=first.option, dataset=first.dataset, level=float(first.level))


def read_endpoints(config: BenchmarkConfig, run: RunFolder) -> list[EndpointRecord]:
    """The ledger's endpoints, each at the price that the config states now, else at the one it was measured with.

    A price is looked up again only where none was found: judging a run again months later changes no price except those that
    the user changed in the config.
    """
    vcpus = run.about()["machine"]["vcpus"]
    options = {option.name: option for option in config.options}
    return [
        _at_todays_price(record, options.get(record.option), record.region or config.aws.region, vcpus)
        for record in Ledger(run.ledger_file, run.run_id).records()
    ]


def _at_todays_price(record: EndpointRecord, option: OptionBase | None, region: str, vcpus: int) -> EndpointRecord:
    if option is None or (option.price is None and record.price is not None):
        return record
    return record.model_copy(update={"price": price_of(option, region, vcpus, instance_type=record.instance_type)})


def write_metrics(run: RunFolder, measured: Measurements) -> None:
    """Write the load-point table and the warnings, unrounded."""
    write_atomically(run.metrics / POINTS_FILE, measured.points.to_csv(index=False))
    write_atomically(run.metrics / FAILURES_FILE, measured.failures.to_csv(index=False))
    warnings = [warning.model_dump() for warning in measured.warnings]
    write_atomically(run.metrics / WARNINGS_FILE, json.dumps(warnings, indent=1) + "\n")


def read_points(run: RunFolder) -> pd.DataFrame:
    """The load-point table, exactly as it was written: names stay text, and numbers keep every digit."""
    path = run.require(f"metrics/{POINTS_FILE}", "04_analyse_metrics")
    names = dict.fromkeys(TEXT_COLUMNS, str)
    read = pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""], float_precision="round_trip")
    return read.copy()  # in one piece: a column of its own for each is what pandas warns of


def read_failures(run: RunFolder) -> pd.DataFrame:
    """The failed requests by load point and kind, as notebook 04 counted them."""
    path = run.require(f"metrics/{FAILURES_FILE}", "04_analyse_metrics")
    words = dict.fromkeys(["option", "dataset", "load", "status", "error_type", "example"], str)
    return pd.read_csv(path, dtype=words, keep_default_na=False, na_values=[""])


def read_warnings(run: RunFolder) -> list[ReportWarning]:
    """The warnings from the checks, the gravest first."""
    path = run.require(f"metrics/{WARNINGS_FILE}", "04_analyse_metrics")
    return gravest_first(ReportWarning.model_validate(item) for item in json.loads(path.read_text(encoding="utf-8")))


def write_verdict(verdict: Verdict, run: RunFolder) -> None:
    """Write verdict.json."""
    write_atomically(run.path / "verdict.json", verdict.model_dump_json(indent=1) + "\n")


def read_verdict(run: RunFolder) -> Verdict:
    """The verdict that notebook 05 wrote."""
    path = run.require("verdict.json", "05_report")
    with damage_in_words(path, "run the notebook 04_analyse_metrics again"):
        return Verdict.model_validate_json(path.read_text(encoding="utf-8"))
