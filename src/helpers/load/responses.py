"""After the load point: stamped bytes become an answer.

Three layers are peeled off one after the other: HTTP (chunked or not), AWS event-stream frames where the answer came
through SageMaker or Bedrock, and the events of the serving container. A piece of text counts as received when the line
that holds it was complete.

What can be wrong with an answer, gravest first; the first that applies is its status:

    timeout, connection     no complete answer in time; no connection, or lost before the answer began
    stream_broken           the connection broke in mid-answer
    http_error, throttled   an HTTP status other than 200; 429, 503 or a throttling code of AWS
    error_in_answer         HTTP 200, and an error among the events
    stream_broken           an exception frame in an AWS event stream (`throttled` where it has a throttling code); an answer that
                            the server says it broke off: a finish reason such as error or abort, an error in a choice, an event
                            named error. Not streamed: error_in_answer
    bad_response            bytes that are not what the protocol or the API says: among them framing that has no end, numbers of
                            tokens that cannot be, an answer longer than load.max_answer_bytes
    cut_short               the server ended the answer in its middle, without a word
    empty                   a complete answer without any text
    too_few_tokens          fewer output tokens than were asked for as the smallest number
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from helpers.load.apis import API_READERS
from helpers.load.bodies import APIS_WITH_SMALLEST_LENGTH
from helpers.load.connection import Exchange
from helpers.load.event_stream import unwrap_event_stream
from helpers.load.events import NOT_DECODABLE, read_events
from helpers.load.http_body import HttpAnswer, split_http
from helpers.load.readings import Reading, broken_off
from helpers.load.timeline import SEARCHED_BYTES, BadResponse, Timeline

ERROR_TEXT_LIMIT = 500
WORD_LIMIT = 100
"""Characters of an error type and of a finish reason."""
MOST_TOKENS = 2**31 - 1
THROTTLED = (429, 503)
MODEL_ERROR = 424
REDIRECTS = range(300, 400)
_PRIVATE = re.compile(r"(?<=//)[^/@]*@|[?#].*", re.DOTALL)
"""What may be secret in an address: user and password, query, fragment."""
"""SageMaker's status for any error of the container."""
THROTTLING_CODES = frozenset(
    {
        "throttlingexception",
        "toomanyrequestsexception",
        "servicequotaexceededexception",
        "modelnotreadyexception",
    }
)
"""In lower case: AWS writes ThrottlingException in a header, throttlingException in a frame."""


@dataclass(slots=True)
class Answer:
    """What came back for one request. Times in ns; None where it did not happen or cannot be known."""

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
    cached_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    """Of the output tokens, those that are thinking; by the server's count, until `thinking.thinking_tokens` says more."""
    reasoning_tokens_source: str | None = None
    thought: dict[int, int] = field(default_factory=dict)
    """Place of a chunk -> how many of the first characters of its text are thinking (`load.thinking`)."""
    first_answer_ns: int | None = None
    """The first token behind the thinking; filled by `thinking.divide`, as is `answered`."""
    answered: bool | None = None
    calls_tools: bool = False

    @property
    def text(self) -> str:
        """The whole generated text."""
        return "".join(self.chunk_texts)


_OWN = {"client": ("connection", "client")}
"""Status and error type of failures that are this machine's."""
YIELDING = ("cut_short", "bad_response")
"""Failures of an exchange that are less specific than what was found in its answer."""


class Fault(NamedTuple):
    """Why an answer is not `ok`."""

    status: str
    error_type: str
    error: str


def as_it_is(text: str) -> str:
    """Hides nothing."""
    return text


def read_answer(
    exchange: Exchange,
    api: str,
    framing: str,
    fixed_output_tokens: int | None = None,
    hide: Callable[[str], str] = as_it_is,
) -> Answer:
    """The answer of an exchange; any error becomes its status, and what came before the error is kept. Raises nothing.

    `fixed_output_tokens`: output tokens that were asked for as the smallest and the largest number; None if none were.
    It is checked where the API knows a smallest number and the server itself reports how many there were. `hide` removes
    secrets from all words of the server that are kept, before they are cut.
    """
    answer = Answer(status="ok")
    if exchange.reads:
        answer.first_byte_ns = exchange.reads[0][0]
    try:
        fault = _read(exchange, api, framing, fixed_output_tokens, answer)
    except BadResponse as error:
        fault = _bad_response(error.words(hide))
    except Exception as error:  # noqa: BLE001 - a bad answer must spoil only its own row
        answer = unreadable(answer.first_byte_ns, answer.http_status, error)
        fault = Fault(answer.status, answer.error_type, answer.error)
    if exchange.failure is not None and not _says_more(fault, exchange):
        fault = Fault(*_OWN.get(exchange.failure, (exchange.failure, exchange.failure)), exchange.detail or "")
    if fault is not None:
        answer.status = fault.status
        answer.error_type = _shown(fault.error_type, WORD_LIMIT, hide)
        answer.error = _shown(fault.error, ERROR_TEXT_LIMIT, hide)
    if answer.finish_reason is not None:
        answer.finish_reason = _shown(answer.finish_reason, WORD_LIMIT, hide)
    return answer


def _says_more(fault: Fault | None, exchange: Exchange) -> bool:
    """Whether what was found in the answer says more than how its exchange failed; of two bad framings, which came first."""
    if fault is None or exchange.failure not in YIELDING:
        return False
    return fault.status != exchange.failure or fault.error.startswith(exchange.detail or "")


def unreadable(first_byte_ns: int | None, http_status: int | None, error: Exception) -> Answer:
    """The answer whose reading raised an unforeseen error."""
    why = f"the answer could not be read: {type(error).__name__}"
    return Answer("bad_response", http_status, "bad_response", why, first_byte_ns)


