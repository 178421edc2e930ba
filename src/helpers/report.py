"""The words and tables of the report. Each function takes measured data and gives one thing to show.

Nothing is computed here that is not said here: numbers come from `metrics` and `verdict`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from helpers import number_text as text
from helpers.chosen_points import main_latency
from helpers.config import BenchmarkConfig
from helpers.config_file import LoadedConfig
from helpers.display import NO_FORMULAS, Column, Figure, Html, Markdown, Prose, Table, code, numeric
from helpers.errors import RunFolderError
from helpers.load_report import LATENCY_NAME, SLO_WORDS, level_column, load_words
from helpers.machine import machine_sentence
from helpers.prompt_files import sample_prompts, summarise_prompts
from helpers.remote_runs import store_run
from helpers.run_folder import RunFolder
from helpers.single_requests import slo_sentence
from helpers.verdict import Capacity, Estimate, OptionVerdict, Verdict

COST_UNIT = {"usd_per_1k_requests": "per 1,000 requests", "usd_per_1m_output_tokens": "per 1M output tokens"}
STATUS_WORDS = {
    "recommended": "recommended",
    "tied": "tied with the recommended",
    "feasible": "meets the SLO",
    "undecided": "not decided",
    "not_judged": "not judged",
    "infeasible": "misses the SLO",
    "unpriced": "no price",
    "incomplete": "not measured",
    "failed": "failed",
}

# --- prompts ------------------------------------------------------------------------------------------------------


def prompts_table(payload_dir: Path) -> Table:
    """How many prompts were made for each dataset, and how long they are."""
    columns = [
        Column("dataset", "dataset"),
        numeric("asked", "asked", decimals=0),
        numeric("made", "made", decimals=0),
        numeric("min_prompt_tokens", "shortest, tokens", decimals=0),
        numeric("median_prompt_tokens", "median, tokens", decimals=0),
        numeric("max_prompt_tokens", "longest, tokens", decimals=0),
        Column("answers", "have answers"),
    ]
    rows = summarise_prompts(payload_dir)
    rows = rows.assign(answers=["yes" if has else "no" for has in rows["has_answers"]])
    return Table(rows, columns, "Prompts made for each dataset.")


def prompt_samples(payload_dir: Path, rows: int, seed: int) -> Table:
    """A few prompts, from their beginning."""
    columns = [
        Column("dataset", "dataset"),
        numeric("prompt_tokens", "tokens", decimals=0),
        Column("beginning", "beginning", wraps=True),
    ]
    return Table(sample_prompts(payload_dir, rows, seed), columns, "A random sample of prompts.")


# --- the bottom line ----------------------------------------------------------------------------------------------


def bottom_line(verdict: Verdict, config: BenchmarkConfig) -> Prose:
    """The answer in one paragraph, with its interval."""
    if verdict.recommended is None:
        nothing = _nothing_is_feasible(verdict, config)
        return Prose(Markdown("**{}**{}{}").format(nothing, _comparison_note(verdict), _local_note(verdict)))
    winner = verdict.option(verdict.recommended)
    tied = ""
    if verdict.tied:
        names = " and ".join(_quoted(name) for name in verdict.tied)
        tied = Markdown(" It is **tied** with {}: their price intervals overlap, so the difference may be chance.")
        tied = tied.format(names)
    capacity = winner.capacity
    traffic = text.number(config.traffic.requests_per_minute)
    need = _need(capacity)
    served = Markdown("**Serve {} with {}: it meets the SLO ({}) at the lowest price, {} {}.**").format(
        verdict.model, _quoted(winner.option), slo_words(config), _cost(winner.cost), COST_UNIT[verdict.cost_basis]
    )
    takes = f" For {traffic} requests a minute with {text.percent(config.traffic.headroom)} head-room it takes {need}."
    notes = (tied, _undecided_note(verdict), _comparison_note(verdict), _local_note(verdict))
    return Prose(Markdown().join([served, takes, *notes]))


def _need(capacity: Capacity) -> str:
    """Instances and dollars; what is billed by the token has no instances."""
    money = "" if capacity.usd_per_month is None else f"{text.money(capacity.usd_per_month)} a month"
    if capacity.instances is None:
        return money or "no instance"
    return ", ".join(filter(None, [text.plural(capacity.instances, "instance"), money]))


def _nothing_is_feasible(verdict: Verdict, config: BenchmarkConfig) -> str:
    undecided = [o.option for o in verdict.options if o.status in ("undecided", "not_judged")]
    unpriced = [o.option for o in verdict.options if o.status == "unpriced"]
    if unpriced:
        return f"{' and '.join(map(_quoted, unpriced))} meet the SLO, but without a price none can be recommended."
    said = f"No option is shown to meet the SLO ({slo_words(config)})."
    if undecided:
        said += f" {' and '.join(map(_quoted, undecided))} may: the table of all options says what would tell."
    elif verdict.nearest:
        said += f" {_quoted(verdict.nearest)} came nearest: {verdict.nearest_reason}."
    return said


def _undecided_note(verdict: Verdict) -> str:
    if not verdict.may_be_cheaper:
        return ""
    names = " and ".join(map(_quoted, verdict.may_be_cheaper))
    return f" Not decided, and perhaps as cheap: {names}; the table of all options says what would tell."


def _comparison_note(verdict: Verdict) -> Markdown:
    if verdict.comparable:
        return Markdown()
    return Markdown(
        "\n\n> **The options did unequal work** (other models, prompts or answers of another length), so they are compared "
        "{}. See the warnings."
    ).format(COST_UNIT[verdict.cost_basis])


def _local_note(verdict: Verdict) -> Markdown:
    if not verdict.measured_locally:
        return Markdown()
    local = Markdown(
        "\n\n> The endpoints ran on the machine that ran the notebooks. The measurements are real, **but they are of this "
        "machine**: instance types stand for its cores, and the prices are those of as many vCPUs on AWS."
    )
    said = machine_sentence(verdict.warnings)
    return local + (Markdown("\n\n> **{}**").format(said) if said else "")


def slo_words(config: BenchmarkConfig) -> str:
    """The SLO as a phrase."""
    limits = [f"{LATENCY_NAME[name]} within {limit:g} s" for name, limit in config.slo.limits_s().items()]
    return (
        f"p{config.slo.percentile:g} {' and '.join(limits)}, at most {text.percent(config.slo.error_rate, 1)} errors, "
        f"with {text.percent(config.slo.confidence)} confidence"
    )


def summary(verdict: Verdict, run: RunFolder, config: BenchmarkConfig) -> Prose:
    """What was compared, when, on what."""
    started = datetime.fromisoformat(run.about()["started_at"])
    named = Markdown("{} ({})")
    options = Markdown(", ").join(named.format(_quoted(o.option), code(o.instance_type)) for o in verdict.options)
    datasets = Markdown(", ").join(code(d.name) for d in config.datasets)
    did, began = ("Others measured", "imported") if config.imported else ("We measured", "started")
    measured = Markdown("{} {} serving {} on {} ({}) {}.").format(
        did,
        options,
        code(verdict.model),
        text.plural(len(config.datasets), "dataset"),
        datasets,
        load_words(config.load),
    )
    when = Markdown(" Run {}, {} {:%Y-%m-%d %H:%M} UTC. [Configuration](config.yml).")
    return Prose(measured + when.format(code(run.run_id), began, started) + slo_sentence(run))


def _quoted(name: str) -> str:
    return f"“{name}”"


def _cost(cost: Estimate) -> str:
    if cost.low is None or cost.high is None:
        return f"{text.dollars(cost.value)} (interval unknown)"
    decimals = text.decimals_for([cost.value])
    return (
        f"${text.number(cost.value, decimals)} (95% interval {text.number(cost.low, decimals)} to "
        f"{text.number(cost.high, decimals)})"
    )


# --- tables -------------------------------------------------------------------------------------------------------


def options_table(verdict: Verdict) -> Table:
    """All options, the excluded ones with the reason."""
    rows = [
        {
            "option": option.option,
            "verdict": STATUS_WORDS[option.status],
            "cost": option.cost.value if option.cost else None,
            "interval": _interval(option.cost, text.decimals_for([option.cost.value])) if option.cost else "–",
            "reason": option.reason,
        }
        for option in by_cost(verdict)
    ]
    columns = [
        Column("option", "option"),
        Column("verdict", "verdict"),
        numeric("cost", f"$ {COST_UNIT[verdict.cost_basis]}", best="lowest"),
        Column("interval", "95% interval"),
        Column("reason", "why", wraps=True),
    ]
    return Table(
        pd.DataFrame(rows), columns, "Every option, cheapest first; the price is over the traffic's mix of datasets."
    )


def winner_table(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> Table | Prose:
    """Everything measured at the recommended option's load points."""
    if verdict.recommended is None:
        return Prose("There is no recommended option, so there is no table about it.")
    chosen = {point.dataset: point.load for point in verdict.option(verdict.recommended).points}
    mine = points[(points["option"] == verdict.recommended) & (points["dataset"].map(chosen) == points["load"])]
    latency = f"{main_latency(config)}_p{config.slo.percentile:g}"
    columns = [
        Column("dataset", "dataset"),
        level_column(config),
        numeric("n", "n", decimals=0),
        numeric("error_rate", "error rate", decimals=3),
        numeric("prompt_tokens_mean", "prompt tokens, mean", decimals=0),
        numeric("prompt_tokens_per_s", "prompt tokens/s", decimals=0),
        numeric("output_tokens_mean", "output tokens, mean", decimals=1),
        numeric("output_tokens_per_s", "output tokens/s", decimals=0),
        numeric("requests_per_minute", "requests/min", decimals=0),
        numeric("latency_s_mean_ok", "latency, mean, s"),
        numeric(latency, f"{LATENCY_NAME[main_latency(config)]}, p{config.slo.percentile:g}, s"),
        numeric("usd_per_hour", "$/h", decimals=3),
        numeric("usd_per_1k_requests", "$ per 1,000 requests"),
    ]
    mine = mine.assign(requests_per_minute=mine["served_requests_per_s"] * 60)
    return Table(
        mine, columns, f"The recommended option, “{verdict.recommended}”, at the loads at which it is cheapest."
    )


