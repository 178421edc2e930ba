"""`bins` of a dataset of conversations: what they say to the rest of a config, and what is refused."""

from __future__ import annotations

import pytest
import yaml
from examples import config_data, make_config

from helpers.config.file import load_config
from helpers.errors import ConfigError

CONVERSATIONS = {"source": {"kind": "jsonl", "path": "c.jsonl"}, "conversations": {"think_time_s": 1}}


def bins(*ends: int, start: int = 1) -> list[dict]:
    starts = [start, *ends]
    return [{"name": f"to {end}", "prompt_tokens": [low, end]} for low, end in zip(starts, ends, strict=False)]


def test_bins_are_the_parts_of_their_dataset_that_must_meet_the_slo():
    config = make_config(datasets=[{"bins": bins(100, 500)}, "plain"], prompts=CONVERSATIONS)
    assert config.parts_that_must_meet("short") == ["to 100", "to 500"] and config.parts_that_must_meet("plain") == []
    assert config.part_in_words == "bin of context length"
    mix = make_config(datasets=["short", "plain"], load={"mix": True})
    assert mix.parts_that_must_meet("mixed") == ["short", "plain"] and mix.parts_that_must_meet("short") == []
    assert mix.part_in_words == "part of the mix" and make_config().part_in_words is None


@pytest.mark.parametrize(
    ("datasets", "said"),
    [
        ([{"bins": bins(100, 500, start=2)}], "bin 'to 100' begins at 2 tokens. Expected 1:"),
        ([{"bins": [*bins(100), *bins(500, start=90)]}], "bin 'to 500' begins at 90 tokens. Expected 100:"),
        ([{"bins": bins(100, 400)}], "the last bin, 'to 400', ends at 400 tokens. Expected 500,"),
        ([{"bins": bins(500)}], "datasets[0].bins"),
        ([{"bins": bins(100, 100)}], "is empty"),
        (
            [{"bins": bins(100, 500)}, {"name": "b", "bins": bins(200, 500)}],
            "datasets[1].bins[1].name: 'to 500' is the name",
        ),
        (["to 100", {"bins": bins(100, 500)}], "or of a bin and a dataset"),
    ],
)
def test_bins_that_leave_a_turn_out_or_cannot_be_told_apart_are_refused(tmp_path, datasets, said):
    assert said in refused(tmp_path, datasets=datasets, prompts=CONVERSATIONS)


def test_bins_without_conversations_are_refused(tmp_path):
    message = refused(tmp_path, datasets=[{"bins": bins(100, 500)}])
    assert "datasets[0].bins: the bins of a dataset are for the turns" in message and "a dataset of its own" in message


def refused(tmp_path, **sections) -> str:
    path = tmp_path / "bins.yml"
    path.write_text(yaml.safe_dump(config_data(**sections)))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    return str(error.value)
