"""OpenAI's answer bodies: server-sent events, or one JSON object."""

import json
import sys
import time
import uuid
from typing import Any

from aiohttp import web

from local_sagemaker.engine.answers import Answer, Piece
from local_sagemaker.engine.errors import GenerationFailed
from local_sagemaker.engine.request_bodies import GenerationRequest


class _EventWriter:
    """OpenAI's server-sent events for one answer. The constant part of an event is serialised once."""

    def __init__(self, request: GenerationRequest, answer: Answer) -> None:
        self._request = request
        self._answer = answer
        self._envelope = _envelope(request, "chat.completion.chunk" if request.chat else "text_completion")
        opening = json.dumps({**self._envelope, "choices": []}).removesuffix("[]}").encode()
        if request.chat:
            self._before_text = b"data: " + opening + b'[{"index": 0, "delta": {"content": '
            self._before_reasoning = b"data: " + opening + b'[{"index": 0, "delta": {"reasoning_content": '
            self._after_text = b'}, "finish_reason": null}]'
        else:
            self._before_text = b"data: " + opening + b'[{"index": 0, "text": '
            self._after_text = b', "finish_reason": null}]'

    def role(self) -> bytes:
        """The first event of a chat stream, which has the role and no text."""
        if not self._request.chat:
            return b""
        return self._event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])

    def text(self, piece: Piece) -> bytes:
        before = self._before_reasoning if piece.is_reasoning else self._before_text
        usage = b', "usage": ' + json.dumps(self._answer.usage()).encode() if self._request.continuous_usage else b""
        return before + json.dumps(piece.text).encode() + self._after_text + usage + b"}\n\n"

    def end(self, finish_reason: str) -> bytes:
        shown: dict[str, Any] = {"delta": {}} if self._request.chat else {"text": ""}
        events = self._event([{"index": 0, **shown, "finish_reason": finish_reason}])
        if self._request.include_usage:
            events += self._event([], usage=self._answer.usage())
        return events + b"data: [DONE]\n\n"

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: " + json.dumps({**self._envelope, "choices": choices, **more}).encode() + b"\n\n"


def _envelope(request: GenerationRequest, kind: str) -> dict[str, Any]:
    prefix = "chatcmpl" if request.chat else "cmpl"
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": request.model}


async def stream_answer(http_request: web.Request, request: GenerationRequest, answer: Answer) -> web.StreamResponse:
    """Writes each piece as it comes. If generation fails after the first byte, the connection is broken off."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(http_request)
    events = _EventWriter(request, answer)
    pending = events.role()
    try:
        async for piece in answer.pieces():
            if piece.text:
                pending += events.text(piece)
            if piece.finish_reason is not None:
                pending += events.end(piece.finish_reason)
            await response.write(pending)
            pending = b""
        await response.write_eof()
    except GenerationFailed as error:
        print(f"answer broken off: {error}", file=sys.stderr, flush=True)  # noqa: T201
        if http_request.transport is not None:
            http_request.transport.abort()
    return response


async def answer_at_once(request: GenerationRequest, answer: Answer) -> web.Response:
    """Waits for the whole answer; raises `GenerationFailed`."""
    pieces = [piece async for piece in answer.pieces()]
    text = "".join(piece.text for piece in pieces if not piece.is_reasoning)
    reasoning = "".join(piece.text for piece in pieces if piece.is_reasoning)
    message = {"role": "assistant", "content": text, **({"reasoning_content": reasoning} if reasoning else {})}
    shown = {"message": message} if request.chat else {"text": text}
    choice = {"index": 0, **shown, "logprobs": None, "finish_reason": pieces[-1].finish_reason}
    kind = "chat.completion" if request.chat else "text_completion"
    return web.json_response({**_envelope(request, kind), "choices": [choice], "usage": answer.usage()})
