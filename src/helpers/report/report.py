"""The words and tables of the report. Each function takes measured data and gives one thing to show.

Nothing is computed here that is not said here: numbers come from `metrics` and `verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.config.mix import MIXED
from helpers.metrics.intervals import CONFIDENCE, share_bounds
from helpers.metrics.single_requests import slo_sentence
from helpers.report.columns import Column, interval_column, numeric
from helpers.report.comparing import quoted
from helpers.report.display import Figure, Markdown, Prose, Table, code
from helpers.report.load_report import LATENCY_NAME, SLO_WORDS, level_column, load_words
from helpers.report.price_unit import interval_of, price_column, price_unit, scaled
from helpers.report.table_readings import load_points_reading
from helpers.report.thinking_report import price_note
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger
from helpers.run.prompt_files import (
    read_prompt_notes,
    read_prompt_warnings,
    read_trace_notes,
    sample_prompts,
    summarise_prompts,
)
from helpers.verdict.chosen_points import main_latency, percentile_column
from helpers.verdict.startup import FIRST, Startup
from helpers.verdict.verdict import OptionVerdict, Verdict

STATUS_WORDS = {
    "recommended": "recommended",
    "tied": "tied with the recommended",
    "feasible": "meets the SLO",
    "undecided": "not decided",
    "not_judged": "not judged",
    "infeasible": "misses the SLO",
    "below_quality": "fails the quality gate",
    "eliminated": "eliminated",
    "unpriced": "no price",
    "incomplete": "not measured",
    "failed": "failed",
}

RULE_OF_THREE_FROM = 30
"""Requests from which "about 3 in n" is true enough of what none of n met."""
NO_FIGURE = {
    "price_performance": "There is no figure of price against latency: no load point has both a finite price and a finite "
    "latency percentile.",
    "load_vs_latency": "There is no figure of latency against the load: no load point has a finite latency percentile.",
    "load_vs_throughput": "There is no figure of throughput against the load: no load point has a throughput.",
    "bill_by_traffic": "There is no figure of the bill: no option that may be recommended has a known price.",
    "tokens_vs_latency": "There is no figure of latency against prompt length: no request was answered whose "
    "length is known.",
    "ttft": "There is no figure of TTFT: no answer was streamed, none came, or imported files do not hold it.",
    "tpot": "There is no figure of TPOT: no answer of two tokens or more was streamed, or imported files do not hold it.",
}

# --- prompts ------------------------------------------------------------------------------------------------------


def prompts_table(payload_dir: Path, notes: Sequence[str] = ()) -> Table:
    """How many prompts were made for each dataset, and how long they are, with notes on how files were read."""
    columns = ["dataset", "asked", "made", "min_prompt_tokens", "median_prompt_tokens", "max_prompt_tokens", "answers"]
    rows = summarise_prompts(payload_dir)
    rows = rows.assign(answers=["yes" if has else "no" for has in rows["has_answers"]])
    warnings = [f"Warning: {warning}" for warning in read_prompt_warnings(payload_dir)]
    sentences = (["Prompts made for each dataset."], notes, read_prompt_notes(payload_dir), warnings)
    return Table(rows, columns, " ".join(sentence.rstrip(".") + "." for each in sentences for sentence in each))


def prompt_samples(payload_dir: Path, rows: int, seed: int) -> Table:
    """A few prompts, from their beginning."""
    columns = ["dataset", "prompt_tokens", "beginning"]
    return Table(sample_prompts(payload_dir, rows, seed), columns, "A random sample of prompts.")


# --- the answer and its tables ----------------------------------------------------------------------------------


def summary(verdict: Verdict, run: RunFolder, config: BenchmarkConfig) -> Prose:
    """What was compared, when, on what."""
    started = datetime.fromisoformat(run.about()["started_at"])
    named = Markdown("{} ({})")
    left_out = [r.option for r in Ledger(run.ledger_file, run.run_id).records() if r.race_outcome == "never loaded"]
    answered = [o for o in verdict.options if o.option not in (*verdict.not_measured, *left_out)]
    options = Markdown(", ").join(
        named.format(quoted(o.option), code(o.instance_type)) for o in answered or verdict.options
    )
    datasets = Markdown(", ").join(code(d.name) for d in config.datasets)
    did, began = ("Others measured", "imported") if config.imported else ("We measured", "started")
    did = did if answered else "We tried to measure"
    measured = Markdown("{} {} serving {} on {} ({}){} {}.").format(
        did,
        options,
        code(verdict.model),
        text.plural(len(config.datasets), "dataset"),
        datasets,
        _together(config),
        load_words(config.load),
    )
    when = Markdown(" Run {}, {} {:%Y-%m-%d %H:%M} UTC. [Configuration](config.yml).")
    of_trace = Markdown(" {}").format(" ".join(read_trace_notes(run.payloads))) if config.load.may_bring_prompts else ""
    return Prose(measured + of_trace + when.format(code(run.run_id), began, started) + slo_sentence(run))


def _together(config: BenchmarkConfig) -> str:
    """How the datasets were sent where they were mixed."""
    if config.load.mix is None:
        return ""
    return f" at once, in the traffic's shares{', and each alone for comparison,' if config.load.mix.alone else ''}"


def options_table(verdict: Verdict, config: BenchmarkConfig, startups: Sequence[Startup] = ()) -> Table:
    """All options, the excluded ones with the reason; what is not shown to meet the SLO has its estimate, marked. With the
    start of those that the run made.
    """
    unit, started = price_unit(verdict), {startup.option: startup for startup in startups}
    rows = [
        {
            "option": option.option,
            "verdict": STATUS_WORDS[option.status],
            "cost": cost and cost.value,
            "interval": interval_of(cost),
            "unseen": None if option.cost_unseen is None else option.cost_unseen * unit.scale,
            "shown": "" if cost is None else "estimate" if option.is_estimate else "shown",
            "reason": option.reason,
            **_start(started.get(option.option)),
        }
        for option in by_cost(verdict)
        for cost in [scaled(option.cost, unit)]
    ]
    has_estimates = any(row["shown"] == "estimate" for row in rows)
    has_unseen = any(row["unseen"] for row in rows)
    columns = [
        "option",
        "verdict",
        numeric("cost", f"$ {unit.words}", best=None if has_estimates else "lowest"),
        interval_column("interval", config),
        *([numeric("unseen", "$ more, if stalls hide")] if has_unseen else []),
        *(["shown"] if has_estimates else []),
        "reason",
        *(["startup_s", "first_answer_s", "first_ratio"] if started else []),
    ]
    caption = f"Every option{_order(verdict)}; the price is over the traffic's mix of datasets."
    if has_estimates:
        caption += " Estimate: at the cheapest load that by its estimates is within the SLO, without being shown to be."
    if has_unseen:
        caption += (
            " More, if stalls hide: what the interval does not hold, as nobody saw it. If as many requests hang until the time-"
            f"out of {config.load.request_timeout_s:g} s as all that the option was sent leave room for (3 in n where none did, "
            "with 95% confidence), it serves fewer in a closed loop, and each costs so much more."
        )
    if started:
        caption += (
            " Start-up: from the create call to in service, of one endpoint each (n = 1); first answer: how long the first "
            f"request took, which has the longest prompt; first {FIRST} ÷ steady: the median latency of the first {FIRST} "
            "requests under load (n: those that were answered) against that of the steady window of the same load point."
        )
    return Table(rows, columns, caption)


def _start(startup: Startup | None) -> dict[str, object]:
    """Cells of the start of an option; unknown where the run did not make its server."""
    if startup is None:
        return {"startup_s": None, "first_answer_s": None, "first_ratio": text.UNKNOWN}
    ratio = startup.first_ratio
    said = text.UNKNOWN if ratio is None else f"{text.number(ratio, 2)} (n = {startup.first_n})"
    return {"startup_s": startup.startup_s, "first_answer_s": startup.first_answer_s, "first_ratio": said}


def winner_table(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> Table | None:
    """Everything measured at the load points of the recommended option, or else of the one that is best by its estimates."""
    name = verdict.recommended or verdict.best_estimate
    if name is None:
        return None
    chosen = {point.dataset: point.load for point in verdict.option(name).points}
    mine = points[(points["option"] == name) & (points["dataset"].map(chosen) == points["load"])]
    latency = percentile_column(config)
    columns = [
        "dataset",
        level_column(config),
        "n",
        "error_rate",
        "prompt_tokens_mean",
        "prompt_tokens_per_s",
        "output_tokens_mean",
        "output_tokens_per_s",
        "requests_per_minute",
        "latency_s_mean_ok",
        numeric(latency, f"{LATENCY_NAME[main_latency(config)]} p{config.slo.percentile:g}, s", decimals=3),
        "usd_per_hour",
        price_column(mine, verdict.cost_basis, verdict),
    ]
    mine = mine.assign(requests_per_minute=mine["served_requests_per_s"] * 60)
    role = "recommended option" if verdict.recommended else "option that is best by its estimates"
    caption = f"The {role}, “{name}”, at the loads at which it is cheapest."
    return Table(mine, columns, caption, price_note(points, verdict))


def load_point_table(points: pd.DataFrame, config: BenchmarkConfig) -> Table:
    """Every load point with sample size and interval."""
    latency = percentile_column(config)
    rows = points.assign(
        latency_interval=[_bounds(points, i, latency, 3) for i in points.index],
        rate_interval=[_bounds(points, i, "requests_per_s", 2) for i in points.index],
        slo=points["slo"].map(SLO_WORDS),
        steady=["–" if pd.isna(steady) else "yes" if steady else "no" for steady in points["steady"]],
    )
    columns = [
        "option",
        "dataset",
        level_column(config),
        "slo",
        "steady",
        "achieved_concurrency",
        "n",
        numeric(f"{main_latency(config)}_effective_n", "effective n", decimals=0),
        "failures",
        "requests_per_s",
        interval_column("rate_interval", config),
        "ttft_s_p50",
        "tpot_s_p50",
        numeric(latency, f"{LATENCY_NAME[main_latency(config)]} p{config.slo.percentile:g}, s", decimals=3),
        interval_column("latency_interval", config),
        *([Column(part, "percentiles of")] if (part := f"part_{main_latency(config)}") in points else []),
    ]
    return Table(
        rows,
        columns,
        "Every load point. n counts the requests of the steady window, failures among them; effective n is how many "
        f"independent ones would say as much about the percentile.{_of_worst_part(config)}{_not_seen(points)}",
        load_points_reading(points, main_latency(config)),
    )


def _of_worst_part(config: BenchmarkConfig) -> str:
    if config.part_in_words is None:
        return ""
    whole = "a dataset with bins" if config.load.mix is None else MIXED
    return (
        f" The percentiles of {whole} are those of the {config.part_in_words} that comes off worst: each has to meet the SLO."
        f"{' What was sent alone takes no part in the verdict.' if config.load.mix and config.load.mix.alone else ''}"
    )


def _not_seen(points: pd.DataFrame) -> str:
    """What is too rare to be in any interval (Hanley and Lippman-Hand, JAMA 249, 1983)."""
    n = points["n"].min()
    if not n >= RULE_OF_THREE_FROM:
        return ""
    most = share_bounds(0, int(n), CONFIDENCE).high
    return (
        " What none of n requests met, such as a rare stall, is in no interval, and may still befall about 3 in n of them: here "
        f"up to 1 in {math.floor(1 / most)}, where n is smallest ({n:.0f}), with {CONFIDENCE:.0%} confidence."
    )


def by_cost(verdict: Verdict) -> list[OptionVerdict]:
    """The options that may be recommended, cheapest first, then the others that have a cost, then those without."""
    return sorted(verdict.options, key=lambda o: (not _is_shown(o), o.cost is None, o.cost.value if o.cost else 0))


def _is_shown(option: OptionVerdict) -> bool:
    return option.cost is not None and not option.may_be_named and option.status != "below_quality"


def _order(verdict: Verdict) -> str:
    """The order of `by_cost` in words, as far as these options show it."""
    priced = [o for o in verdict.options if o.cost is not None]
    others = [o for o in priced if not _is_shown(o)]
    then = "estimates" if all(o.is_estimate for o in others) else "others"
    is_mixed = 0 < len(others) < len(priced)
    words = f", those that are shown to {verdict.aim} first, then the {then}, each" if is_mixed else ","
    return f"{words} cheapest first" if len(priced) > 1 else ""


def _bounds(points: pd.DataFrame, index: int, column: str, decimals: int) -> text.Interval:
    return text.Interval(points.at[index, f"{column}_low"], points.at[index, f"{column}_high"], decimals)


# --- figures ------------------------------------------------------------------------------------------------------


def figure(figures: dict[str, Figure], name: str) -> Figure | Prose:
    """A figure, or why there is none."""
    return figures.get(name) or Prose(
        NO_FIGURE.get(name, "There is no figure: nothing was measured that it could show.")
    )
