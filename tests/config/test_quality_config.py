"""The `quality` section of a config: what is refused, with file, key, what was expected and the next step."""

from __future__ import annotations

import copy
import re

import pytest
import yaml
from examples import config_data

from helpers.config.file import load_config
from helpers.errors import ConfigError, RunFolderError
from helpers.run.folder import RunFolder
from helpers.run.measured_config import refuse_other_measurement

JUDGE = {
    "model": {"name": "j", "target": "openai", "base_url": "http://127.0.0.1:9/v1", "served_model": "j"},
    "rubric": "The shorter one.",
}
DEPLOYED = {
    "name": "j",
    "target": "sagemaker",
    "api": "openai_chat",
    "instance_type": "ml.g5.xlarge",
    "container": {"image": "vllm"},
    "model": "m",
}
GATE = {"not_worse_than": {"option": "b", "by": 0.05}}


def read(tmp_path, quality: dict, **sections):
    data = copy.deepcopy(
        config_data(["a", "b"], prompts={"source": {"kind": "jsonl", "path": "x.jsonl"}}, quality=quality)
    )
    data |= sections
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return load_config(path).benchmark


def test_a_right_section_is_read_with_its_defaults(tmp_path):
    quality = read(tmp_path, {"scorer": "numeric", "gate": GATE}).quality
    assert (quality.samples, quality.reference, quality.gate.not_worse_than.by) == (200, None, 0.05)
    assert read(tmp_path, None).quality is None


@pytest.mark.parametrize(
    ("changes", "sections", "message"),
    [
        ({"scorer": "bleu"}, {}, r"quality.scorer: .*exact_match.*rouge_l"),
        ({"reference": ""}, {}, r"quality.reference"),
        ({"gate": {}}, {}, r"quality.gate: give either min_score or not_worse_than"),
        ({"gate": {"min_score": 0.5, **GATE}}, {}, r"quality.gate: give either"),
        ({"gate": {"min_score": 80}}, {}, r"quality.gate.min_score: .*less than 1"),
        (
            {"gate": {"not_worse_than": {"option": "c", "by": 0.05}}},
            {},
            r"not_worse_than.option: .*not under `options`.*'c'.*a, b",
        ),
        (
            {"gate": {"not_worse_than": {"option": "b", "by": 0}}},
            {},
            r"quality.gate.not_worse_than.by: .*greater than 0",
        ),
        (
            {},
            {"prompts": {"source": {"kind": "python_reference"}}},
            r"quality: the Python reference has no answers.*Next: ",
        ),
        (
            {"reference": "x"},
            {"prompts": {"source": {"kind": "sharegpt", "path": "x"}}},
            r"quality.reference: .*the reply.*Next: ",
        ),
        (
            {},
            {"prompts": {"source": {"kind": "file", "path": "x", "answer": None}}},
            r"quality.reference: .*null.*Next: name one",
        ),
        ({"scorer": "judge"}, {}, r"quality: `judge` belongs to scorer judge"),
        ({"judge": JUDGE}, {}, r"quality: `judge` belongs to scorer judge"),
        ({"scorer": "judge", "judge": {**JUDGE, "rubric": ""}}, {}, r"quality.judge.rubric: "),
        (
            {"scorer": "judge", "judge": {**JUDGE, "model": DEPLOYED}},
            {},
            r"quality.judge.model: a judge is not deployed.*Next: write `deploy: false`",
        ),
        (
            {"scorer": "judge", "judge": JUDGE},
            {"load": {"kind": "closed_loop", "concurrency": [1, 2], "race": True, "repeat_prompts": True}},
            r"quality.gate: a judge is asked when all load is over.*Next: write load.race: false",
        ),
        (
            {"max_output_tokens": 100_000},
            {},
            r"quality.max_output_tokens: prompts of up to \d+ tokens and 100000.*Next: ",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(tmp_path, changes, sections, message):
    with pytest.raises(ConfigError, match=message) as refused:
        read(tmp_path, {"scorer": "numeric", "gate": {"min_score": 0.5}, **changes}, **sections)
    assert re.search(r"config\.yml:\d+: ", str(refused.value)) and "Next: " in str(refused.value)


def test_a_gate_needs_another_option_to_compare_with(tmp_path):
    options = config_data(["b"])["options"]
    with pytest.raises(ConfigError, match=r"not_worse_than: there is no other option to compare.*Next: add one"):
        read(tmp_path, {"scorer": "numeric", "gate": GATE}, options=options)


def test_conversations_and_imported_results_have_no_references(tmp_path):
    source = {"kind": "sharegpt", "path": "x"}
    prompts = {"source": source, "conversations": {"think_time_s": 0}}
    with pytest.raises(ConfigError, match=r"quality: turns of prompts.conversations have no reference.*Next: "):
        read(tmp_path, {"scorer": "numeric"}, prompts=prompts)
    imported = {"name": "a", "target": "imported", "format": "llmeter", "path": "x", "instance_type": "ml.g5.xlarge"}
    with pytest.raises(ConfigError, match=r"quality: imported results hold no answers.*Next: "):
        read(tmp_path, {"scorer": "numeric"}, options=[imported])


def test_a_judge_may_be_corrected_until_it_has_judged_and_its_price_at_any_time(tmp_path):
    judge = {"scorer": "judge", "judge": JUDGE}
    read(tmp_path, judge)
    run = RunFolder(tmp_path)

    def refuse(quality: dict) -> None:
        folder = tmp_path / "changed"
        folder.mkdir(exist_ok=True)
        read(folder, quality)
        refuse_other_measurement(load_config(folder / "config.yml"), run)

    other = {"scorer": "judge", "judge": {**JUDGE, "rubric": "The longer one."}}
    price = {"usd_per_1m_input_tokens": 1, "usd_per_1m_output_tokens": 2}
    refuse(other)
    refuse({"scorer": "numeric"})
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "a.judged.part.jsonl").touch()
    refuse({"scorer": "judge", "judge": {**JUDGE, "model": {**JUDGE["model"], "price": price}}})
    with pytest.raises(RunFolderError, match="other values of quality"):
        refuse(other)
