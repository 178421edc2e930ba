"""Hit rates of prefix caches at each load point: the share of prompt tokens that was asked for, sent, and found.

Asked: `prompts.prefix`. Sent: the tokens of each request that begin an earlier request to the same option, so what a cache that
never forgets would hold. Found: what the server reports (`summary.summarise`). Shares of the prompt tokens of the requests of the
steady window; unknown is None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.strict import slug
from helpers.metrics.summary import LoadPoint
from helpers.prompts.salts import SALT_CHARACTERS, salt_of, salted_prompt
from helpers.prompts.tokenizers import local_tokenizer
from helpers.run.folder import RunFolder
from helpers.run.prompt_files import prompt_metadata
from helpers.run.records import read_requests
from local_sagemaker.tiny_model import default_cache_dir

BATCH = 1000
COLUMNS = ["option", "dataset", "load_point", "prompt_id", "request_id", "sent_ns", "phase"]


class _Sent(NamedTuple):
    """Sums over the requests of the steady window of an attempt."""

    shared: int
    tokens: int


class HitRates:
    """What was asked and sent in a run whose prompts share beginnings."""

    def __init__(self, run: RunFolder, config: BenchmarkConfig) -> None:
        self._asked: dict[str, float] = {}
        self._sent: dict[str, _Sent] = {}
        files = {dataset.name: run.payloads / f"{slug(dataset.name)}.parquet" for dataset in config.datasets}
        if config.imported or config.prompts.prefix is None or not all(file.is_file() for file in files.values()):
            return
        for name, file in files.items():
            if (prefix := prompt_metadata(pq.read_schema(file)).get("prefix")) is not None:
                self._asked[name] = prefix["hit_rate"]
        if self._asked.keys() == files.keys():
            self._sent = _sent(run, config, {name: pd.read_parquet(file) for name, file in files.items()})

    def of(self, point: LoadPoint) -> dict[str, float | None]:
        """The columns `asked_hit_rate` and `sent_hit_rate` of a load point."""
        sent = [self._sent.get(facts.load_point) for facts in point.facts]
        tokens = sum(one.tokens for one in sent if one)
        return {
            "asked_hit_rate": self._asked.get(point.facts[0].dataset),
            "sent_hit_rate": sum(one.shared for one in sent) / tokens if tokens and all(sent) else None,
        }


def _sent(run: RunFolder, config: BenchmarkConfig, prompts: dict[str, pd.DataFrame]) -> dict[str, _Sent]:
    """Attempt -> sums, from what was sent to each option, in that order; nothing where the tokenizer is not on this machine."""
    tokenizer = local_tokenizer(config.model.tokenizer, default_cache_dir())
    if tokenizer is None or not any(run.requests.glob("*.parquet")):
        return {}
    special = config.prompts.chat_template == "none"
    at = {(dataset, row.prompt_id): row for dataset, table in prompts.items() for row in table.itertuples()}
    requests = read_requests(run.requests, COLUMNS).dropna(subset=["sent_ns"]).sort_values("sent_ns", kind="stable")
    if (
        not set(zip(requests["dataset"], requests["prompt_id"], strict=True)) <= at.keys()
    ):  # prompts were made anew since
        return {}
    shared: defaultdict[str, int] = defaultdict(int)
    tokens: defaultdict[str, int] = defaultdict(int)
    for _, mine in requests.groupby("option", sort=False):
        earlier = EarlierPrompts()
        for start in range(0, len(mine), BATCH):
            batch = list(mine.iloc[start : start + BATCH].itertuples())
            rows = [at[request.dataset, request.prompt_id] for request in batch]
            heads = [_head(row, request.request_id) for row, request in zip(rows, batch, strict=True)]
            encodings = tokenizer.encode_batch(heads, add_special_tokens=special)
            for request, row, encoding in zip(batch, rows, encodings, strict=True):
                found = earlier.share(encoding.ids)
                if request.phase == "steady":
                    shared[request.load_point] += found
                    tokens[request.load_point] += row.prompt_tokens
    return {name: _Sent(shared[name], tokens[name]) for name in tokens}


def _head(row: tuple, request_id: str) -> str:
    """A prompt as it was sent, up to just behind its salt, which no other request has."""
    _, rendered = salted_prompt(row.text, row.rendered, salt_of(request_id), row.prefix_characters)
    begin = max(row.rendered.find(row.text.strip()), 0)
    return rendered[: begin + row.prefix_characters + 2 * SALT_CHARACTERS]


class EarlierPrompts:
    """The prompts so far, as a tree of their tokens."""

    def __init__(self) -> None:
        self._root: dict[int, dict] = {}

    def share(self, tokens: Iterable[int]) -> int:
        """Length of the longest beginning that an earlier prompt has too; this one is an earlier one from now on."""
        node, length, is_known = self._root, 0, True
        for token in tokens:
            is_known = is_known and token in node
            length += is_known
            node = node.setdefault(token, {})
        return length
