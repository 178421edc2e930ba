"""Connections as servers treat them: answers left open, kept-alive ones closed in silence, none to be had."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import contextmanager

import pytest
from answer_shapes import BODY, DJL_LAST, TGI_DETAILS, WHOLE, data, djl, lines, tgi
from attempt_specs import measure, spec_of
from raw_server import raw_server

from helpers.config.load import OpenLoop
from helpers.config.load_level import LoadLevel
from helpers.load.api_end import ends_by_api
from helpers.load.load_processes import LoadProcesses

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
SSE, JSON = CHUNKED % b"text/event-stream", CHUNKED % b"application/json; charset=utf-8"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with LoadProcesses(tmp_path_factory.mktemp("load") / "load.log") as processes:
        yield processes


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


GOOD = SSE + chunk(BODY) + b"0\r\n\r\n"
TGI = data(tgi("Grü"), tgi("ße", generated_text="Grüße", details=TGI_DETAILS))
DJL = lines(djl("Grü"), djl("ße", **DJL_LAST))
OPEN = {
    "chunks": ("openai_chat", SSE + chunk(BODY)),
    "until close": ("openai_chat", UNTIL_CLOSE + BODY),
    "a Content-Length too large": ("openai_chat", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + BODY),
    "[DONE] in two chunks": ("openai_chat", SSE + chunk(BODY[:-6]) + chunk(BODY[-6:])),
    "one value": ("openai_chat", JSON + chunk(WHOLE)),
    "TGI": ("tgi", SSE + chunk(TGI)),
    "DJL": ("djl", CHUNKED % b"application/jsonlines" + chunk(DJL)),
}


@pytest.mark.parametrize("closes", [False, True], ids=["never ends", "is closed"])
@pytest.mark.parametrize("kind", OPEN)
def test_an_answer_is_whole_where_its_api_ends_it(processes, tmp_path, kind, closes):
    api, answer = OPEN[kind]

    def send(connection: socket.socket, number: int) -> bool:
        connection.sendall(answer)
        return not closes

    with raw_server(send) as server:
        load = {"concurrency": [2], "min_requests": 20, "request_timeout_s": 10, "max_duration_s": 25}
        requests, facts = measure(processes, spec_of(tmp_path, server.url, api=api, **load))
    assert set(requests["status"]) == {"ok"}, requests["error"].iloc[0]
    assert (requests["output_tokens"] == 2).all()
    assert requests["latency_s"].min() < 0.1, "silence is no latency"
    assert requests["connect_ns"].notna().sum() >= len(requests) - 2, "no such connection is used again"
    assert facts.turnaround_ms is None or facts.turnaround_ms["p50"] < 100, "nor is it the client's"


@pytest.mark.parametrize(("api", "body"), [("openai_chat", BODY), ("tgi", TGI), ("djl", DJL)])
def test_the_end_is_seen_wherever_the_network_cuts_and_never_before(api, body):
    wire = SSE + b"".join(chunk(body[at : at + 20]) for at in range(0, len(body), 20))
    ends = [at for at in range(1, len(wire)) if ends_by_api([wire[:at]], api)]
    assert ends and ends == list(range(ends[0], len(wire))) and len(wire) - ends[0] < 80
    for cut in range(1, len(wire)):
        assert ends_by_api([wire[:cut], wire[cut:]], api)
    assert ends_by_api([bytes([byte]) for byte in wire], api)


# --- kept alive, and closed in silence ------------------------------------------------------------------------------


def closes_in_silence(after: int):
    """Answers N requests on each connection, and closes it when the next is there."""
    asked: Counter[tuple] = Counter()

    def send(connection: socket.socket, number: int) -> bool:
        asked[connection.getpeername()] += 1
        if asked[connection.getpeername()] > after:
            return False
        connection.sendall(GOOD)
        return True

    return send


def test_a_request_on_a_stale_connection_goes_out_once_more(processes, tmp_path):
    with raw_server(closes_in_silence(after=1)) as server:
        load = {"concurrency": [2], "min_requests": 20, "max_duration_s": 20}
        requests, _ = measure(processes, spec_of(tmp_path, server.url, **load))
    assert set(requests["status"]) == {"ok"}
    assert requests["resent"].sum() == len(requests) - 2, "all but the first of each worker"
    assert requests[requests["resent"]]["connect_ns"].notna().all()
    assert len(server.seen) == len(requests) + requests["resent"].sum()
    assert sorted(set(server.seen)) == list(range(len(requests))), "each request has its row"


def test_an_open_loop_sends_once_more_too(processes, tmp_path):
    load = OpenLoop(
        kind="open_loop", rate=[20], arrivals="constant", min_requests=20, max_duration_s=4, repeat_prompts=True
    )
    with raw_server(closes_in_silence(after=1)) as server:
        requests, _ = measure(processes, spec_of(tmp_path, server.url, load=load, level=LoadLevel("open_loop", 20)))
    assert set(requests["status"]) == {"ok"} and requests["resent"].any()
    assert requests["request_id"].is_unique and len(server.seen) == len(requests) + requests["resent"].sum()


def test_a_server_that_never_answers_is_asked_no_third_time(processes, tmp_path):
    with raw_server(closes_in_silence(after=0)) as server:
        load = {"concurrency": [1], "min_requests": 5, "warmup_requests": 0, "max_duration_s": 5}
        requests, _ = measure(processes, spec_of(tmp_path, server.url, **load))
        name = server.url.split("/")[2]
    assert set(requests["status"]) == {"connection"} and not requests["resent"].any()
    assert max(Counter(server.seen).values()) == 1, "a new connection says all that there is to say"
    assert requests["error"].str.startswith(f"connection closed before the answer by {name}").all()


def test_what_breaks_after_a_byte_is_not_sent_again(processes, tmp_path):
    def send(connection: socket.socket, number: int) -> bool:
        connection.sendall(GOOD if number % 2 == 0 else b"H")
        return number % 2 == 0

    with raw_server(send) as server:
        requests, _ = measure(processes, spec_of(tmp_path, server.url, min_requests=8))
    assert set(requests["status"]) == {"ok", "cut_short"} and not requests["resent"].any()
    assert len(server.seen) == len(requests)


# --- no connection --------------------------------------------------------------------------------------------------


@contextmanager
def listening(backlog: int = 50, fill: bool = False):
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        clients = []
        if fill:  # connections that nobody accepts: the next one gets no answer
            for _ in range(backlog + 4):
                clients.append(client := socket.socket())
                client.setblocking(False)
                client.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for client in clients:
            client.close()


def reason(processes, folder, url: str) -> str:
    load = {"min_requests": 2, "warmup_requests": 0, "request_timeout_s": 0.4, "max_duration_s": 2}
    requests, _ = measure(processes, spec_of(folder, url, **load))
    assert set(requests["status"]) == {"connection"}
    [words] = set(requests["error"])
    return words


def test_why_there_is_no_connection_is_never_empty(processes, tmp_path):
    with listening(backlog=0, fill=True) as port:
        words = reason(processes, tmp_path, f"http://127.0.0.1:{port}/v1")
        assert words == f"could not connect: connecting to 127.0.0.1:{port}: no answer within 0.4 s (time-out)"
    with listening() as port:
        words = reason(processes, tmp_path, f"https://127.0.0.1:{port}/v1")
        assert (
            words == f"could not connect: in the TLS handshake with 127.0.0.1:{port}: no answer within 0.4 s (time-out)"
        )
    words = reason(processes, tmp_path, f"http://127.0.0.1:{port}/v1")
    assert words.startswith(f"could not connect: connecting to 127.0.0.1:{port}: ") and "refused" in words
    words = reason(processes, tmp_path, "http://no-such-host.invalid/v1")
    assert words.startswith("could not connect: looking up no-such-host.invalid: ") and len(words) > 60


def test_tls_to_a_port_that_speaks_http_says_so(processes, tmp_path):
    def send(connection: socket.socket, number: int) -> None:
        raise AssertionError

    with raw_server(send) as server:
        server.finish_request = lambda request, _: request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        port = server.server_address[1]
        words = reason(processes, tmp_path, f"https://127.0.0.1:{port}/v1")
    assert words.startswith(
        f"could not connect: in the TLS handshake with 127.0.0.1:{port}: the server does not speak TLS"
    )


def test_a_time_out_says_how_far_the_answer_came(processes, tmp_path):
    def send(connection: socket.socket, number: int) -> None:
        connection.sendall(b"" if number % 2 else SSE + chunk(BODY[:50]))

    with raw_server(send) as server:
        load = {"min_requests": 4, "warmup_requests": 0, "request_timeout_s": 0.4, "max_duration_s": 3}
        requests, _ = measure(processes, spec_of(tmp_path, server.url, **load))
        name = server.url.split("/")[2]
    assert set(requests["status"]) == {"timeout"}
    begin = f"no complete answer after 0.4 s from {name}: "
    assert set(requests["error"]) == {begin + "none of it came", begin + "it began and did not end"}
