"""Parsing of answers: the formats of the serving containers, cut by the network at any byte."""

from __future__ import annotations

import base64
import json
import re
import struct
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.load.answer_end import AnswerEnd
from helpers.load.connection import Exchange
from helpers.load.responses import Answer, read_answer
from local_sagemaker import event_stream

Part = tuple[bytes, str | None]
"""Bytes of a body; and the text that is received with the last of them, if any."""


# --- answers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stream:
    """An answer of one API, and what it says."""

    api: str
    parts: tuple[Part, ...]
    prompt_tokens: int | None = 5
    finish_reason: str | None = "length"
    chunk_tokens: tuple[int, ...] | None = (1, 1)
    output_tokens: int = 2
    thought: tuple[int, ...] = ()
    """Characters of thinking at the head of each chunk; none behind these."""

    @property
    def body(self) -> bytes:
        return b"".join(data for data, _ in self.parts)

    @property
    def text_ends(self) -> list[tuple[str, int]]:
        """Each text and the offset of the byte that completes it."""
        found, end = [], 0
        for data, text in self.parts:
            end += len(data)
            if text is not None:
                found.append((text, end - 1))
        return found

    def in_parts(self, change) -> Stream:
        return Stream(
            self.api,
            tuple((change(data), text) for data, text in self.parts),
            self.prompt_tokens,
            self.finish_reason,
            self.chunk_tokens,
            self.output_tokens,
            self.thought,
        )


def sse(event: dict | str, text: str | None = None) -> list[Part]:
    data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
    return [(f"data: {data}\n".encode(), text), (b"\n", None)]


def line(event: dict, text: str | None = None) -> list[Part]:
    return [(json.dumps(event).encode() + b"\n", text)]


def delta(**said) -> dict:
    return {"id": "x", "choices": [{"index": 0, "delta": said, "finish_reason": None}], "usage": None}


USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
OPENAI = Stream(
    "openai_chat",
    (
        *sse(delta(role="assistant", content="")),
        *sse(delta(content="Grüß "), "Grüß "),
        *sse(delta(content="Gott"), "Gott"),
        *sse({"choices": [{"delta": {}, "finish_reason": "length"}]}),
        *sse(USAGE),
        *sse("[DONE]"),
    ),
)
ONE_TEXT = b"".join(data for data, _ in OPENAI.parts[:4])
COMPLETIONS = Stream(
    "openai_completions",
    (
        *sse({"choices": [{"text": "Grüß "}]}, "Grüß "),
        *sse({"choices": [{"text": "Gott", "finish_reason": "length"}]}, "Gott"),
        *sse(USAGE),
        *sse("[DONE]"),
    ),
)
DETAILS = {"finish_reason": "length", "generated_tokens": 2}


def tgi_event(text: str, special: bool = False, **last) -> dict:
    token = {"id": 1, "text": text, "logprob": -1.0, "special": special}
    return {"index": 1, "token": token, "generated_text": None, "details": None, **last}


