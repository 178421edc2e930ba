"""One generation in the shapes of all containers: whatever the shape and wherever the network cuts it, one record.

"Grüße" in 4 tokens, of which the second is the first byte of "ü" and has no text; the prompt has 11 tokens. Sources of the
shapes: vLLM and SGLang, entrypoints/openai; https://huggingface.co/docs/text-generation-inference/reference/api_reference;
https://github.com/deepjavalibrary/djl-serving/tree/master/serving/docs/lmi/user_guides; the tokens of whole answers are left
out where nothing reads them.
"""

import json
from dataclasses import dataclass

import pytest

from helpers.load.connection import Exchange
from helpers.load.responses import Answer, read_answer
from local_sagemaker import event_stream

TEXTS = ["Gr", "", "ü", "ße"]
IDS = [6600, 185, 119, 30120]
VISIBLE = ["Gr", "ü", "ße"]


@dataclass(frozen=True)
class Shape:
    """An answer as a container writes it: lines, each with the text that it completes; and what it tells."""

    api: str
    lines: tuple[tuple[bytes, str | None], ...]
    prompt_tokens: int | None = 11
    output_tokens: int | None = 4
    chunk_tokens: tuple[int, ...] | None = None

    @property
    def body(self) -> bytes:
        return b"".join(line for line, _ in self.lines)

    @property
    def text_ends(self) -> list[int]:
        """Offset behind the line that completes each text."""
        ends, at = [], 0
        for line, text in self.lines:
            at += len(line)
            if text:
                ends.append(at)
        return ends


def sse(*events, data="data: ", end=True):
    """Server-sent events: (event, its text) or an event without text."""
    pairs = [event if isinstance(event, tuple) else (event, None) for event in events]
    lines = [(f"{data}{json.dumps(event, ensure_ascii=False)}\n".encode(), text) for event, text in pairs]
    spaced = [line for pair in lines for line in (pair, (b"\n", None))]
    return (*spaced, *([(f"{data}[DONE]\n".encode(), None), (b"\n", None)] if end else []))


def json_lines(*events):
    pairs = [event if isinstance(event, tuple) else (event, None) for event in events]
    return tuple((json.dumps(event, ensure_ascii=False).encode() + b"\n", text) for event, text in pairs)


USAGE = {"prompt_tokens": 11, "total_tokens": 15, "completion_tokens": 4}


def openai(kind, *choices, usage=None, **more):
    head = {"id": "cmpl-1", "object": kind, "created": 1767225600, "model": "m", **more}
    return {**head, "choices": list(choices), "usage": usage}


def vllm_chat(events=sse):
    def chunk(delta, finish_reason=None):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason, "token_ids": None}
        return openai("chat.completion.chunk", choice)

    return events(
        chunk({"role": "assistant", "content": ""}),
        *((chunk({"content": text}, "length" if text == TEXTS[-1] else None), text) for text in TEXTS),
        openai("chat.completion.chunk", usage=USAGE),
    )


def vllm_completions():
    def chunk(text):
        finish_reason = "length" if text == TEXTS[-1] else None
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}
        return openai("text_completion", choice)

    return sse(*((chunk(text), text) for text in TEXTS), openai("text_completion", usage=USAGE))


def sglang_chat():
    """What is no whole character is held back; the finish reason comes by itself."""

    def chunk(content=None, role=None, finish_reason=None):
        delta = {"role": role, "content": content, "reasoning_content": None, "tool_calls": None}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason, "matched_stop": None}
        return openai("chat.completion.chunk", choice)

    return sse(
        chunk("", role="assistant"),
        *((chunk(text), text) for text in VISIBLE),
        chunk(finish_reason="length"),
        openai("chat.completion.chunk", usage={**USAGE, "prompt_tokens_details": None, "reasoning_tokens": 0}),
    )


def sglang_completions():
    def chunk(text, finish_reason=None):
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason, "matched_stop": None}
        return openai("text_completion", choice)

    return sse(*((chunk(text), text) for text in VISIBLE), chunk("", "length"), openai("text_completion", usage=USAGE))


def tgi(details):
    """One event a token; no space behind `data:`."""

    def event(i):
        token = {"id": IDS[i], "text": TEXTS[i], "logprob": -0.25, "special": False}
        last = {"generated_text": "Grüße", "details": details} if i == 3 else {"generated_text": None, "details": None}
        return {"index": i + 1, "token": token, **last}, TEXTS[i]

    return sse(*map(event, range(4)), data="data:", end=False)


def tgi_chat():
    def chunk(text):
        delta, finish_reason = {"role": "assistant", "content": text}, "length" if text == TEXTS[-1] else None
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return openai("chat.completion.chunk", choice, system_fingerprint="3.3.6-native")

    last = openai("chat.completion.chunk", usage=USAGE, system_fingerprint="3.3.6-native")
    return sse(*((chunk(text), text) for text in TEXTS), last)


