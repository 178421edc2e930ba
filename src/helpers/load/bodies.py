"""Request bytes, made before the attempt starts; only request id, salt and signature are added when they are sent."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from helpers.config.structured import structured_keys
from helpers.config.workload import Generation
from helpers.errors import LoadError
from helpers.load.address import Address
from helpers.load.signing import BearerToken, RequestSigner
from helpers.prompts.salts import salt_of, salted_prompt
from helpers.run.records import ASKED_OUTPUT

if TYPE_CHECKING:
    import pyarrow as pa

APIS_WITH_SMALLEST_LENGTH = frozenset({"openai_chat", "openai_completions", "djl"})
"""APIs whose requests ask for a smallest number of output tokens where `generation.fixed_output_length` is set."""


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """The body of one prompt's request; if a salt is added when it is sent, in two parts around the salt's place."""

    prompt_id: str
    body: bytes
    """The whole body, or the part before the salt."""
    after_salt: bytes | None = None
    sha256: str | None = None
    """Hash of the whole body; None where it is not signed or still lacks its salt."""


def prepare_requests(
    prompts: pa.Table,
    address: Address,
    generation: Generation,
    extra_body: dict,
    salt: bool = False,
    omit_body_keys: Collection[str] = (),
    adapters: Sequence[str | None] | None = None,
) -> list[PreparedRequest]:
    """One prepared request per prompt, in the order of `prompts` (columns prompt_id, text, rendered; ASKED_OUTPUT of a trace).

    The keys of `extra_body` are added to each body, those of `omit_body_keys` left out. `adapters` name the model of each prompt,
    if it is another than that of the address.

    With `salt`, the user's text of each sent request begins with characters of its own (see `salt_of`), so that a server
    finds none of it in a prefix cache. What a chat template puts before the user's text stays the same for all. Where `prompts`
    has a column prefix_characters, that many characters of the user's text come before the salt, which is then always there.
    """
    build = BODIES[address.api]
    signed = address.sigv4 is not None
    place_of_salt = uuid.uuid4().hex  # in no prompt
    prepared = []
    columns = [prompts[name].to_pylist() for name in ("prompt_id", "text", "rendered")]
    prefixes, outputs = prefix_characters(prompts), asked_output_tokens(prompts, generation)
    columns += [prefixes, outputs, adapters or [None] * len(prompts)]
    salt = salt or any(prefixes)
    for prompt_id, text, rendered, prefix, output_tokens, adapter in zip(*columns, strict=True):
        if salt:
            text, rendered = salted_prompt(text, rendered, place_of_salt, prefix)
        asked = generation.model_copy(update={"max_output_tokens": output_tokens})
        content = build(text, rendered, address, asked) | ({"model": adapter} if adapter else {}) | extra_body
        content = {name: value for name, value in content.items() if name not in omit_body_keys}
        body = json.dumps(content, ensure_ascii=False).encode()
        if salt:
            before, _, after = body.partition(place_of_salt.encode())
            prepared.append(PreparedRequest(prompt_id, before, after))
        else:
            prepared.append(PreparedRequest(prompt_id, body, sha256=sha256(body).hexdigest() if signed else None))
    return prepared


def asked_output_tokens(prompts: pa.Table, generation: Generation) -> list[int]:
    """Output tokens that the request of each prompt asks for: its own where the prompts are a trace's, else the config's."""
    if ASKED_OUTPUT in prompts.column_names:
        return prompts[ASKED_OUTPUT].to_pylist()
    return [generation.max_output_tokens] * len(prompts)


def prefix_characters(prompts: pa.Table) -> list[int]:
    """Of each prompt, the characters of the user's text that it shares with others; 0 without `prompts.prefix`."""
    name = "prefix_characters"
    return prompts[name].to_pylist() if name in prompts.column_names else [0] * len(prompts)


# --- bodies -------------------------------------------------------------------------------------------------------


