"""The HTTP layer of an answer: status, headers, and the body without its chunk framing (RFC 9112)."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, repeat
from operator import add
from typing import NamedTuple

from helpers.load.answer_end import HEADERS_END, begins_like_http, chunk_size, not_http, read_head
from helpers.load.timeline import BadResponse, Timeline


class HttpAnswer(NamedTuple):
    """Status (None while the head is incomplete), headers by lower-case name, body as far as it came."""

    status: int | None
    headers: dict[str, str]
    body: Timeline
    fault: BadResponse | None = None
    """What is wrong with the framing; the body then ends before it."""


def split_http(raw: Timeline) -> HttpAnswer:
    """Take an HTTP answer apart. Raises BadResponse if it does not start like one."""
    start = 0
    while (end := raw.data.find(HEADERS_END, start)) >= 0:
        head = read_head(raw.data[start:end])
        start = end + len(HEADERS_END)
        if not head.is_interim:
            break
    else:
        if not begins_like_http(raw.data[start:]):
            raise not_http(raw.data[start:])
        return HttpAnswer(None, {}, Timeline(b"", [], []))
    if head.fault is not None:
        return HttpAnswer(head.status, head.headers, Timeline(b"", [], []), BadResponse(head.fault))
    if head.chunked:
        return _dechunked(head.status, head.headers, raw, start)
    data = raw.data[start:] if head.length is None else raw.data[start : start + head.length]
    ends = [min(max(0, end - start), len(data)) for end in raw.ends]
    return HttpAnswer(head.status, head.headers, Timeline(data, ends, raw.stamps_ns))


def _dechunked(status: int, headers: dict[str, str], raw: Timeline, start: int) -> HttpAnswer:
    chunks = _regular_chunks(raw.data, start) or _walked_chunks(raw.data, start)
    data = b"".join(chunks.contents)
    ends = [len(data)] if len(raw.ends) == 1 else _content_ends(raw.ends, start, chunks)
    return HttpAnswer(status, headers, Timeline(data, ends, raw.stamps_ns), chunks.fault)


class _Chunks(NamedTuple):
    """Size lines (without line ends) and contents of the chunks, and what is wrong after them."""

    sizes: list[bytes]
    contents: list[bytes]
    fault: BadResponse | None = None


def _content_ends(raw_ends: list[int], start: int, chunks: _Chunks) -> list[int]:
    """How many bytes of content came before each of `raw_ends`; the first chunk starts at `start`."""
    around = [len(size) + 4 for size in chunks.sizes]
    lengths = list(map(len, chunks.contents))
    chunk_ends = list(accumulate(map(add, around, lengths), initial=start))
    content_ends = list(accumulate(lengths, initial=0))
    where_chunks_end = dict(zip(chunk_ends, content_ends, strict=True))  # most reads end there
    ends = []
    for raw_end in raw_ends:
        end = where_chunks_end.get(raw_end)
        if end is None:
            i = bisect_right(chunk_ends, raw_end) - 1
            end = content_ends[max(i, 0)]
            if 0 <= i < len(lengths):
                end += min(max(0, raw_end - chunk_ends[i] - around[i] + 2), lengths[i])
        ends.append(end)
    return ends


def _regular_chunks(data: bytes, start: int) -> _Chunks | None:
    """The chunks of a whole body in a few calls; None where it is not the simplest kind.

    The body is split at every line end. If each size agrees with the length of what is between its line end and the
    next, a walk from size to size meets the same line ends, so both find the same chunks. Sizes that Python would read and
    HTTP does not know (a sign, an underscore, 0x) are none.
    """
    parts = data[start:].split(b"\r\n")
    if parts[-3:] != [b"0", b"", b""]:
        return None
    sizes, contents = parts[:-3:2], parts[1:-3:2]
    digits = b"".join(sizes).lower()
    if not digits.isalnum() or b"x" in digits:
        return None
    try:
        lengths = list(map(int, sizes, repeat(16)))
    except ValueError:
        return None
    return _Chunks(sizes, contents) if lengths == list(map(len, contents)) and all(lengths) else None


def _walked_chunks(data: bytes, at: int) -> _Chunks:
    """Every chunk that arrived, whole or in part."""
    sizes, contents = [], []
    while (line_end := data.find(b"\r\n", at)) >= 0:
        size_line = data[at:line_end]
        size = chunk_size(size_line)
        if size is None:
            return _Chunks(sizes, contents, BadResponse("not a chunk size", size_line))
        if size == 0:
            break
        at = line_end + 2 + size
        sizes.append(size_line)
        contents.append(data[line_end + 2 : at])
        if not b"\r\n".startswith(data[at : at + 2]):
            return _Chunks(sizes, contents, BadResponse("a chunk is longer than its size says", data[at : at + 80]))
        at += 2
    return _Chunks(sizes, contents)