def djl(events, one_id=lambda token_id: token_id):
    def event(i):
        token = {"token": {"id": one_id(IDS[i]), "text": TEXTS[i], "log_prob": -0.25}}
        details = {"finish_reason": "length", "generated_tokens": 4, "inputs": "a prompt of eleven tokens"}
        return token | ({"generated_text": "Grüße", "details": details} if i == 3 else {}), TEXTS[i]

    return events(*map(event, range(4)))


def djl_chat():
    """Rolling batches: JSON lines without usage; every event has one token."""

    def event(i):
        delta = {"content": TEXTS[i]} | ({"role": "assistant"} if i == 0 else {})
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": "length" if i == 3 else None}
        return {
            "id": "chatcmpl-0",
            "object": "chat.completion.chunk",
            "created": 1767225600,
            "choices": [choice],
        }, TEXTS[i]

    return json_lines(*map(event, range(4)))


def djl_async_chat():
    """vLLM's events without their `data:`, and an empty line where [DONE] was."""
    return (*vllm_chat(json_lines), (b"\n", None))


STREAM_DETAILS = {"finish_reason": "length", "generated_tokens": 4, "seed": None}
PER_TOKEN = (1, 2, 1)
STREAMED = {
    "vLLM chat": Shape("openai_chat", vllm_chat()),
    "vLLM completions": Shape("openai_completions", vllm_completions()),
    "SGLang chat": Shape("openai_chat", sglang_chat()),
    "SGLang completions": Shape("openai_completions", sglang_completions()),
    "TGI": Shape("tgi", tgi({**STREAM_DETAILS, "input_length": 11}), chunk_tokens=PER_TOKEN),
    "TGI chat": Shape("openai_chat", tgi_chat()),
    "Optimum Neuron TGI": Shape("tgi", tgi(STREAM_DETAILS), prompt_tokens=None, chunk_tokens=PER_TOKEN),
    "DJL-LMI JSON lines": Shape("djl", djl(json_lines), prompt_tokens=None, chunk_tokens=PER_TOKEN),
    "DJL-LMI server-sent events": Shape(
        "djl", djl(lambda *events: sse(*events, end=False)), prompt_tokens=None, chunk_tokens=PER_TOKEN
    ),
    "DJL-LMI chat, rolling batch": Shape("openai_chat", djl_chat(), prompt_tokens=None, output_tokens=None),
    "DJL-LMI chat, asynchronous": Shape("openai_chat", djl_async_chat()),
    "DJL Neuron": Shape(
        "djl", djl(json_lines, one_id=lambda token_id: [token_id]), prompt_tokens=None, chunk_tokens=PER_TOKEN
    ),
}


def whole(value, **tells):
    return {"lines": ((json.dumps(value, ensure_ascii=False).encode(), "Grüße"),), **tells}


def whole_chat(message=None, usage=USAGE, **more):
    message = {"role": "assistant", "content": "Grüße", **(message or {})}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length", **more}
    return openai("chat.completion", choice, usage=usage)


def whole_text(**more):
    return openai("text_completion", {"index": 0, "text": "Grüße", "finish_reason": "length", **more}, usage=USAGE)


TGI_DETAILS = {**STREAM_DETAILS, "prefill": [], "tokens": []}
PREFILL = [{"id": i, "text": "x", "logprob": None} for i in range(11)]
DJL_WHOLE = {
    "generated_text": "Grüße",
    "details": {"finish_reason": "length", "generated_tokens": 4, "inputs": "a prompt", "tokens": []},
}
WHOLE = {
    "vLLM chat": Shape("openai_chat", **whole(whole_chat({"tool_calls": []}, stop_reason=None))),
    "vLLM completions": Shape("openai_completions", **whole(whole_text(stop_reason=None, prompt_logprobs=None))),
    "SGLang chat": Shape("openai_chat", **whole(whole_chat({"reasoning_content": None}, matched_stop=None))),
    "SGLang completions": Shape("openai_completions", **whole(whole_text(matched_stop=None))),
    "TGI": Shape("tgi", **whole([{"generated_text": "Grüße", "details": TGI_DETAILS}], prompt_tokens=None)),
    "TGI with the prompt's tokens": Shape(
        "tgi", **whole([{"generated_text": "Grüße", "details": {**TGI_DETAILS, "prefill": PREFILL}}])
    ),
    "TGI chat": Shape("openai_chat", **whole(whole_chat())),
    "Optimum Neuron TGI": Shape(
        "tgi", **whole([{"generated_text": "Grüße", "details": TGI_DETAILS}], prompt_tokens=None)
    ),
    "DJL-LMI": Shape("djl", **whole(DJL_WHOLE, prompt_tokens=None)),
    "DJL-LMI as TGI": Shape("djl", **whole([DJL_WHOLE], prompt_tokens=None)),
    "DJL-LMI chat": Shape("openai_chat", **whole(whole_chat())),
    "DJL Neuron": Shape("djl", **whole(DJL_WHOLE, prompt_tokens=None)),
}


