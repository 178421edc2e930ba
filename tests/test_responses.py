"""Parsing of answers: the formats of the serving containers, cut by the network at any byte."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.load.connection import Exchange
from helpers.load.responses import read_answer
from helpers.local_sagemaker import event_stream

OPENAI = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"Gr\xc3\xbc\xc3\x9f "}}]}\n\n'
    b': a comment\n\ndata: {"choices":[{"delta":{"content":"Gott"}}]}\r\n\r\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)
COMPLETIONS = (
    b'data: {"choices":[{"text":"Gr\xc3\xbc\xc3\x9f "}]}\n\ndata: {"choices":[{"text":"Gott","finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)
TGI = (
    b'data:{"token":{"id":1,"text":"Gr\xc3\xbc\xc3\x9f ","logprob":-1,"special":false},"generated_text":null,"details":null}\n\n'
    b'data:{"token":{"id":2,"text":"Gott","logprob":-1,"special":false},"generated_text":"Gr\xc3\xbc\xc3\x9f Gott",'
    b'"details":{"finish_reason":"length","generated_tokens":2,"seed":null}}\n\n'
)
DJL = (
    b'{"token": {"id": 1, "text": "Gr\xc3\xbc\xc3\x9f ", "log_prob": -0.1}}\n'
    b'{"token": {"id": 2, "text": "Gott", "log_prob": -0.1}, "generated_text": "Gr\xc3\xbc\xc3\x9f Gott", '
    b'"details": {"finish_reason": "length", "generated_tokens": 2, "inputs": null}}\n'
)
STREAMS = {"openai_chat": OPENAI, "openai_completions": COMPLETIONS, "tgi": TGI, "djl": DJL}
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in pieces) + b"0\r\n\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def answer_of(response: bytes, reads: list[int], api: str, framing: str):
    exchange = Exchange(sent_ns=0, done_ns=10_000, complete=True)
    exchange.reads = [(i + 1, piece) for i, piece in enumerate(cut(response, reads))]
    return read_answer(exchange, api, framing)


def wire(api: str, chunks: list[int], framing: str) -> bytes:
    pieces = cut(STREAMS[api], chunks)
    if framing == "aws_event_stream":
        kind = b"Content-Type: application/vnd.amazon.eventstream\r\n\r\n"
        return HEAD + kind + chunked([event_stream.payload_part(piece) for piece in pieces])
    return HEAD + b"Content-Type: text/event-stream\r\n\r\n" + chunked(pieces)


@pytest.mark.parametrize("framing", ["plain", "aws_event_stream"])
@pytest.mark.parametrize("api", STREAMS)
def test_an_answer_cut_at_any_byte_gives_the_same_record(api, framing):
    response = wire(api, [20, 70], framing)
    for place in range(1, len(response)):
        answer = answer_of(response, [place], api, framing)
        assert answer.status == "ok"
        assert answer.text == "Grüß Gott"
        assert answer.output_tokens == 2
        assert answer.chunk_tokens == [1, 1]
        assert answer.finish_reason == "length"
        assert 1 <= answer.first_token_ns <= answer.last_token_ns <= 2


@settings(max_examples=150, deadline=None)
@given(
    api=st.sampled_from(sorted(STREAMS)),
    framing=st.sampled_from(["plain", "aws_event_stream"]),
    chunks=st.lists(st.integers(0, 10_000), max_size=12),
    reads=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_where_the_stream_is_cut_changes_nothing_but_times(api, framing, chunks, reads):
    answer = answer_of(wire(api, chunks, framing), reads, api, framing)
    assert (answer.status, answer.text, answer.output_tokens) == ("ok", "Grüß Gott", 2)
    assert answer.chunk_ns == sorted(answer.chunk_ns)


def test_a_token_counts_as_received_when_its_line_is_complete():
    body = DJL
    first_line_end = body.index(b"\n") + 1
    response = HEAD + b"\r\n" + chunked([body])
    start = response.index(body)
    answer = answer_of(response, [start + first_line_end - 1, start + first_line_end], "djl", "plain")
    assert answer.chunk_ns == [2, 3], "the first token came with the byte that ends its line, not before"


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (
            "openai_chat",
            {"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
        ),
        ("tgi", [{"generated_text": "Hi", "details": {"finish_reason": "length", "generated_tokens": 1}}]),
        ("djl", {"generated_text": "Hi", "details": {"finish_reason": "length", "generated_tokens": 1}}),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_one_json_object_is_an_answer_without_ttft(api, body, indent):
    data = json.dumps(body, indent=indent).encode()
    response = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    answer = answer_of(response, [10], api, "plain")
    assert (answer.status, answer.text, answer.output_tokens) == ("ok", "Hi", 1)
    assert answer.first_token_ns is None
    assert answer.last_token_ns == 2


def test_an_exception_frame_breaks_the_stream_and_keeps_what_came():
    frames = [
        event_stream.payload_part(OPENAI[:150]),
        event_stream.exception("ModelStreamError", b'{"Message":"died"}'),
    ]
    response = HEAD + b"Content-Type: application/vnd.amazon.eventstream\r\n\r\n" + chunked(frames)
    answer = answer_of(response, [], "openai_chat", "aws_event_stream")
    assert answer.status == "stream_broken"
    assert "ModelStreamError" in answer.error
    assert "died" in answer.error
    assert answer.text == "Grüß "


def test_a_corrupt_frame_is_a_bad_response():
    frame = bytearray(event_stream.payload_part(OPENAI))
    frame[40] ^= 1
    response = HEAD + b"Content-Type: application/vnd.amazon.eventstream\r\n\r\n" + chunked([bytes(frame)])
    answer = answer_of(response, [], "openai_chat", "aws_event_stream")
    assert (answer.status, answer.output_tokens) == ("bad_response", None)
    assert "checksum" in answer.error


def test_a_model_error_of_sagemaker_keeps_its_name():
    body = b'{"Message":"Received server error (500)","OriginalStatusCode":500}'
    head = f"HTTP/1.1 424 Failed Dependency\r\nx-amzn-ErrorType: ModelError\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = answer_of(head.encode() + body, [], "openai_chat", "aws_event_stream")
    assert (answer.status, answer.http_status, answer.error_type) == ("http_error", 424, "ModelError")


def test_sagemaker_throttling_is_throttled_whatever_its_http_status():
    body = b'{"message":"Rate exceeded"}'
    head = f"HTTP/1.1 400 Bad Request\r\nx-amzn-ErrorType: ThrottlingException:\r\nContent-Length: {len(body)}\r\n\r\n"
    assert answer_of(head.encode() + body, [], "openai_chat", "aws_event_stream").status == "throttled"


def test_text_of_a_special_token_is_not_visible():
    special = b'data:{"token":{"id":0,"text":"<s>","special":true}}\n\n'
    answer = answer_of(HEAD + b"\r\n" + chunked([special, TGI]), [], "tgi", "plain")
    assert answer.text == "Grüß Gott"
