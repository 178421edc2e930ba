"""Checks of results that were measured in groups. Each check that fails becomes a numbered warning in the report.

They find what sums and means can hide: an echoed prompt, prompts that all have the same length, a warm-up inside the
measurement, means of rates, and volleys that took longer than their mean latency suggests.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.group_bounds import misses
from helpers.number_text import plural
from helpers.run.report_warning import ReportWarning

SLOWER = 1.2
"""If a shorter prompt takes this many times as long as a longer one, its length is not the reason."""
SAME_OUTPUT = 1.05
OVERSTATED = 1.02
"""Mean of the groups' rates / pooled rate above which there is a warning."""
GAP = 1.01
"""Wall time of a volley / sum of its latencies above which there is a warning."""


def group_warnings(groups: pd.DataFrame, points: pd.DataFrame, config: BenchmarkConfig) -> list[ReportWarning]:
    """All warnings about groups; none for a run without groups.

    `groups` is the table of `group_records.read_groups`, `points` that of `groups.summarise_groups`.
    """
    if groups.empty or points.empty:
        return []
    named = groups.merge(points[["option", "dataset", "load_kind", "level", "load"]])
    named = named.assign(name=named["option"] + ", " + named["dataset"] + ", " + named["load"])
    return [
        *_echoed(named),
        *_beyond_the_cap(named, config),
        *_volleys(named),
        *_same_length(named),
        *_warm_up(points),
        *_mean_of_rates(named, points),
        *_hidden_misses(named, config),
        *_gaps(named),
    ]


def _echoed(groups: pd.DataFrame) -> Iterable[ReportWarning]:
    echoed = groups[groups["echoed"].fillna(False).astype(bool)]
    if len(echoed):
        yield ReportWarning(
            kind="echoed_prompt",
            message="The file counts the prompt as output: more tokens than were requested, and at least as many as the prompt "
            "has. The prompt was subtracted; with it these options would seem to produce many times as many tokens.",
            rows=[
                f"{option}, {dataset}: {_per_request(here, 'output_tokens'):.1f} output tokens per request, and "
                f"{_per_request(here, 'prompt_tokens'):,.0f} of the prompt"
                for (option, dataset), here in echoed.groupby(["option", "dataset"], sort=False)
            ],
        )


def _per_request(groups: pd.DataFrame, tokens: str) -> float:
    return float(groups[tokens].sum() / (groups["requests"] - groups["failures"]).sum())


def _beyond_the_cap(groups: pd.DataFrame, config: BenchmarkConfig) -> Iterable[ReportWarning]:
    if config.generation is None:
        return
    cap = config.generation.max_output_tokens
    groups = groups.assign(each=groups["output_tokens"] / (groups["requests"] - groups["failures"]))
    rows = []
    for option, here in groups.groupby("option", sort=False):
        beyond = here[here["each"] > cap]
        if len(beyond):
            rows.append(
                f"{option}: up to {beyond['each'].max():.1f} tokens per request, in {len(beyond):,} of "
                f"{plural(len(here), 'group')}"
            )
    if rows:
        yield ReportWarning(
            kind="output_length",
            message=f"Answers have more output tokens than the {cap} requested: tokens were not counted in the way in which "
            "they were limited, so prices per output token are in doubt. Next: find out which tokenizer made the files' counts.",
            rows=rows,
        )


def _volleys(groups: pd.DataFrame) -> Iterable[ReportWarning]:
    together = groups[groups["sent_together"] & (groups["level"] > 1)]
    if len(together):
        yield ReportWarning(
            kind="volleys",
            message="Requests were sent in volleys, each when the slowest request of the one before had ended. That is not a "
            "constant concurrency: towards the end of each volley fewer were in flight, and under steady traffic the server "
            "would be busier and slower. Next: measure the chosen option under steady load before a fleet is sized by these "
            "figures.",
            rows=[
                f"{option}: {plural(len(here), 'volley')} at {', '.join(here['load'].unique())}"
                for option, here in together.groupby("option", sort=False)
            ],
        )


def _same_length(groups: pd.DataFrame) -> Iterable[ReportWarning]:
    """Datasets whose groups all have the same mean prompt length; a single group shows nothing."""
    ok = groups["requests"] - groups["failures"]
    answered = groups.assign(each=groups["prompt_tokens"] / ok)[ok > 0]
    rows = []
    for dataset, here in answered.groupby("dataset", sort=False):
        if len(here) > 1 and here["each"].notna().all() and here["each"].nunique() == 1:
            counts = here.groupby("option")["requests"].sum()
            fewest, most = counts.min(), counts.max()
            rows.append(
                f"{dataset}: {here['each'].iloc[0]:g} tokens in all {len(here)} groups, "
                f"{fewest if fewest == most else f'{fewest} to {most}'} requests per option"
            )
    if rows:
        yield ReportWarning(
            kind="one_prompt",
            message="All prompts of a dataset have the same length: they were made that way, or they are the same prompt, "
            "which a server with a prefix cache answers faster. The files do not hold the texts. "
            "On other prompts the order of the options may be another. Next: find out how the prompts were made.",
            rows=rows,
        )


