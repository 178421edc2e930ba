"""Writes docs/reference_report.html: the report of January 2024 again, from its raw data, by the rules of this project.

    .venv/bin/python tests/support/reference_page.py

The raw data are imported as by `make import`, which makes the whole report; one section is added to it, which sets the published
verdict beside this one and says fault by fault why they differ. Every number of that section is computed from the imported
load points, or read from the published text. Tests know where the data are; the project holds only what was made of them.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd
from published_report import Comparison, Pick, read_published
from reference_faults import faults

from helpers import number_text as text
from helpers.config.benchmark import PROJECT_ROOT, BenchmarkConfig
from helpers.config.file import load_config
from helpers.importers.importing import read_origins
from helpers.report.bottom_line_text import slo_words
from helpers.report.columns import Column, numeric
from helpers.report.comparing import quoted
from helpers.report.display import Markdown, Prose, Table
from helpers.run.folder import RunFolder
from helpers.series.page import write_page
from helpers.series.series import run_import
from helpers.verdict.analysis import read_points, read_verdict
from helpers.verdict.chosen_points import cheapest_within_slo

REFERENCE = PROJECT_ROOT.parent / "shared" / "reference" / "llama2-13b-inf2-g5-p4d"
CONFIG = Path(__file__).with_suffix(".yml")
PAGE = PROJECT_ROOT / "docs" / "reference_report.html"
TITLE = "# What should serve Llama-2-13b? A report of January 2024, judged again"
SECTION = "## What was published, and why the verdict differs"
BEFORE = "## Why this option?"
"""The section of the report that the added one precedes."""
COUNTERPARTS = (
    ("title", "the title of this page"),
    ("time of the last change", "“The bottom line”: when the data were imported; above: when they were published"),
    ("summary sentence", "“The bottom line”"),
    ("table about the winner", "“Why this option?”, and the table above"),
    ("price-performance chart", "“Why this option?”"),
    ("link to the configuration", "“The bottom line”; the whole of it is in “What do the words mean?”"),
    ("a recommendation for each dataset and instance type", "“Which load suits each dataset?”"),
    ("chart of error rates", "no request failed; “How sure are we?” counts them at every load point"),
    ("chart of tokens against latency", "“What do long prompts cost?”"),
    ("chart of concurrency against latency", "“What happens under load?”"),
)
"""(element of the published report, where its counterpart stands on the page)"""


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