def load_point_table(points: pd.DataFrame, config: BenchmarkConfig) -> Table:
    """Every load point with sample size and interval."""
    latency = f"{main_latency(config)}_p{config.slo.percentile:g}"
    rows = points.assign(
        latency_interval=[_bounds(points, i, latency, 3) for i in points.index],
        rate_interval=[_bounds(points, i, "requests_per_s", 2) for i in points.index],
        slo=points["slo"].map(SLO_WORDS),
        steady=["–" if pd.isna(steady) else "yes" if steady else "no" for steady in points["steady"]],
    )
    columns = [
        Column("option", "option"),
        Column("dataset", "dataset"),
        level_column(config),
        Column("slo", "SLO"),
        Column("steady", "steady"),
        numeric("achieved_concurrency", "in flight, mean", decimals=2),
        numeric("n", "n", decimals=0),
        numeric(f"{main_latency(config)}_effective_n", "effective n", decimals=0),
        numeric("failures", "failures", decimals=0),
        numeric("requests_per_s", "requests/s", decimals=2),
        Column("rate_interval", "95% interval"),
        numeric("ttft_s_p50", "TTFT p50, s", decimals=3),
        numeric("tpot_s_p50", "TPOT p50, s", decimals=4),
        numeric(latency, f"{LATENCY_NAME[main_latency(config)]} p{config.slo.percentile:g}, s", decimals=3),
        Column("latency_interval", "95% interval"),
    ]
    return Table(
        rows,
        columns,
        "Every load point. n counts the requests of the steady window, failures among them; effective n is as many independent "
        "ones as tell the same of the percentile.",
    )


