"""Requests as they are sent: bodies, salts, and signatures like those of the AWS SDK."""

from __future__ import annotations

import datetime
import json
import re
from hashlib import sha256

import botocore.auth
import pyarrow as pa
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.config.workload import Generation
from helpers.errors import LoadError
from helpers.load.address import Address, SigV4
from helpers.load.bodies import BODIES, RequestWriter, prepare_requests, salt_of, salted_prompt
from helpers.load.signing import BearerToken, RequestSigner, bearer_token

AT_S = 1_790_000_000
HOST = "runtime.sagemaker.eu-west-1.amazonaws.com"
ID_HEADER = "X-Amzn-SageMaker-Inference-Id"
HEADERS = {"Host": HOST, "Content-Type": "application/json", "Accept": "*/*"}


# --- signatures ---------------------------------------------------------------------------------------------------


def signed_by_botocore(monkeypatch, credentials, service, region, url, request_id, body, at_s) -> dict[str, str]:
    """The headers that botocore adds at a given time; it takes the time from `get_current_datetime`."""
    at = datetime.datetime.fromtimestamp(at_s, datetime.UTC).replace(tzinfo=None)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: at)
    request = AWSRequest("POST", url, data=body, headers={**HEADERS, ID_HEADER: request_id})
    botocore.auth.SigV4Auth(credentials, service, region).add_auth(request)
    added = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
    return {name: request.headers[name] for name in added if name in request.headers}


def signer(credentials, url: str, service: str = "sagemaker", region: str = "eu-west-1") -> RequestSigner:
    return RequestSigner(credentials, service, region, url, HEADERS, ID_HEADER)


def header_lines(data: bytes) -> dict[str, str]:
    assert data.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in data.decode().split("\r\n")[:-1])


keys = st.text("abcXYZ0189+/=", min_size=1, max_size=40)
paths = st.lists(
    st.sampled_from(["endpoints", "a b", "ü", "a%20b", "x:y", "~-._", "+", "=,;", "..", ".", "", "$&'()*@!", "%2F"]),
    max_size=6,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    body=st.binary(max_size=300),
    request_id=st.text("abcdef0123456789-_.", min_size=1, max_size=64),
    path=paths,
    query=st.sampled_from(["", "?b=2&a=1", "?x", "?a=2&a=1&b="]),
    secret=keys,
    token=st.none() | keys,
    at_s=st.integers(0, 4_000_000_000),
    service=st.sampled_from(["sagemaker", "bedrock"]),
)
def test_signatures_are_those_of_botocore(body, request_id, path, query, secret, token, at_s, service):
    url = f"https://{HOST}/{'/'.join(path)}{query}"
    credentials = Credentials("AKID", secret, token)
    with pytest.MonkeyPatch.context() as patch:
        expected = signed_by_botocore(patch, credentials, service, "eu-west-1", url, request_id, body, at_s)
    signed = signer(credentials, url, service).sign(request_id, sha256(body).hexdigest(), at_s)
    assert header_lines(signed) == expected


# --- bearer tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("session_token", [None, "to/k+en=="])
def test_a_bearer_token_is_that_of_the_sagemaker_sdk(monkeypatch, session_token):
    from sagemaker.core.token_generator.token_generator import _generate_token

    at = datetime.datetime.fromtimestamp(AT_S, datetime.UTC).replace(tzinfo=None)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: at)
    frozen = ReadOnlyCredentials("AKID", "s3cret/+", session_token)
    assert bearer_token(frozen, "sagemaker", "eu-west-1", 900) == _generate_token(frozen, "eu-west-1", 900)


class Renewing:
    """Credentials that are others from a moment on."""

    def __init__(self):
        self.secret = "first"

    def get_frozen_credentials(self):
        return ReadOnlyCredentials("AKID", self.secret, None)


def test_a_bearer_token_is_renewed_before_it_expires_and_with_new_credentials(monkeypatch):
    credentials, now = Renewing(), [AT_S]
    monkeypatch.setattr("helpers.load.signing.time.time", lambda: now[0])
    token = BearerToken(credentials, "sagemaker", "eu-west-1", life_s=600)
    made = [token.sign("1", "x")]
    assert made[0].startswith(b"Authorization: Bearer sagemaker-api-key-") and made[0].endswith(b"\r\n")
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: datetime.datetime(2026, 1, 1))
    for later_s, is_new in ((299, False), (300, True)):
        now[0] = AT_S + later_s
        made.append(token.sign("2", "y"))
        assert (made[-1] != made[-2]) == is_new
    credentials.secret, now[0] = "second", now[0] + 1
    assert token.sign("3", "z") != made[-1]


