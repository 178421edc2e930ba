"""Every shape of `answer_shapes` over a real connection, through a real load process: served whole, in two parts, and broken
off behind the head, in its middle and in the middle of its last event. The record is right, or says what is wrong.
"""

from __future__ import annotations

import socket
import time
from typing import NamedTuple, get_args

import pyarrow.parquet as pq
import pytest
from answer_shapes import SHAPES, Shape, wire_of
from attempt_specs import spec_of
from raw_server import raw_server

from helpers.endpoints.targets.base import Address
from helpers.load.load_processes import LoadProcesses

SERVED = [name for name, shape in SHAPES.items() if shape.api in get_args(Address.model_fields["api"].annotation)]
"""The others have an API that no address speaks by itself."""
BOTH = [(name, streamed) for name in SERVED for streamed in (True, False)]
IDS = [f"{name}, {'streamed' if streamed else 'whole'}" for name, streamed in BOTH]
WAYS = ("whole", "in two parts", "ends behind its head", "ends in its middle", "ends in its last event")
BROKEN_OFF = {"cut_short", "stream_broken", "bad_response"}


class Case(NamedTuple):
    """A shape, and how it is served."""

    name: str
    streamed: bool
    way: str


def serve(connection: socket.socket, case: Case) -> bool:
    """Send the answer, or a part of it; false: the connection is closed behind it."""
    shape = SHAPES[case.name]
    body = shape.stream if case.streamed else shape.whole
    head, wire = wire_of(body, case.streamed)
    if case.way == "whole":
        connection.sendall(head + wire)
    elif case.way == "in two parts":
        connection.sendall(head + wire[: len(wire) // 2])
        time.sleep(0.003)
        connection.sendall(wire[len(wire) // 2 :])
    else:
        connection.sendall(head + wire[: cut_at(case, body, wire)])
    return not case.way.startswith("ends")


def cut_at(case: Case, body: bytes, wire: bytes) -> int:
    """Bytes of the wire behind the head that are sent before the connection closes."""
    if case.way == "ends behind its head":
        return 0
    if case.way == "ends in its middle":
        return len(wire) // 2
    last = body.rstrip()
    middle = (last.rfind(b"\n") + 1 + len(last)) // 2 if case.streamed else len(last) - 2
    return len(wire_of(body[:middle], case.streamed)[1].removesuffix(b"0\r\n\r\n"))


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[Case, dict]:
    """What one load process made of them: a load point for each API."""
    found: dict[Case, dict] = {}
    with LoadProcesses(tmp_path_factory.mktemp("load") / "load.log") as processes:
        for api in sorted({SHAPES[name].api for name in SERVED}):
            cases = [Case(*both, way) for both in BOTH if SHAPES[both[0]].api == api for way in WAYS]
            folder = tmp_path_factory.mktemp(api)
            with raw_server(lambda connection, number, cases=cases: serve(connection, cases[number])) as server:
                load = {"concurrency": [4], "min_requests": len(cases), "max_duration_s": 60, "warmup_requests": 0}
                spec = spec_of(folder, server.url, api=api, prompts=len(cases), **load)
                processes.run(spec, on_progress=lambda progress: None)
            for row in pq.read_table(spec.output_file).to_pylist():
                found[cases[int(row["request_id"].rpartition("-")[2])]] = row
    return found


def test_each_is_one_record(records):
    assert len(SERVED) >= 80 and set(records) == {Case(*both, way) for both in BOTH for way in WAYS}
    assert not any(row["resent"] for row in records.values())


@pytest.mark.parametrize(("name", "streamed"), BOTH, ids=IDS)
@pytest.mark.parametrize("way", WAYS[:2])
def test_an_answer_that_is_whole_has_the_right_record(records, name, streamed, way):
    shape, row = SHAPES[name], records[Case(name, streamed, way)]
    assert row["status"] == (shape.status if streamed else shape.whole_status), row["error"]
    assert row["http_status"] == 200 and row["done_ns"] >= row["sent_ns"]
    if row["status"] != "ok":
        assert shape.words in row["error"] and row["error_type"]
        return
    assert (row["error"], row["finish_reason"]) == (None, shape.finish_reason)
    assert tokens_of(row, "prompt_tokens", shape) == shape.prompt_tokens
    assert tokens_of(row, "output_tokens", shape) == shape.output_tokens
    assert len(row["chunk_ns"]) == (2 if streamed else 1)
    assert row["sent_ns"] < row["first_byte_ns"] <= row["last_token_ns"] <= row["done_ns"]
    assert row["first_token_ns"] == (row["chunk_ns"][0] if streamed else None)


def tokens_of(row: dict, name: str, shape: Shape) -> int | None:
    """As the server counted; null where the tokenizer did."""
    assert row[name] > 0
    return row[name] if row[f"{name}_source"] == "server" else None


@pytest.mark.parametrize(("name", "streamed"), BOTH, ids=IDS)
@pytest.mark.parametrize("way", WAYS[2:])
def test_an_answer_that_is_broken_off_is_none_and_says_why(records, name, streamed, way):
    shape, row = SHAPES[name], records[Case(name, streamed, way)]
    assert row["status"] in BROKEN_OFF | {shape.status if streamed else shape.whole_status} - {"ok"}
    assert row["error"] and row["error_type"] and row["http_status"] == 200
    if way == "ends behind its head":
        assert (row["status"], row["chunk_ns"], row["first_token_ns"]) == ("cut_short", [], None)
