"""How servers answer: "Grüße" in two pieces, of a prompt of 11 tokens, in the shapes that servers have, and ways to fail at it.

Each is streamed and whole. Facts from the documentation and sources of the servers named: Azure OpenAI (learn.microsoft.com,
"Content streaming"), Mistral (docs.mistral.ai, "Reasoning"), OpenRouter (openrouter.ai/docs, "Streaming", "Errors"), Groq
(console.groq.com/docs/api-reference), llama.cpp (tools/server/README.md), TGI (huggingface.co/docs/text-generation-inference),
Triton (python/openai of triton-inference-server/server), TensorRT-LLM (trtllm-serve), Ollama (docs/openai), LiteLLM
(docs.litellm.ai), DeepSeek (api-docs.deepseek.com), SGLang and vLLM (entrypoints/openai), DJL-LMI.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Shape:
    """An answer in two bodies, and the record of each. None: the server does not report it."""

    stream: bytes
    whole: bytes
    api: str = "openai_chat"
    status: str = "ok"
    whole_status: str = "ok"
    text: str = "Grüße"
    whole_text: str | None = None
    """As `text`, where null."""
    finish_reason: str | None = "length"
    prompt_tokens: int | None = 11
    output_tokens: int | None = 2
    words: str = ""
    """What the reason of a failure has to say."""


def data(*events: object) -> bytes:
    """Server-sent events."""
    return b"".join(b"data: " + as_json(event) + b"\n\n" for event in events)


def as_json(event: object) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def lines(*events: object) -> bytes:
    return b"".join(as_json(event) + b"\n" for event in events)


def named(*events: dict) -> bytes:
    return b"".join(f"event: {event['type']}\n".encode() + data(event) for event in events)


def wire_of(body: bytes, streamed: bool) -> tuple[bytes, bytes]:
    """Head and body of the answer in HTTP: in chunks of 30 bytes if it is a stream."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n" % (b"text/event-stream" if streamed else b"application/json")
    if not streamed:
        return head + b"Content-Length: %d\r\n\r\n" % len(body), body
    pieces = [body[at : at + 30] for at in range(0, len(body), 30)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n", chunks + b"0\r\n\r\n"


USAGE = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1767225600, "model": "m"}


def event(delta: object = None, finish_reason: object = None, usage: object = None, **choice: object) -> dict:
    """One chunk of a chat; what else stands in the choice."""
    said = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish_reason, **choice}
    return {**HEAD, "choices": [said], **({} if usage is None else {"usage": usage})}


def message(said: object, finish_reason: object = "length", usage: object = None, **choice: object) -> dict:
    """A whole chat."""
    choices = [{"index": 0, "message": said, "finish_reason": finish_reason, **choice}]
    return {**HEAD, "object": "chat.completion", "choices": choices, "usage": USAGE if usage is None else usage}


def total(usage: object = None, **more: object) -> dict:
    return {**HEAD, "choices": [], "usage": USAGE if usage is None else usage, **more}


ROLE = event({"role": "assistant", "content": ""})
GRU, SSE = event({"content": "Grü"}), event({"content": "ße"})
END = event({}, "length")
WHOLE = as_json(message({"role": "assistant", "content": "Grüße"}))
BODY = data(ROLE, GRU, SSE, END, total()) + DONE


def chat(*events: object, whole: object = None, **tells: object) -> Shape:
    """Events of a chat up to [DONE], and the same in one value."""
    return Shape(data(*events) + DONE, WHOLE if whole is None else as_json(whole), **tells)


def odd(delta: object, said: object = None) -> Shape:
    """The second piece comes in an odd delta, the whole message in an odd message."""
    return chat(ROLE, GRU, event(delta), END, total(), whole=message(delta if said is None else said, "length"))


