"""Records that prompts are made from: the Python reference, JSON lines and ShareGPT conversations.

A record is a set of named texts (columns), with an answer where the source has one. Records are read one at a time,
in the order of the source; lengths are in characters, because no tokenizer is involved yet.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tempfile
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, Any, cast

from helpers.config.benchmark import JsonLinesSource, PythonReferenceSource, ShareGPTSource
from helpers.errors import PromptError

PASSAGE_CHARACTERS = 40_000
"""Length of a passage of the Python reference unless the caller asks for another: about 8,000 tokens."""

QUESTIONS = (
    'What does the passage say about "{title}"?',
    'Which rules does the passage give for "{title}"?',
    'What should a programmer remember about "{title}"?',
    'How would you explain "{title}" to a colleague?',
    'Which exceptions or special cases does the passage name for "{title}"?',
)

ID_COLUMNS = ("_id", "id")
HUMAN_SPEAKERS = frozenset({"human", "user"})
MODEL_SPEAKERS = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard"})

_MIN_PROSE_CHARACTERS = 40
_MIN_LETTER_SHARE = 0.7  # code, grammar and tables have fewer letters per character than sentences
_NOT_PROSE = re.compile(r">>>|::=|^\s*[+|]|^\s*[-=*~^]{3,}\s*$", re.MULTILINE)
_HUB_FILE = re.compile(r"^(?P<repository>[\w.-]+/[\w.-]+):(?P<file>.+)$")
_HUB_TIMEOUT_S = 10.0
_JSON_CHUNK_CHARACTERS = 1 << 20
_UNFINISHED_CHARACTERS = 16  # a fault this near the end of a chunk may be a value that goes on in the next one


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a source."""

    record_id: str
    where: str
    """Where it stands, for messages: `file:line`, or the topic of the reference."""
    columns: dict[str, str]
    """Column -> text. A column that is null in the source is not there."""
    answer: str | None
    """The ground truth, if the source has one; several acceptable answers stand on a line each."""


def read_records(
    source: PythonReferenceSource | JsonLinesSource | ShareGPTSource,
    base_dir: Path,
    passage_characters: int = PASSAGE_CHARACTERS,
) -> Iterator[Record]:
    """The records of a source, in its own order, at most `source.max_records`.

    `base_dir` is the folder that relative paths start from. `passage_characters` is the length that a `context` of
    the Python reference has at least (it ends with a paragraph). Raises PromptError naming file and line.
    """
    match source:
        case PythonReferenceSource():
            return _read_python_reference(passage_characters)
        case JsonLinesSource():
            return islice(_read_json_lines(source, base_dir), source.max_records)
        case ShareGPTSource():
            return islice(_read_sharegpt(source, base_dir), source.max_records)


def describe_source(source: PythonReferenceSource | JsonLinesSource | ShareGPTSource) -> str:
    """The source in a few words, for messages."""
    return "the Python reference" if isinstance(source, PythonReferenceSource) else f"{source.kind} {source.path}"


# --- the Python reference -----------------------------------------------------------------------------------------


def _read_python_reference(passage_characters: int) -> Iterator[Record]:
    """One record per paragraph of prose. It starts there and carries on, from the last topic to the first again.

    Columns: `context` (the passage), `input` (a question on the topic it starts in).
    """
    starts, paragraphs = _reference_paragraphs()
    whole = "\n\n".join(paragraphs)
    twice = f"{whole}\n\n{whole}"
    lengths = [len(paragraph) + 2 for paragraph in paragraphs]
    begins = list(accumulate(lengths + lengths, initial=0))
    for i, (topic, title) in enumerate(starts):
        wanted_end = begins[i] + min(passage_characters, len(whole)) + 2
        end = begins[bisect_left(begins, wanted_end, hi=i + len(paragraphs))] - 2
        columns = {"context": twice[begins[i] : end], "input": QUESTIONS[i % len(QUESTIONS)].format(title=title)}
        yield Record(f"{topic}:{i}", f"pydoc_data.topics[{topic!r}]", columns, answer=None)


def _reference_paragraphs() -> tuple[list[tuple[str, str]], list[str]]:
    """(topic, title) of each paragraph of prose, and the paragraphs, unwrapped.

    Topics quote one another, so a paragraph that was seen before is left out: no two begin alike.
    """
    from pydoc_data.topics import topics

    starts: list[tuple[str, str]] = []
    paragraphs: dict[str, None] = {}
    for topic in sorted(topics):
        text = topics[topic].strip()
        title = text.partition("\n")[0].replace('"', "").strip()
        for paragraph in re.split(r"\n\s*\n", text):
            unwrapped = " ".join(paragraph.split())
            if _is_prose(paragraph, unwrapped) and unwrapped not in paragraphs:
                paragraphs[unwrapped] = None
                starts.append((topic, title))
    return starts, list(paragraphs)


