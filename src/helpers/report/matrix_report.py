"""What each setting of a matrix bought: its effect on price and latency, averaged over the other settings."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.columns import Column, interval_column, interval_words, numeric
from helpers.report.comparing import listed, quoted
from helpers.report.display import Table
from helpers.report.load_report import LATENCY_NAME
from helpers.report.price_unit import interval_of
from helpers.report.report import STATUS_WORDS
from helpers.verdict.chosen_points import main_latency
from helpers.verdict.main_effects import Effect, main_effects
from helpers.verdict.verdict import Estimate, Verdict


def settings_table(points: pd.DataFrame, verdict: Verdict, config: BenchmarkConfig) -> Table | None:
    """What each value of a matrix changes against the first of its setting; None without two measured combinations of one."""
    effects = main_effects(points, verdict, config)
    if not effects:
        return None
    rows = [
        {
            "option": effect.matrix,
            "setting": label(effect, effects),
            "values": f"{effect.value} instead of {effect.against}",
            "pairs": f"{effect.pairs} of {effect.possible}",
            **_change("price", effect.price),
            "by_pair": text.UNKNOWN
            if effect.pairs < 2
            else f"{100 * effect.lowest:,.1f} to {100 * effect.highest:,.1f}",
            **_change("latency", effect.latency),
            "load_points": effect.load_points,
        }
        for effect in effects
    ]
    latency = f"{LATENCY_NAME[main_latency(config)]} p{config.slo.percentile:g}"
    columns = [
        *(["option"] if len({effect.matrix for effect in effects}) > 1 else []),
        "setting",
        Column("values", "value"),
        Column("pairs", "pairs with a price"),
        numeric("price_change", "change of price, %", decimals=1),
        interval_column("price_interval", config),
        Column("by_pair", "single pairs"),
        numeric("latency_change", f"change of {latency}, %", decimals=1),
        interval_column("latency_interval", config),
        numeric("load_points", "load points in both", decimals=0),
    ]
    caption = (
        "What each setting changes: the mean difference of logarithms over the pairs of options that are alike in all other "
        "settings of the matrix; its interval follows from those of the options. Prices are those of the options, each at its "
        "own loads; latencies are compared at the same load points. Where single pairs differ much, the effect of a setting "
        "depends on the others. Load points that the client limited are left out."
    )
    said = " ".join(filter(None, [price_sentence(effects, config), _absent(verdict, config, effects)]))
    return Table(rows, columns, caption, said)


def label(effect: Effect, effects: Sequence[Effect]) -> str:
    """The last step of a setting's key path, or all of it where another setting has the same."""
    last = effect.setting.rpartition(".")[2]
    others = {other.setting for other in effects if other.setting != effect.setting}
    return effect.setting if any(other.rpartition(".")[2] == last for other in others) else last


def price_sentence(effects: Sequence[Effect], config: BenchmarkConfig) -> str:
    """Which setting moves the price most, of those whose interval leaves 0 out; or that none does."""
    known = [each for each in effects if each.price is not None and None not in (each.price.low, each.price.high)]
    if not known:
        return "What the settings change of the price is not known with an interval."
    shown = [each for each in known if each.price.low > 0 or each.price.high < 0]
    if not shown:
        return "No setting is shown to change the price."
    most = max(shown, key=lambda each: max(1 + each.price.value, 1 / (1 + each.price.value)))
    said = (
        f"Of what is shown to change the price, {label(most, effects)} does most: {most.value} instead of {most.against} changes "
        f"it by {_signed(most.price.value)} ({interval_words(config)} {_signed(most.price.low)} to {_signed(most.price.high)})."
    )
    if most.lowest < 0 < most.highest:
        said += (
            f" Single pairs go both ways, from {_signed(most.lowest)} to {_signed(most.highest)}: what it changes depends on the "
            "other settings."
        )
    return said


def _absent(verdict: Verdict, config: BenchmarkConfig, effects: Sequence[Effect]) -> str:
    """Which combinations are in no comparison of prices, and what that means."""
    mine = [verdict.option(option.name) for option in config.options if option.from_matrix is not None]
    absent = [f"{quoted(each.option)} ({STATUS_WORDS[each.status]})" for each in mine if each.cost is None]
    guessed = [quoted(each.option) for each in mine if each.cost is not None and each.is_estimate]
    said = []
    if absent:
        said.append(f"Without a price, and so in no comparison of prices: {listed(absent)}.")
    if guessed:
        said.append(f"By estimates, not shown to meet the SLO: the price of {listed(guessed)}.")
    if any(effect.pairs < effect.possible for effect in effects):
        said.append(
            "Where pairs are missing, an effect on the price holds for the other settings of the pairs that there are."
        )
    return " ".join(said)


def _signed(share: float) -> str:
    return f"{100 * share:+,.1f}%"


def _change(of: str, share: Estimate | None) -> dict[str, object]:
    percent = share and share.times(100)
    return {f"{of}_change": percent and percent.value, f"{of}_interval": interval_of(percent, 1)}
