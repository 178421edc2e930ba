"""Writes docs/reference_report.html: the report of January 2024 again, from its raw data, by the rules of this project.

    .venv/bin/python tests/support/reference_page.py

The raw data are imported as by `make import`, which makes the whole report; one section is added to it, which sets the published
verdict beside this one and says fault by fault why they differ. Every number of that section is computed from the imported
load points, or read from the published text. Tests know where the data are; the project holds only what was made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
import pandas as pd
from published_report import Pick, PublishedReport, read_published

from helpers import number_text as text
from helpers.config.benchmark import PROJECT_ROOT, BenchmarkConfig
from helpers.config.file import load_config
from helpers.importers.importing import read_origins
from helpers.report.bottom_line_text import quoted, slo_words
from helpers.report.columns import Column, numeric
from helpers.report.display import Markdown, Prose, Table
from helpers.run.folder import RunFolder
from helpers.series.page import write_page
from helpers.series.series import run_import
from helpers.verdict.analysis import read_points, read_verdict
from helpers.verdict.chosen_points import cheapest_within_slo
from helpers.verdict.verdict import Verdict

REFERENCE = PROJECT_ROOT.parent / "shared" / "reference" / "llama2-13b-inf2-g5-p4d"
CONFIG = Path(__file__).with_suffix(".yml")
PAGE = PROJECT_ROOT / "docs" / "reference_report.html"
TITLE = "# What should serve Llama-2-13b? A report of January 2024, judged again"
SECTION = "## What was published, and why the verdict differs"
BEFORE = "## Price and performance"
"""The section of the report that the added one precedes."""
OVERSTATED = 1.02
MOST_ROWS = 6
COUNTERPARTS = (
    ("title", "the title of this page"),
    ("time of the last change", "“The bottom line”: when the data were imported; above: when they were published"),
    ("summary sentence", "“The bottom line”"),
    ("table about the winner", "“Price and performance”, and the table above"),
    ("price-performance chart", "“Price and performance”"),
    ("link to the configuration", "“The bottom line”; the whole of it is in “How it was measured”"),
    ("a recommendation for each dataset and instance type", "“The best load for each dataset and option”"),
    ("chart of error rates", "“Errors”"),
    ("chart of tokens against latency", "“Latency and prompt length”"),
    ("chart of concurrency against latency", "“Latency and throughput under load”"),
)
"""(element of the published report, where its counterpart stands on the page)"""


@dataclass(frozen=True)
class Comparison:
    """The published report and what the same data say by other rules."""

    published: PublishedReport
    points: pd.DataFrame
    verdict: Verdict
    config: BenchmarkConfig
    deployments: dict[str, str | None]
    """Option -> name of the deployment, in the raw data."""

    @cached_property
    def picks(self) -> list[Pick]:
        """The published recommendations, datasets in the config's order."""
        order = [dataset.name for dataset in self.config.datasets]
        return sorted(self.published.picks, key=lambda pick: (order.index(pick.dataset), pick.instance_type))

    @property
    def here(self) -> str | None:
        """The option that is named here: recommended, else best by its estimates."""
        return self.verdict.recommended or self.verdict.best_estimate

    def option_on(self, instance_type: str) -> str:
        """The option that ran on an instance type."""
        return next(o.option for o in self.verdict.options if o.instance_type == instance_type)

    def on(self, option: str, dataset: str) -> pd.DataFrame:
        """The load points of an option and a dataset, by level."""
        rows = self.points[(self.points["option"] == option) & (self.points["dataset"] == dataset)]
        return rows.sort_values("level")

    def at(self, option: str, dataset: str, level: float) -> pd.Series:
        """One load point."""
        (row,) = (row for _, row in self.on(option, dataset).iterrows() if row["level"] == level)
        return row

    def picked(self, pick: Pick) -> pd.Series:
        """The load point that the published report recommends."""
        return self.at(self.option_on(pick.instance_type), pick.dataset, pick.level)

    @cached_property
    def winner(self) -> pd.Series:
        """The load point of the published winner."""
        fields = self.published.winner
        return self.at(self.option_on(fields["instance_type"]), self.published.dataset, float(fields["concurrency"]))

    @cached_property
    def named(self) -> pd.Series:
        """The load point, on the same dataset, of the option that is named here."""
        (level,) = (p.level for p in self.verdict.option(self.here).points if p.dataset == self.published.dataset)
        return self.at(self.here, self.published.dataset, level)

    def rows(self, kind: str) -> list[str]:
        """The rows of all warnings of a kind."""
        return [row for warning in self.verdict.warnings if warning.kind == kind for row in warning.rows]

    def see(self, *kinds: str) -> str:
        """Where the report lists all rows of these kinds of warnings."""
        numbers = [str(i) for i, warning in enumerate(self.verdict.warnings, start=1) if warning.kind in kinds]
        return f" (Warning{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}.)" if numbers else ""


