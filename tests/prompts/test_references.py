"""Reference answers of prompts: where they are found, and what is said where there are too few."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from examples import make_config

from helpers.config.workload import FileSource, ShareGPTSource
from helpers.metrics.answers import samples_of, with_reference
from helpers.prompts.references import too_few_references
from helpers.prompts.sources import read_records

QUALITY = {"scorer": "numeric", "reference": "solution", "samples": 10}
PROMPTS = {"source": {"kind": "jsonl", "path": "x.jsonl"}}


@pytest.mark.parametrize(
    ("record", "reference", "expected"),
    [
        ({"text": "q", "solution": "7"}, "solution", ("7",)),
        ({"text": "q", "solution": ["7", None, "seven\nor so"]}, "solution", ("7", "seven\nor so")),
        ({"text": "q", "solution": {"text": ["7"], "at": [1]}}, "solution.text", ("7",)),
        ({"text": "q", "solution.text": "7", "solution": {"text": "8"}}, "solution.text", ("7",)),
        ({"text": "q", "solution": 7.5}, "solution", ("7.5",)),
        ({"text": "q", "solution": None, "answers": "8"}, "solution", ()),
        ({"text": "q"}, "solution.text", ()),
        ({"text": "q", "answers": ["8", "9"]}, None, ("8", "9")),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "8"}]}, None, ("8",)),
    ],
)
def test_references_are_found_in_a_column_or_inside_it(tmp_path, record, reference, expected):
    (tmp_path / "x.jsonl").write_text(json.dumps(record) + "\n")
    (found,) = read_records(FileSource(kind="jsonl", path="x.jsonl"), tmp_path, reference=reference)
    assert found.references == expected


def test_the_reference_of_a_conversation_is_its_reply(tmp_path):
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "8"}]
    (tmp_path / "x.json").write_text(json.dumps([{"conversations": turns}]))
    (found,) = read_records(ShareGPTSource(kind="sharegpt", path="x.json"), tmp_path)
    assert found.references == ("8",)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (None, {"short": 5, "long": 5}),
        ({"short": 0.84, "long": 0.16}, {"short": 8, "long": 2}),
        ({"short": 1.0, "long": 0.0}, {"short": 10}),
    ],
)
def test_prompts_are_asked_in_the_shares_of_the_traffic(shares, expected):
    config = make_config(datasets=["short", "long"], prompts=PROMPTS, quality=QUALITY, traffic={"mix": shares})
    assert samples_of(config) == expected


def test_prompts_without_a_usable_reference_are_left_out_and_too_few_are_refused():
    config = make_config(prompts=PROMPTS, quality=QUALITY)
    references = [["7"], [], ["seven"], ["seven", "7"]] * 4
    table = pa.table({"prompt_id": list("abcdefghijklmnop"), "references": references})
    assert "".join(with_reference(table, config)["prompt_id"].to_pylist()) == "adehilmp"
    (fault,) = too_few_references(config, {"short": table})
    assert fault.startswith(
        "quality.samples: 10 prompts of dataset 'short' are to be scored, and 8 of its 16 have a reference in solution"
    )
    assert "Expected 10 or more. Next: lower quality.samples" in fault
    enough = config.model_copy(update={"quality": config.quality.model_copy(update={"samples": 8})})
    assert too_few_references(enough, {"short": table}) == []
    assert too_few_references(config.model_copy(update={"quality": None}), {"short": table}) == []
