"""How much of what a load point gave was thinking: of the successes of its steady window."""

from __future__ import annotations

import pandas as pd

NO_REASONING = {"reasoned": 0, "thinking_share": None, "reasoning_tokens_mean": None, "never_answered": 0}
"""The columns of a load point where no thinking was seen or reported, and of results of other tools, which do not say."""


def reasoning_columns(ok: pd.DataFrame) -> dict[str, float | int | None]:
    """`ok` are the successes (`formulas.with_latencies`). `reasoned`: how many thought; `never_answered`: how many ended while
    they did; `thinking_share`: thinking tokens / output tokens of all, and `reasoning_tokens_mean` per request, which are None
    where none thought, or where the tokens of some are unknown.
    """
    counted = ok["reasoning_tokens"].fillna(0) > 0
    no_answer = ok["answered"].eq(False).fillna(False)
    thought = (counted | no_answer | (ok["first_answer_ns"] > ok["first_token_ns"]).fillna(False)).to_numpy(dtype=bool)
    if not thought.any():
        return dict(NO_REASONING)
    known = ok.loc[thought, "reasoning_tokens"].notna().all() and ok["output_tokens"].notna().all()
    tokens, output = (float(ok[name].fillna(0).sum()) for name in ("reasoning_tokens", "output_tokens"))
    return {
        "reasoned": int(thought.sum()),
        "thinking_share": tokens / output if known and output else None,
        "reasoning_tokens_mean": tokens / len(ok) if known else None,
        "never_answered": int(no_answer.sum()),
    }