def by_cost(verdict: Verdict) -> list[OptionVerdict]:
    """The options, cheapest first, then those without a cost."""
    return sorted(verdict.options, key=lambda o: (o.cost is None, o.cost.value if o.cost else 0.0))


def _interval(estimate: Estimate, decimals: int) -> str:
    return text.interval(estimate.low, estimate.high, decimals)


def _bounds(points: pd.DataFrame, index: int, column: str, decimals: int) -> str:
    return text.interval(points.at[index, f"{column}_low"], points.at[index, f"{column}_high"], decimals)


# --- how sure, how measured ---------------------------------------------------------------------------------------


def warning_list(verdict: Verdict) -> Prose:
    """The numbered warnings with the rows concerned."""
    if not verdict.warnings:
        return Prose("Every check passed: there is no warning.")
    items = []
    for i, warning in enumerate(verdict.warnings, start=1):
        items.append(Markdown("{}. **{}**").format(i, warning.message))
        items += [Markdown("    * {}").format(row) for row in warning.rows]
    return Prose(Markdown("\n").join(items))


def figure(figures: dict[str, Figure], name: str, otherwise: str = "") -> Figure | Prose:
    """A figure, or why there is none."""
    return figures.get(name) or Prose(otherwise or "There is no figure: what it would show was not measured.")