def compare(run: RunFolder, config: BenchmarkConfig) -> Comparison:
    """What the added section is made of."""
    deployments = {origin.option: origin.deployment for origin in read_origins(run)}
    published = read_published(REFERENCE / "report.md")
    return Comparison(published, read_points(run), read_verdict(run), config, deployments)


# --- the two verdicts ---------------------------------------------------------------------------------------------


def both_verdicts(c: Comparison) -> Prose:
    """What was published, what is said here, and what neither can say."""
    published = Markdown(
        "**Published on {} UTC:** “{}” It is named at concurrency {}, with {} transactions a minute and ${} a transaction, by a "
        "score that is half a low price per transaction and half a low mean latency. All numbers of that report follow from the "
        "raw data by its own rules. Its conclusion does not hold, for the reasons below."
    ).format(
        c.published.modified,
        c.published.claim,
        *(c.published.winner[key] for key in ("concurrency", "transactions_per_minute", "price_per_txn")),
    )
    return Prose(Markdown("\n\n").join([published, _said_here(c), _what_neither_says(c)]))


def _said_here(c: Comparison) -> Markdown:
    if c.here is None:
        return Markdown("**Here:** no option can be named ({}).").format(slo_words(c.config))
    certainty = "it meets the SLO at the lowest price" if c.verdict.recommended else "an estimate, not a verdict"
    return Markdown("**Here:** {} at {} ({}; the SLO: {}). {} {}").format(
        quoted(c.here), c.named["load"], certainty, slo_words(c.config), _prices(c), _error_limit(c)
    )


def _error_limit(c: Comparison) -> str:
    counts = c.points.loc[c.points["dataset"] == c.published.dataset, "n"]
    return (
        f"The published limit of {c.config.slo.latency_s:g} s was one on the mean, and none on errors was published: "
        f"{text.percent(c.config.slo.error_rate)} is one that the {counts.min():g} to {counts.max():g} requests of a load "
        "point can decide."
    )


def _prices(c: Comparison) -> str:
    per_request, per_token = (
        [text.dollars(row[column]) for row in (c.winner, c.named)]
        for column in ("usd_per_1k_requests", "usd_per_1m_output_tokens")
    )
    return (
        f"The published winner, at its load, and the option named here cost {per_token[0]} and {per_token[1]} per 1M output "
        f"tokens, but {per_request[0]} and {per_request[1]} per 1,000 requests."
    )


def _what_neither_says(c: Comparison) -> Markdown:
    if c.here is None:
        return Markdown()
    models = {option.name: option.model for option in c.config.options}
    tokens = [text.number(row["output_tokens_mean"]) for row in (c.winner, c.named)]
    return Markdown(
        "**What neither verdict says** is where one model is served at the lowest price. The prices are of answers of “{}” with "
        "{} output tokens, and of “{}” with {}. A price per request favours whoever answers briefly; a price per token whoever "
        "answers at length, because the same prompt is spread over more tokens. To find out, serve one model everywhere with a "
        "fixed output length."
    ).format(models[c.winner["option"]], tokens[0], models[c.here], tokens[1])


def winner_table(c: Comparison) -> Table | None:
    """The published table about the winner, recomputed, and beside the option that is named here."""
    if c.here is None:
        return None
    fields, load_points = c.published.winner, (c.winner, c.named)
    per_1k = float(fields["price_per_txn"]) * 1000

    def row(what: str, published: str, column: str, decimals: int, scale: float = 1) -> dict[str, str]:
        again, here = (text.number(point[column] * scale, decimals) for point in load_points)
        return {"what": what, "published": published, "again": again, "here": here}

    rows = [
        row("concurrency", fields["concurrency"], "level", 0),
        row("requests in flight, mean", text.UNKNOWN, "achieved_concurrency", 2),
        row("requests", text.UNKNOWN, "n", 0),
        row("error rate", fields["error_rate"], "error_rate", 1),
        row("prompt tokens, mean", fields["prompt_token_count_mean"], "prompt_tokens_mean", 0),
        row("prompt tokens/s", fields["prompt_token_throughput"], "prompt_tokens_per_s", 0),
        row("output tokens, mean", fields["completion_token_count_mean"], "output_tokens_mean", 1),
        row("output tokens/s", fields["completion_token_throughput"], "output_tokens_per_s", 1),
        row("latency, mean, s", fields["latency_mean"], "latency_s_mean_ok", 2),
        row("requests/min", fields["transactions_per_minute"], "requests_per_s", 1, 60),
        row("$/h", fields["price_per_hour"], "usd_per_hour", 2),
        row("$ per 1,000 requests", text.significant(per_1k, 2), "usd_per_1k_requests", 2),
        row("$ per 1M output tokens", text.UNKNOWN, "usd_per_1m_output_tokens", 1),
    ]
    columns = [
        Column("what", f"on {c.published.dataset}"),
        Column("published", f"published: {fields['instance_type']}"),
        Column("again", "the same, totals by totals"),
        Column("here", f"named here: {c.here}"),
    ]
    return Table(pd.DataFrame(rows), columns, "The winner as it was published, recomputed, and the option named here.")