TGI = Stream(
    "tgi",
    (
        *sse(tgi_event("<s>", special=True)),
        *sse(tgi_event("Grüß "), "Grüß "),
        *sse(tgi_event("Gott", generated_text="Grüß Gott", details={**DETAILS, "input_length": 5}), "Gott"),
    ),
)
DJL = Stream(
    "djl",
    (
        *line({"token": {"id": 1, "text": "Grüß ", "log_prob": -0.1}}, "Grüß "),
        *line(
            {
                "token": {"id": [2], "text": "Gott"},
                "generated_text": "Grüß Gott",
                "details": {**DETAILS, "inputs": None},
            },
            "Gott",
        ),
    ),
    prompt_tokens=None,
)
EVENTS = [
    ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, None),
    ({"choices": [{"delta": {"content": "Grüß "}}]}, "Grüß "),
    ({"choices": [{"delta": {"content": "Gott"}}]}, "Gott"),
    ({"choices": [{"delta": {}, "finish_reason": "length"}]}, None),
    ({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}, None),
]
PRETTY = (b'data: {"choices": [{"delta":\n', None), (b'data: {"content": "Gott"}}]}\n', "Gott"), (b"\n", None)
STREAMS = {
    "OpenAI chat": OPENAI,
    "OpenAI completions": COMPLETIONS,
    "TGI": TGI,
    "DJL": DJL,
    "CRLF": OPENAI.in_parts(lambda data: data.replace(b"\n", b"\r\n")),
    "no space after data:": TGI.in_parts(lambda data: data.replace(b"data: ", b"data:")),
    "comments": Stream("openai_chat", ((b": ping\n\n", None), *OPENAI.parts[:4], (b":\n", None), *OPENAI.parts[4:])),
    "an event in two lines": Stream("openai_chat", (*OPENAI.parts[:4], *PRETTY, *OPENAI.parts[6:])),
    "an event in two lines comes first": Stream(
        "openai_completions",
        (
            (b'data: {"choices": [\n', None),
            (b'data: {"text": "Gr\xc3\xbc\xc3\x9f "}]}\n', "Grüß "),
            (b"\n", None),
            *COMPLETIONS.parts[2:],
        ),
    ),
    "two empty lines": Stream("openai_chat", (*OPENAI.parts[:4], (b"\n", None), *OPENAI.parts[4:])),
    "no finish_reason": Stream("openai_chat", (*OPENAI.parts[:6], *OPENAI.parts[8:]), finish_reason=None),
    "no empty lines": Stream("openai_chat", tuple(part for part in OPENAI.parts if part[0] != b"\n")),
    "no end of the last line": Stream("openai_chat", (*OPENAI.parts[:-2], (b"data: [DONE]", None))),
    "no [DONE]": Stream("openai_chat", OPENAI.parts[:-2]),
    "four tokens in two chunks": Stream(
        "openai_chat",
        (
            *OPENAI.parts[:8],
            *sse({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}),
            *sse("[DONE]"),
        ),
        chunk_tokens=None,
        output_tokens=4,
    ),
    "a character in two tokens": Stream(
        "tgi",
        (
            *sse(tgi_event("")),
            *sse(tgi_event("ü"), "ü"),
            *sse(tgi_event("!", details={"finish_reason": "length", "generated_tokens": 3, "input_length": 5}), "!"),
        ),
        chunk_tokens=(2, 1),
        output_tokens=3,
    ),
    "numbers that are not JSON": Stream("djl", ((b'{"token": {"id": 1, "text": "a", "log_prob": -Infinity}}\n', "a"),
        *line({"token": {"id": 2, "text": "b"}, "details": DETAILS}, "b")), prompt_tokens=None),
    "reasoning": Stream(
        "openai_chat",
        (
            *sse(delta(reasoning_content="Hm", reasoning="Hm"), "Hm"),
            *sse(delta(reasoning="m", content="Gott"), "mGott"),
            *OPENAI.parts[6:],
        ),
        thought=(2, 1),
    ),
}  # fmt: skip


# --- wrappings ----------------------------------------------------------------------------------------------------


