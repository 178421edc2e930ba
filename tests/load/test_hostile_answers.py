"""Answers that no server should give: each spoils its own row, the load point stands, and nothing spins or grows."""

from __future__ import annotations

import base64
import json
import socket
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from attempt_specs import measure, spec_of
from raw_server import raw_server

from helpers.config.secret_names import HIDDEN
from helpers.load.load_processes import LoadProcesses

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
KEY = 'sk-planted/key+0001-="&x\\y'


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with LoadProcesses(tmp_path_factory.mktemp("load") / "load.log") as processes:
        yield processes


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def text(content: str, finish_reason: str | None = None) -> dict:
    return {"choices": [{"delta": {"content": content}, "finish_reason": finish_reason}]}


def usage(**counts: object) -> dict:
    return {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, **counts}}


def sized(body: bytes, status: str = "200 OK", headers: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\n".encode() + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


BODY = sse(text("one "), text("two", "stop"), usage()) + b"data: [DONE]\n\n"
GOOD = CHUNKED + chunk(BODY) + b"0\r\n\r\n"
HALF = BODY[: len(BODY) // 2]


def rows_of(processes, folder: Path, *hostile: bytes, stays_open: bool = True, every: int = 2, **load: object):
    """Rows of a load point in which each `every`-th answer is hostile, as (the hostile, the others).

    The others must be right. After a hostile answer the server keeps the connection, or closes it.
    """

    def answer(connection: socket.socket, number: int) -> bool:
        connection.sendall(GOOD if number % every else hostile[number // every % len(hostile)])
        return bool(number % every) or stays_open

    known = {"concurrency": [4], "min_requests": 24, "max_duration_s": 20, "request_timeout_s": 10, "prompts": 400}
    with raw_server(answer) as server:
        address = {"bearer_token": KEY}
        requests, _ = measure(processes, spec_of(folder, server.url, address=address, **{**known, **load}))
        assert len(requests) == len(server.seen), "one row for each request, and one request for each row"
    number = requests["request_id"].str.split("-").str[1].astype(int)
    sound = requests[number % every != 0]
    assert set(sound["status"]) == {"ok"}, sound["error"].dropna().tolist()[:1]
    assert (sound["output_tokens"] == 2).all() and (sound["prompt_tokens"] == 7).all()
    return requests[number % every == 0], sound


@pytest.fixture(scope="module")
def each_of(processes, tmp_path_factory):
    """`each_of(name, answers)[key]` has the rows of one of the hostile answers, all of which come in turn in one load point."""
    measured: dict[str, dict] = {}

    def found(name: str, answers: dict[object, bytes], every: int = 2) -> dict:
        if name not in measured:
            folder = tmp_path_factory.mktemp("load")
            requests = 2 * every * len(answers)
            load = {"min_requests": requests, "prompts": requests}
            rows, _ = rows_of(processes, folder, *answers.values(), every=every, **load)
            kind = rows["request_id"].str.split("-").str[1].astype(int) // every % len(answers)
            measured[name] = {key: rows[kind == place] for place, key in enumerate(answers)}
            assert all(len(mine) for mine in measured[name].values())
        return measured[name]

    return found


SIZES = [
    b"-6",
    b"+6",
    b"1_0",
    b"0x6",
    b" 6",
    b"",
    b"6 6",
    b"zz",
    b"-0",
    b"\xff",
    b"7fffffffffffffff",
    b"f" * 5000,
    b"6" * 5000,
]


WITH_A_SIZE = {
    (size, first): CHUNKED + (b"" if first else chunk(HALF)) + size + b"\r\nhello\r\n0\r\n\r\n"
    for size in SIZES
    for first in (True, False)
}


@pytest.mark.parametrize("size", SIZES, ids=[repr(size[:12]) for size in SIZES])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_a_chunk_size_that_is_none_is_a_bad_response(each_of, size, first):
    bad = each_of("chunk sizes", WITH_A_SIZE)[size, first]
    assert set(bad["status"]) == {"bad_response"}
    assert bad["error"].str.contains("not a chunk size|announces [0-9]+ bytes").all()
    assert (bad["done_ns"] - bad["sent_ns"]).max() < 5e9, "nothing waits for what cannot come"


WITH_AN_EXTENSION = {
    extension: CHUNKED + b"00%x" % len(BODY) + extension + b"\r\n" + BODY + b"\r\n000" + extension + b"\r\nX: y\r\n\r\n"
    for extension in (b";a=b", b" ; a", b";" + b"x" * 300, b';a="\xff"')
}


@pytest.mark.parametrize("extension", WITH_AN_EXTENSION)
def test_extensions_of_chunks_and_leading_zeros_are_http(each_of, extension):
    good = each_of("extensions", WITH_AN_EXTENSION)[extension]
    assert set(good["status"]) == {"ok"}


LENGTHS = [b"-5", b"+5", b"5_0", b"5.0", b"0x5", b"five", b"", b"9" * 5000, b"9" * 15, b"5, 6", b"\xb2"]


@pytest.mark.parametrize("length", LENGTHS, ids=[repr(length[:12]) for length in LENGTHS])
def test_a_content_length_that_is_none_is_a_bad_response(each_of, length):
    answers = {length: HEAD + b"Content-Length: " + length + b"\r\n\r\n" + BODY for length in LENGTHS}
    bad = each_of("lengths", answers)[length]
    assert set(bad["status"]) == {"bad_response"} and set(bad["http_status"]) == {200}
    assert bad["error"].str.contains("Content-Length|announces 999999999999999 bytes").all()


CONTRADICTIONS = {
    b"Content-Length: 5\r\nContent-Length: 6\r\n": "not one whole number",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n": "Content-Length and chunks",
    b"Transfer-Encoding: gzip, chunked\r\n": "Transfer-Encoding",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n": "Transfer-Encoding",
}


@pytest.mark.parametrize("headers", CONTRADICTIONS)
def test_framing_that_contradicts_itself_is_a_bad_response(each_of, headers):
    answers = {headers: HEAD + headers + b"\r\n" + chunk(BODY) + b"0\r\n\r\n" for headers in CONTRADICTIONS}
    bad = each_of("contradictions", answers)[headers]
    assert set(bad["status"]) == {"bad_response"}
    assert bad["error"].str.contains(CONTRADICTIONS[headers]).all()


def test_a_content_length_that_is_said_twice_is_one(processes, tmp_path):
    twice = b"content-length : %d\r\n" % len(BODY) * 2
    good, _ = rows_of(processes, tmp_path, HEAD + twice + b"\r\n" + BODY)
    assert set(good["status"]) == {"ok"}


STATUS_LINES = [
    b"",
    b"HTTP/1.1 10000000000 OK",
    b"HTTP/1.1 -200 OK",
    b"HTTP/1.1 2_0 OK",
    b"HTTP/1.1 OK",
    b"HTTP/1.1",
    b"ICY 200 OK",
    b"HTTP/2 200",
    b"HTTP/1.1  200 OK",
    b"200 OK",
    b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK",
    b"SSH-2.0-OpenSSH_9.6",
]


@pytest.mark.parametrize("line", STATUS_LINES)
def test_a_status_line_that_is_none_is_a_bad_response(each_of, line):
    bad = each_of("status lines", {line: line + b"\r\nContent-Length: 0\r\n\r\n" for line in STATUS_LINES})[line]
    assert set(bad["status"]) == {"bad_response"} and bad["http_status"].isna().all()
    assert bad["error"].str.contains("not an HTTP status line").all()


def test_a_head_that_never_ends_and_one_without_line_ends_are_given_up(processes, tmp_path):
    for hostile in (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, b"hello, this is another protocol\n"):
        bad, _ = rows_of(processes, tmp_path, hostile, min_requests=12)
        assert set(bad["status"]) == {"bad_response"}


def test_an_answer_without_body_needs_no_length(processes, tmp_path):
    none, _ = rows_of(
        processes, tmp_path, b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 Soon\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    )
    assert set(none["status"]) == {"http_error"} and set(none["http_status"]) == {204}


# --- one answer, one row --------------------------------------------------------------------------------------------


def streamed(*events: object) -> bytes:
    return sized(sse(*events) + b"data: [DONE]\n\n")


def raw_event(event: bytes) -> bytes:
    return sized(
        sse(text("one ")) + b"data: " + event + b"\n\n" + sse(text("two", "stop"), usage()) + b"data: [DONE]\n\n"
    )


NESTED = b"[" * 100_000
IMPOSSIBLE = "the server counts an impossible number of (?:prompt|output) tokens"
SPOILED = {
    "2^31 tokens": (streamed(text("a", "stop"), usage(completion_tokens=2**31)), "bad_response", IMPOSSIBLE),
    "10^30 tokens": (streamed(text("a", "stop"), usage(completion_tokens=10**30)), "bad_response", IMPOSSIBLE),
    "10^30 prompt tokens": (streamed(text("a", "stop"), usage(prompt_tokens=10**30)), "bad_response", IMPOSSIBLE),
    "tokens below 0": (streamed(text("a", "stop"), usage(completion_tokens=-1)), "bad_response", IMPOSSIBLE + ": -1"),
    "prompt tokens below 0": (streamed(text("a", "stop"), usage(prompt_tokens=-5)), "bad_response", IMPOSSIBLE + ": -5"),
    "tokens of 5,000 digits": (raw_event(b'{"usage":{"prompt_tokens":' + b"9" * 5000 + b"}}"), "bad_response", "out of range"),
    "NaN tokens": (raw_event(b'{"usage": {"completion_tokens": NaN}}'), "bad_response", "Expected `int"),
    "true tokens": (streamed(text("a", "stop"), usage(completion_tokens=True)), "bad_response", "Expected `int"),
    "impossible tokens in an error": (streamed(usage(completion_tokens=-1), {"error": "died"}), "error_in_answer", "died"),
    "half a character in finish_reason": (streamed(text("a", "sto\ud83d")), "bad_response", "half a character"),
    "half a character in an error": (streamed({"error": {"message": "\ud83d died"}}), "bad_response", "half a character"),
    "half a character in a text": (streamed(text("a\udc80", "stop")), "bad_response", "half a character"),
    "an emoji split over two events": (streamed(text("\ud83d"), text("\ude00", "stop")), "bad_response", "half a character"),
    "half a character where nobody reads": (streamed(text("one "), text("two", "stop"), {**usage(), "id": "\ud83d"}), "ok", None),
    "deep nesting": (raw_event(b'{"id": ' + NESTED), "bad_response", "not JSON"),
    "deep nesting in an error": (raw_event(b'{"error": ' + b"[" * 900 + b"]" * 900 + b"}"), "error_in_answer", ""),
    "deep nesting in a 424": (sized(NESTED, "424 Failed Dependency"), "http_error", r"^\[\[\["),
    "deep nesting in a model error": (sized(b'{"OriginalStatusCode":' + NESTED, "424 x"), "http_error", "Original"),
    "an odd original status": (sized(b'{"OriginalStatusCode": {"a": 1e999}}', "424 x"), "http_error", "Original"),
    "an infinite number in an error": (raw_event(b'{"error": 1e999}'), "bad_response", "Number out of range"),
    "no UTF-8": (raw_event(b'{"choices": [{"delta": {"content": "\xff\xfe"}}]}'), "bad_response", "not JSON"),
    "no UTF-8 in a head": (sized(b"x", "500 \xff\xfe", b"x-amzn-ErrorType: \xc3\x28\r\n"), "http_error", "x"),
    "a NUL": (raw_event(b'{"error": "\\u0000"}'), "error_in_answer", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILED)
@pytest.mark.parametrize("every", [2, 50], ids=["each second", "2%"])
def test_one_answer_spoils_one_row(each_of, kind, every):
    spoiled = each_of(f"spoiled {every}", {kind: answer for kind, (answer, _, _) in SPOILED.items()}, every)[kind]
    _, status, words = SPOILED[kind]
    assert set(spoiled["status"]) == {status}, spoiled["error"].tolist()[:1]
    if words is not None:
        assert spoiled["error"].str.contains(words).all(), spoiled["error"].tolist()[:1]
        assert spoiled["error"].str.len().max() <= 500


def test_no_prompt_tokens_of_the_server_are_the_servers(processes, tmp_path):
    rows, _ = rows_of(processes, tmp_path, streamed(text("one "), text("two", "stop"), usage(prompt_tokens=0)))
    assert set(rows["prompt_tokens"]) == {0} and set(rows["prompt_tokens_source"]) == {"server"}
    rows, _ = rows_of(processes, tmp_path, streamed(text("one "), text("two", "stop")))
    assert set(rows["prompt_tokens"]) == {11} and set(rows["prompt_tokens_source"]) == {"tokenizer"}


# --- no end, and too much -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["chunked", "until close", "head", "announced"])
def test_an_answer_without_end_is_given_up_at_the_limit(tmp_path, framing):
    """At 64 MB by default; here at 3 MB, and memory shows it."""
    limit, piece = 3_000_000, sse(text("word ")) * 1000
    begin = {"chunked": CHUNKED, "until close": HEAD + b"\r\n", "head": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
             "announced": HEAD + b"Content-Length: 99999999999\r\n\r\n"}[framing]  # fmt: skip

    def answer(connection: socket.socket, number: int) -> bool:
        if number % 4:
            connection.sendall(GOOD)
            return True
        connection.sendall(begin)
        for _ in range(2_000):  # 80 MB: the client has long gone
            connection.sendall(chunk(piece) if framing == "chunked" else begin if framing == "head" else piece)
        return False

    with raw_server(answer) as server, LoadProcesses(tmp_path / "load.log") as fresh:
        limits = {"max_answer_bytes": limit, "max_duration_s": 20, "request_timeout_s": 15}
        requests, facts = measure(
            fresh, spec_of(tmp_path, server.url, concurrency=[4], min_requests=12, warmup_requests=0, **limits)
        )
    endless = requests[requests["request_id"].str.split("-").str[1].astype(int) % 4 == 0]
    assert set(requests["status"]) == {"ok", "bad_response"} and set(endless["status"]) == {"bad_response"}
    assert endless["error"].str.contains(rf"load\.max_answer_bytes \({limit}\)").all()
    assert facts.processes[0].peak_memory_mb < 250
    assert not list((tmp_path / "requests").glob(".*")), "the spool is gone"


STRAY = {"answer": GOOD, "newline": b"\r\n", "junk": b"junk", "503": sized(b"{}", "503 Busy")}
WITH_STRAY = {
    (kind, stray): answer + STRAY[stray]
    for kind, answer in (("chunked", GOOD), ("length", sized(BODY)))
    for stray in STRAY
}


@pytest.mark.parametrize("stray", STRAY)
@pytest.mark.parametrize("kind", ["chunked", "length"])
def test_bytes_behind_an_answer_are_nobodys_answer(each_of, stray, kind):
    """Those that come with the answer; the next request goes over another connection, and has its own answer."""
    rows = each_of("stray bytes", WITH_STRAY)[kind, stray]
    assert set(rows["status"]) == {"ok"}


def test_bytes_on_an_idle_connection_are_nobodys_answer(processes, tmp_path):
    """A constant rate leaves connections idle, on which the server says something before it is asked again."""
    from helpers.config.load import OpenLoop
    from helpers.config.load_level import LoadLevel

    def answer(connection: socket.socket, number: int) -> bool:
        connection.sendall(GOOD)
        time.sleep(0.02)
        connection.sendall(sized(b'{"error": "idle for too long"}', "408 Request Timeout"))
        return True

    load = OpenLoop(
        kind="open_loop", rate=[4], arrivals="constant", min_requests=8, max_duration_s=4, repeat_prompts=True
    )
    with raw_server(answer) as server:
        requests, _ = measure(processes, spec_of(tmp_path, server.url, load=load, level=LoadLevel("open_loop", 4)))
        assert len(requests) == len(server.seen)
    in_time = requests["sent_ns"] - requests["scheduled_ns"] < 1e8  # who is late may ask in the 20 ms before it is said
    assert in_time.any() and set(requests["status"][in_time]) == {"ok"}


# --- secrets --------------------------------------------------------------------------------------------------------

FORMS = {
    "as it is": KEY,
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64, for URLs": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "Basic": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "URL": quote(KEY, safe=""),
    "URL in small letters": quote(KEY, safe="").lower(),
    "JSON": json.dumps(KEY)[1:-1],
    "JSON in JSON": json.dumps(json.dumps(KEY))[3:-3],
    "hexadecimal": KEY.encode().hex(),
}
PLACES = {
    "error type": lambda said: sized(sse({"error": {"message": "no", "type": said}})),
    "finish reason": lambda said: sized(sse(text("a", said)) + b"data: [DONE]\n\n"),
    "error": lambda said: sized(json.dumps({"error": {"message": f"Incorrect API key: {said}"}}).encode(), "401 No"),
    "error type of AWS": lambda said: sized(b"{}", "400 No", f"x-amzn-ErrorType: {said}\r\n".encode("ascii", "ignore")),
    "no JSON": lambda said: sized(b"data: {broken " + said.encode() + b"\n\ndata: x\n\n"),
    "status line": lambda said: b"HTP/1.1 401 " + said.encode() + b"\r\n\r\n",
}


@pytest.mark.parametrize("place", PLACES)
def test_no_form_of_the_key_is_in_the_records(processes, tmp_path, place):
    """Also where the text is cut: behind 80, 100 and 500 characters, at any place of the key."""
    cuts = [0, *range(45, 100, 9), *range(450, 500, 9)]
    hostile = [PLACES[place]("x" * before + form + " tail") for form in FORMS.values() for before in cuts]
    bad, _ = rows_of(processes, tmp_path, *hostile, min_requests=2 * len(hostile))
    kept = " ".join(bad[["error_type", "error", "finish_reason"]].fillna("").agg(" ".join, axis=1)).lower()
    assert HIDDEN in kept
    for name, form in FORMS.items():
        core = form if name != "Basic" else form[8:]  # before that stands the user
        parts = [core[i : i + 10].lower() for i in range(len(core) - 10)]
        assert not [part for part in parts if part in kept], name
    assert "planted" not in kept