def _warm_up(points: pd.DataFrame) -> Iterable[ReportWarning]:
    """Shorter prompts that take longer than longer ones for answers that are no longer."""
    rows = []
    needed = points.dropna(subset=["prompt_tokens_mean", "output_tokens_mean", "latency_s_mean_ok"])
    for (option, load), here in needed.groupby(["option", "load"], sort=False):
        for short in here.itertuples():
            longer = here[
                (here["prompt_tokens_mean"] > short.prompt_tokens_mean)
                & (here["output_tokens_mean"] * SAME_OUTPUT >= short.output_tokens_mean)
                & (here["latency_s_mean_ok"].astype(float) * SLOWER < short.latency_s_mean_ok)
            ]
            if len(longer):
                fastest = longer.loc[longer["latency_s_mean_ok"].astype(float).idxmin()]
                rows.append(
                    f"{option}, {load}: {short.dataset} took {short.latency_s_mean_ok:.2f} s for "
                    f"{short.output_tokens_mean:.0f} output tokens, {fastest['dataset']} "
                    f"{fastest['latency_s_mean_ok']:.2f} s for {fastest['output_tokens_mean']:.0f}"
                )
    if rows:
        yield ReportWarning(
            kind="warm_up",
            message="Shorter prompts took longer than longer ones at the same load, for answers that are no longer: the "
            "server was probably still warming up while it was measured, and is faster and cheaper than it seems. Next: measure "
            "it again with a warm-up.",
            rows=rows,
        )


def _mean_of_rates(groups: pd.DataFrame, points: pd.DataFrame) -> Iterable[ReportWarning]:
    """The mean of rates differs from total / total where groups take different times."""
    pooled = points.set_index(["option", "dataset", "load"])["requests_per_s"].astype(float)
    found = {}
    for (option, dataset, load), here in groups.groupby(["option", "dataset", "load"], sort=False):
        rate, mean = pooled[option, dataset, load], here["reported_requests_per_s"].mean()
        if len(here) > 1 and here["reported_requests_per_s"].notna().all() and mean > rate * OVERSTATED:
            words = f"{mean * 60:.1f} a minute for {rate * 60:.1f}, {mean / rate:.2f} times"
            found[f"{option}, {dataset}, {load}: {words}"] = mean / rate
    if found:
        yield ReportWarning(
            kind="mean_of_rates",
            message="The mean of the rates that the file gives for each group overstates throughput, by up to "
            f"{max(found.values()):.2f} times: a slow group counts no more than a quick one. Rates here are total requests "
            "divided by total time.",
            rows=sorted(found, key=found.get, reverse=True),
        )


def _hidden_misses(groups: pd.DataFrame, config: BenchmarkConfig) -> Iterable[ReportWarning]:
    limit = config.slo.latency_s
    if limit is None:
        return
    rows = []
    for name, here in groups.groupby("name", sort=False):
        ok = here["requests"] - here["failures"]
        mean = float((here["latency_mean_s"] * ok).sum() / ok.sum()) if ok.sum() else float("nan")
        late = here[here["sent_together"] & (here["wall_s"] > limit)]
        if len(late) and mean <= limit:
            fewest, most = pd.DataFrame([misses(group, "latency_s", limit) for _, group in late.iterrows()]).sum()
            rows.append(
                f"{name}: mean latency {mean:.2f} s, but {len(late)} of {plural(len(here), 'volley')} took longer, up "
                f"to {late['wall_s'].max():.1f} s; {fewest} to {most} requests were beyond the limit"
            )
    if rows:
        yield ReportWarning(
            kind="mean_hides_tail",
            message=f"The mean latency is within the limit of {limit:g} s, but single volleys were not. The verdict goes by "
            f"p{config.slo.percentile:g}, as far as the groups bound it.",
            rows=rows,
        )


def _gaps(groups: pd.DataFrame) -> Iterable[ReportWarning]:
    """A volley of several requests cannot last longer than the sum of their latencies, unless the client held it up."""
    ok = groups["requests"] - groups["failures"]
    several = groups[groups["sent_together"] & (ok > 1) & (groups["failures"] == 0)]
    together_s = several["latency_mean_s"] * several["requests"]
    held_up = several.assign(together_s=together_s)[several["wall_s"] > together_s * GAP]
    if len(held_up):
        yield ReportWarning(
            kind="client_gap",
            message="A volley lasted longer than the sum of the latencies of its requests. The difference is in no latency: the "
            "client spent it, and throughput includes it: the server can serve more, for less, than these rows show. Next: "
            "measure again with a load generator that does not wait between requests.",
            rows=[
                f"{row.name_}: {row.wall_s:.1f} s for {row.together_s:.1f} s"
                for row in held_up.rename(columns={"name": "name_"}).itertuples()
            ],
        )
