"""The eleven faults of the report of January 2024, each in words, with the load points concerned and the figures recomputed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from published_report import Comparison, Pick

from helpers import number_text as text
from helpers.report.display import Markdown, Prose

OVERSTATED = 1.02
"""Published rate / total by total from which a recommendation is listed."""
MOST_ROWS = 6

Fault = tuple[str, str, Sequence[str]]
"""A headline, what follows from it, and the rows concerned."""


def faults(c: Comparison) -> Prose:
    """The eleven faults of the published conclusion, with the rows concerned and the figures recomputed."""
    items = []
    for number, (headline, said, rows) in enumerate((fault(c) for fault in FAULTS), start=1):
        items.append(Markdown("{}. **{}** {}").format(number, headline, said))
        items += [Markdown("    * {}").format(row) for row in rows]
    return Prose(Markdown("\n").join(items))


def _models(c: Comparison) -> Fault:
    rows = [f"{o.name}: {o.model}, deployed as “{c.deployments[o.name]}”" for o in c.config.options]
    return (
        "Different models are compared as one.",
        "The base model goes on until it is cut off; the chat model stops. The name of the deployment on p4d.24xlarge names no "
        "model: which one it served stood in its container's environment, which the raw data leave "
        f"out.{c.see('different_models')}",
        rows,
    )


def _unequal_work(c: Comparison) -> Fault:
    rows = []
    for dataset in c.config.datasets:
        here = c.points[c.points["dataset"] == dataset.name].dropna(subset=["output_tokens_mean"])
        least, most = (here.loc[getattr(here["output_tokens_mean"], end)()] for end in ("idxmin", "idxmax"))
        ends = [f"{p['output_tokens_mean']:.1f} ({p['option']}, {p['load']})" for p in (least, most)]
        rows.append(f"{dataset.name}: output tokens per request from {ends[0]} to {ends[1]}")
    return (
        "Requests were unequal work.",
        "The same prompts got answers of very different length, and latency and price per transaction were compared all the "
        f"same. Here options are compared per output token.{c.see('output_length')}",
        rows,
    )


def _echo(c: Comparison) -> Fault:
    rows = [
        f"{_name(c, pick)}: {pick.output_tokens:,} published, {c.picked(pick)['output_tokens_mean']:.1f} without the prompt"
        for pick in c.picks
        if any(row.startswith(f"{c.option_on(pick.instance_type)}, ") for row in c.rows("echoed_prompt"))
    ]
    return (
        "The prompt is counted as output.",
        f"One server repeats it before its answer, so it seems to produce many times as many tokens.{c.see('echoed_prompt')}",
        rows,
    )


def _mean_of_rates(c: Comparison) -> Fault:
    found = []
    for pick in c.picks:
        per_minute = c.picked(pick)["requests_per_s"] * 60
        if pick.per_minute > per_minute * OVERSTATED:
            ratio = pick.per_minute / per_minute
            words = f"{_name(c, pick)}: {pick.per_minute} requests/min published, {per_minute:.1f} by totals, {ratio:.2f} times"
            found.append((ratio, words))
    found.sort(reverse=True)
    return (
        "Throughput is a mean of rates.",
        "Each volley has a rate, and a slow one counts no more than a quick one. Total requests by total time are "
        f"fewer.{c.see('mean_of_rates')}",
        _first([words for _, words in found]),
    )


def _volleys(c: Comparison) -> Fault:
    here = c.points[(c.points["dataset"] == c.published.dataset) & (c.points["level"] > 1)]
    rows = [
        f"{p.option}, {p.dataset}, {p.load}: {p.achieved_concurrency:.2f} in flight, mean" for p in here.itertuples()
    ]
    return (
        "Volleys are called concurrency.",
        "Requests were sent together, and the next ones when the slowest had ended. So fewer than that many were in flight, and "
        f"by how many fewer differs between the options.{c.see('volleys', 'concurrency')}",
        rows,
    )


def _samples(c: Comparison) -> Fault:
    single = c.points[c.points["n"] == 1]
    rows = [
        f"{dataset}, {load}: one request for each of {text.plural(len(mine), 'option')}"
        for (dataset, load), mine in single.groupby(["dataset", "load"], sort=False)
    ]
    return (
        "Samples are too few, and the warm-up is among them.",
        "Two datasets hold prompts of one length, by all appearance one prompt; what a server did first is in the "
        f"result.{c.see('few_samples', 'one_prompt', 'warm_up')}",
        [*c.rows("one_prompt"), *rows, *c.rows("warm_up")],
    )


def _means_only(c: Comparison) -> Fault:
    return (
        "Only mean latency was looked at.",
        f"A mean within {c.config.slo.latency_s:g} s can hide requests that were not.{c.see('mean_hides_tail')}",
        c.rows("mean_hides_tail"),
    )


def _dominated(c: Comparison) -> Fault:
    rows = []
    for pick in c.picks:
        mine, unit = c.picked(pick), "usd_per_1m_output_tokens"
        lower = c.on(mine["option"], pick.dataset)
        better = lower[
            (lower["level"] < pick.level)
            & (lower["latency_s_mean_ok"] < mine["latency_s_mean_ok"])
            & (lower["usd_per_1k_requests"] < mine["usd_per_1k_requests"])
            & (lower[unit] < mine[unit])
        ]
        if len(better):
            best = better.loc[better[unit].idxmin()]
            rows.append(f"{_name(c, pick)}: {_at_a_glance(mine)}; {best['load']}: {_at_a_glance(best)}")
    return (
        "Dominated loads are recommended.",
        "The highest concurrency within the limit was recommended, even where a lower one is faster, and cheaper per request "
        "and per token.",
        rows,
    )


def _at_a_glance(point: pd.Series) -> str:
    return (
        f"mean latency {point['latency_s_mean_ok']:.2f} s, {point['requests_per_s'] * 60:.1f} requests/min, "
        f"{text.dollars(point['usd_per_1k_requests'])} per 1,000 requests, "
        f"{text.dollars(point['usd_per_1m_output_tokens'])} per 1M output tokens"
    )


def _missing(c: Comparison) -> Fault:
    listed = [name for name in c.published.compared if c.on(c.option_on(name), c.published.dataset).empty]
    return (
        "A missing cell is not mentioned.",
        f"The summary counts {' and '.join(listed) or 'no instance type'} among those compared on {c.published.dataset}, where "
        f"it has no row.{c.see('missing')}",
        c.rows("missing"),
    )


def _chart(c: Comparison) -> Fault:
    fields = c.published.winner
    per_1k = float(fields["price_per_hour"]) / (float(fields["transactions_per_minute"]) * 60) * 1000
    return (
        "The axis of the price chart is off by ten.",
        "The picture is not among the raw data, so this cannot be seen in them: its axis is reported to say “per 1,000 "
        "transactions” and to plot the price of 10,000. The chart below is drawn in the unit that its axis names.",
        [
            f"{fields['instance_type']}, concurrency {fields['concurrency']}: by the published figures {text.dollars(per_1k)} "
            f"per 1,000 transactions, {text.dollars(per_1k * 10)} per 10,000"
        ],
    )


def _stale(c: Comparison) -> Fault:
    return (
        "Names give versions that did not run.",
        f"The name of an experiment was kept when its image changed.{c.see('stale_name')}",
        c.rows("stale_name"),
    )


FAULTS: tuple[Callable[[Comparison], Fault], ...] = (
    _models,
    _unequal_work,
    _echo,
    _mean_of_rates,
    _volleys,
    _samples,
    _means_only,
    _dominated,
    _missing,
    _chart,
    _stale,
)


def _name(c: Comparison, pick: Pick) -> str:
    return f"{c.option_on(pick.instance_type)}, {pick.dataset}, concurrency {pick.level}"


def _first(rows: list[str]) -> list[str]:
    more = len(rows) - MOST_ROWS
    return rows if more <= 0 else [*rows[:MOST_ROWS], f"and {more} more, in the table below"]
