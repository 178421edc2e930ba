"""Which LoRA adapter each prompt is sent to: drawn before the start, in the shares of the config."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def adapters_by_prompt(shares: Mapping[str, float] | None, prompts: int, seed: int, dataset: str) -> list[str | None]:
    """The adapter of each prompt in the order of sending, the same for all options with these shares; None without adapters.

    Each has its share of the prompts, to the nearest prompt (largest remainder), in an order that is drawn from the seed.
    """
    if not shares:
        return [None] * prompts
    exact = np.array(list(shares.values())) * prompts
    counts = np.floor(exact).astype(int)
    most_lacking = np.argsort(counts - exact, kind="stable")
    counts[most_lacking[: prompts - counts.sum()]] += 1
    drawn = np.repeat(list(shares), counts)
    return np.random.default_rng([seed, *dataset.encode(), len(shares)]).permutation(drawn).tolist()
