"""How much of what reasoning models put out is thinking, and when their answers begin."""

from __future__ import annotations

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.report.columns import numeric
from helpers.report.comparing import quoted
from helpers.report.display import Table
from helpers.report.load_report import level_column
from helpers.verdict.verdict import Verdict


def thinking_table(points: pd.DataFrame, config: BenchmarkConfig) -> Table | None:
    """The load points at which something thought, with what that took; None where nothing did."""
    if not reasons(points):
        return None
    rows = points[points["reasoned"] > 0]
    rows = rows.assign(thinking=100 * rows["thinking_share"].astype(float))
    columns = [
        "option",
        "dataset",
        level_column(config),
        numeric("thinking", "thinking, % of output tokens", decimals=1),
        numeric("reasoning_tokens_mean", "thinking tokens, mean", decimals=1),
        "output_tokens_mean",
        "ttft_s_p50",
        numeric("ttfa_s_p50", "TTFA p50, s", at_most=3),
        numeric("never_answered", "never answered", decimals=0),
    ]
    caption = (
        "Thinking before the answer, over the successes of the steady window. TTFA is the time to the first token of the answer, "
        "and infinite where the answer ended in the thinking (“never answered”)."
    )
    said = [_of_option(rows[rows["option"] == name]) for name in rows["option"].unique()]
    return Table(rows, columns, caption, f"{' '.join(said)} Prices per output token count thinking tokens as output.")


def price_note(points: pd.DataFrame, verdict: Verdict) -> str:
    """What the verdict's price includes, if it is per output token and something thought; else empty."""
    is_per_token = verdict.cost_basis == "usd_per_1m_output_tokens"
    return "The price counts thinking tokens as output." if is_per_token and reasons(points) else ""


def reasons(points: pd.DataFrame) -> bool:
    """Did any option think? Tables of earlier releases do not say."""
    return "reasoned" in points and bool((points["reasoned"] > 0).any())


def _of_option(mine: pd.DataFrame) -> str:
    """The share of thinking of an option, over its load points, and how many of its answers never came."""
    name, shares = quoted(mine["option"].iloc[0]), mine["thinking_share"].astype(float)
    if shares.isna().any():
        said = f"{name} thought before it answered; of some of its output it is not known how many tokens that took."
    else:
        least, most = text.percent(shares.min(), 1), text.percent(shares.max(), 1)
        span = least if least == most else f"{least} to {most}"
        said = f"{name} spent {span} of its output tokens on thinking."
    never, answers = int(mine["never_answered"].sum()), int((mine["n"] - mine["failures"]).sum())
    ended = f" {never:,} of its {text.plural(answers, 'answer')} ended before the thinking did." if never else ""
    return said + ended