# --- one record ---------------------------------------------------------------------------------------------------


def plain(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body) + body


FRAMED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\n"


def answer_to(reads: list[bytes], api: str, framing: str) -> Answer:
    """The i-th read, from 0 on, is stamped 10 + i."""
    exchange = Exchange(sent_ns=0, done_ns=1_000, complete=True, failure=None, detail=None)
    exchange.reads = [(10 + i, data) for i, data in enumerate(reads) if data]
    return read_answer(exchange, api, framing)


def record(shape: Shape, texts: list[str], arrivals_ns: list[int], streamed: bool) -> Answer:
    """The only right record of a shape, with the times at which its texts were there."""
    return Answer(
        status="ok",
        http_status=200,
        first_byte_ns=10,
        first_token_ns=arrivals_ns[0] if streamed else None,
        last_token_ns=arrivals_ns[-1],
        chunk_ns=arrivals_ns,
        chunk_texts=texts,
        chunk_tokens=list(shape.chunk_tokens) if shape.chunk_tokens else None,
        finish_reason="length",
        prompt_tokens=shape.prompt_tokens,
        output_tokens=shape.output_tokens,
        reasoning_tokens=0 if b'"reasoning_tokens"' in shape.body else None,  # as SGLang always says
    )


ALL = [(name, shape, True) for name, shape in STREAMED.items()] + [
    (f"{name}, whole", shape, False) for name, shape in WHOLE.items()
]


@pytest.mark.parametrize(("shape", "streamed"), [each[1:] for each in ALL], ids=[each[0] for each in ALL])
def test_an_answer_cut_at_any_byte_is_one_record(shape, streamed):
    wire, texts = plain(shape.body), VISIBLE if streamed else ["Grüße"]
    head = len(wire) - len(shape.body)
    for cut in range(1, len(wire)):
        arrivals = [10 if head + end <= cut else 11 for end in shape.text_ends]
        assert answer_to([wire[:cut], wire[cut:]], shape.api, "plain") == record(shape, texts, arrivals, streamed)


@pytest.mark.parametrize(("shape", "streamed"), [each[1:] for each in ALL], ids=[each[0] for each in ALL])
def test_sagemakers_frames_may_cut_an_answer_at_any_byte(shape, streamed):
    body, texts = shape.body, VISIBLE if streamed else ["Grüße"]
    for cut in range(1, len(body)):
        frames = [event_stream.payload_part(piece) for piece in (body[:cut], body[cut:])]
        arrivals = [10 if end <= cut else 11 for end in shape.text_ends]
        answer = answer_to([FRAMED_HEAD + frames[0], frames[1]], shape.api, "aws_event_stream")
        assert answer == record(shape, texts, arrivals, streamed)


@pytest.mark.parametrize(("shape", "streamed"), [each[1:] for each in ALL], ids=[each[0] for each in ALL])
def test_reads_may_cut_sagemakers_frames_at_any_byte(shape, streamed):
    half = len(shape.body) // 2
    frames = [event_stream.payload_part(piece) for piece in (shape.body[:half], shape.body[half:])]
    wire, texts = FRAMED_HEAD + b"".join(frames), VISIBLE if streamed else ["Grüße"]
    ends_of_frames = len(FRAMED_HEAD) + len(frames[0]), len(wire)
    for cut in range(1, len(wire)):
        arrivals = [10 if ends_of_frames[end > half] <= cut else 11 for end in shape.text_ends]
        answer = answer_to([wire[:cut], wire[cut:]], shape.api, "aws_event_stream")
        assert answer == record(shape, texts, arrivals, streamed)


# --- errors within an answer that began well ----------------------------------------------------------------------

