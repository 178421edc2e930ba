"""From a run folder's request records to its tables and figures, and back from the files that hold them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from helpers import charts
from helpers.checks import ReportWarning, check_run
from helpers.config import BenchmarkConfig
from helpers.display import Figure
from helpers.errors import AnalysisError
from helpers.ledger import EndpointRecord, Ledger
from helpers.metrics import summarise_load_points
from helpers.pricing import price_of
from helpers.prompt_files import read_prompt_warnings
from helpers.records import LoadPointFacts, read_facts, read_requests
from helpers.run_folder import RunFolder, write_atomically
from helpers.verdict import Verdict

POINTS_FILE = "load_points.csv"
WARNINGS_FILE = "warnings.json"
FIGURES_FILE = "figures.json"


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured in a run."""

    requests: pd.DataFrame
    facts: list[LoadPointFacts]
    endpoints: list[EndpointRecord]
    points: pd.DataFrame
    """One row per load point: `metrics.summarise_load_points`."""
    warnings: list[ReportWarning]


def measure(config: BenchmarkConfig, run: RunFolder) -> Measurements:
    """Read the request records and summarise them. Raises AnalysisError where nothing was measured."""
    requests, facts = read_requests(run.requests), read_facts(run.requests)
    endpoints = _at_todays_prices(Ledger(run.ledger_file, run.run_id).records(), config, run)
    points = summarise_load_points(requests, facts, endpoints, config)
    if points.empty:
        raise AnalysisError(
            f"{run.requests}: no load point has a steady window. Next: look at the errors in the request records and at "
            f"{run.logs}, then run 03_run_inference again"
        )
    prompt_warnings = read_prompt_warnings(run.payloads)
    today = datetime.now(UTC).date()
    return Measurements(
        requests,
        facts,
        endpoints,
        points,
        check_run(points, requests, facts, endpoints, prompt_warnings, config, today),
    )


def _at_todays_prices(endpoints: list[EndpointRecord], config: BenchmarkConfig, run: RunFolder) -> list[EndpointRecord]:
    """The endpoints with the prices of the config as it is now, which may have changed since they ran."""
    vcpus = run.about()["machine"]["vcpus"]
    priced = []
    for record in endpoints:
        option = next((option for option in config.options if option.name == record.option), None)
        price = price_of(option, config.aws.region, vcpus) if option else None
        today = {
            "usd_per_instance_hour": price.usd_per_hour if price else None,
            "price_source": price.source if price else None,
            "price_as_of": price.as_of if price else None,
        }
        priced.append(record.model_copy(update=today))
    return priced


def write_metrics(run: RunFolder, measured: Measurements) -> None:
    """Write the load-point table and the warnings, unrounded."""
    write_atomically(run.metrics / POINTS_FILE, measured.points.to_csv(index=False))
    warnings = [warning.model_dump() for warning in measured.warnings]
    write_atomically(run.metrics / WARNINGS_FILE, json.dumps(warnings, indent=1) + "\n")


def read_points(run: RunFolder) -> pd.DataFrame:
    """The load-point table, exactly as it was written: names stay text, numbers keep every digit."""
    path = run.require(f"metrics/{POINTS_FILE}", "04_analyse_metrics")
    names = {"option": str, "dataset": str, "load": str}
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""], float_precision="round_trip")


def read_warnings(run: RunFolder) -> list[ReportWarning]:
    """The warnings of the checks."""
    path = run.require(f"metrics/{WARNINGS_FILE}", "04_analyse_metrics")
    return [ReportWarning.model_validate(item) for item in json.loads(path.read_text(encoding="utf-8"))]


def draw_figures(
    measured: Measurements, verdict: Verdict, config: BenchmarkConfig, run: RunFolder
) -> dict[str, Figure]:
    """Draw every figure of the report; returns name -> figure."""
    points, requests, folder = measured.points, measured.requests, run.figures
    figures = [
        charts.price_performance(points, verdict, config, folder),
        charts.latency_by_load(points, config, folder),
        charts.throughput_by_load(points, config, folder),
        charts.latency_by_prompt_length(requests, config, folder),
        charts.distribution(requests, "ttft_s", config, folder),
        charts.distribution(requests, "tpot_s", config, folder),
        *([charts.error_rates(points, config, folder)] if points["failures"].any() else []),
    ]
    index = {
        figure.path.stem: {"file": figure.path.name, "alt": figure.alt, "caption": figure.caption} for figure in figures
    }
    write_atomically(folder / FIGURES_FILE, json.dumps(index, indent=1) + "\n")
    return {figure.path.stem: figure for figure in figures}


def read_figures(run: RunFolder) -> dict[str, Figure]:
    """Name -> figure, as drawn by notebook 04."""
    index = run.require(f"figures/{FIGURES_FILE}", "04_analyse_metrics")
    content = json.loads(index.read_text(encoding="utf-8"))
    return {name: Figure(run.figures / f["file"], f["alt"], f["caption"]) for name, f in content.items()}


def write_verdict(verdict: Verdict, run: RunFolder) -> None:
    """Write verdict.json."""
    write_atomically(run.path / "verdict.json", verdict.model_dump_json(indent=1) + "\n")