FILTERED = {"hate": {"filtered": False, "severity": "safe"}}
PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "Grü"}]}, {"type": "text", "text": "ße"}]
TIMINGS = {"prompt_n": 11, "prompt_ms": 30.1, "predicted_n": 2, "predicted_per_second": 40.5}
OPENROUTER = {"provider": "P", "system_fingerprint": None}
GROQ_LAST = {"x_groq": {"id": "req_1", "usage": {**USAGE, "queue_time": 0.01, "total_time": 0.02}}}
TGI_DETAILS = {"finish_reason": "length", "generated_tokens": 2, "seed": None, "input_length": 11}


def tgi(text: str, **last: object) -> dict:
    token = {"id": 5, "text": text, "logprob": -0.5, "special": False}
    return {"index": 1, "token": token, "generated_text": None, "details": None, **last}


def djl(text: str, **last: object) -> dict:
    return {"token": {"id": 5, "text": text, "log_prob": -0.5}, **last}


DJL_LAST = {"generated_text": "Grüße", "details": {"finish_reason": "length", "generated_tokens": 2, "inputs": None}}
UNREPORTED = {"prompt_tokens": None, "output_tokens": None}

SERVERS = {
    "OpenAI": chat(ROLE, GRU, SSE, END, total()),
    "Azure": chat(
        {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": [{"prompt_index": 0}],
        },
        event({"role": "assistant", "content": "", "refusal": None}, content_filter_results={}),
        event({"content": "Grü"}, content_filter_results=FILTERED, logprobs=None),
        event({"content": "ße"}, content_filter_results=FILTERED, logprobs=None),
        event({}, "length", content_filter_results={}),
        total(),
        whole=message({"role": "assistant", "content": "Grüße", "refusal": None}, content_filter_results=FILTERED)
        | {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": FILTERED}]},
    ),
    "Azure, filtered asynchronously": chat(
        ROLE,
        GRU,
        SSE,
        {
            "choices": [
                {
                    "index": 0,
                    "finish_reason": None,
                    "content_filter_results": {},
                    "content_filter_offsets": {"check_offset": 0, "start_offset": 0, "end_offset": 6},
                }
            ]
        },
        END,
        total(),
    ),
    "Mistral": chat(ROLE, GRU, event({"content": "ße"}, "length", USAGE)),
    "Mistral, reasoning": chat(
        event({"role": "assistant", "content": PARTS[:1]}),
        event({"content": PARTS[1:]}),
        event({"content": ""}, "length", USAGE),
        whole=message({"role": "assistant", "content": PARTS, "tool_calls": None}),
    ),
    "OpenRouter": Shape(
        b": OPENROUTER PROCESSING\n\n" * 2
        + data(
            {**ROLE, **OPENROUTER},
            {**GRU, **OPENROUTER},
            event({"content": "ße", "reasoning": None, "refusal": None}),
            event({"content": ""}, "length", native_finish_reason="max_tokens"),
            total({**USAGE, "cost": 0.00014, "cost_details": {"upstream_inference_cost": None}, "is_byok": False}),
        )
        + DONE,
        as_json(
            message(
                {"role": "assistant", "content": "Grüße", "refusal": None, "reasoning": None}, native_finish_reason="l"
            )
        ),
    ),
    "OpenRouter, reasoning": chat(
        event(
            {
                "content": "",
                "reasoning": "Grü",
                "reasoning_details": [{"type": "reasoning.text", "text": "Grü", "index": 0}],
            }
        ),
        SSE,
        END,
        total(),
        whole=message({"content": "ße", "reasoning": "Grü", "reasoning_details": [{"text": "Grü"}]}),
    ),
    "Groq": chat({**ROLE, "x_groq": {"id": "req_1"}}, GRU, SSE, {**END, **GROQ_LAST}),
    "Groq with usage": chat({**ROLE, "x_groq": {"id": "req_1"}}, GRU, SSE, {**END, **GROQ_LAST}, total()),
    "Groq, gpt-oss": chat(
        event({"reasoning": "Grü", "channel": "analysis"}),
        SSE,
        {**END, **GROQ_LAST},
        whole=message({"content": "ße", "reasoning": "Grü"}),
    ),
    "llama.cpp": chat(
        event({"role": "assistant", "content": None}),
        GRU,
        SSE,
        END,
        total(timings=TIMINGS),
        whole=message({"role": "assistant", "content": "Grüße"}) | {"timings": TIMINGS},
    ),
    "llama.cpp, without usage": chat(
        event({"role": "assistant", "content": None}),
        GRU,
        SSE,
        {**END, "timings": TIMINGS},
        whole={**message({"content": "Grüße"}), "usage": None},
        **UNREPORTED,
    ),
    "TGI": Shape(
        data(tgi("Grü"), tgi("ße", generated_text="Grüße", details=TGI_DETAILS)).replace(b"data: ", b"data:"),
        as_json([{"generated_text": "Grüße", "details": {**TGI_DETAILS, "prefill": [], "tokens": []}}]),
        "tgi",
    ),
    "TGI, top tokens": Shape(
        data(
            {**tgi("Grü"), "top_tokens": [{"id": 5, "text": "Grü"}]},
            tgi("ße", generated_text="Grüße", details=TGI_DETAILS),
        ),
        as_json({"generated_text": "Grüße", "details": TGI_DETAILS}),
        "tgi",
    ),
    "TGI, chat": chat(
        event({"role": "assistant", "content": "Grü"}),
        event({"role": "assistant", "content": "ße"}, "length"),
        total(system_fingerprint="3.3.6-native"),
    ),
    "Triton": chat(
        {**ROLE, "usage": None},
        {**GRU, "usage": None},
        {**SSE, "usage": None},
        {**END, "usage": None},
        whole={**message({"role": "assistant", "content": "Grüße", "tool_calls": None}), "usage": None},
        **UNREPORTED,
    ),
    "Triton with usage": chat(ROLE, GRU, SSE, END, total(system_fingerprint=None)),
    "TensorRT-LLM": chat(
        event({"role": "assistant", "content": "", "reasoning_content": None}),
        event({"content": "Grü"}, stop_reason=None),
        event({"content": "ße"}, "length", avg_decoded_tokens_per_iter=1.0),
        total({**USAGE, "prompt_tokens_details": {"cached_tokens": 0}}),
    ),
    "Ollama": chat(
        event({"role": "assistant", "content": "Grü"}),
        event({"role": "assistant", "content": "ße"}),
        event({"role": "assistant", "content": ""}, "length"),
        total(system_fingerprint="fp_ollama"),
    ),
    "Ollama, thinking": chat(
        event({"role": "assistant", "content": "", "reasoning": "Grü"}),
        SSE,
        END,
        total(),
        whole=message({"content": "ße", "reasoning": "Grü"}),
    ),
    "LiteLLM": chat(
        event({"role": "assistant", "content": "Grü", "provider_specific_fields": None, "function_call": None}),
        SSE,
        {**END, "citations": None},
        total({**USAGE, "completion_tokens_details": None, "prompt_tokens_details": {"cached_tokens": None}}),
    ),
    "LiteLLM, thinking": chat(
        event({"content": "", "reasoning_content": "Grü", "thinking_blocks": [{"thinking": "Grü"}]}),
        SSE,
        END,
        total(),
        whole=message({"content": "ße", "reasoning_content": "Grü", "thinking_blocks": []}),
    ),
    "DeepSeek": chat(
        event({"content": None, "reasoning_content": "Grü"}),
        event({"content": "ße", "reasoning_content": None}),
        event({"content": ""}, "length", {**USAGE, "prompt_cache_hit_tokens": 0}),
        whole=message({"content": "ße", "reasoning_content": "Grü"}),
    ),
    "vLLM, usage in each event": chat(
        event({"content": "Grü"}, usage={**USAGE, "completion_tokens": 1}),
        event({"content": "ße"}, "length", USAGE),
        total(),
    ),
    "SGLang": chat(
        event({"role": "assistant", "content": "", "reasoning_content": None}),
        GRU,
        SSE,
        event({}, "length", matched_stop=None),
        total({**USAGE, "reasoning_tokens": 0}),
    ),
    "Together": chat(
        event({"token_id": 5, "content": "Grü"}, text="Grü"),
        event({"token_id": 6, "content": "ße"}, "length", text="ße"),
        total(),
    ),
    "vLLM, completions": Shape(
        data(
            {"choices": [{"index": 0, "text": "Grü", "finish_reason": None}]},
            {"choices": [{"text": "ße", "finish_reason": "length"}]},
            total(),
        )
        + DONE,
        as_json(
            {"object": "text_completion", "choices": [{"text": "Grüße", "finish_reason": "length"}], "usage": USAGE}
        ),
        "openai_completions",
    ),
    "DJL-LMI": Shape(lines(djl("Grü"), djl("ße", **DJL_LAST)), as_json(DJL_LAST), "djl", prompt_tokens=None),
    "DJL-LMI, events": Shape(data(djl("Grü"), djl("ße", **DJL_LAST)), as_json([DJL_LAST]), "djl", prompt_tokens=None),
}

FORMS = {
    "CRLF": Shape(BODY.replace(b"\n", b"\r\n"), WHOLE + b"\r\n"),
    "CR": Shape(BODY.replace(b"\n", b"\r"), WHOLE + b"\r"),
    "no space behind data:": Shape(BODY.replace(b"data: ", b"data:"), b"\n" + WHOLE),
    "a byte order mark": Shape(b"\xef\xbb\xbf" + data(GRU, SSE, END, total()) + DONE, b"\xef\xbb\xbf" + WHOLE),
    "comments, ids and retry": Shape(
        b"retry: 100\n\n: hi\n\n" + BODY.replace(b"data", b"id: 1\nevent: message\ndata"), WHOLE
    ),
    "an event in many lines": Shape(
        b"data: "
        + json.dumps(GRU, indent=1).encode().replace(b"\n", b"\ndata: ")
        + b"\n\n"
        + data(SSE, END, total())
        + DONE,
        json.dumps(message({"content": "Grüße"}), indent=2).encode(),
    ),
    "no empty lines": Shape(BODY.replace(b"\n\n", b"\n"), WHOLE),
    "no [DONE]": Shape(data(GRU, SSE, END, total()), WHOLE),
    "JSON lines": Shape(lines(GRU, SSE, END, total()), WHOLE),
    "escaped characters": Shape(BODY.replace("ü".encode(), b"\\u00fc"), WHOLE.replace("ß".encode(), b"\\u00df")),
    "NaN beside": Shape(
        BODY.replace(b'"delta"', b'"logprob": NaN, "delta"'), WHOLE.replace(b'"message"', b'"x": -Infinity, "message"')
    ),
}

VARYING = {
    "content as parts": odd(
        {"content": [{"type": "text", "text": "ße"}]}, {"content": [{"type": "text", "text": "Grüße"}]}
    ),
    "content as strings": odd({"content": ["ß", "e"]}, {"content": ["Grü", "ße"]}),
    "content as an object": odd({"content": {"type": "text", "text": "ße"}}, {"content": {"text": "Grüße"}}),
    "content as parts within parts": odd(
        {"content": [{"content": [{"text": "ß"}, {"text": "e"}]}]}, {"content": [{"content": "Grüße"}]}
    ),
    "parts without text beside": odd(
        {"content": [{"type": "reference", "reference_ids": [1]}, {"text": "ße"}]},
        {"content": [{"type": "image_url"}, {"text": "Grüße"}]},
    ),
    "reasoning as an object": odd(
        {"reasoning_content": {"text": "ß"}, "content": "e"}, {"reasoning_content": {"content": "Grü"}, "content": "ße"}
    ),
    "reasoning as a list": odd(
        {"reasoning": [{"text": "ß"}], "content": "e"}, {"reasoning": [{"summary": "Grü"}], "content": "ße"}
    ),
    "an empty reasoning object": odd(
        {"reasoning_content": {}, "content": "ße"}, {"reasoning_content": {}, "content": "Grüße"}
    ),
    "delta as a string": odd("ße", "Grüße"),
    "delta null": chat(ROLE, GRU, {**END, "choices": [{"delta": None}]}, SSE, END, total()),
    "usage as floats": chat(
        GRU,
        SSE,
        END,
        total({"prompt_tokens": 11.0, "completion_tokens": 2.0}),
        whole=message({"content": "Grüße"}, usage={"prompt_tokens": 11.0, "completion_tokens": 2.0}),
    ),
    "usage as strings": chat(
        GRU,
        SSE,
        END,
        total({"prompt_tokens": "11", "completion_tokens": "2"}),
        whole=message({"content": "Grüße"}, usage={"prompt_tokens": "11", "completion_tokens": "2"}),
    ),
    "usage in a list": chat(GRU, SSE, END, total([USAGE]), whole=message({"content": "Grüße"}, usage=[USAGE])),
    "usage in words": chat(
        GRU, SSE, END, total("unknown"), whole=message({"content": "Grüße"}, usage="unknown"), **UNREPORTED
    ),
    "no completion_tokens": chat(
        GRU,
        SSE,
        END,
        total({"prompt_tokens": 11}),
        whole=message({"content": "Grüße"}, usage={"prompt_tokens": 11}),
        output_tokens=None,
    ),
    "finish_reason as an object": chat(
        GRU,
        SSE,
        event({}, {"type": "length", "length": 2}),
        total(),
        whole=message({"content": "Grüße"}, {"type": "length"}),
    ),
    "finish_reason as a number": chat(
        GRU, SSE, event({}, 1), total(), whole=message({"content": "Grüße"}, 1), finish_reason=None
    ),
    "choices as an object": chat(
        {**GRU, "choices": GRU["choices"][0]},
        SSE,
        END,
        total(),
        whole={**message({}), "choices": {"message": {"content": "Grüße"}, "finish_reason": "length"}},
    ),
    "TGI, tokens as floats": Shape(
        data(tgi("Grü"), tgi("ße", generated_text="Grüße", details={**TGI_DETAILS, "generated_tokens": 2.0})),
        as_json({"generated_text": "Grüße", "details": {**TGI_DETAILS, "input_length": 11.0}}),
        "tgi",
    ),
    "DJL, special as text": Shape(
        lines({"token": {"id": "5", "text": "Grü"}}, djl("ße", **DJL_LAST)),
        as_json({**DJL_LAST, "details": [DJL_LAST["details"]]}),
        "djl",
        prompt_tokens=None,
    ),
}


def broken(*last: object, whole: object = None, words: str, raw: bytes = b"", **tells: object) -> Shape:
    """A stream whose first piece is good, and then this."""
    body = data(ROLE, GRU, *last) + raw
    known = {
        "status": "stream_broken",
        "whole_status": "error_in_answer",
        "text": "Grü",
        "finish_reason": None,
        **UNREPORTED,
    }
    whole = {"error": {"message": words}} if whole is None else whole
    return Shape(body + DONE, as_json(whole), **{**known, "whole_text": "", "words": words, **tells})


def ends_with(reason: str) -> Shape:
    whole = {**message({"content": "Grü"}, reason), "usage": None}
    return broken(event({}, reason), whole=whole, words=reason, finish_reason=reason, whole_text="Grü")


DIED = {"code": 502, "message": "Provider disconnected unexpectedly"}
DIES = "Provider disconnected unexpectedly"
OBJECTS = {"status": "error_in_answer"}
BAD = {"status": "bad_response", "whole_status": "bad_response", "finish_reason": "length", "whole_text": "Grüße"}
BREAKS = {
    **{
        f"finish_reason {reason}": ends_with(reason)
        for reason in (
            "error",
            "abort",
            "aborted",
            "cancelled",
            "ERROR",
            "insufficient_system_resource",
            "content_filter",
        )
    },
    "an error in the choice": broken(
        event({"content": ""}, "error", error=DIED),
        finish_reason="error",
        words=DIES,
        whole_text="Grü",
        whole={**message({"content": "Grü"}, "error", error=DIED), "usage": None},
    ),
    "an error in the choice, no reason": broken(
        event({}, error=DIED),
        words=DIES,
        whole_text="Grü",
        whole={"choices": [{"message": {"content": "Grü"}, "error": DIED}]},
    ),
    "an event named error": broken(raw=b"event: error\n" + data({"message": DIES}), words=DIES),
    "an event named error, object": broken(raw=b"event: error\n" + data({"error": DIED}), words=DIES),
    "an event named error, in words": broken(raw=f"event: error\ndata: {DIES}\n\n".encode(), words=DIES),
    "an event named error, behind": broken(raw=f"data: {DIES}\nevent: error\n\n".encode(), words=DIES),
    "an event named error, no words": broken(raw=b"event: error\ndata:\n\n", words="error", whole={"error": "error"}),
    "a line named error": broken(raw=b"error: " + as_json(DIED) + b"\n\n", words=DIES),
    "an error object": broken({"error": DIED}, words=DIES, **OBJECTS),
    "an error in words": broken({"error": DIES}, words=DIES, whole={"error": DIES}, **OBJECTS),
    "an error of vLLM": broken({"object": "error", "message": DIES, "code": 500}, words=DIES, **OBJECTS),
    "a message alone": broken({"message": DIES}, words=DIES, whole={"message": DIES}, **OBJECTS),
    "a detail alone": broken({"detail": DIES}, words=DIES, whole={"detail": DIES}, **OBJECTS),
    "a type error": broken({"type": "error", "message": DIES}, words=DIES, **OBJECTS),
    "TGI, an event named error": Shape(
        data(tgi("Grü")) + b"event: error\n" + data({"message": DIES}),
        as_json({"error": DIES, "error_type": "generation"}),
        "tgi",
        "stream_broken",
        "error_in_answer",
        "Grü",
        "",
        None,
        None,
        None,
        DIES,
    ),
    "TGI, finish_reason error": Shape(
        data(tgi("Grü"), tgi("", details={"finish_reason": "error"})),
        as_json({"error": "error"}),
        "tgi",
        "stream_broken",
        "error_in_answer",
        "Grü",
        "",
        "error",
        None,
        None,
        "error",
    ),
    "DJL, an event named error": Shape(
        data(djl("Grü")) + b"event: error\n" + data({"message": DIES}),
        as_json({"error": DIES, "code": 424}),
        "djl",
        "stream_broken",
        "error_in_answer",
        "Grü",
        "",
        None,
        None,
        None,
        DIES,
    ),
    "no token of text": broken(
        event({"content": 5}),
        whole={"choices": [{"message": {"content": 5}}]},
        words="content",
        status="bad_response",
        whole_status="bad_response",
    ),
    "tokens below 0": chat(
        GRU,
        SSE,
        END,
        total({"prompt_tokens": 11, "completion_tokens": -2}),
        whole=message({"content": "Grüße"}, usage={"prompt_tokens": 11, "completion_tokens": -2}),
        words="impossible number of output tokens",
        output_tokens=None,
        **BAD,
    ),
    "a web page": Shape(
        b"<html>Welcome</html>",
        b"<html>Welcome</html>",
        status="bad_response",
        whole_status="bad_response",
        text="",
        finish_reason=None,
        words="no event in the answer",
        **UNREPORTED,
    ),
    "nothing": Shape(
        DONE,
        as_json(message({"content": ""})),
        status="empty",
        whole_status="empty",
        text="",
        finish_reason=None,
        words="no text",
        **UNREPORTED,
    ),
}
BREAKS["half a token"] = chat(
    GRU,
    SSE,
    END,
    total({"prompt_tokens": 11, "completion_tokens": 2.5}),
    words="completion_tokens",
    whole=message({"content": "Grüße"}, usage={"completion_tokens": 2.5}),
    **{**BAD, "whole_text": "", **UNREPORTED},
)
SHAPES = {**SERVERS, **FORMS, **VARYING, **BREAKS}
