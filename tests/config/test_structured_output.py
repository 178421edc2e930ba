"""Structured output and adapters: what each API is sent, and what a config may not ask for."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pytest
from examples import config_data, make_config, option
from pydantic import ValidationError

from helpers.config.file import load_config
from helpers.config.workload import Generation
from helpers.errors import ConfigError
from helpers.load.adapters import adapters_by_prompt
from helpers.load.address import Address
from helpers.load.bodies import prepare_requests

SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer", "minimum": 1.5}}, "required": ["answer"]}
NAMED = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}
FREE = {"fixed_output_length": False}


def generation_of(**keys: object) -> dict:
    return {"max_output_tokens": 8, **FREE, **keys}


def body_of(api: str, adapters: list | None = None, prompts: int = 1, **keys: object) -> list[dict]:
    rows = [{"prompt_id": f"p{i}", "text": "2+2?", "rendered": "<u>2+2?<a>"} for i in range(prompts)]
    address = Address(url="http://localhost:1/v1", api=api, framing="plain", request_id_header="X", served_model="base")
    generation = Generation(**generation_of(**keys))
    prepared = prepare_requests(pa.Table.from_pylist(rows), address, generation, {}, adapters=adapters)
    return [json.loads(request.body) for request in prepared]


@pytest.mark.parametrize("api", ["openai_chat", "openai_completions"])
@pytest.mark.parametrize("keys", [{"response_format": NAMED}, {"response_format": {"type": "json_object"}},
                                  {"guided_json": SCHEMA}, {"structured_outputs": {"json": SCHEMA}}])  # fmt: skip
def test_openai_compatible_servers_get_the_key_as_it_is(api, keys):
    (body,) = body_of(api, **keys)
    assert {name: body[name] for name in keys} == keys
    assert "ignore_eos" not in body and "min_tokens" not in body


def test_tgi_and_bedrock_get_what_they_have():
    (tgi,), (bedrock,) = (body_of(api, response_format=NAMED) for api in ("tgi", "bedrock_converse"))
    assert tgi["parameters"]["grammar"] == {"type": "json", "value": SCHEMA} and "grammar" not in body_of("tgi")[0]
    form = bedrock["outputConfig"]["textFormat"]
    assert form["type"] == "json_schema" and form["structure"]["jsonSchema"]["name"] == "sum"
    assert json.loads(form["structure"]["jsonSchema"]["schema"]) == SCHEMA


BEDROCK = {"name": "b", "target": "bedrock", "model_id": "m"}
DJL = {"name": "d", "target": "python", "file": "x.py", "api": "djl"}


@pytest.mark.parametrize(
    ("options", "keys", "words"),
    [
        ([option("a")], {"response_format": NAMED, "fixed_output_length": True}, "Expected fixed_output_length: false"),
        ([option("a")], {"response_format": NAMED, "guided_json": SCHEMA}, "response_format and guided_json ask for the same"),
        ([option("a")], {"response_format": {"type": "xml"}}, "response_format.type is .xml.. Expected json_schema or"),
        ([option("a")], {"response_format": {"type": "json_schema"}}, "has no schema. Expected {type: json_schema"),
        ([option("a"), BEDROCK], {"guided_json": SCHEMA}, "option 'b': api bedrock_converse cannot .* by generation.guided_json"),
        ([BEDROCK], {"response_format": {"type": "json_object"}}, "it knows generation.response_format of type json_schema"),
        ([DJL], {"response_format": NAMED}, "option 'd': api djl cannot .* it knows none of its keys. Next: "),
        ([option("a", adapters={"x": 0.5, "y": 0.4})], {}, r"shares {'x': 0.5, 'y': 0.4} of adapters. Expected shares above 0"),
        ([option("a", adapters={})], {}, "Expected shares above 0"),
        ([option("a", adapters={"x": 1, "y": 0})], {}, "Expected shares above 0"),
        ([{**DJL, "adapters": {"x": 1}}], {}, "named by `model` in the request, and api is djl"),
        ([option("a", adapters={"x": 1}, extra_body={"model": "m"})], {}, "`model` is in extra_body or omit_body_keys"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_refused_with_the_next_step(options, keys, words):
    with pytest.raises(ValidationError, match=words) as refused:
        make_config(options, generation=generation_of(**keys))
    assert "Next: " in str(refused.value)


def test_the_file_names_the_option_that_cannot(tmp_path):
    data = config_data([option("a"), DJL], generation=generation_of(response_format=NAMED))
    path = tmp_path / "c.yml"
    path.write_text(json.dumps(data, indent=1))
    with pytest.raises(ConfigError, match=r"c\.yml:\d+: options\[1\]: option 'd': api djl cannot"):
        load_config(path)


def test_a_limit_on_the_answer_is_one_of_the_slo_but_not_of_imported_results():
    assert make_config(slo={"latency_s": None, "ttfa_s": 2}).slo.limits_s() == {"ttfa_s": 2}
    imported = {"name": "i", "target": "imported", "path": "x.json", "instance_type": "ml.g5.xlarge"}
    with pytest.raises(ValidationError, match=r"do not tell thinking from answers.*Next: write ttft_s or latency_s"):
        make_config([imported], slo={"ttfa_s": 2})


# --- adapters -------------------------------------------------------------------------------------------------------


def test_adapters_have_their_shares_and_the_same_order_again():
    shares = {"sql": 0.5, "law": 0.3, "base": 0.2}
    drawn = adapters_by_prompt(shares, 97, 7, "short")
    assert drawn == adapters_by_prompt(shares, 97, 7, "short") != adapters_by_prompt(shares, 97, 8, "short")
    assert all(abs(Counter(drawn)[name] - share * 97) < 1 for name, share in shares.items())
    assert max(len(set(drawn[i : i + 20])) for i in range(77)) == 3, "mixed, not one after the other"
    assert adapters_by_prompt(shares, 1, 7, "short") == ["sql"] and adapters_by_prompt(None, 2, 7, "short") == [
        None,
        None,
    ]


def test_a_request_names_its_adapter_as_model():
    assert [body["model"] for body in body_of("openai_chat", ["sql", "law"], 2)] == ["sql", "law"]
    assert [body["model"] for body in body_of("openai_completions", None, 2)] == ["base", "base"]
