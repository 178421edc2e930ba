"""Conversations from files: what is sent of a record, and how its length is bounded."""

from __future__ import annotations

import functools
import json
import operator
import re
from itertools import pairwise
from pathlib import Path

import pytest
from config_text import TEXT

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import load_config
from helpers.errors import ConfigError, PromptError
from helpers.prompts.conversations import Conversation, Reading, Turn, conversation_of
from helpers.prompts.making import make_prompts
from helpers.run.prompt_files import prompt_metadata

SAID = {
    "system first": ([("system", "S"), ("user", "A"), ("assistant", "B"), ("user", "C")], "S", [("A", "B"), ("C", None)]),
    "assistant first": ([("gpt", "B"), ("human", "C"), ("gpt", "D")], "", [("C", "D")]),
    "in a row": ([("user", "A"), ("user", "B"), ("assistant", "C"), ("assistant", "D")], "", [("A\n\nB", "C\n\nD")]),
    "a tool": ([("user", "A"), ("assistant", "B"), ("tool", "{}"), ("user", "C")], "", [("A", "B")]),
    "an empty turn": (
        [("user", "A"), ("assistant", ""), ("user", "B"), ("assistant", "C"), ("user", " ")],
        "",
        [("A", None), ("B", "C")],
    ),
    "nothing asked": ([("system", "S"), ("assistant", "B")], "S", []),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_record_is_sent_as_the_page_says(name):
    said, system, turns = SAID[name]
    reading = Reading()
    assert conversation_of("r", said, reading) == Conversation("r", system, tuple(Turn(*turn) for turn in turns))
    plain = name == "system first"
    assert bool(reading.notes()) != plain, "what is left out or changed is said"


def config_of(tmp_path: Path, conversations: str, records: list[dict], **changes: str):
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    text = TEXT.replace(
        "kind: python_reference", f"kind: sharegpt\n    path: c.jsonl\n  conversations: {conversations}"
    )
    text = re.sub(
        r"datasets:.*?generation",
        "datasets: [{name: d, prompt_tokens: [1, 300], count: 9}]\ngeneration",
        text,
        flags=re.S,
    )
    for old, new in ({"concurrency: [1, 4]": "concurrency: [1]\n  repeat_prompts: true"} | changes).items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "c.yml").write_text(text)
    return load_config(tmp_path / "c.yml").benchmark


def records(count: int = 12, turns: int = 6) -> list[dict]:
    return [
        {"messages": [
            {"role": role, "content": f"{role} {i}.{turn} says some words"}
            for turn in range(turns)
            for role in ("user", "assistant")
        ]}
        for i in range(count)
    ]  # fmt: skip


def tables(config, tmp_path: Path):
    return make_prompts(config, tmp_path).tables["d"]


def test_bins_of_the_context_know_how_many_turns_are_planned_in_them_and_an_empty_one_is_a_warning(tmp_path):
    ends = {"early": (1, 100), "late": (100, 290), "no": (290, 300)}
    bins = [{"name": name, "prompt_tokens": list(end)} for name, end in ends.items()]
    count = {"prompt_tokens: [1, 300]": f"prompt_tokens: [1, 300], bins: {bins}"}
    table = tables(config_of(tmp_path, "{think_time_s: 1, max_turns: 4}", records(), **count), tmp_path)
    about, turns = (
        prompt_metadata(table.schema),
        functools.reduce(operator.iadd, table["turns:prompt_tokens"].to_pylist(), []),
    )
    early = sum(tokens < 100 for tokens in turns)
    assert about["turns_of_bins"] == {"early": early, "late": len(turns) - early} and 0 < early < len(turns)
    [warning] = about["warnings"]
    assert (
        "no turn is planned in its bin 'no' of 290 to 299 prompt tokens" in warning and "Next: change `bins`" in warning
    )


