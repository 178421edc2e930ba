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
from helpers.run.folder import RunFolder

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("dataset", "prompt_id", "preferred", "status", "error", "judgement")]
    + [("answer_first", pa.bool_()), ("prompt_tokens", pa.int64()), ("output_tokens", pa.int64())]
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
    """As its server counts."""
    output_tokens: int | None

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
    found = rows.groupby(KEY, sort=False).agg(
        score=("score", lambda both: both.mean(skipna=False) if len(both) == 2 else float("nan")),
        places=("place", lambda both: float(both.notna().all() and both.nunique() == 1)),
        judge_prompt_tokens=("prompt_tokens", "sum"),
        judge_output_tokens=("output_tokens", "sum"),
    )
    found["contradicted"] = found.pop("places").where(found["score"].notna())
    answers = answers.merge(found.reset_index(), on=KEY, how="left")
    return answers.assign(score=answers["score"].mask(answers["status"] != "ok", 0.0))


def counts_of(scores: pd.DataFrame) -> JudgeCounts | None:
    """Of the scored answers of an option; None where no judge scored them."""
    if "contradicted" not in scores:
        return None
    answered = scores[scores["status"] == "ok"]
    judged = answered[answered["contradicted"].notna()]
    return JudgeCounts(
        judged=len(judged),
        contradicted=int(judged["contradicted"].sum()),
        unknown=len(answered) - len(judged),
        **{name: int(scores[f"judge_{name}"].sum()) or None for name in ("prompt_tokens", "output_tokens")},
    )