def pieces_of(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes cut at places, which are taken modulo the length."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def chunked(pieces: list[bytes]) -> tuple[bytes, list[int]]:
    """HTTP chunks, and where each byte of content lies in them."""
    wire, positions = b"", []
    for piece in pieces:
        wire += f"{len(piece):x}\r\n".encode()
        positions += range(len(wire), len(wire) + len(piece))
        wire += piece + b"\r\n"
    return wire + b"0\r\n\r\n", positions


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    encoded = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    message = prelude + struct.pack("!I", crc32(prelude)) + encoded + payload
    return message + struct.pack("!I", crc32(message))


def in_frames(pieces: list[bytes]) -> tuple[bytes, list[int]]:
    """SageMaker's frames, and for each byte of content the last byte of its frame: nobody can read it before."""
    data, positions = b"", []
    for piece in pieces:
        data += event_stream.payload_part(piece)
        positions += [len(data) - 1] * len(piece)
    return data, positions


def wire_of(stream: Stream, wrapping: str, places: list[int]) -> tuple[bytes, list[tuple[str, int]]]:
    """An HTTP answer; and each text with the offset of the byte of the answer that completes it."""
    body, ends, head = stream.body, stream.text_ends, b"HTTP/1.1 200 OK\r\nX-Amzn-RequestId: 1\r\n"
    if "frames" in wrapping:
        body, positions = in_frames(pieces_of(body, places))
        ends = [(text, positions[end]) for text, end in ends]
        head += b"Content-Type: application/vnd.amazon.eventstream\r\n"
        places = [7 * place + 1 for place in places]  # chunks need not be frames
    if wrapping == "content-length":
        head += b"Content-Length: %d\r\n\r\n" % len(body)
    elif wrapping == "until close":
        head += b"\r\n"
    else:
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        body, positions = chunked(pieces_of(body, places))
        ends = [(text, positions[end]) for text, end in ends]
    return head + body, [(text, len(head) + end) for text, end in ends]


WRAPPINGS = ("chunked", "content-length", "until close", "frames")


def answer_of(reads: list[bytes], api: str, framing: str = "plain", fixed: int | None = None, failure=None) -> Answer:
    """The i-th read, from 0 on, is stamped 10 + i."""
    exchange = Exchange(sent_ns=0, done_ns=10_000, complete=failure is None, failure=failure, detail="as told")
    exchange.reads = [(10 + i, data) for i, data in enumerate(reads)]
    return read_answer(exchange, api, framing, fixed)


def framing_of(wrapping: str) -> str:
    return "aws_event_stream" if "frames" in wrapping else "plain"


def check(stream: Stream, wrapping: str, chunk_places: list[int], read_places: list[int]) -> None:
    """Every field of the record, with stamps that are counted out byte by byte."""
    wire, ends = wire_of(stream, wrapping, chunk_places)
    reads = pieces_of(wire, read_places)
    stamp_of_byte = [10 + i for i, read in enumerate(reads) for _ in read]
    arrivals = [stamp_of_byte[end] for _, end in ends]
    answer = answer_of(reads, stream.api, framing_of(wrapping))
    assert answer == Answer(
        status="ok",
        http_status=200,
        first_byte_ns=10,
        first_token_ns=arrivals[0],
        last_token_ns=arrivals[-1],
        chunk_ns=arrivals,
        chunk_texts=[text for text, _ in ends],
        chunk_tokens=None if stream.chunk_tokens is None else list(stream.chunk_tokens),
        finish_reason=stream.finish_reason,
        prompt_tokens=stream.prompt_tokens,
        output_tokens=stream.output_tokens,
        thought=dict(enumerate(stream.thought)),
    )


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", STREAMS)
def test_an_answer_cut_at_any_byte_gives_the_same_record(name, wrapping):
    stream = STREAMS[name]
    wire, _ = wire_of(stream, wrapping, [20, 70])
    for place in range(len(wire)):
        check(stream, wrapping, [20, 70], [place])


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(STREAMS)),
    wrapping=st.sampled_from(WRAPPINGS),
    chunk_places=st.lists(st.integers(0, 2000), max_size=12),
    read_places=st.lists(st.integers(0, 4000), max_size=20),
)
def test_where_the_network_cuts_changes_nothing_but_times(name, wrapping, chunk_places, read_places):
    check(STREAMS[name], wrapping, chunk_places, read_places)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", STREAMS)
def test_every_byte_in_a_read_of_its_own(name, wrapping):
    wire, _ = wire_of(STREAMS[name], wrapping, [])
    check(STREAMS[name], wrapping, [], list(range(len(wire))))


