"""Request bytes, made before the load point starts; only the signature is added just before each send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pandas as pd

from helpers.config import Generation
from helpers.targets.base import Address

if TYPE_CHECKING:
    from botocore.credentials import Credentials


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """The body of one prompt's request."""

    prompt_id: str
    body: bytes


def prepare_requests(
    prompts: pd.DataFrame, address: Address, generation: Generation, extra_body: dict
) -> list[PreparedRequest]:
    """One prepared request per prompt, in the order of `prompts` (columns prompt_id, text, rendered)."""
    build = BODIES[address.api]
    return [
        PreparedRequest(
            row.prompt_id,
            json.dumps(
                {**build(row.text, row.rendered, address, generation), **extra_body}, ensure_ascii=False
            ).encode(),
        )
        for row in prompts.itertuples(index=False)
    ]


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
    return common


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
    body["parameters"] |= {"details": True, "return_full_text": False}
    return {**body, "stream": True}


def _djl(text: str, rendered: str, address: Address, generation: Generation) -> dict:
    body = _inputs_and_parameters(rendered, generation)
    body["parameters"]["details"] = True
    if generation.fixed_output_length:
        body["parameters"]["min_new_tokens"] = generation.max_output_tokens
    return {**body, "stream": True}


BODIES = {"openai_chat": _openai_chat, "openai_completions": _openai_completions, "tgi": _tgi, "djl": _djl}


class RequestWriter:
    """Puts headers, request id and signature around a prepared body."""

    def __init__(self, address: Address) -> None:
        self._address = address
        parts = urlsplit(address.url)
        self._target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._host = parts.netloc
        self._credentials = _credentials(address)

    def write(self, request_id: str, body: bytes) -> bytes:
        """The bytes of one HTTP request."""
        headers = {
            "Host": self._host,
            "Content-Type": "application/json",
            "Accept": "*/*",
            self._address.request_id_header: request_id,
        }
        if self._credentials is not None:
            headers = self._signed(headers, body)
        elif self._address.bearer_token:
            headers["Authorization"] = f"Bearer {self._address.bearer_token}"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self._target} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _signed(self, headers: dict[str, str], body: bytes) -> dict[str, str]:
        """The headers with a signature made now: SigV4 tolerates clocks that differ by five minutes."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        how = self._address.sigv4
        request = AWSRequest("POST", self._address.url, data=body, headers=headers)
        SigV4Auth(self._credentials.get_frozen_credentials(), how.service, how.region).add_auth(request)
        return dict(request.headers.items())


def _credentials(address: Address) -> Credentials | None:
    """AWS credentials for a signed address, found as the AWS tools find them."""
    if address.sigv4 is None:
        return None
    from helpers.sessions import session_of_profile

    how = address.sigv4
    return session_of_profile(how.profile, how.config_file, how.region).get_credentials()