OUT_OF_MEMORY = "CUDA out of memory"
DJL_ERROR_TOKEN = {"id": -1, "text": "", "log_prob": -1, "special_token": True}
DJL_ERROR_DETAILS = {"finish_reason": "error", "generated_tokens": None, "inputs": None}
VLLM_ERROR = {"error": {"message": OUT_OF_MEMORY, "type": "InternalServerError", "param": None, "code": 500}}
ERRORS = {
    "vLLM": ("vLLM chat", sse(VLLM_ERROR), "InternalServerError", OUT_OF_MEMORY),
    "vLLM, older": (
        "vLLM completions",
        sse({"object": "error", "message": OUT_OF_MEMORY, "type": "BadRequestError", "param": None, "code": 400}),
        "BadRequestError",
        OUT_OF_MEMORY,
    ),
    "SGLang": (
        "SGLang chat",
        sse({"error": {"object": "error", "message": OUT_OF_MEMORY, "type": "BadRequest", "param": None, "code": 400}}),
        "BadRequest",
        OUT_OF_MEMORY,
    ),
    "TGI": (
        "TGI",
        sse({"error": f"Request failed during generation: {OUT_OF_MEMORY}", "error_type": "generation"}, data="data:"),
        "generation",
        f"Request failed during generation: {OUT_OF_MEMORY}",
    ),
    "TGI chat": (
        "TGI chat",
        sse({"error": {"message": OUT_OF_MEMORY, "http_status_code": 422}}),
        "error",
        OUT_OF_MEMORY,
    ),
    "DJL-LMI, rolling batch": (
        "DJL-LMI JSON lines",
        json_lines({"token": DJL_ERROR_TOKEN, "generated_text": "", "details": DJL_ERROR_DETAILS}),
        "error",
        "finish_reason is error",
    ),
    "DJL-LMI, asynchronous": (
        "DJL-LMI chat, asynchronous",
        json_lines(VLLM_ERROR),
        "InternalServerError",
        OUT_OF_MEMORY,
    ),
    "DJL Serving": ("DJL Neuron", json_lines({"error": OUT_OF_MEMORY, "code": 424}), "error", OUT_OF_MEMORY),
}


@pytest.mark.parametrize("framing", ["plain", "aws_event_stream"])
@pytest.mark.parametrize(("name", "error", "kind", "text"), ERRORS.values(), ids=ERRORS)
def test_an_error_after_the_first_text_keeps_that_text_and_the_containers_words(name, error, kind, text, framing):
    shape = STREAMED[name]
    body = shape.body[: shape.text_ends[0]] + (b"\n" if shape.body.startswith(b"data:") else b"")
    body += b"".join(line for line, _ in error)
    wire = plain(body) if framing == "plain" else FRAMED_HEAD + event_stream.payload_part(body)
    for cut in range(1, len(wire)):
        answer = answer_to([wire[:cut], wire[cut:]], shape.api, framing)
        assert (answer.status, answer.http_status) == ("error_in_answer", 200)
        assert (answer.error_type, answer.error) == (kind, text)
        assert answer.chunk_texts == ["Gr"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_whole_answer_of_djl_may_be_an_error(wrapped):
    answer = {"generated_text": "", "details": {**DJL_ERROR_DETAILS, "tokens": None}}
    wire = plain(json.dumps([answer] if wrapped else answer).encode())
    for cut in range(1, len(wire)):
        assert answer_to([wire[:cut], wire[cut:]], "djl", "plain").status == "error_in_answer"


# --- requests that a container refused ----------------------------------------------------------------------------

REFUSED = {
    "vLLM": (400, {"error": {"message": "too long for max_model_len", "type": "BadRequestError", "code": 400}}),
    "SGLang": (400, {"object": "error", "message": "longer than the context length", "type": "BadRequestError"}),
    "TGI": (422, {"error": "Input validation error: `inputs` must have less", "error_type": "validation"}),
    "TGI overloaded": (429, {"error": "Model is overloaded", "error_type": "overloaded"}),
    "DJL": (424, {"error": "Input parsing failed: no messages", "code": 424}),
    "DJL, dynamic batch": (424, {"code": 424, "message": "invoke handler failure", "error": "no inputs"}),
}


@pytest.mark.parametrize("framing", ["plain", "aws_event_stream"])
@pytest.mark.parametrize(("status", "error"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_through_sagemaker_keeps_the_containers_status_and_words(status, error, framing):
    original = json.dumps(error)
    body = json.dumps(
        {
            "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
            "LogStreamArn": "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/name",
            "Message": f'Received client error ({status}) from primary with message "{original}". See the log.',
            "OriginalMessage": original,
            "OriginalStatusCode": status,
        }
    ).encode()
    head = f"HTTP/1.1 424 Failed Dependency\r\nx-amzn-ErrorType: ModelError:\r\nContent-Length: {len(body)}\r\n\r\n"
    wire = head.encode() + body
    said = error["error"] if isinstance(error.get("error"), str) else error.get("message") or error["error"]["message"]
    for cut in range(1, len(wire)):
        answer = answer_to([wire[:cut], wire[cut:]], "openai_chat", framing)
        assert (answer.http_status, answer.error_type) == (424, "ModelError")
        assert answer.status == "http_error" or (answer.status, status) == ("throttled", 429)
        assert said in answer.error
        assert f"({status})" in answer.error
        assert answer.chunk_texts == []
