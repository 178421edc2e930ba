"""Every shape of `answer_shapes`, streamed and whole, cut at every byte: one right record, or a reason."""

from __future__ import annotations

import pytest
from answer_shapes import SHAPES, Shape, wire_of

from helpers.load.answer_end import AnswerEnd
from helpers.load.connection import Exchange
from helpers.load.responses import Answer, read_answer

BOTH = [(name, streamed) for name in SHAPES for streamed in (True, False)]
IDS = [f"{name}, {'streamed' if streamed else 'whole'}" for name, streamed in BOTH]


def read(shape: Shape, reads: list[bytes], failure: str | None = None) -> Answer:
    exchange = Exchange(0, 99, [(10 + i, data) for i, data in enumerate(reads)], failure is None, failure, failure)
    return read_answer(exchange, shape.api, "plain")


def test_there_are_enough():
    assert len(SHAPES) >= 60


@pytest.mark.parametrize(("name", "streamed"), BOTH, ids=IDS)
def test_a_shape_is_one_record_wherever_it_is_cut(name, streamed):
    shape = SHAPES[name]
    wire = b"".join(wire_of(shape.stream if streamed else shape.whole, streamed))
    answer = read(shape, [wire])
    assert answer.status == (shape.status if streamed else shape.whole_status), answer.error
    assert answer.text == (shape.text if streamed or shape.whole_text is None else shape.whole_text)
    if answer.status == "ok":
        told = (answer.finish_reason, answer.prompt_tokens, answer.output_tokens)
        assert told == (shape.finish_reason, shape.prompt_tokens, shape.output_tokens) and answer.error is None
        assert (answer.first_token_ns is not None) == streamed
        assert len(answer.chunk_texts) == (2 if streamed else 1)
    else:
        assert shape.words in answer.error and answer.error_type
    for cut in range(1, len(wire)):
        end = AnswerEnd(1_000_000)
        assert [end.feed(piece) for piece in (wire[:cut], wire[cut:])] == [False, True] and end.fault is None
        again = read(shape, [wire[:cut], wire[cut:]])
        assert (again.status, again.error, again.chunk_texts) == (answer.status, answer.error, answer.chunk_texts)
        assert (again.prompt_tokens, again.output_tokens) == (answer.prompt_tokens, answer.output_tokens)


@pytest.mark.parametrize(("name", "streamed"), BOTH, ids=IDS)
def test_what_ends_at_any_byte_is_never_whole(name, streamed):
    """The connection closes there: no record says ok, each says why."""
    shape = SHAPES[name]
    wire = b"".join(wire_of(shape.stream if streamed else shape.whole, streamed))
    for cut in range(1, len(wire) - 1):
        answer = read(shape, [wire[:cut]], "cut_short")
        assert answer.status != "ok" and answer.error
        assert not streamed or shape.text.startswith(answer.text)
