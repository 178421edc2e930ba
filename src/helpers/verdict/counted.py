"""Who counted the tokens of an option, whether a server's counts agree with the texts, and what follows for prices.

The option's tokenizer also counts the tokens of a sample of answers and of their prompts. A server may count more or fewer:
special tokens and chat templates are not part of the text, and text that is split differently gives other tokens. A larger
difference means that one of the two is wrong. Lengths that were counted in different ways cannot be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.run.report_warning import ReportWarning
from helpers.verdict.open_points import may_be_less
from helpers.verdict.verdict import OptionVerdict

MOST_TIMES = 1.5
"""Factor by which server and tokenizer may differ for any cause."""
TOLERANCE = {"output_tokens": (4, 4), "prompt_tokens": (10, 150)}
"""By how many tokens a server's count may be below and above the tokenizer's: special tokens, chat templates, system prompts."""
PRICES = {"output_tokens": "usd_per_1m_output_tokens", "prompt_tokens": "usd_per_1m_input_tokens"}


@dataclass(frozen=True)
class Counted:
    """The mean tokens of an option's sample, by both counts."""

    answers: int
    by_server: float
    by_tokenizer: float

    @property
    def ratio(self) -> float:
        """The server's count as a multiple of the tokenizer's."""
        return self.by_server / self.by_tokenizer if self.by_tokenizer else math.inf

    def contradicts(self, tokens: str) -> bool:
        """Do the counts differ by more than special tokens, templates and split words explain?"""
        fewer, more = TOLERANCE[tokens]
        is_far = not -fewer <= self.by_server - self.by_tokenizer <= more
        return is_far and not 1 / MOST_TIMES <= self.ratio <= MOST_TIMES


def counted(points: pd.DataFrame, option: str, tokens: str) -> Counted | None:
    """The sample of an option over all its loads; None where there is none, as in runs of earlier releases."""
    columns = [f"{tokens}_sampled{end}" for end in ("", "_server", "_tokenizer")]
    if not set(columns) <= set(points.columns):
        return None
    answers, by_server, by_tokenizer = points.loc[points["option"] == option, columns].astype(float).sum()
    return Counted(int(answers), by_server / answers, by_tokenizer / answers) if answers else None


# --- the warning --------------------------------------------------------------------------------------------------


def check_counts(points: pd.DataFrame) -> Iterable[ReportWarning]:
    """Warnings where a server's counts contradict the texts, with the price by either count."""
    for tokens, texts, no_fault in (
        ("output_tokens", "the text of its answers", "Reasoning that a server counts and does not send"),
        ("prompt_tokens", "the prompts that were sent to it", "A long system prompt that a server adds"),
    ):
        found = {option: counted(points, option, tokens) for option in points["option"].unique()}
        rows = [
            _contradiction(option, tokens, sample, points)
            for option, sample in found.items()
            if sample is not None and sample.contradicts(tokens)
        ]
        if rows:
            name = tokens.replace("_", " ")
            yield ReportWarning(
                kind="token_counts",
                message=f"A server's count of {name} contradicts {texts}: its prices per token are in doubt. Next: check how "
                "the server fills usage, and whether tokenizer (of the option, or of model) is that of its model. "
                f"{no_fault} is not a fault.",
                rows=rows,
            )


def _contradiction(option: str, tokens: str, sample: Counted, points: pd.DataFrame) -> str:
    name = tokens.replace("_", " ")
    said = (
        f"{option}: {sample.by_server:,.1f} {name} per request by the server's count, {sample.by_tokenizer:,.1f} by the "
        f"tokenizer's ({text.plural(sample.answers, 'answer')} compared)"
    )
    prices = points.loc[points["option"] == option, PRICES[tokens]].dropna()
    if prices.empty or not sample.by_tokenizer:
        return said
    price, per = float(prices.min()), "output" if tokens == "output_tokens" else "input"
    return (
        f"{said}; at best {text.dollars(price)} per 1M {per} tokens by the server's count, "
        f"{text.dollars(price * sample.ratio)} by the tokenizer's"
    )


# --- can lengths be compared? -------------------------------------------------------------------------------------