# --- the faults ---------------------------------------------------------------------------------------------------

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


# --- pick by pick, element by element -----------------------------------------------------------------------------


def picks_table(c: Comparison) -> Table:
    """Every published recommendation, recomputed, beside the load that is shown to meet the SLO at the lowest price."""
    rows = [_pick_row(c, pick) for pick in c.picks]
    columns = [
        "dataset",
        "instance_type",
        numeric("level", "concurrency: published", decimals=0),
        numeric("ours", "here", decimals=0),
        numeric("latency_s", "published: mean latency, s", decimals=2),
        numeric("output_tokens", "published: output tokens", decimals=0),
        numeric("per_minute", "published: requests/min", decimals=0),
        numeric("output_tokens_mean", "by totals: output tokens", decimals=1),
        numeric("requests_per_minute", "by totals: requests/min", decimals=1),
        numeric("achieved_concurrency", "by totals: in flight", decimals=2),
        numeric("usd_per_1m_output_tokens", "by totals: $ per 1M output tokens", decimals=1),
    ]
    caption = (
        "Each published recommendation, what its rows say by totals, and the cheapest load that is shown to meet the SLO (a dash "
        f"where none is). {c.published.winner['instance_type']} was named best; {_without_rows(c)}."
    )
    return Table(pd.DataFrame(rows), columns, caption)


def _without_rows(c: Comparison) -> str:
    have = {(pick.instance_type, pick.dataset) for pick in c.picks}
    lacking = [f"{i} on {d.name}" for i in c.published.compared for d in c.config.datasets if (i, d.name) not in have]
    return f"there is no recommendation for {' and '.join(lacking)}" if lacking else "every cell has a recommendation"


def _pick_row(c: Comparison, pick: Pick) -> dict:
    mine = c.picked(pick)
    ours = cheapest_within_slo(c.on(mine["option"], pick.dataset), c.verdict.cost_basis, c.config)
    again = ("output_tokens_mean", "achieved_concurrency", "usd_per_1m_output_tokens")
    return {
        **vars(pick),
        **{column: mine[column] for column in again},
        "requests_per_minute": mine["requests_per_s"] * 60,
        "ours": None if ours is None else ours["level"],
    }


def counterparts() -> Prose:
    """Every element of the published report, and where it is on the page."""
    lines = [Markdown("* {}: {}").format(element, place) for element, place in COUNTERPARTS]
    begins = Markdown("Everything that the published report shows has its counterpart here:\n")
    return Prose(Markdown("\n").join([begins, *lines]))


# --- the page -----------------------------------------------------------------------------------------------------


def write_reference_page(run: RunFolder, config: BenchmarkConfig, page: Path) -> None:
    """Write the report of an imported run with the added section."""
    notebook = nbformat.read(run.folder("notebooks") / "05_report.ipynb", as_version=4)
    notebook.cells[0].source = TITLE
    place = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith(BEFORE))
    c = compare(run, config)
    shown = [both_verdicts(c), winner_table(c), faults(c), picks_table(c), counterparts()]
    notebook.cells[place:place] = [nbformat.v4.new_markdown_cell(SECTION), *map(_cell, filter(None, shown))]
    with_section = run.folder("notebooks") / "reference_report.ipynb"
    nbformat.write(notebook, with_section)
    write_page(with_section, page, run.path / "reference_report.md")
    link = CONFIG.relative_to(PROJECT_ROOT).as_posix()
    html = page.read_text(encoding="utf-8").replace('href="config.yml"', f'href="../{link}"')
    page.write_text(html, encoding="utf-8")


def _cell(shown: Prose | Table) -> nbformat.NotebookNode:
    kinds = {"text/html": "_repr_html_", "text/markdown": "_repr_markdown_"}
    data = {kind: str(getattr(shown, form)()) for kind, form in kinds.items() if hasattr(shown, form)}
    return nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data=data)])


if __name__ == "__main__":
    write_reference_page(run_import(str(CONFIG)), load_config(CONFIG).benchmark, PAGE)
    print(PAGE)