def _is_prose(paragraph: str, unwrapped: str) -> bool:
    """False for headings, tables, grammar, signatures and most code."""
    letters = sum(map(str.isalpha, unwrapped))
    return (
        len(unwrapped) >= _MIN_PROSE_CHARACTERS
        and letters >= _MIN_LETTER_SHARE * len(unwrapped)
        and not _NOT_PROSE.search(paragraph)
    )


# --- JSON lines and ShareGPT --------------------------------------------------------------------------------------


def _read_json_lines(source: JsonLinesSource, base_dir: Path) -> Iterator[Record]:
    """One record per line; the columns are the keys of its object."""
    with _open_binary(source.path, base_dir, hub=source.kind == "longbench") as stream:
        for where, value in _json_lines(stream, source.path):
            fields = _require_object(value, where)
            if "answer" in source.model_fields_set and source.answer and source.answer not in fields:
                raise PromptError(
                    f"{where}: no column {source.answer!r}, which prompts.source.answer names; the columns are "
                    f"{', '.join(sorted(fields))}. Next: name one of them, or write `answer: null`"
                )
            answer = _answer_text(fields.get(source.answer)) if source.answer else None
            columns = {key: _column_text(field) for key, field in fields.items() if field is not None}
            yield Record(_record_id(fields, where), where, columns, answer)


def _read_sharegpt(source: ShareGPTSource, base_dir: Path) -> Iterator[Record]:
    """One record per conversation that a human begins: column `text`; the answer is the reply.

    Reads a JSON list or JSON lines. Conversations without human words are left out.
    """
    with _open_binary(source.path, base_dir, hub=False) as stream:
        is_list = _first_character(stream) == b"["
        values = _json_list(stream, source.path) if is_list else _json_lines(stream, source.path)
        for where, value in values:
            fields = _require_object(value, where)
            turns = fields.get("conversations")
            if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
                raise PromptError(
                    f"{where}: `conversations` is {_shown(turns)}, expected a list of {{from, value}} objects. "
                    "Next: give a ShareGPT file, or use `kind: jsonl` for other columns"
                )
            text, reply = _first_exchange(turns)
            if text:
                yield Record(_record_id(fields, where), where, {"text": text}, reply)


def _first_exchange(turns: list[dict[str, Any]]) -> tuple[str | None, str | None]:
    """What the human said first, and the model's reply right after it."""
    for turn, following in zip(turns, [*turns[1:], {}], strict=True):
        if turn.get("from") in HUMAN_SPEAKERS and isinstance(turn.get("value"), str) and turn["value"].strip():
            reply = following.get("value") if following.get("from") in MODEL_SPEAKERS else None
            return _encodable(turn["value"]), _answer_text(reply)
    return None, None


def _require_object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PromptError(f"{where}: {_shown(value)}, expected a JSON object whose keys are the columns")
    return value


def _record_id(fields: dict[str, Any], where: str) -> str:
    named = next((fields[column] for column in ID_COLUMNS if fields.get(column) is not None), None)
    return where.rpartition("/")[2] if named is None else _column_text(named)


def _answer_text(answer: object) -> str | None:
    if isinstance(answer, list):
        answer = "\n".join(_column_text(one) for one in answer if one is not None)
    return None if answer in (None, "") else _column_text(answer)


def _column_text(value: object) -> str:
    """Text as it is, a list of texts line by line, anything else as JSON."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = "\n".join(value)
    return _encodable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _encodable(text: str) -> str:
    """Half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


# --- JSON with line numbers ---------------------------------------------------------------------------------------