def test_a_request_with_a_bearer_token_has_one_authorization(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    how = SigV4(service="sagemaker", region="eu-west-1", as_bearer_token=True)
    url = f"https://{HOST}/endpoints/e/openai/v1/chat/completions"
    address = Address(url=url, api="openai_chat", framing="plain", request_id_header=ID_HEADER, sigv4=how)
    table = pa.table({"prompt_id": ["p"], "text": ["Hi"], "rendered": ["Hi"]})
    [prepared] = prepare_requests(table, address, Generation(max_output_tokens=4), {})
    head = RequestWriter(address).write("id-1", prepared).partition(b"\r\n\r\n")[0].decode()
    assert len(re.findall("^Authorization: Bearer sagemaker-api-key-", head, re.MULTILINE)) == 1
    assert "X-Amz-Date" not in head and f"{ID_HEADER}: id-1" in head


def test_one_signer_follows_the_clock_over_midnight(monkeypatch):
    url = f"https://{HOST}/endpoints/e/invocations-response-stream"
    credentials = Credentials("AKID", "secret", "token")
    one = signer(credentials, url)
    midnight = AT_S - AT_S % 86400
    for at_s in (midnight - 2, midnight - 1.1, midnight - 1, midnight, midnight + 0.9, midnight + 86400, midnight):
        for number in range(3):
            signed = header_lines(one.sign(f"id-{number}", sha256(b"{}").hexdigest(), at_s))
            expected = signed_by_botocore(
                monkeypatch, credentials, "sagemaker", "eu-west-1", url, f"id-{number}", b"{}", int(at_s)
            )
            assert signed == expected


class RenewedCredentials(Credentials):
    """Credentials of a role: their frozen form is another after a renewal."""

    def __init__(self) -> None:
        super().__init__("AKID1", "first", "token1")

    def renew(self) -> None:
        self.access_key, self.secret_key, self.token = "AKID2", "second", "token2"


def test_renewed_credentials_sign_from_the_next_second_on(monkeypatch):
    url = f"https://{HOST}/endpoints/e/invocations-response-stream"
    credentials = RenewedCredentials()
    one = signer(credentials, url)
    body_hash = sha256(b"{}").hexdigest()
    assert "Credential=AKID1/" in header_lines(one.sign("id", body_hash, AT_S))["Authorization"]
    credentials.renew()
    signed = header_lines(one.sign("id", body_hash, AT_S + 1))
    frozen = ReadOnlyCredentials("AKID2", "second", "token2")
    expected = signed_by_botocore(monkeypatch, frozen, "sagemaker", "eu-west-1", url, "id", b"{}", AT_S + 1)
    assert signed == expected
    assert signed["X-Amz-Security-Token"] == "token2"


def test_now_is_the_default_time():
    one = signer(Credentials("AKID", "secret"), f"https://{HOST}/")
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    stamp = header_lines(one.sign("id", "0"))["X-Amz-Date"]
    signed_at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    assert before <= signed_at <= datetime.datetime.now(datetime.UTC)


# --- requests -----------------------------------------------------------------------------------------------------


def prompts_of(*texts: str) -> pa.Table:
    return pa.table(
        {
            "prompt_id": [f"p{i}" for i in range(len(texts))],
            "text": texts,
            "rendered": [f"<|user|>\n{text.strip()}<|assistant|>" for text in texts],
        }
    )


def address(api: str = "openai_chat", **changes) -> Address:
    fields = {
        "url": "http://localhost:8000/v1/chat/completions?a=1",
        "api": api,
        "framing": "plain",
        "request_id_header": "X-Request-Id",
        "served_model": "m",
        "headers": {},
        **changes,
    }
    return Address.model_construct(**{**dict.fromkeys(Address.model_fields), **fields})  # any api


def parsed(request: bytes) -> tuple[str, dict[str, str], dict]:
    """Request line, headers and JSON body, read as a server does: by Content-Length."""
    head, _, body = request.partition(b"\r\n\r\n")
    request_line, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(body) == int(headers["Content-Length"])
    assert len(headers) == len(lines)
    return request_line, headers, json.loads(body)


PROMPT_OF = {
    "openai_chat": lambda body: body["messages"][0]["content"],
    "openai_completions": lambda body: body["prompt"],
    "tgi": lambda body: body["inputs"],
    "djl": lambda body: body["inputs"],
    "bedrock_converse": lambda body: body["messages"][0]["content"][0]["text"],
}
SHORT = Generation(max_output_tokens=7)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    api=st.sampled_from(sorted(BODIES)),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3),
    salt=st.booleans(),
    request_id=st.text("abcdef0123456789-", min_size=1, max_size=64),
)
def test_a_server_reads_the_prompt_that_was_meant(api, texts, salt, request_id):
    prompts = prompts_of(*texts)
    prepared = prepare_requests(prompts, address(api), SHORT, {"extra": texts[0], "temperature": 0.5}, salt)
    writer = RequestWriter(address(api))
    for row, request in zip(prompts.to_pylist(), prepared, strict=True):
        request_line, headers, body = parsed(writer.write(request_id, request))
        assert request_line == "POST /v1/chat/completions?a=1 HTTP/1.1"
        assert headers["X-Request-Id"] == request_id
        assert headers["Host"] == "localhost:8000"
        sent_salt = salt_of(request_id) if salt else ""
        text, rendered = salted_prompt(row["text"], row["rendered"], sent_salt)
        assert PROMPT_OF[api](body) == (text if api in ("openai_chat", "bedrock_converse") else rendered)
        assert text == sent_salt + row["text"]
        assert rendered.replace(sent_salt, "", 1) == row["rendered"]
        assert (body["extra"], body["temperature"]) == (texts[0], 0.5)
        assert request.prompt_id == row["prompt_id"]