def _shown(text: str, most: int, hide: Callable[[str], str]) -> str:
    """The words of a server as stored: without secrets, and only then cut."""
    return hide(text[:SEARCHED_BYTES])[:most]


def _read(exchange: Exchange, api: str, framing: str, fixed_output_tokens: int | None, answer: Answer) -> Fault | None:
    """Fill the answer; the gravest fault of what came, whatever became of the connection. Raises BadResponse."""
    http = split_http(Timeline.of(exchange.reads))
    answer.http_status = http.status
    if http.status is None:
        return None
    if http.status != 200:
        return _http_fault(http)
    body, exception, bad, whole = http.body, None, http.fault, True
    if framing == "aws_event_stream" and "eventstream" in http.headers.get("content-type", ""):
        body, exception, frame_fault, whole = unwrap_event_stream(body)
        bad = frame_fault or bad
    intact = exchange.complete and whole and exception is None and bad is None
    decoder, read, end = API_READERS[api]
    events = read_events(body.data, decoder, intact)
    reading = read(events.events)
    streamed = events.streamed or reading.by_token
    _fill(answer, reading, body.arrivals_ns([events.ends[place] for place in reading.places]), streamed)
    if reading.error is not None and events.error_frame is None:
        return Fault("error_in_answer", *reading.error)
    if exception is not None:
        kind = exception[0]
        return Fault("throttled" if _is_throttling(kind) else "stream_broken", kind, ": ".join(exception))
    if (broken := broken_off(reading, events.error_frame)) is not None:
        return Fault("stream_broken" if streamed else "error_in_answer", *broken)
    if bad is not None or events.fault is not None:
        raise events.fault or bad
    _check_counts(reading)
    if not exchange.complete:
        return None
    if not whole:
        return Fault("cut_short", "cut_short", "the body ends in the middle of an event-stream frame")
    if streamed and not (reading.ended or events.done):
        return Fault("cut_short", "cut_short", f"the answer ends without {end}")
    if not answer.chunk_texts:
        return Fault("empty", "empty", "the answer is complete and holds no text")
    return _too_few_tokens(answer.output_tokens, fixed_output_tokens, api)


def _fill(answer: Answer, reading: Reading, arrivals_ns: list[int], streamed: bool) -> None:
    answer.finish_reason, answer.calls_tools = reading.finish_reason, reading.calls_tools
    answer.thought, answer.reasoning_tokens = reading.thought, _possible(reading.reasoning_tokens)
    answer.prompt_tokens, answer.output_tokens = _possible(reading.prompt_tokens), _possible(reading.output_tokens)
    cached = _possible(reading.cached_tokens)
    answer.cached_tokens = cached if cached is not None and cached <= (answer.prompt_tokens or 0) else None
    answer.chunk_texts, answer.chunk_ns = reading.texts, arrivals_ns
    if arrivals_ns:
        answer.last_token_ns = arrivals_ns[-1]
        if streamed:
            answer.first_token_ns = arrivals_ns[0]
            answer.chunk_tokens = _tokens_per_chunk(reading)


def _tokens_per_chunk(reading: Reading) -> list[int] | None:
    """Tokens of each chunk where the server reports them, or one each where the totals agree; else None."""
    if reading.tokens and None not in reading.tokens:
        return reading.tokens
    one_each = reading.output_tokens == len(reading.texts) and not reading.calls_tools
    return [1] * len(reading.texts) if one_each else None


# --- faults -------------------------------------------------------------------------------------------------------


def _bad_response(why: str) -> Fault:
    return Fault("bad_response", "bad_response", why)


def _possible(count: int | None) -> int | None:
    return count if count is not None and 0 <= count <= MOST_TOKENS else None


def _check_counts(reading: Reading) -> None:
    """Tokens that cannot be: prices would rest on them, and a server that counts so cannot be believed elsewhere."""
    for name, count in (("prompt", reading.prompt_tokens), ("output", reading.output_tokens)):
        if count != _possible(count):
            raise BadResponse(f"the server counts an impossible number of {name} tokens: {_short(count)}")


def _short(number: int) -> str:
    return str(number) if abs(number) < 10**20 else f"{float(min(max(number, -(10**300)), 10**300)):.1e}"


def _http_fault(http: HttpAnswer) -> Fault:
    kind = http.headers.get("x-amzn-errortype", "").split(":")[0] or f"HTTP {http.status}"
    status = _original_status(http.body.data) if http.status == MODEL_ERROR else http.status
    throttled = status in THROTTLED or _is_throttling(kind)
    said = http.body.data.decode("utf-8", "replace")
    if http.status in REDIRECTS and (to := http.headers.get("location")):
        said = f"to {_PRIVATE.sub('', to)}"
    return Fault("throttled" if throttled else "http_error", kind, said)


class _ModelError(msgspec.Struct, gc=False):
    status: int | None = msgspec.field(name="OriginalStatusCode", default=None)


_decode_model_error = msgspec.json.Decoder(_ModelError).decode


def _original_status(body: bytes) -> int | None:
    """The status with which the container answered, of a SageMaker ModelError."""
    try:
        return _decode_model_error(body).status
    except NOT_DECODABLE:
        return None


def _is_throttling(kind: str) -> bool:
    return kind.lower() in THROTTLING_CODES


def _too_few_tokens(answered: int | None, asked: int | None, api: str) -> Fault | None:
    if api not in APIS_WITH_SMALLEST_LENGTH or asked is None or answered is None or answered >= asked:
        return None
    why = (
        f"answered {answered} of {asked} tokens: the server does not keep to min_tokens; "
        "set generation.fixed_output_length: false to compare per token"
    )
    return Fault("too_few_tokens", "too_few_tokens", why)
