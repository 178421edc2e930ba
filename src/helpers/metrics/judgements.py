"""What a judge made of the answers: each is compared with its reference twice, once in either order.

An answer scores 1 where it is preferred, 0 where the reference is, 0.5 where the judge calls them equal, averaged over the two
orders. A judge that prefers a place, whichever answer stands there, contradicts itself: that is counted, and from half of the
prompts on its scores are not used. (Position bias: Zheng et al., "Judging LLM-as-a-Judge with MT-Bench", 2023.)
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from helpers.config.strict import slug
from helpers.metrics.answers import FOLDER, KEY
from helpers.price import Price
from helpers.run.folder import RunFolder
from helpers.run.ledger import TOKENS, usd_of_judge

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("dataset", "prompt_id", "preferred", "status", "error", "judgement")]
    + [("answer_first", pa.bool_()), *((name, pa.int64()) for name in TOKENS)]
)
"""Of a file of judgements, two rows for each answer; `preferred`: answer, reference or equal, null where that is not known."""
SCORE = {"answer": 1.0, "equal": 0.5, "reference": 0.0}
MOST_CONTRADICTED = 0.5
"""Share of the prompts on which a judge may contradict itself."""
MOST_UNKNOWN = 0.05
"""Share of the answers without two judgements."""
UNUSABLE = (
    "on too many prompts it preferred the same place whichever answer stood there, or gave no verdict (columns “contradicted” "
    "and “no verdict”)"
)


class JudgeCounts(BaseModel):
    """How often a judge could be relied on, in prompts, and what it read and wrote."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    judged: int
    """Answers with a verdict in either order."""
    contradicted: int
    """Of these, where it preferred the same place in both orders."""
    unknown: int
    """Answers without two verdicts: their score is unknown."""
    prompt_tokens: int | None
    """As its server counts; null where it does not count those of all judgements."""
    output_tokens: int | None
    usd: float | None
    """What these judgements cost by the price that the config states; null where that or the tokens are unknown, 0 of a server
    that is billed by the hour, as it runs anyway.
    """

    @property
    def is_usable(self) -> bool:
        """Did it contradict itself, and give no verdict, rarely enough?"""
        total = self.judged + self.unknown
        return self.contradicted <= MOST_CONTRADICTED * self.judged and self.unknown <= MOST_UNKNOWN * total


def judgements_file(option: str, run: RunFolder) -> Path:
    """Where the judgements of an option's answers are, once all were asked for."""
    return run.path / FOLDER / f"{slug(option)}.judged.parquet"


def with_judgements(answers: pd.DataFrame, option: str, run: RunFolder) -> pd.DataFrame | None:
    """The answers with `score` (NaN where it is unknown), `contradicted` (null where there are not two verdicts), and the tokens
    of the judge; None before it was asked. A failed request is a wrong answer, of which nobody is asked.
    """
    path = judgements_file(option, run)
    if not path.is_file():
        return None
    rows = pd.read_parquet(path)
    rows["score"] = rows["preferred"].map(SCORE).astype(float)
    prefers_first = (rows["preferred"] == "answer") == rows["answer_first"]
    rows["place"] = prefers_first.astype(float).where(rows["preferred"].isin(["answer", "reference"]))
    for name in TOKENS:  # those of a failure are none; a release that knew no cache had none from it
        least = 0.0 if name == "cached_tokens" else float("nan")
        rows[name] = rows.get(name, pd.Series(least, rows.index)).astype(float).fillna(least)
        rows.loc[rows["status"] != "ok", name] = 0.0
    found = rows.groupby(KEY, sort=False).agg(
        score=("score", lambda both: both.mean(skipna=False) if len(both) == 2 else float("nan")),
        places=("place", lambda both: float(both.notna().all() and both.nunique() == 1)),
        **{f"judge_{name}": (name, lambda both: both.sum(skipna=False)) for name in TOKENS},
    )
    found["contradicted"] = found.pop("places").where(found["score"].notna())
    answers = answers.merge(found.reset_index(), on=KEY, how="left")
    return answers.assign(score=answers["score"].mask(answers["status"] != "ok", 0.0))


def counts_of(scores: pd.DataFrame, price: Price | None = None) -> JudgeCounts | None:
    """Of the scored answers of an option; None where no judge scored them. `price`: the judge's, if it is known."""
    if "contradicted" not in scores:
        return None
    sums = [scores.loc[scores["status"] == "ok", f"judge_{name}"].sum(skipna=False) for name in TOKENS]
    tokens = None if pd.isna(sums).any() else [int(each) for each in sums]
    answered = scores[scores["status"] == "ok"]
    judged = answered[answered["contradicted"].notna()]
    return JudgeCounts(
        judged=len(judged),
        contradicted=int(judged["contradicted"].sum()),
        unknown=len(answered) - len(judged),
        prompt_tokens=tokens and tokens[0],
        output_tokens=tokens and tokens[1],
        usd=usd_of_judge(price, tokens),
    )