def test_a_conversation_is_cut_before_the_turn_that_would_leave_the_bin(tmp_path):
    config = config_of(tmp_path, "{think_time_s: 1}", records(), **{"[1, 300]": "[60, 130]"})
    table = tables(config, tmp_path)
    turns = table["turns:prompt_tokens"].to_pylist()
    assert len(turns) == 9 and all(60 <= tokens[-1] < 130 for tokens in turns)
    assert table["prompt_tokens"].to_pylist() == [tokens[-1] for tokens in turns]
    texts = [json.loads(text) for text in table["conversation"].to_pylist()]
    assert [len(text["turns"]) for text in texts] == list(map(len, turns))
    grown = turns[0][1] - turns[0][0]
    assert all(tokens[-1] + grown + 10 >= 130 for tokens in turns), "no shorter than it has to be"
    answers = config.generation.max_output_tokens
    assert all(after - before > answers for tokens in turns for before, after in pairwise(tokens))
    notes = " ".join(prompt_metadata(table.schema)["notes"])
    assert "9 conversations of d cut" in notes and f"counted as {answers} tokens" in notes


def test_the_context_of_the_model_and_max_turns_bound_it_too(tmp_path):
    context = tables(
        config_of(tmp_path, "{think_time_s: 1}", records(), **{"context_tokens: 4096": "context_tokens: 150"}), tmp_path
    )
    assert max(context["prompt_tokens"].to_pylist()) + 24 <= 150
    most = tables(config_of(tmp_path, "{think_time_s: {mean: 2}, max_turns: 2}", records()), tmp_path)
    assert {len(turns) for turns in most["turns:prompt_tokens"].to_pylist()} == {2}


def test_recorded_history_counts_the_replies_and_ends_where_one_is_lacking(tmp_path):
    lacking = records(12, 3)
    del lacking[0]["messages"][3]  # the reply to the second turn; two turns of the user follow each other, and are one
    for record in lacking[1:]:
        record["messages"][3]["content"] = ""
    table = tables(config_of(tmp_path, "{think_time_s: 1, history: recorded}", lacking), tmp_path)
    assert {len(turns) for turns in table["turns:prompt_tokens"].to_pylist()} == {2}
    assert all("assistant" in text for text in table["rendered"].to_pylist())


REFUSED = {
    "another source": ({"kind: sharegpt\n    path: c.jsonl": "kind: python_reference"}, "prompts: .*python_reference has none"),
    "an option of another API": (
        {"api: openai_chat\n    instance": "api: djl\n    instance"},
        r"options\[1\].api: .*needs a chat API.*'endpoint' is djl. Expected openai_chat",
    ),
    "a race": ({"min_requests: 110": "min_requests: 110\n  race: true"}, "load.race: .*begin all sessions anew"),
    "a control block": ({"min_requests: 110": "min_requests: 110\n  control: true"}, "load.control: .*begin all sessions anew"),
    "a ramp": (
        {"kind: closed_loop\n  concurrency: [1]": "kind: ramp\n  from_rate: 1\n  to_rate: 2\n  duration_s: 5"},
        "load.kind: .*cannot be sent by a load of kind ramp",
    ),
    "no think time": ({"{think_time_s: 1}": "{history: answered}"}, r"conversations.think_time_s: this key is required"),
    "a negative think time": ({"{think_time_s: 1}": "{think_time_s: -1}"}, "think_time_s: bad value -1"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_conversations_cannot_be_combined_with_is_refused(tmp_path, name):
    changes, words = REFUSED[name]
    with pytest.raises(ConfigError, match=words):
        config_of(tmp_path, "{think_time_s: 1}", records(), **changes)


def test_levels_are_users_or_sessions_per_second(tmp_path):
    closed = config_of(tmp_path, "{think_time_s: 1}", records(), **{"concurrency: [1, 4]": "concurrency: [1, 4]"})
    assert [level.label for level in closed.load.levels()] == ["1 user", "4 users"]
    opened = {"kind: closed_loop\n  concurrency: [1]": "kind: open_loop\n  rate: [2]"}
    level = config_of(tmp_path, "{think_time_s: 1}", records(), **opened).load.largest_level()
    assert level.label == "2 sessions/s" and level.is_open


def test_a_record_without_a_conversation_is_named(tmp_path):
    config = config_of(tmp_path, "{think_time_s: 1}", [*records(2), {"text": "alone"}])
    with pytest.raises(PromptError, match=r"c.jsonl:3: no conversation.*Next: "):
        make_prompts(config, tmp_path)


def test_the_sample_is_what_its_recipe_makes(tmp_path, monkeypatch):
    page = (PROJECT_ROOT / "docs" / "conversations.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})
    name = "data/example_conversations.jsonl"
    assert Path(name).read_bytes() == (PROJECT_ROOT / name).read_bytes()
    assert Path(name).stat().st_size < 200_000
