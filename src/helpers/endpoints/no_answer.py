"""Why a server gave no usable answer to a request: a kind, the server's own words, and what to do about it."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from helpers.config.api_url import names_of_secret_headers, secrets_in_query
from helpers.config.secret_names import HIDDEN
from helpers.load.address import Address
from helpers.load.responses import Answer

LONGEST_WORDS = 300
SERVICE_UNAVAILABLE = 503
HOSTNAME_MISMATCH, ADDRESS_MISMATCH = 62, 64
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""


class NoAnswer(StrEnum):
    """What went wrong. The ledger keeps it as the cause; an option with such a cause is tried again by the next run."""

    KEY = "key refused"
    PERMISSION = "request not allowed"
    MODEL = "unknown model"
    TOO_LONG = "prompt too long"
    PATH = "wrong path"
    REDIRECT = "redirected"
    REFUSED = "request refused"
    LIMIT = "too many requests"
    SERVER = "server error"
    HOST = "no such host"
    PORT = "connection refused"
    TLS_NAME = "certificate for another name"
    TLS_TRUST = "certificate not trusted"
    TLS = "TLS failed"
    NETWORK = "could not connect"
    TIMEOUT = "no answer in time"
    BROKEN = "answer broken off"
    EMPTY = "empty answer"
    SHORT = "fewer tokens than asked for"
    UNREADABLE = "not an answer of this API"


class _Keys(NamedTuple):
    """What a user changes, for one kind of target."""

    key: str
    model: str
    url: str


_KEYS = {
    "openai": _Keys("api_key", "served_model", "base_url"),
    "python": _Keys(*(f"the {name} that address() returns" for name in ("bearer_token", "served_model", "url"))),
    "bedrock": _Keys("AWS_BEARER_TOKEN_BEDROCK or the AWS credentials", "model_id", "the endpoint of Bedrock"),
    "sagemaker": _Keys(
        "the AWS credentials", "the model that the container serves", "the endpoint of SageMaker Runtime"
    ),
}
_NEXT_STEP = {
    NoAnswer.KEY: "check {sent}: it may be wrong, expired, or of another server",
    NoAnswer.PERMISSION: "give the caller the policies in docs/aws.md, and for Bedrock access to the model",
    NoAnswer.MODEL: "check {model}; a server that speaks the OpenAI API lists its models at GET <base_url>/models",
    NoAnswer.PATH: "check {url} (its path often ends in /v1), api and {model}",
    NoAnswer.REDIRECT: "set {url} to the address that it redirects to, often https:// instead of http://",
    NoAnswer.REFUSED: "change what the server refuses: see generation, and extra_body, omit_body_keys and api of the option",
    NoAnswer.TOO_LONG: "lower prompt_tokens of the datasets or generation.max_output_tokens, or let the server take more "
    "(max-model-len); and set model.context_tokens to what it takes",
    NoAnswer.LIMIT: "wait until the limit is free again or raise the quota, then run it again",
    NoAnswer.SERVER: "see the server's log and repair it, then run it again",
    NoAnswer.HOST: "check the host in {url}, and the DNS and network of this machine",
    NoAnswer.PORT: "start the server, or correct host and port in {url}",
    NoAnswer.TLS_NAME: "use in {url} a host name that the server's certificate is for",
    NoAnswer.TLS_TRUST: "set ca_file to the certificate (PEM) of the authority that signed the server's",
    NoAnswer.TLS: "use http:// in {url} if the server speaks no TLS, else repair its TLS",
    NoAnswer.NETWORK: "check network, firewall and proxy, and host and port in {url}",
    NoAnswer.TIMEOUT: "see whether the server is up and idle; raise load.request_timeout_s if its answers take longer",
    NoAnswer.BROKEN: "see the server's log for why it ended the answer early",
    NoAnswer.EMPTY: "see the server's log; check api, the chat template and generation.max_output_tokens",
    NoAnswer.SHORT: "set generation.fixed_output_length: false",
    NoAnswer.UNREADABLE: "check api of the option, and {url}",
}
_OF_STATUS = {
    "timeout": NoAnswer.TIMEOUT,
    "connection": NoAnswer.BROKEN,
    "stream_broken": NoAnswer.BROKEN,
    "cut_short": NoAnswer.BROKEN,
    "throttled": NoAnswer.LIMIT,
    "error_in_answer": NoAnswer.SERVER,
    "bad_response": NoAnswer.UNREADABLE,
    "empty": NoAnswer.EMPTY,
    "too_few_tokens": NoAnswer.SHORT,
}
_OF_HTTP_STATUS = {401: NoAnswer.KEY, 403: NoAnswer.KEY, 404: NoAnswer.PATH, 405: NoAnswer.PATH, 429: NoAnswer.LIMIT}
_NAMES_THE_MODEL = re.compile(r"\bmodel\b.{0,200}(not.{0,3}found|n[o']t exist|unknown|not (a )?valid|not supported|invalid)"
                              r"|(unknown|invalid|no such|unsupported)\W+model\b", re.IGNORECASE | re.DOTALL)  # fmt: skip
_TOO_LONG = re.compile(r"context.{0,3}(length|window|size)|max_model_len|(prompt|input)\b.{0,80}\b(too long|exceed)"
                       r"|too many tokens", re.IGNORECASE | re.DOTALL)  # fmt: skip
_MESSAGE = re.compile(r'"(?:OriginalMessage|[Mm]essage|detail|error|error_message)"\s*:\s*"((?:[^"\\]|\\.)*)')
_ORIGINAL_STATUS = re.compile(r'"OriginalStatusCode"\s*:\s*(\d{3})')


class Proof(NamedTuple):
    """What a request shows to be let in."""

    words: str
    where: str
    """Where a user changes it."""


def proofs_of(address: Address, target: str) -> list[Proof]:
    """The credentials in requests to this address, as they are written: a header in the config replaces ours."""
    keys, own = _KEYS[target], names_of_secret_headers(address.headers)
    found = []
    if address.sigv4 is not None:
        found.append(Proof("an AWS bearer token" if address.sigv4.as_bearer_token else "an AWS signature", keys.key))
    elif address.authorization and "authorization" not in map(str.lower, own):
        in_url = Proof("a password", f"the user and password in {keys.url}")
        found.append(Proof("a key", keys.key) if address.bearer_token else in_url)
    found += [Proof(f"a key in the header {name}", f"headers.{name}") for name in own]
    if secrets_in_query(address.url):
        found.append(Proof("a key in the query", f"the query of {keys.url}"))
    return found


def next_step(kind: NoAnswer, target: str, proofs: Sequence[Proof]) -> str:
    """What to do, in terms of the config's keys for this kind of target and of the credentials that were sent."""
    keys = _KEYS[target]
    if kind is NoAnswer.KEY and not proofs:
        return f"set {keys.key}, or the header that the server reads its key from in headers: no key was sent"
    return _NEXT_STEP[kind].format(**keys._asdict(), sent=" and ".join(proof.where for proof in proofs))


