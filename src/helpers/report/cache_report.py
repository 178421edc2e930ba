"""What prefix caches found of the prompts, and at which hit rate a price holds."""

from __future__ import annotations

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.comparing import listed, quoted
from helpers.report.display import Table
from helpers.report.load_report import level_column
from helpers.verdict.verdict import OptionVerdict


def hit_rate_table(points: pd.DataFrame, config: BenchmarkConfig) -> Table | None:
    """The hit rates of each load point beside its TTFT; None where none was asked for and no cache found anything."""
    rates = ["asked_hit_rate", "sent_hit_rate", "found_hit_rate"]
    if not set(rates) <= set(points.columns):  # the run is of an earlier release
        return None
    rows = points.assign(**{name: points[name].astype(float) * 100 for name in rates})
    if rows["asked_hit_rate"].isna().all() and not (rows["found_hit_rate"] > 0).any():
        return None
    return Table(
        rows,
        ["option", "dataset", level_column(config), "n", *rates, "ttft_s_p50"],
        "Hit rates: shares of the prompt tokens. Asked: prompts.prefix. Sent: what begins an earlier request to the same option, "
        "and so what a cache that never forgets would hold. Found: what the server says its prefix cache held; “–” where it does "
        "not say.",
        hit_rate_reading(points),
    )


def hit_rate_reading(points: pd.DataFrame) -> str:
    """Which option's cache found most and which least, over all its load points, and which options report nothing."""
    found, silent = {}, []
    for option, mine in points.groupby("option", sort=False):
        known = mine.dropna(subset=["found_hit_rate"])
        if known.empty:
            silent.append(quoted(option))
        else:
            tokens = known["prompt_tokens_mean"] * (known["n"] - known["failures"])
            found[option] = float((known["found_hit_rate"] * tokens).sum() / tokens.sum())
    said = []
    if found:
        most, least = max(found, key=found.get), min(found, key=found.get)
        said.append(f"The prefix cache of {quoted(most)} found {text.percent(found[most], 1)} of its prompt tokens")
        if most != least:
            said[0] += f", that of {quoted(least)} {text.percent(found[least], 1)}"
    if silent:
        does = "do" if len(silent) > 1 else "does"
        said.append(
            f"{listed(silent)} {does} not report what a cache found, so that is unknown, even whether there is one"
        )
    return "".join(f"{sentence}. " for sentence in said).rstrip()


def price_holds_at(option: OptionVerdict) -> str:
    """At which hit rate the price of an option holds, as a sentence behind another; empty where none was asked for or found."""
    of_interest = [p for p in option.points if p.asked_hit_rate is not None or p.found_hit_rate]
    on = {p.dataset: f" on {p.dataset}" if len(option.points) > 1 else "" for p in of_interest}
    asked = {
        p.dataset: f" ({text.percent(p.asked_hit_rate, 1)} asked)" for p in of_interest if p.asked_hit_rate is not None
    }
    found = [
        f"{text.percent(p.found_hit_rate, 1)} of the prompt tokens{on[p.dataset]}{asked.get(p.dataset, '')}"
        for p in of_interest
        if p.found_hit_rate is not None
    ]
    silent = [f"{on[p.dataset]}{asked[p.dataset]}" for p in of_interest if p.found_hit_rate is None]
    said = f" The price of {quoted(option.option)} holds where its prefix cache finds {listed(found)}." if found else ""
    if silent:
        said += (
            f" At which hit rate the price of {quoted(option.option)} holds{listed(silent)} is unknown: its server does not "
            "report what a prefix cache found."
        )
    return said