def _openai_common(address: Address, generation: Generation) -> dict:
    common = {
        "max_tokens": generation.max_output_tokens,
        "temperature": generation.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if address.served_model:
        common["model"] = address.served_model
    if generation.top_p is not None:
        common["top_p"] = generation.top_p
    if generation.top_k is not None:
        common["top_k"] = generation.top_k
    if generation.fixed_output_length:
        common |= {"min_tokens": generation.max_output_tokens, "ignore_eos": True}
    return common | structured_keys(address.api, generation)


def _openai_chat(text: str, rendered: str, address: Address, generation: Generation) -> dict:
    return {"messages": [{"role": "user", "content": text}], **_openai_common(address, generation)}


def _openai_completions(text: str, rendered: str, address: Address, generation: Generation) -> dict:
    return {"prompt": rendered, **_openai_common(address, generation)}


def _inputs_and_parameters(rendered: str, generation: Generation) -> dict:
    sampled = generation.temperature > 0
    parameters = {"max_new_tokens": generation.max_output_tokens, "do_sample": sampled}
    if sampled:
        parameters["temperature"] = generation.temperature
    if generation.top_p is not None and sampled:
        parameters["top_p"] = generation.top_p
    if generation.top_k is not None and sampled:
        parameters["top_k"] = generation.top_k
    return {"inputs": rendered, "parameters": parameters}


def _tgi(text: str, rendered: str, address: Address, generation: Generation) -> dict:
    """TGI: there is no smallest output length, so a fixed one cannot be asked for."""
    body = _inputs_and_parameters(rendered, generation)
    body["parameters"] |= {"details": True, "return_full_text": False, **structured_keys("tgi", generation)}
    return {**body, "stream": True}


def _djl(text: str, rendered: str, address: Address, generation: Generation) -> dict:
    body = _inputs_and_parameters(rendered, generation)
    body["parameters"]["details"] = True
    if generation.fixed_output_length:
        body["parameters"]["min_new_tokens"] = generation.max_output_tokens
    return {**body, "stream": True}


def _bedrock_converse(text: str, rendered: str, address: Address, generation: Generation) -> dict:
    """Converse and ConverseStream: there is no smallest output length, and `generation.top_k` is not sent.

    Models take `top_k` and other parameters of their own from `additionalModelRequestFields`, which an option's `extra_body`
    may give. An `inferenceConfig` there replaces this one, for models that refuse one of its keys.
    Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html, API_runtime_ServiceTier.html
    """
    inference = {"maxTokens": generation.max_output_tokens, "temperature": generation.temperature}
    if generation.top_p is not None:
        inference["topP"] = generation.top_p
    body = {"messages": [{"role": "user", "content": [{"text": text}]}], "inferenceConfig": inference}
    body |= structured_keys("bedrock_converse", generation)
    return body | ({"serviceTier": {"type": address.service_tier}} if address.service_tier else {})


BODIES = {
    "openai_chat": _openai_chat,
    "openai_completions": _openai_completions,
    "tgi": _tgi,
    "djl": _djl,
    "bedrock_converse": _bedrock_converse,
}


# --- requests -----------------------------------------------------------------------------------------------------


class RequestWriter:
    """Puts headers, request id, salt and signature around a prepared body. Raises LoadError without credentials."""

    def __init__(self, address: Address) -> None:
        parts = urlsplit(address.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Host": parts.netloc.rpartition("@")[2], "Content-Type": "application/json", "Accept": "*/*"}
        own = {name.lower() for name in address.headers}
        headers = {name: value for name, value in headers.items() if name.lower() not in own} | address.headers
        self._signer = _signer(address, headers)
        if self._signer is None and address.authorization and "authorization" not in own:
            headers["Authorization"] = address.authorization
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = f"POST {target} HTTP/1.1\r\n{head}{address.request_id_header}: ".encode()

    def write(self, request_id: str, prepared: PreparedRequest) -> bytes:
        """The bytes of one HTTP request."""
        body = prepared.body
        if prepared.after_salt is not None:
            body = b"%b%b%b" % (body, salt_of(request_id).encode(), prepared.after_salt)
        signature = b""
        if self._signer is not None:
            signature = self._signer.sign(request_id, prepared.sha256 or sha256(body).hexdigest())
        return b"%b%b\r\n%bContent-Length: %d\r\n\r\n%b" % (
            self._head,
            request_id.encode(),
            signature,
            len(body),
            body,
        )


def _signer(address: Address, headers: dict[str, str]) -> RequestSigner | BearerToken | None:
    """Signs with AWS credentials found as the AWS tools find them; None for an address that is not signed."""
    if address.sigv4 is None:
        return None
    from helpers.run.sessions import session_of_profile

    how = address.sigv4
    credentials = session_of_profile(how.profile, how.config_file, how.region).get_credentials()
    if credentials is None:
        profile = f"profile {how.profile!r}" if how.profile else "the default AWS credential chain"
        raise LoadError(f"no AWS credentials in {profile}: requests to {address.url} cannot be signed. Log in first.")
    if how.as_bearer_token:
        return BearerToken(credentials, how.service, how.region)
    return RequestSigner(credentials, how.service, how.region, address.url, headers, address.request_id_header)
