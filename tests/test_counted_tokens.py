"""A server's count of output tokens, held against the pieces that it sent."""

from __future__ import annotations

from answer_shapes import DONE, data, event
from raw_server import raw_server
from test_preflight import config_of, openai, run_main

SIX = ["The ", "answer ", "is ", "forty-two, ", "as ", "always."]


def test_fewer_tokens_than_pieces_of_text_are_said_before_the_load(tmp_path):
    usage = {"choices": [], "usage": {"prompt_tokens": 80, "completion_tokens": 1}}
    body = data(*(event({"content": text}) for text in SIX), event({}, "length"), usage) + DONE
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with raw_server(lambda connection, number: connection.sendall(answer)) as server:
        option = openai("a", server.url.removesuffix("/chat/completions"))
        generation = {"max_output_tokens": 1, "fixed_output_length": False}
        _, said = run_main("plan", "--check", "--config", config_of(tmp_path, option, generation=generation))
    assert "the server counts 1 output tokens for 6 pieces of text: prices per token by its count are wrong" in said