@pytest.mark.parametrize("nested", [False, True])
def test_bedrock_streams_one_event_in_each_frame(nested):
    headers = {":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}
    frames = []
    for event, _ in EVENTS:
        part = {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abcdefgh"}
        frames.append(frame(headers, json.dumps({"chunk": part} if nested else part).encode()))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\n"
    for place in range(1, len(frames[1])):
        reads = [head + frames[0] + frames[1][:place], frames[1][place:], b"".join(frames[2:])]
        answer = answer_of(reads, "openai_chat", "aws_event_stream")
        assert (answer.status, answer.chunk_texts, answer.chunk_ns) == ("ok", ["Grüß ", "Gott"], [11, 12])
        assert (answer.prompt_tokens, answer.output_tokens, answer.finish_reason) == (5, 2, "length")


# --- answers that break off ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["stream_broken", "cut_short", "timeout"])
@pytest.mark.parametrize("wrapping", ["chunked", "frames"])
@pytest.mark.parametrize("name", STREAMS)
def test_what_came_before_a_break_is_kept(name, wrapping, failure):
    stream = STREAMS[name]
    wire, ends = wire_of(stream, wrapping, [20, 70])
    for length in range(1, len(wire), 3):
        answer = answer_of([wire[:length]], stream.api, framing_of(wrapping), failure=failure)
        assert (answer.status, answer.error_type, answer.error) == (failure, failure, "as told")
        assert answer.chunk_texts == [text for text, end in ends if end < length]
        assert answer.chunk_ns == [10] * len(answer.chunk_texts)
        assert answer.first_token_ns == (10 if answer.chunk_texts else None)


@pytest.mark.parametrize(
    ("stream", "end"),
    [
        (OPENAI, r"\[DONE\] or a finish_reason"),
        (COMPLETIONS, r"\[DONE\] or a finish_reason"),
        (TGI, "details or generated_text"),
        (DJL, "a finish_reason or generated_text"),
    ],
    ids=lambda value: value.api if isinstance(value, Stream) else "",
)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_whole_body_without_the_end_of_the_api_is_cut_short(stream, end, wrapping):
    first_text = next(i for i, (_, text) in enumerate(stream.parts) if text)
    rest = b"".join(data for data, _ in stream.parts[first_text + 1 :])
    for more in (b"", rest[:10]):
        short = Stream(stream.api, (*stream.parts[: first_text + 1], (more, None)))
        wire, _ = wire_of(short, wrapping, [20])
        answer = answer_of([wire], stream.api, framing_of(wrapping))
        assert answer.status == "cut_short"
        assert re.search(f"ends without {end}", answer.error)
        assert answer.text == "Grüß "


def test_a_body_that_ends_within_a_frame_is_cut_short():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\n"
    last = event_stream.payload_part(b"data: x\n\n")
    for length in (1, 11, 12, 20, len(last) - 1):
        data = head + event_stream.payload_part(OPENAI.body) + last[:length]
        answer = answer_of([data], "openai_chat", "aws_event_stream")
        assert (answer.status, answer.text) == ("cut_short", "Grüß Gott")


def test_nothing_at_all_is_cut_short_too():
    assert (
        answer_of([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], "openai_chat").status
        == "cut_short"
    )


# --- one JSON value -----------------------------------------------------------------------------------------------

WHOLE = {
    "openai_chat": {
        "choices": [{"message": {"content": "Hi"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    },
    "openai_completions": {"choices": [{"text": "Hi"}], "usage": {"completion_tokens": 1}},
    "tgi": [{"generated_text": "Hi", "details": {"finish_reason": "length", "generated_tokens": 1}}],
    "djl": {"generated_text": "Hi", "details": {"finish_reason": "length", "generated_tokens": 1}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("api", WHOLE)
def test_one_json_value_is_an_answer_without_ttft(api, indent, wrapping):
    for end in (b"", b"\n"):
        stream = Stream(api, ((json.dumps(WHOLE[api], indent=indent).encode() + end, "Hi"),))
        wire, [(_, last)] = wire_of(stream, wrapping, [9, 30])
        for place in range(len(wire)):
            reads = pieces_of(wire, [place])
            answer = answer_of(reads, api, framing_of(wrapping))
            assert (answer.status, answer.text, answer.output_tokens) == ("ok", "Hi", 1)
            assert answer.first_token_ns is None
            assert answer.chunk_tokens is None
            assert answer.last_token_ns == (10 if last < len(reads[0]) else 11)


def test_one_token_that_is_streamed_has_a_ttft():
    event = {"token": {"id": 1, "text": "Hi"}, "generated_text": "Hi", "details": {**DETAILS, "generated_tokens": 1}}
    wire, _ = wire_of(Stream("djl", tuple(line(event, "Hi"))), "frames", [])
    answer = answer_of([wire], "djl", "aws_event_stream")
    assert (answer.status, answer.first_token_ns, answer.chunk_tokens) == ("ok", 10, [1])


def openai_usage(*usages: dict) -> bytes:
    events = [delta(content="Hi"), delta(content="")]
    events[1]["choices"][0]["finish_reason"] = "length"
    events += [{"choices": [], "usage": {"prompt_tokens": 90, "completion_tokens": 2, **usage}} for usage in usages]
    return b"".join(data for event in [*events, "[DONE]"] for data, _ in sse(event))


CONVERSE = {"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": "max_tokens"}
TGI_OR_DJL = {"generated_text": "Hi", "details": {"finish_reason": "length", "generated_tokens": 1}}
CACHED_TOKENS = {
    "OpenAI, vLLM with --enable-prompt-tokens-details, SGLang with --enable-cache-report": (
        "openai_chat",
        openai_usage({"prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0}}),
        64,
    ),
    "nothing found": ("openai_chat", openai_usage({"prompt_tokens_details": {"cached_tokens": 0}}), 0),
    "vLLM and SGLang by default": ("openai_completions", openai_usage({"prompt_tokens_details": None}), None),
    "usage twice, the second time without details": (
        "openai_chat",
        openai_usage({"prompt_tokens_details": {"cached_tokens": 64}}, {}),
        64,
    ),
    "more than there are": ("openai_chat", openai_usage({"prompt_tokens_details": {"cached_tokens": 91}}), None),
    "Bedrock": (
        "bedrock_converse",
        json.dumps({**CONVERSE, "usage": {"inputTokens": 10, "outputTokens": 2, "cacheReadInputTokens": 80}}).encode(),
        80,
    ),
    "Bedrock without a cache": (
        "bedrock_converse",
        json.dumps({**CONVERSE, "usage": {"inputTokens": 90, "outputTokens": 2}}).encode(),
        None,
    ),
    "TGI, which does not report it": ("tgi", json.dumps(TGI_OR_DJL).encode(), None),
    "DJL's own schema, which does not report it": ("djl", json.dumps(TGI_OR_DJL).encode(), None),
}


@pytest.mark.parametrize(("api", "body", "cached"), CACHED_TOKENS.values(), ids=CACHED_TOKENS)
def test_tokens_from_a_cache_are_what_the_server_reports_and_else_unknown(api, body, cached):
    wire, _ = wire_of(Stream(api, ((body, None),)), "chunked", [])
    answer = answer_of([wire], api)
    assert (answer.status, answer.text) == ("ok", "Hi")
    assert answer.cached_tokens == cached
    if api in ("openai_chat", "openai_completions", "bedrock_converse"):
        assert answer.prompt_tokens == 90


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize(
    ("stream", "kind", "error"),
    [
        (OPENAI, "BadRequest", {"error": {"message": "engine died", "type": "BadRequest", "code": 400}}),
        (OPENAI, "Internal", {"object": "error", "message": "engine died", "type": "Internal", "code": 500}),
        (COMPLETIONS, "error", {"error": "engine died"}),
        (TGI, "generation", {"error": "engine died", "error_type": "generation"}),
        (DJL, "error", {"error": "engine died", "code": 424}),
        (DJL, "error", {"code": 500, "message": "engine died"}),
        (
            DJL,
            "error",
            {"error": "engine died", "token": {"id": 1, "text": "x"}, "details": {"finish_reason": "error"}},
        ),
    ],
)
def test_an_error_among_the_events(stream, kind, error, wrapping):
    first_text = next(i for i, (_, text) in enumerate(stream.parts) if text)
    event = line(error) if stream is DJL else sse(error)
    lines_of_an_event = 1 if stream is DJL else 2
    for before in (stream.parts[: first_text + lines_of_an_event], ()):
        wire, ends = wire_of(Stream(stream.api, (*before, *event)), wrapping, [9, 50])
        answer = answer_of([wire], stream.api, framing_of(wrapping))
        assert (answer.status, answer.error_type, answer.error) == ("error_in_answer", kind, "engine died")
        assert answer.http_status == 200
        assert answer.chunk_texts == [text for text, _ in ends]
        cut = answer_of([wire], stream.api, framing_of(wrapping), failure="cut_short")
        assert cut.status == "error_in_answer", "the server said why it closed the connection"


def exception_frame(before: bytes) -> bytes:
    frames = [event_stream.payload_part(before), event_stream.exception("ModelStreamError", b'{"Message":"died"}')]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\n"
    return head + chunked(frames)[0]


def test_an_exception_frame_breaks_the_stream_and_keeps_what_came():
    answer = answer_of([exception_frame(ONE_TEXT)], "openai_chat", "aws_event_stream")
    assert (answer.status, answer.error_type, answer.text) == ("stream_broken", "ModelStreamError", "Grüß ")
    assert "died" in answer.error


def test_an_error_frame_names_its_code():
    data = frame({":message-type": "error", ":error-code": "InternalError", ":error-message": "oops"}, b"")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\n"
    answer = answer_of([head + data], "openai_chat", "aws_event_stream")
    assert (answer.status, answer.error) == ("stream_broken", "InternalError: oops")


def test_a_corrupt_frame_is_a_bad_response_wherever_the_bit_flips():
    good, bad = (event_stream.payload_part(piece) for piece in pieces_of(OPENAI.body, [len(ONE_TEXT)]))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\n"
    for place in range(len(bad)):
        data = bytearray(bad)
        data[place] ^= 1
        answer = answer_of([head + good + data], "openai_chat", "aws_event_stream")
        assert (answer.status, answer.text, answer.output_tokens) == ("bad_response", "Grüß ", None)
        assert "checksum" in answer.error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"data: {broken}\n\ndata: [DONE]\n\n", "not JSON: '{broken}'"),
        (b"<html>Welcome</html>", "no event in the answer: '<html>"),
        (b'{"choices": "none"}', "Expected `array"),
        (b'{"choices": [{"mess', "not JSON"),
        (b'data: {"x": ' + b"[" * 5000 + b"\n\ndata: x\n\n", "not JSON"),
        (b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\ndata: [DONE]\n\n', "not JSON"),
    ],
)
def test_what_is_no_event_is_a_bad_response(body, words):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = answer_of([head + body], "openai_chat")
    assert (answer.status, answer.text) == ("bad_response", "")
    assert words in answer.error


@pytest.mark.parametrize("size", [b"xyz", b"-5", b""])
def test_a_bad_chunk_size_is_a_bad_response_and_keeps_what_came(size):
    good = chunked([ONE_TEXT])[0].removesuffix(b"0\r\n\r\n")
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = answer_of([head + good + size + b"\r\nhello\r\n0\r\n\r\n"], "openai_chat")
    assert (answer.status, answer.text) == ("bad_response", "Grüß ")
    assert "not a chunk size" in answer.error


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(STREAMS)),
    wrapping=st.sampled_from(WRAPPINGS),
    places=st.lists(st.integers(0, 4000), max_size=4),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=5)), min_size=1, max_size=4),
)
def test_whatever_comes_is_a_row(name, wrapping, places, changes):
    """Damaged bytes may say anything, but they raise nothing, and every text has its stamp."""
    stream = STREAMS[name]
    wire, _ = wire_of(stream, wrapping, places)
    for place, new in changes:
        place %= len(wire)
        wire = wire[:place] + new + wire[place + 1 :]
    answer = answer_of(pieces_of(wire, places), stream.api, framing_of(wrapping), failure=None)
    assert len(answer.chunk_ns) == len(answer.chunk_texts)
    assert answer.chunk_ns == sorted(answer.chunk_ns)
    assert (answer.status == "ok") == (answer.error is None)


def test_no_http_is_a_bad_response_even_if_the_connection_closes():
    answer = answer_of([b"\x00\x01 this is no HTTP\r\n\r\n"], "openai_chat", failure="cut_short")
    assert (answer.status, answer.http_status) == ("bad_response", None)
    assert "not an HTTP status line" in answer.error


def test_chunk_extensions_trailers_and_interim_heads_are_http():
    size = f"{len(OPENAI.body):X};name=value\r\n".encode()
    head = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"
    answer = answer_of([head + size + OPENAI.body + b"\r\n0\r\nX-Trailer: y\r\n\r\n"], "openai_chat")
    assert (answer.status, answer.text) == ("ok", "Grüß Gott")


def test_what_follows_the_body_is_no_part_of_it():
    more = b"".join(data for data, _ in sse(delta(content="!")))
    chunks = chunked([OPENAI.body])[0]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert answer_of([head + chunks + chunked([more])[0]], "openai_chat").text == "Grüß Gott"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OPENAI.body)
    assert answer_of([head + OPENAI.body + more], "openai_chat").text == "Grüß Gott"


def test_a_chunk_that_looks_like_chunks_is_none():
    text = "a\r\n3\r\nabc\r\n0\r\n\r\n"
    parts = (*sse(delta(content=text), text), *OPENAI.parts[6:])
    body = b"".join(data for data, _ in parts) + b": 5\r\nhello\r\n0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = answer_of([head + chunked([body])[0]], "openai_chat")
    assert (answer.status, answer.text) == ("ok", text)


def test_a_model_error_of_sagemaker_keeps_its_name():
    body = b'{"Message":"Received server error (500)","OriginalStatusCode":500}'
    head = f"HTTP/1.1 424 Failed Dependency\r\nx-amzn-ErrorType: ModelError\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = answer_of([head.encode() + body], "openai_chat", "aws_event_stream")
    assert (answer.status, answer.http_status, answer.error_type) == ("http_error", 424, "ModelError")
    assert "OriginalStatusCode" in answer.error


@pytest.mark.parametrize(
    ("status", "header"), [("400 Bad Request", "x-amzn-ErrorType: ThrottlingException:"), ("429 Slow", "X: y")]
)
def test_throttling_is_throttled_whatever_its_http_status(status, header):
    answer = answer_of([f"HTTP/1.1 {status}\r\n{header}\r\nContent-Length: 2\r\n\r\n{{}}".encode()], "openai_chat")
    assert answer.status == "throttled"


def test_a_complete_answer_without_text_is_empty():
    silent = tuple(part for part in OPENAI.parts if part[1] is None)
    for wrapping in WRAPPINGS:
        wire, _ = wire_of(Stream("openai_chat", silent), wrapping, [])
        assert answer_of([wire], "openai_chat", framing_of(wrapping)).status == "empty"
    whole = b'HTTP/1.1 200 OK\r\n\r\n{"choices": [{"message": {"content": ""}}]}'
    assert answer_of([whole], "openai_chat").status == "empty"


@pytest.mark.parametrize(("name", "checked"), [("OpenAI chat", True), ("OpenAI completions", True), ("DJL", True),
                                               ("TGI", False)])  # fmt: skip
def test_fewer_tokens_than_the_smallest_number(name, checked):
    stream = STREAMS[name]
    wire, _ = wire_of(stream, "chunked", [])
    for fixed in (None, 1, 2):
        assert answer_of([wire], stream.api, fixed=fixed).status == "ok"
    answer = answer_of([wire], stream.api, fixed=64)
    assert answer.status == ("too_few_tokens" if checked else "ok")
    assert answer.text == "Grüß Gott"
    if checked:
        assert answer.error.startswith("answered 2 of 64 tokens: the server does not keep to min_tokens; ")
        assert "generation.fixed_output_length: false" in answer.error


def test_tokens_that_only_we_count_are_not_too_few():
    wire, _ = wire_of(Stream("openai_chat", (*OPENAI.parts[:8], *OPENAI.parts[10:])), "chunked", [])
    answer = answer_of([wire], "openai_chat", fixed=64)
    assert (answer.status, answer.output_tokens) == ("ok", None)


def test_the_gravest_fault_is_the_status():
    """Each answer has all the faults of the ones after it, and one that is graver."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/vnd.amazon.eventstream\r\n\r\n"
    error = b'data: {"error": "x"}\n\n'
    bad_frame = bytearray(event_stream.payload_part(b"x"))
    bad_frame[-1] ^= 1
    exception = event_stream.exception("ModelStreamError", b"died")
    mild = b"".join(data for data, text in OPENAI.parts[:2])  # no text, no end
    part = event_stream.payload_part
    cases = [
        ("error_in_answer", [part(mild), part(error), exception, bytes(bad_frame)]),
        ("stream_broken", [part(mild), exception, bytes(bad_frame)]),
        ("bad_response", [part(mild), bytes(bad_frame)]),
        ("cut_short", [part(mild)]),
        ("empty", [part(b"".join(data for data, text in OPENAI.parts if text is None))]),
        ("too_few_tokens", [part(OPENAI.body)]),
    ]
    for status, frames in cases:
        wire = head + chunked(frames)[0]
        assert answer_of([wire], "openai_chat", "aws_event_stream", fixed=9).status == status
        assert answer_of([wire], "openai_chat", "aws_event_stream", fixed=9, failure="timeout").status == "timeout"


@pytest.mark.parametrize("stray", [b"", b"x", b"x\r\n", b"data: [DONE]\n\n\r\n0\r\n\r\n"])
def test_bytes_behind_an_answer_in_the_same_read_close_its_connection(stray):
    """Also where they end as answers or as chunks end: what follows them would be taken for the next answer."""
    events = b'data: {"choices": []}\n\ndata: [DONE]\n\n'
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(events), events)
    end = AnswerEnd(most_bytes=1000)
    assert end.feed(answer + stray) or end.look()
    assert end.closes == bool(stray)
