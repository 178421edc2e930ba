"""The checks at the end of each notebook: each raises with a message, or returns what it verified."""

from __future__ import annotations

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.errors import AnalysisError, DeployError, LoadError, PromptError
from helpers.load.plan import count_attempts, missing_attempts
from helpers.metrics.load_point_latencies import PERCENTS
from helpers.report.display import Prose
from helpers.run.folder import RunFolder
from helpers.run.ledger import EndpointRecord, Ledger
from helpers.run.prompt_files import read_prompts
from helpers.run.records import ASKED_OUTPUT
from helpers.verdict.verdict import Verdict


def verify_prompts(config: BenchmarkConfig, run: RunFolder) -> Prose:
    """Every prompt is in its bin, is unique (but those of a trace), and fits the context with its output."""
    total, distinct = 0, True
    for dataset in config.loaded_datasets:
        prompts = read_prompts(run.payloads, dataset.name)
        low, high = dataset.prompt_tokens
        outside = prompts[(prompts["prompt_tokens"] < low) | (prompts["prompt_tokens"] >= high)]
        if len(outside):
            raise PromptError(f"{dataset.name}: {len(outside)} prompts lie outside [{low}, {high}) tokens")
        is_distinct = not prompts["rendered"].duplicated().any()
        if not is_distinct and ASKED_OUTPUT not in prompts:  # a trace may hold a prompt twice
            raise PromptError(f"{dataset.name}: a prompt occurs twice")
        outputs = prompts.get(ASKED_OUTPUT, config.generation.max_output_tokens)
        longest = int((prompts["prompt_tokens"] + outputs).max())
        if longest > config.model.context_tokens:
            raise PromptError(f"{dataset.name}: {longest} tokens exceed the context of {config.model.context_tokens}")
        total += len(prompts)
        distinct = distinct and is_distinct
    are = "are distinct and" if distinct else "though the trace repeats some, and"
    return Prose(f"All {total:,} prompts lie in their bins, {are} fit the context.")


def verify_endpoints(endpoints: list[EndpointRecord], config: BenchmarkConfig, run: RunFolder) -> Prose:
    """Every option is in the ledger, and at least one can be measured if load points are missing."""
    config = config.deployed()
    absent = {option.name for option in config.options} - {record.option for record in endpoints}
    if absent:
        raise DeployError(f"not in the ledger: {', '.join(sorted(absent))}")
    if not any(missing_attempts(option, config, run) for option in config.options):
        return Prose("Every load point is already measured: nothing was deployed.")
    ready = [r.option for r in endpoints if r.state in ("in_service", "external") and r.failure is None]
    to_come = [r.option for r in endpoints if r.state in ("planned", "creating", "waiting")]
    if not ready and not to_come:
        raise DeployError("no option is in service. Next: run this notebook again")
    failed = [record.option for record in endpoints if record.failure and record.option not in to_come]
    listed = "option" if config.endpoints.replicates == 1 else "endpoint"
    said = f"Ready: {', '.join(ready) or 'none yet'}. The ledger lists {text.plural(len(endpoints), listed)}."
    return Prose(said + (f" Failed, see above: {', '.join(failed)}." if failed else ""))


def verify_load(config: BenchmarkConfig, run: RunFolder) -> Prose:
    """Every option that came up has all its load points, and nothing remains that costs money."""
    config, ledger = config.deployed(), Ledger(run.ledger_file, run.run_id)
    counts = {option.name: count_attempts(option, config, run) for option in config.options}
    unexplained = [name for name, (done, asked) in counts.items() if done < asked and not ledger.record(name).failure]
    if unexplained:
        raise LoadError(f"load points are missing for {', '.join(unexplained)}. Next: run this notebook again")
    left = ledger.remaining()
    if left and not config.endpoints.keep:
        names = ", ".join(record.endpoint_name for record in left)
        raise LoadError(f"still there: {names}. Next: make cleanup RUN={run.path}")
    kept = f" Kept, and costing money: {', '.join(r.endpoint_name for r in left)}." if left else " No endpoint is left."
    done, asked = (sum(counts) for counts in zip(*counts.values(), strict=True))
    return Prose(f"{done} of {asked} load points are measured.{kept}")


def verify_points(points: pd.DataFrame, config: BenchmarkConfig) -> Prose:
    """Percentiles rise, rates are positive, and no closed loop measured here had more requests in flight than workers."""
    shown = [f"latency_s_p{p:g}" for p in sorted({*PERCENTS, config.slo.percentile})]
    for row in points[shown].dropna(axis=1).to_numpy(float):
        if (row[1:] < row[:-1]).any():
            raise AnalysisError(f"latency percentiles fall: {row}")
    if (points["requests_per_s"] < 0).any() or (points["window_s"] <= 0).any():
        raise AnalysisError("a load point has a negative rate or an empty window")
    closed = points[points["load_kind"] == "closed_loop"]
    crowded = closed[closed["achieved_concurrency"] > closed["level"] * 1.001]
    if len(crowded) and not config.imported:  # imported results get a warning instead
        raise AnalysisError(f"more requests were in flight than workers: {crowded['option'].tolist()}")
    return Prose(f"{text.plural(len(points), 'load point')}: percentiles rise, rates and concurrency are consistent.")


def verify_verdict(verdict: Verdict, config: BenchmarkConfig) -> Prose:
    """Every option is judged once, and only one that meets the SLO is recommended."""
    if [option.option for option in verdict.options] != [option.name for option in config.options]:
        raise AnalysisError("the verdict does not cover every option")
    if verdict.recommended is not None:
        cost = verdict.option(verdict.recommended).cost.value
        cheaper = [o.option for o in verdict.options if o.status in ("feasible", "tied") and o.cost.value < cost]
        if cheaper:
            raise AnalysisError(f"{cheaper} meet the SLO at a lower price than {verdict.recommended!r}")
    return Prose(f"All {len(verdict.options)} options are judged.")