def test_a_salt_stands_before_the_users_text_and_is_its_requests_own():
    [request] = prepare_requests(prompts_of(" Why? "), address("openai_completions"), SHORT, {}, salt=True)
    writer = RequestWriter(address("openai_completions"))
    sent = [writer.write(f"run-{number}", request) for number in range(100)]
    prompts = [parsed(data)[2]["prompt"] for data in sent]
    assert len(set(prompts)) == 100
    assert all(re.fullmatch(r"<\|user\|>\n[0-9a-f]{8} Why\?<\|assistant\|>", prompt) for prompt in prompts)
    assert {len(data) for data in sent[10:]} == {len(sent[10])}
    assert writer.write("run-7", request) == sent[7]


def test_without_a_salt_requests_differ_in_their_id_alone():
    [request] = prepare_requests(prompts_of("Why?"), address(), SHORT, {})
    writer = RequestWriter(address(bearer_token="t0ken"))
    one, other = writer.write("id-1", request), writer.write("id-2", request)
    assert one.replace(b"id-1", b"id-2") == other
    assert parsed(one)[1]["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize("api", ["openai_chat", "openai_completions"])
def test_openai_bodies_ask_for_a_fixed_length(api):
    prompts = prompts_of("Why?")
    fixed, free = (
        parsed(RequestWriter(address(api)).write("i", prepare_requests(prompts, address(api), generation, {})[0]))[2]
        for generation in (SHORT, Generation(max_output_tokens=7, fixed_output_length=False))
    )
    assert (fixed["min_tokens"], fixed["max_tokens"], fixed["ignore_eos"]) == (7, 7, True)
    assert "min_tokens" not in free
    assert free["max_tokens"] == 7
    assert fixed["stream_options"] == {"include_usage": True}


# --- signed requests ----------------------------------------------------------------------------------------------

SIGNED = {
    "url": f"https://{HOST}/endpoints/my-endpoint/invocations-response-stream",
    "framing": "aws_event_stream",
    "request_id_header": ID_HEADER,
    "sigv4": SigV4(service="sagemaker", region="eu-west-1"),
}


@pytest.fixture
def credentials_in_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.mark.parametrize("salt", [False, True])
def test_what_is_sent_is_what_is_signed(credentials_in_the_environment, monkeypatch, salt):
    where = address(**SIGNED)
    for number, request in enumerate(prepare_requests(prompts_of("Why?", "Grüß Gott"), where, SHORT, {}, salt)):
        assert (request.sha256 is None) == salt
        sent = RequestWriter(where).write(f"id-{number}", request)
        _, headers, _ = parsed(sent)
        at_s = datetime.datetime.strptime(headers["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
        credentials = Credentials("AKID", "secret", "token")
        body = sent.partition(b"\r\n\r\n")[2]
        expected = signed_by_botocore(
            monkeypatch, credentials, "sagemaker", "eu-west-1", where.url, f"id-{number}", body, at_s
        )
        assert {name: headers[name] for name in expected} == expected
        assert {name: headers[name] for name in HEADERS} == HEADERS
        assert headers[ID_HEADER] == f"id-{number}"


def test_bodies_are_hashed_only_for_a_signature():
    [plain] = prepare_requests(prompts_of("Why?"), address(), SHORT, {})
    [signed] = prepare_requests(prompts_of("Why?"), address(**SIGNED), SHORT, {})
    assert plain.sha256 is None
    assert signed.sha256 == sha256(signed.body).hexdigest()


def test_no_credentials_are_an_error_that_says_so(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(LoadError, match=f"no AWS credentials in the default AWS credential chain.*{HOST}"):
        RequestWriter(address(**SIGNED))