def counted_apart(points: pd.DataFrame, config: BenchmarkConfig, same_model: bool, same_lengths: bool) -> list[str]:
    """Who counted the tokens of each option, one row each, where because of that it is not known whether requests were equal
    work or what an output token costs; otherwise empty.

    Different ways of counting matter where the lengths differ; counts that contradict the texts matter even where they agree.
    Different models have different tokenizers, which is not a fault.
    """
    options = list(points["option"].unique())
    by_whom = {option: words for option in options if (words := _by_whom(points, option, config))}
    is_open = same_model and not same_lengths
    wrong = contradicted(points, "output_tokens") | (contradicted(points, "prompt_tokens") if is_open else set())
    if len(options) < 2 or not (wrong or (is_open and len(set(by_whom.values())) > 1)):
        return []
    doubt = ", which contradicts the texts"
    return [f"{option}: {words}{doubt if option in wrong else ''}" for option, words in by_whom.items()]


def _by_whom(points: pd.DataFrame, option: str, config: BenchmarkConfig) -> str:
    """Who counted, in words; empty where it is not known."""
    mine = points[points["option"] == option]
    known = {name: mine[f"{name}_source"].dropna() for name in TOLERANCE if f"{name}_source" in mine}
    words = {name: _in_words(sources, tokenizer_if_measured(option, config)) for name, sources in known.items()}
    if len(set(words.values())) == 1:
        return words["output_tokens"]
    return ", ".join(f"{name.replace('_', ' ')} {by}" for name, by in words.items() if by)


def tokenizer_if_measured(option: str, config: BenchmarkConfig) -> str | None:
    """The tokenizer that counts the tokens of an option; None for imported results, of which it is unknown."""
    return None if config.imported else next(config.tokenizer_of(o) for o in config.options if o.name == option)


def _in_words(sources: pd.Series, tokenizer: str | None) -> str:
    words = {
        "server": "by the server",
        "tokenizer": f"with {f'the tokenizer {tokenizer}' if tokenizer else 'a tokenizer'}",
    }
    return " and ".join(words[source] for source in words if any(source in one.split(" and ") for one in sources))


def contradicted(points: pd.DataFrame, tokens: str) -> set[str]:
    """Options whose server's counts contradict the texts; none where all servers deviate alike: then the tokenizer is wrong,
    and the servers' counts can be compared.
    """
    samples = {option: counted(points, option, tokens) for option in points["option"].unique()}
    ratios = {option: sample.ratio for option, sample in samples.items() if sample is not None}
    wrong = {option for option in ratios if samples[option].contradicts(tokens)}
    are_alike = bool(wrong) and len(wrong) == len(samples) and max(ratios.values()) <= MOST_TIMES * min(ratios.values())
    return set() if are_alike else wrong


def cheaper_if_counted_alike(
    option: OptionVerdict, winner: OptionVerdict, points: pd.DataFrame, config: BenchmarkConfig
) -> str | None:
    """Why an option might be cheaper per output token than the winner; None if it cannot. Both costs are per 1M output tokens,
    whoever counted them.

    Counts by a tokenizer that all options share are compared, if there are any. Where there are none, or a server's counts
    contradict them, the available counts are compared too.
    """
    if None in (option.cost, winner.cost):
        return None
    common, wrong = _ratios_to_common_tokenizer(points, config), contradicted(points, "output_tokens")
    views = [common or {name: counted(points, name, "output_tokens").ratio for name in wrong}]
    if wrong or not common:
        views.append({})
    for ratios in views:
        mine, other = (one.cost.times(ratios.get(one.option, 1.0)) for one in (option, winner))
        if may_be_less(mine, other, config):
            words = "by the tokenizer's count" if ratios else "by the available counts"
            return (
                f"tokens were not counted alike, and {words} it costs {text.dollars(mine.value)} per 1M output tokens, "
                f"{winner.option} {text.dollars(other.value)}"
            )
    return None


def _ratios_to_common_tokenizer(points: pd.DataFrame, config: BenchmarkConfig) -> dict[str, float] | None:
    """Option -> its count of output tokens as a multiple of that by a tokenizer that all options share; None where not all
    have such a count.
    """
    options = points["option"].unique()
    tokenizers = {tokenizer_if_measured(option, config) for option in options}
    if len(tokenizers) > 1 or None in tokenizers or "output_tokens_source" not in points:
        return None
    ratios = {}
    for option in options:
        sources = set(points.loc[points["option"] == option, "output_tokens_source"].dropna())
        sample = counted(points, option, "output_tokens")
        ratios[option] = 1.0 if sources == {"tokenizer"} else sample.ratio if sample else math.nan
    return ratios if all(map(math.isfinite, ratios.values())) else None