def error_sentence(points: pd.DataFrame) -> Prose:
    """One sentence where nothing failed."""
    return Prose(f"None of the {int(points['n'].sum()):,} requests of the steady windows failed.")


def machine_and_versions(run: RunFolder) -> Prose:
    """Where the notebooks ran, and with what."""
    about = run.about()
    machine = about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return Prose(
        Markdown("* Machine that the notebooks ran on: {}, {}, {} GiB, {}\n* Python {}, {}").format(
            machine["cpu"],
            text.plural(machine["vcpus"], "vCPU"),
            text.number(machine["memory_gib"], 1),
            machine["system"],
            machine["python"],
            versions,
        )
    )


def resolved_config(config: LoadedConfig) -> Html:
    """The whole config, defaults filled in, secrets left as ${NAME}."""
    details = Markup('<details><summary>The whole configuration</summary><pre class="{}">{}</pre></details>')
    return Html(details.format(NO_FORMULAS, config.public_yaml()))


def definitions() -> Prose:
    """The formulas of the metrics."""
    terms = (
        "| term | definition |\n| --- | --- |\n"
        "| send | when a request was sent (closed loop), or was to be sent by the schedule (open loop): a stalled client cannot "
        "hide a stall |\n"
        "| TTFT | time to first token: first visible text − send |\n"
        "| latency | end-to-end: last token − send |\n"
        "| TPOT | time per output token: (last token − first token) ÷ (output tokens − 1) |\n"
        "| p95 | 95% of the requests were at most this slow; a failed request counts as infinitely slow |\n"
        "| requests/s | successes sent in the steady window ÷ its length |\n"
        "| closed loop | so many workers (the concurrency), each sends when its last answer ended |\n"
        "| open loop | requests come by a schedule, however slow the answers |\n"
        "| in flight, mean | time that requests were in flight within the window ÷ its length (Little's law) |\n"
        "| steady window | the measured part of a load point, after the warm-up that was detected and before the drain |\n"
        "| steady | latency neither drifts nor varies too much over the window; else a load point shows no SLO to be met |\n"
        "| schedule lag | sent − scheduled |\n"
        "| gap CV | standard deviation of the gaps between sends ÷ their mean: 0 evenly spaced, 1 Poisson |\n"
        "| dispersion | variance ÷ mean of the sends per short window: 1 Poisson, more in bursts |\n"
        "| client-limited | the load generator, not the server, shaped the load point: it feeds no verdict |\n"
        "| SLO | service level objective: the latency and error limits of the config |\n"
        "| goodput | requests that succeeded and met every latency limit ÷ length of the window |\n"
        "| effective n | requests divided by how much they are alike (Kish's design effect): neighbours wait in the same "
        "queue, so n of them tell less than n independent ones |\n"
        "| 95% interval | throughput and price: Student's t over repetitions, else over batches of whole rounds; "
        "percentiles: order statistics at the effective n |\n"
        "| meets the SLO | the upper (Clopper–Pearson) bound on the share of requests beyond the limit, at the effective n, "
        "allows it; or the limit is so far away that mean and standard deviation show it (Cantelli's inequality) |\n"
        "| requests/s served | closed loop: requests/s. Open loop in a steady state: the offered rate × the share that "
        "succeeds |\n"
        "| tied | the 95% interval of the price overlaps with that of the cheapest |\n"
    )
    return Prose(Markdown(terms))


def written_files(run: RunFolder, *names: str) -> Prose:
    """The files that a notebook wrote, with their sizes; where the run has a copy in S3, all that changed is brought there."""
    lines = []
    for name in names:
        path = run.path / name
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files)
        what = text.plural(len(files), "file") if path.is_dir() else "file"
        lines.append(
            Markdown("* {}: {}, {} KiB").format(code(Path(run.run_id) / name), what, text.number(size / 1024, 1))
        )
    try:
        stored = store_run(run.path)
    except RunFolderError as error:  # what was measured is here: the run goes on
        stored = Markdown("**Warning**: {}").format(error)
    return Prose(Markdown("\n").join([*lines, *(["", stored] if stored else [])]))
