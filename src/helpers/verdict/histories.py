"""Conversations whose histories are the options' own answers: do options read prompts of the same length at the same turn?"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.metrics.summary import LoadPoint
from helpers.run.report_warning import ReportWarning

TOLERANCE = 0.1
FEWEST = 10
"""Conversations that both options were sent up to a turn, whose median is worth a comparison."""


def turn_tokens(point: LoadPoint) -> pd.Series:
    """Prompt tokens by option, dataset, turn and prompt, of all phases of a load point; empty without conversations."""
    known = point.requests[point.requests["ok"]].dropna(subset=["turn", "prompt_tokens"])
    first, same = point.facts[0], ["turn", "prompt_id"]
    tokens = known.groupby(same)["prompt_tokens"].median().astype(float)
    return pd.concat({(first.option, first.dataset): tokens}, names=["option", "dataset", *same])


def check_histories(found: Iterable[pd.Series], config: BenchmarkConfig) -> Iterable[ReportWarning]:
    """Pairs of options whose prompts of the same turn of the same conversations differ by more than 10% in their median, each at
    the turn where they differ most. What they differ by at the first turn, which has no answers in it, is how they count.
    """
    known = [tokens for tokens in found if len(tokens)]
    if not are_answered(config) or not known:
        return
    table = pd.concat(known).groupby(level=["dataset", "turn", "prompt_id", "option"]).median().unstack()
    options = [option.name for option in config.options if option.name in table]
    rows = []
    for dataset, here in table.groupby(level="dataset", sort=False):
        for pair in combinations(options, 2):
            of_turn = here[list(pair)].dropna().groupby(level="turn")
            medians = of_turn.median()[of_turn.size() >= FEWEST]
            if 1 not in medians.index or len(medians) < 2:
                continue
            ratio = (medians[pair[0]] / medians[pair[1]]) / (medians.loc[1, pair[0]] / medians.loc[1, pair[1]])
            apart = pd.concat([ratio, 1 / ratio], axis=1).max(axis=1)
            if (most := apart.max()) > 1 + TOLERANCE:
                rows.append((most, _words(dataset, int(apart.idxmax()), medians, of_turn.size())))
    if rows:
        yield ReportWarning(
            kind="histories",
            message="Each option is sent its own answers again (history: answered), and they are not equally long: at the same "
            f"turn of the same conversations the median prompts differ by more than {TOLERANCE:.0%}, what they differ by at the "
            "first turn left out. That is unequal work: with a shorter history an option seems faster and cheaper per request "
            f"than it is. Next: {same_histories(config)}.",
            rows=[words for _, words in sorted(rows, key=lambda row: -row[0])],
        )


def _words(dataset: str, turn: int, medians: pd.DataFrame, conversations: pd.Series) -> str:
    said = [" and ".join(f"{name} {row[name]:,.0f}" for name in medians) for row in (medians.loc[turn], medians.loc[1])]
    return (
        f"{dataset}, turn {turn}: {said[0]} prompt tokens, after {said[1]} at turn 1 (medians of the {conversations[turn]:,} "
        "conversations that both were sent so far)"
    )


def are_answered(config: BenchmarkConfig) -> bool:
    """Is each option sent the answers that it gave itself?"""
    return not config.imported and config.conversations is not None and config.conversations.history == "answered"


def same_histories(config: BenchmarkConfig) -> str:
    """The next step of who wants options to read the same prompts."""
    lengths = "generation.fixed_output_length: true, if their servers can"
    if config.generation.fixed_output_length:
        lengths = "see why servers do not obey generation.fixed_output_length"
    return f"set prompts.conversations.history: recorded, so that all read the file's replies, or {lengths}"