def kind_of_answer(answer: Answer, signed: bool) -> NoAnswer:
    """The kind of an answer that is not `ok`. `signed`: the request had an AWS signature instead of a key."""
    if answer.status == "throttled" and answer.http_status == SERVICE_UNAVAILABLE:
        return NoAnswer.SERVER
    if answer.status != "http_error":
        return _OF_STATUS.get(answer.status, NoAnswer.SERVER)
    said = answer.error or ""
    original = _ORIGINAL_STATUS.search(said)
    status = int(original[1]) if original else answer.http_status or 0
    if status in (400, 404, 422) and _NAMES_THE_MODEL.search(said):
        return NoAnswer.MODEL
    if status in (400, 413, 422) and _TOO_LONG.search(said):
        return NoAnswer.TOO_LONG
    kind = _OF_HTTP_STATUS.get(status)
    if kind is NoAnswer.KEY and signed:
        return NoAnswer.PERMISSION
    if kind is None:
        kind = NoAnswer.SERVER if status >= 500 else NoAnswer.REFUSED if status >= 400 else NoAnswer.REDIRECT
    return kind


def kind_of_error(error: Exception) -> NoAnswer:
    """The kind of an error that was raised in connecting."""
    if isinstance(error, ssl.SSLCertVerificationError):
        is_of_another = error.verify_code in (HOSTNAME_MISMATCH, ADDRESS_MISMATCH)
        return NoAnswer.TLS_NAME if is_of_another else NoAnswer.TLS_TRUST
    for kind, found in (
        (ssl.SSLError, NoAnswer.TLS),
        (socket.gaierror, NoAnswer.HOST),
        (ConnectionRefusedError, NoAnswer.PORT),
        (TimeoutError, NoAnswer.TIMEOUT),
    ):
        if isinstance(error, kind):
            return found
    return NoAnswer.NETWORK


def words_of(answer: Answer) -> str:
    """HTTP status and what the server said, on one line, cut."""
    said = answer.error or ""
    messages = _MESSAGE.findall(said) if answer.status in ("http_error", "throttled") else []
    words = messages[0].replace('\\"', '"') if messages else re.sub(r"<[^>]*>", " ", said)
    words = " ".join("".join(c if c.isprintable() else " " for c in words).split())[:LONGEST_WORDS]
    status = f"HTTP {answer.http_status}" if answer.http_status is not None else ""
    return ": ".join(filter(None, (status, words))) or answer.status


def shown_url(url: str) -> str:
    """A URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    query = f"?{HIDDEN}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