def _json_lines(stream: Iterable[bytes], name: str) -> Iterator[tuple[str, object]]:
    """(`file:line`, value) of each line that is not empty."""
    for number, line in enumerate(stream, start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:  # JSONDecodeError or UnicodeDecodeError
                raise PromptError(f"{name}:{number}: not valid JSON: {error}. Next: mend or delete this line") from None
            yield f"{name}:{number}", value


def _json_list(stream: IO[bytes], name: str) -> Iterator[tuple[str, object]]:
    """(`file:line`, value) of each item of a JSON list, which need not fit in memory."""
    reader, decoder = io.TextIOWrapper(stream, encoding="utf-8-sig"), json.JSONDecoder()
    buffer, line, at_end = "", 1, False

    def skip(count: int) -> None:
        nonlocal buffer, line
        line += buffer.count("\n", 0, count)
        buffer = buffer[count:]

    def fill() -> None:
        nonlocal buffer, at_end
        try:
            more = reader.read(_JSON_CHUNK_CHARACTERS)
        except UnicodeDecodeError as error:
            raise PromptError(f"{name}:{line}: not UTF-8 after this line: {error}") from None
        buffer, at_end = buffer + more, not more

    opened = False
    while True:
        skip(len(buffer) - len(buffer.lstrip(" \t\r\n,[" if not opened else " \t\r\n,")))
        if buffer.startswith("]"):
            return
        opened = opened or bool(buffer)
        try:
            value, end = decoder.raw_decode(buffer)
        except json.JSONDecodeError as error:
            unfinished = error.msg.startswith("Unterminated") or error.pos >= len(buffer) - _UNFINISHED_CHARACTERS
            if at_end or not unfinished:
                fault = "the file ends inside the list" if at_end and unfinished else error.msg
                raise PromptError(
                    f"{name}:{line + error.lineno - 1}: not valid JSON: {fault}. Next: mend the file"
                ) from None
            fill()
            continue
        yield f"{name}:{line}", value
        skip(end)


def _first_character(stream: IO[bytes]) -> bytes:
    """The first character of a seekable stream that is neither space nor a byte-order mark; rewinds it."""
    head = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    stream.seek(0)
    return head[:1]


# --- files --------------------------------------------------------------------------------------------------------


@contextmanager
def _open_binary(path: str, base_dir: Path, hub: bool) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked: local, `s3://bucket/key`, or with `hub` also `owner/name:file`.

    `.gz` is unpacked while it is read; `archive.zip/member` is one file of a zip archive.
    """
    outer, is_member, member = path.partition(".zip/")
    with ExitStack() as stack:
        stream = stack.enter_context(_open_packed(f"{outer}.zip" if is_member else path, base_dir, hub))
        try:
            if is_member:
                stream = stack.enter_context(stack.enter_context(zipfile.ZipFile(stream)).open(member))
            if path.endswith(".gz"):
                stream = cast(IO[bytes], stack.enter_context(gzip.open(stream)))
            yield stream
        except KeyError as error:
            raise PromptError(f"{path}: no such member in the archive: {error}") from None
        except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise PromptError(f"{path}: cannot be unpacked: {error}. Next: fetch the file again") from None


def _open_packed(path: str, base_dir: Path, hub: bool) -> IO[bytes]:
    if path.startswith("s3://"):
        return _download_from_s3(path)
    local = base_dir / Path(path).expanduser()
    named = _HUB_FILE.match(path)
    if hub and named and not local.exists():
        return _download_from_hub(named["repository"], named["file"]).open("rb")
    try:
        return local.open("rb")
    except OSError as error:
        raise PromptError(
            f"{local}: {error.strerror}. Next: set prompts.source.path to a file (relative paths start at the config "
            "file), or to s3://bucket/key"
        ) from None


def _download_from_s3(uri: str) -> IO[bytes]:
    """An S3 object as a temporary file, deleted when it is closed: slow reading must not hold the connection."""
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    with ExitStack() as on_failure:
        copy = on_failure.enter_context(tempfile.TemporaryFile())
        try:
            boto3.client("s3").download_fileobj(bucket, key, copy)
        except (Boto3Error, BotoCoreError, ClientError, ValueError) as error:
            raise PromptError(
                f"{uri}: cannot be read: {error}. Next: check prompts.source.path, and that `aws s3 ls {uri}` works"
            ) from None
        copy.seek(0)
        on_failure.pop_all()
        return copy


def _download_from_hub(repository: str, file: str) -> Path:
    """The local copy of a file of a Hugging Face dataset; a file in the cache needs no network."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, repo_type="dataset", local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        pass
    try:
        HfApi().dataset_info(repository, timeout=_HUB_TIMEOUT_S)  # fails at once where the download would retry
        return Path(hf_hub_download(repository, file, repo_type="dataset"))
    except (HTTPError, OSError, ValueError) as error:
        cause = str(error).strip().partition("\n")[0]
        raise PromptError(
            f"{repository}:{file}: cannot be read from the Hugging Face hub: {cause}. "
            "Next: check the name and the network, or give a local path or an s3:// URI"
        ) from None
