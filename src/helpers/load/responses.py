"""After the load point: stamped bytes become an answer.

Three layers are peeled off one after the other: HTTP (chunked or not), AWS event-stream frames where the answer came
through SageMaker, and the lines of the serving container (server-sent events, JSON lines or one JSON object). A piece
of text counts as received when the line that holds it was complete.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from zlib import crc32

from helpers.load.apis import API_READERS, Piece
from helpers.load.connection import HEADERS_END, Exchange, final_head
from helpers.load.timeline import Timeline

THROTTLED = (429, 503)
THROTTLING_CODES = ("ThrottlingException", "TooManyRequestsException", "ServiceQuotaExceededException")
ERROR_TEXT_LIMIT = 500


@dataclass(slots=True)
class Answer:
    """What came back for one request. Times in ns; null where it did not happen or cannot be known."""

    status: str
    http_status: int | None = None
    error_type: str | None = None
    error: str | None = None
    first_byte_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    chunk_ns: list[int] = field(default_factory=list)
    chunk_texts: list[str] = field(default_factory=list)
    chunk_tokens: list[int] | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def text(self) -> str:
        """The whole generated text."""
        return "".join(self.chunk_texts)


class BadResponse(Exception):
    """Bytes that are not what the protocol says; becomes status `bad_response`."""


class StreamError(Exception):
    """An error that the server reported inside an answer that began well; becomes status `stream_broken`."""


def read_answer(exchange: Exchange, api: str, framing: str) -> Answer:
    """The answer of an exchange; whatever went wrong becomes its status."""
    answer = Answer(status="ok")
    if exchange.reads:
        answer.first_byte_ns = exchange.reads[0][0]
    try:
        _read(exchange, api, framing, answer)
    except BadResponse as error:
        _mark(answer, "bad_response", type(error).__name__, str(error))
    except StreamError as error:
        _mark(answer, "stream_broken", "StreamError", str(error))
    if exchange.failure is not None:
        _mark(answer, exchange.failure, exchange.failure, exchange.detail or "")
    return answer


def _read(exchange: Exchange, api: str, framing: str, answer: Answer) -> None:
    raw = Timeline.of(exchange.reads)
    if not raw.data:
        return
    status, headers, body = split_http(raw)
    answer.http_status = status
    if status is None:
        return
    if status != 200:
        _read_http_error(answer, headers, body)
        return
    stream_error = None
    if framing == "aws_event_stream" and "eventstream" in headers.get("content-type", ""):
        body, stream_error = unwrap_event_stream(body)
    _read_pieces(body, api, answer, complete=exchange.complete and stream_error is None)
    if stream_error is not None:
        raise StreamError(stream_error)
    if exchange.complete and not answer.chunk_texts:
        raise BadResponse("the answer holds no text")


def _read_http_error(answer: Answer, headers: dict[str, str], body: Timeline) -> None:
    text = body.data.decode("utf-8", "replace")
    kind = headers.get("x-amzn-errortype", "").split(":")[0] or f"HTTP {answer.http_status}"
    throttled = answer.http_status in THROTTLED or kind in THROTTLING_CODES
    _mark(answer, "throttled" if throttled else "http_error", kind, text)


def _mark(answer: Answer, status: str, error_type: str, error: str) -> None:
    answer.status, answer.error_type, answer.error = status, error_type, error[:ERROR_TEXT_LIMIT]


# --- HTTP ---------------------------------------------------------------------------------------------------------


def split_http(raw: Timeline) -> tuple[int | None, dict[str, str], Timeline]:
    """Status, headers (lower-case names) and body without chunk framing; status null while headers are incomplete."""
    begin, end = final_head(raw.data)
    if end < 0:
        return None, {}, Timeline.of([])
    status_line, *lines = raw.data[begin:end].decode("latin-1").split("\r\n")
    try:
        status = int(status_line.split(" ", 2)[1])
    except (IndexError, ValueError):
        raise BadResponse(f"not an HTTP status line: {status_line[:80]!r}") from None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    start = end + len(HEADERS_END)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return status, headers, raw.select(_chunk_spans(raw.data, start))
    return status, headers, raw.select([(start, len(raw.data))])


def _chunk_spans(data: bytes, at: int) -> list[tuple[int, int]]:
    """[start, end) of the content of every chunk that arrived, whole or in part."""
    spans = []
    while (line_end := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:line_end].split(b";")[0], 16)
        except ValueError:
            raise BadResponse(f"not a chunk size: {data[at:line_end][:40]!r}") from None
        if size == 0:
            break
        start = line_end + 2
        spans.append((start, min(start + size, len(data))))
        at = start + size + 2
    return spans


# --- AWS event stream ---------------------------------------------------------------------------------------------


def unwrap_event_stream(body: Timeline) -> tuple[Timeline, str | None]:
    """The payload inside the frames, stamped with the arrival of each frame's end, and an exception's text or null.

    Frame: total length, header length, CRC-32 of both, headers, payload, CRC-32 of all before; big-endian
    (Amazon Transcribe developer guide, "Event stream encoding").
    """
    data, at, pieces, error = body.data, 0, [], None
    while len(data) - at >= 12:
        total, headers_length, prelude_crc = struct.unpack_from("!III", data, at)
        if crc32(data[at : at + 8]) != prelude_crc or total < headers_length + 16:
            raise BadResponse("an event-stream frame has a wrong prelude checksum")
        end = at + total
        if end > len(data):
            break
        if crc32(data[at : end - 4]) != struct.unpack_from("!I", data, end - 4)[0]:
            raise BadResponse("an event-stream frame has a wrong checksum")
        payload = data[at + 12 + headers_length : end - 4]
        headers = _frame_headers(data[at + 12 : at + 12 + headers_length])
        if headers.get(":message-type") == "event":
            pieces.append((body.arrival_ns(end), payload))
        else:
            kind = headers.get(":exception-type") or headers.get(":error-code") or "unknown"
            error = f"{kind}: {payload.decode('utf-8', 'replace')}"
        at = end
    return Timeline.of(pieces), error


def _frame_headers(data: bytes) -> dict[str, str]:
    """String headers of a frame: name length (1), name, type 7, value length (2), value."""
    headers, at = {}, 0
    while at < len(data):
        name_end = at + 1 + data[at]
        name = data[at + 1 : name_end].decode()
        if data[name_end] != 7:
            raise BadResponse(f"event-stream header {name!r} has type {data[name_end]}, expected 7 (string)")
        (length,) = struct.unpack_from("!H", data, name_end + 1)
        at = name_end + 3 + length
        headers[name] = data[name_end + 3 : at].decode()
    return headers


# --- lines of the serving container -------------------------------------------------------------------------------


def _read_pieces(body: Timeline, api: str, answer: Answer, complete: bool) -> None:
    """Fill the answer from the events of the body. Text of broken streams is kept up to the break."""
    read = API_READERS[api]
    events, streamed = _events(body, complete)
    token_counts: list[int | None] = []
    for arrival_ns, event in events:
        piece: Piece = read(event)
        if piece.error is not None:
            raise StreamError(piece.error)
        if piece.text:
            answer.chunk_ns.append(arrival_ns)
            answer.chunk_texts.append(piece.text)
            token_counts.append(piece.tokens)
        answer.finish_reason = piece.finish_reason or answer.finish_reason
        answer.prompt_tokens = piece.prompt_tokens if piece.prompt_tokens is not None else answer.prompt_tokens
        answer.output_tokens = piece.output_tokens if piece.output_tokens is not None else answer.output_tokens
    if not answer.chunk_ns:
        return
    answer.last_token_ns = answer.chunk_ns[-1]
    if streamed:
        answer.first_token_ns = answer.chunk_ns[0]
        answer.chunk_tokens = _tokens_per_chunk(token_counts, answer.output_tokens)


def _tokens_per_chunk(counts: list[int | None], output_tokens: int | None) -> list[int] | None:
    """Tokens of each chunk where the server told them, or one each where the totals agree; else null."""
    if all(count is not None for count in counts):
        return counts
    return [1] * len(counts) if output_tokens == len(counts) else None


def _events(body: Timeline, complete: bool) -> tuple[list[tuple[int, dict]], bool]:
    """(arrival, JSON) of each event, and whether the answer was streamed rather than one JSON object."""
    lines = list(_lines(body, complete))
    if (
        complete
        and len([line for _, line in lines if line]) != 1
        and not any(line.startswith(b"data:") for _, line in lines)
    ):
        whole = _json_or_none(body.data)
        if whole is not None:
            return [(body.arrival_ns(len(body.data)), whole)], False
    events = []
    for arrival_ns, line in lines:
        if line.startswith(b"data:"):
            line = line[5:].strip()
        elif not line or line[:1] not in b"{[":
            continue
        if line and line != b"[DONE]":
            event = _json_or_none(line)
            if event is None:
                raise BadResponse(f"not JSON: {line[:80].decode('utf-8', 'replace')!r}")
            events.append((arrival_ns, event))
    streamed = len(lines) > 1 or any(line.startswith(b"data:") for _, line in lines)
    return events, streamed


def _lines(body: Timeline, complete: bool) -> list[tuple[int, bytes]]:
    """(arrival, content) of each line; a last line without its end counts only if the answer is complete."""
    lines, at, data = [], 0, body.data
    while (end := data.find(b"\n", at)) >= 0:
        lines.append((body.arrival_ns(end + 1), data[at:end].strip()))
        at = end + 1
    if complete and data[at:].strip():
        lines.append((body.arrival_ns(len(data)), data[at:].strip()))
    return lines


def _json_or_none(data: bytes) -> dict | list | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None
