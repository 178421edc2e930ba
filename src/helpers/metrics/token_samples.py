"""A level's tokens as the server and as the tokenizer counted them, on the answers that both did."""

from __future__ import annotations

import pandas as pd

COUNTED = ("output_tokens", "prompt_tokens")


def sample_columns(requests: pd.DataFrame) -> dict[str, float | str | None]:
    """Of all phases of a level: who counted its tokens, and the sums over the answers that both counted."""
    row: dict[str, float | str | None] = {}
    ok = requests[requests["status"] == "ok"]
    for tokens in COUNTED:
        both = ok[ok[f"{tokens}_by_tokenizer"].notna() & ok[tokens].notna()]
        sources = sorted(ok[f"{tokens}_source"].dropna().unique())
        row |= {f"{tokens}_source": " and ".join(sources) or None, f"{tokens}_sampled": len(both)}
        row |= {f"{tokens}_sampled_server": float(both[tokens].sum())}
        row |= {f"{tokens}_sampled_tokenizer": float(both[f"{tokens}_by_tokenizer"].sum())}
    return row


def no_sample() -> dict[str, float | None]:
    """The same columns for results of other tools, of which no text is at hand."""
    sampled = {f"{tokens}_sampled{end}": 0.0 for tokens in COUNTED for end in ("", "_server", "_tokenizer")}
    return sampled | {f"{tokens}_source": None for tokens in COUNTED}
