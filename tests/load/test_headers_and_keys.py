"""`headers` and `omit_body_keys` of an option: from the config file to the bytes that a server gets."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest
from config_text import TEXT

from helpers.config.file import load_config
from helpers.config.workload import Generation
from helpers.errors import ConfigError
from helpers.load.address import Address
from helpers.load.bodies import RequestWriter, prepare_requests

KEY = "az-planted-0123456789"
AZURE = "https://name.openai.azure.com/openai/deployments/gpt/?api-version=2024-10-21"


def config_text(more: str) -> str:
    written = "base_url: http://localhost:8000/v1"
    assert written in TEXT
    return TEXT.replace(written, f"base_url: {AZURE}\n    {more}")


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_KEY", KEY)

    def load(more: str):
        (tmp_path / "c.yml").write_text(config_text(more))
        return load_config(tmp_path / "c.yml")

    return load


def sent(option, **address: object) -> tuple[str, dict]:
    """Head and body of a request, as the load process writes it."""
    known = {"url": AZURE, "api": "openai_chat", "framing": "plain", "request_id_header": "X-Request-Id"}
    where = Address(**known, served_model="gpt", headers=option.headers, **address)
    prompts = pa.table({"prompt_id": ["p"], "text": ["Hi"], "rendered": ["Hi"]})
    [request] = prepare_requests(
        prompts, where, Generation(max_output_tokens=8), option.extra_body, omit_body_keys=option.omit_body_keys
    )
    head, _, body = RequestWriter(where).write("1", request).partition(b"\r\n\r\n")
    return head.decode(), json.loads(body)


def test_azure_gets_its_key_and_its_version_and_no_key_that_it_refuses(load):
    option = load(
        "headers: {api-key: '${AZURE_KEY}'}\n    omit_body_keys: [stream_options, min_tokens, ignore_eos]"
    ).benchmark.options[0]
    head, body = sent(option)
    assert head.startswith("POST /openai/deployments/gpt/?api-version=2024-10-21 HTTP/1.1\r\n")
    assert f"\r\napi-key: {KEY}\r\n" in head and "Authorization" not in head
    assert body["stream"] is True and not {"stream_options", "min_tokens", "ignore_eos"} & set(body)


def test_a_header_of_ones_own_takes_the_place_of_ours(load):
    option = load("headers: {content-type: application/json; charset=utf-8}").benchmark.options[0]
    head, _ = sent(option, bearer_token="k")
    assert re.findall(r"(?i)content-type: (.*)\r", head) == ["application/json; charset=utf-8"]
    assert "\r\nAuthorization: Bearer k\r\n" in head


def test_a_key_in_a_header_is_a_secret(load):
    option = load("headers: {api-key: '${AZURE_KEY}', Authorization: 'Token ${AZURE_KEY}'}").benchmark.options[0]
    known = {"url": AZURE, "api": "openai_chat", "framing": "plain", "request_id_header": "X"}
    address = Address(**known, headers=option.headers)
    assert KEY in address.secrets() and KEY not in repr(address) and KEY not in repr(option)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (f"headers: {{api-key: {KEY}}}", "headers.api-key: a secret is written into the file"),
        ('headers: {x: "a\\nEvil: b"}', "x: expected visible ASCII characters"),
        ('headers: {"x y": a}', "'x y': expected the name of an HTTP header"),
        ("headers: {x: ü}", "x: expected visible ASCII characters"),
        ("headers: {Content-Length: '5'}", "Content-Length: the load generator writes this header itself"),
        ("headers: {X-a: b, x-A: c}", "a header occurs twice"),
        ("api_key: ${AZURE_KEY}\n    headers: {authorization: 'Bearer ${AZURE_KEY}'}", "one Authorization header"),
        ("omit_body_keys: [messages]", "`messages` is the prompt"),
        ("extra_body: {a: 1}\n    omit_body_keys: [a]", "`a` is in extra_body and in omit_body_keys"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_the_load(load, more, words):
    with pytest.raises(ConfigError) as refused:
        load(more)
    assert words in str(refused.value) and "options[0]" in str(refused.value)
    assert KEY not in str(refused.value)


def test_a_key_with_a_line_end_is_refused_before_the_load(load, monkeypatch):
    monkeypatch.setenv("AZURE_KEY", f"{KEY}\n")
    for more in ("api_key: ${AZURE_KEY}", "headers: {api-key: '${AZURE_KEY}'}"):
        with pytest.raises(ConfigError, match=r"visible ASCII characters.*line ends cannot be sent.*Next: ") as refused:
            load(more)
        assert KEY not in str(refused.value)
