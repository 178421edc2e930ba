"""The values in a file of prompts: JSON lines, JSON, CSV, TSV, Parquet or plain text, local, in S3 or on the Hugging Face hub.

The format is seen from the content; CSV, TSV and plain text by the ending. A file is read value by value, from its beginning,
so it need not fit in memory; only a single JSON value, and a file in UTF-16, must.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

from helpers.config.yaml import expanded
from helpers.errors import PromptError, cut
from helpers.prompts.hub import from_hub

Value = tuple[str, object]
"""Its place (`file:line`, in Parquet `file:row`), and the value."""

FORMATS = "JSON lines, a JSON list, CSV or TSV with a header, Parquet, or .txt with a prompt per line"
_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t"}
_WIDEST_FIELD = 1 << 30
_HUB_FILE = re.compile(r"^(?P<repository>[\w.-]+/[\w.-]+):(?P<file>.+)$")
_HEAD_BYTES = 4096
_PARQUET_ROWS = 256
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
JSON_CHUNK_CHARACTERS = 1 << 20
_UNFINISHED_CHARACTERS = 16  # a fault this near the end of a chunk may be a value that continues in the next one
_BETWEEN = re.compile(r"[ \t\r\n,]*")


def read_values(path: str, base_dir: Path, hub: bool, key: str = "prompts.source.path") -> Iterator[Value]:
    """The values of a file in its order. Relative paths start at `base_dir`; with `hub`, `owner/name:file` is read too.
    `key` of the config names the path.

    Raises PromptError naming file and line.
    """
    ending = Path(path.lower().removesuffix(".gz")).suffix
    with _open_binary(path, base_dir, hub, key) as stream:
        head = stream.read(_HEAD_BYTES)
        stream.seek(0)
        if head.startswith(b"PAR1"):
            yield from _parquet_rows(stream, path)
            return
        if head.startswith(_UTF_16):
            stream = io.BytesIO(stream.read().decode("utf-16", "replace").encode())
        try:
            if ending in _DELIMITERS:
                yield from _delimited_rows(stream, path, _DELIMITERS[ending])
            elif ending == ".txt":
                yield from _text_lines(stream, path)
            else:
                yield from _json_values(stream, path)
        except UnicodeDecodeError as error:
            raise PromptError(
                f"{path}: not UTF-8 text: {error.reason} ({error.object[error.start : error.start + 1]!r}). Expected {FORMATS}. "
                "Next: save it as UTF-8, or export it in one of these formats"
            ) from None


# --- tables and plain text ----------------------------------------------------------------------------------------


def _delimited_rows(stream: IO[bytes], name: str, delimiters: str) -> Iterator[Value]:
    """One object per row of a table with a header; the delimiter is the one that the header has most of."""
    csv.field_size_limit(_WIDEST_FIELD)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    header = text.readline()
    text.seek(0)
    rows = csv.DictReader(text, delimiter=max(delimiters, key=header.count), strict=True)
    line = 1
    try:
        for row in rows:
            if None in row:
                raise PromptError(
                    f"{name}:{line + 1}: {len(row) - 1 + len(row[None])} fields, expected the {len(row) - 1} of the header. "
                    "Next: put fields that hold the delimiter into double quotes"
                )
            yield f"{name}:{line + 1}", row
            line = rows.line_num
    except csv.Error as error:
        raise PromptError(
            f"{name}:{line + 1}: not valid CSV: {error}. Next: correct the quotes of this row, or export the file again"
        ) from None


def _text_lines(stream: IO[bytes], name: str) -> Iterator[Value]:
    for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8-sig"), start=1):
        yield f"{name}:{number}", line.rstrip("\n")


def _parquet_rows(stream: IO[bytes], name: str) -> Iterator[Value]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = pq.ParquetFile(stream).iter_batches(_PARQUET_ROWS)
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows, start=1):
            yield f"{name}:{number}", row
    except (pa.ArrowException, OSError) as error:
        cause = cut(str(error).partition("\n")[0])
        raise PromptError(f"{name}: not a Parquet file that can be read: {cause}. Next: fetch it again") from None


# --- JSON with line numbers ---------------------------------------------------------------------------------------


def _json_values(stream: IO[bytes], name: str) -> Iterator[Value]:
    """The items of a JSON list, the value of each line, or values that stretch over lines, one after another."""
    if _first_character(stream) == b"[":
        return _Json(stream, name).items()
    first = next((line for line in stream if line.strip()), b"")
    stream.seek(0)
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return _Json(stream, name).values()
    return _json_lines(stream, name)


def _json_lines(stream: IO[bytes], name: str) -> Iterator[Value]:
    """The value of each line that is not empty."""
    for number, line in enumerate(stream, start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except (
                ValueError,
                RecursionError,
            ) as error:  # ValueError: JSONDecodeError, UnicodeDecodeError, too many digits
                raise PromptError(
                    f"{name}:{number}: not valid JSON: {cut(str(error))}. Expected {FORMATS}. Next: correct or delete this line"
                ) from None
            yield f"{name}:{number}", value


class _Json:
    """JSON values of a text that is read piece by piece."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._reader, self._decoder = io.TextIOWrapper(stream, encoding="utf-8-sig"), json.JSONDecoder()
        self._name = name
        self._text, self._at, self._line, self._at_end = "", 0, 1, False

    def items(self) -> Iterator[Value]:
        """The items of a list."""
        self._skip()
        self._at += 1  # the opening bracket
        while self._next() != "]":
            if not self._text[self._at :]:
                raise self._fault("the file ends inside the list")
            yield self._value()
        self._at += 1
        if self._next():
            raise self._fault("more follows after the end of the list")

    def values(self) -> Iterator[Value]:
        """Values one after another."""
        while self._next():
            yield self._value()

    def _next(self) -> str:
        """The first character of what comes next; empty at the end."""
        self._skip()
        return self._text[self._at : self._at + 1]

    def _skip(self) -> None:
        while True:
            end = _BETWEEN.match(self._text, self._at).end()
            self._go_to(end)
            if end < len(self._text) or self._at_end:
                return
            self._fill()

    def _go_to(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    def _fill(self) -> None:
        """Read on: at least as much again as is still to be understood, so that a long value is not tried too often."""
        rest = self._text[self._at :]
        more = self._reader.read(max(JSON_CHUNK_CHARACTERS, len(rest)))
        self._text, self._at, self._at_end = rest + more, 0, not more

    def _value(self) -> Value:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                near_end = error.pos >= len(self._text) - _UNFINISHED_CHARACTERS
                unfinished = error.msg.startswith("Unterminated") or near_end
                if self._at_end or not unfinished:
                    fault = "the file ends inside a value" if self._at_end and unfinished else error.msg
                    raise self._fault(fault, self._text.count("\n", self._at, error.pos)) from None
                self._fill()
                continue
            except (ValueError, RecursionError) as error:  # too many digits, or levels
                raise self._fault(cut(str(error))) from None
            where = f"{self._name}:{self._line}"
            self._go_to(end)
            return where, value

    def _fault(self, fault: str, lines_on: int = 0) -> PromptError:
        return PromptError(
            f"{self._name}:{self._line + lines_on}: not valid JSON: {fault}. Expected {FORMATS}. Next: correct the file, or give "
            "its format by its ending"
        )


def _first_character(stream: IO[bytes]) -> bytes:
    """The first character of a seekable stream that is neither space nor a byte-order mark; rewinds it."""
    head = stream.read(_HEAD_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()
    stream.seek(0)
    return head[:1]


# --- files --------------------------------------------------------------------------------------------------------


@contextmanager
def _open_binary(path: str, base_dir: Path, hub: bool, key: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked: local, `s3://bucket/key`, or with `hub` also `owner/name:file`.

    `.gz` is unpacked while it is read; `archive.zip/member` is one file of a zip archive.
    """
    outer, is_member, member = path.partition(".zip/")
    with ExitStack() as stack:
        stream = stack.enter_context(_open_packed(f"{outer}.zip" if is_member else path, base_dir, hub, key))
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


def _open_packed(path: str, base_dir: Path, hub: bool, key: str) -> IO[bytes]:
    if path.startswith("s3://"):
        return _download_from_s3(path, key)
    local = base_dir / expanded(path)
    named = _HUB_FILE.match(path)
    if hub and named and not local.exists():
        return _download_from_hub(named["repository"], named["file"]).open("rb")
    try:
        return local.open("rb")
    except OSError as error:
        raise PromptError(
            f"{local}: {error.strerror}. Next: set {key} to a file (relative paths start at the config "
            "file), or to s3://bucket/key"
        ) from None


def _download_from_s3(uri: str, key: str) -> IO[bytes]:
    """An S3 object as a temporary file, deleted when it is closed: slow reading must not hold the connection."""
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, name = uri.removeprefix("s3://").partition("/")
    with ExitStack() as on_failure:
        copy = on_failure.enter_context(tempfile.TemporaryFile())
        try:
            boto3.client("s3").download_fileobj(bucket, name, copy)
        except (Boto3Error, BotoCoreError, ClientError, ValueError) as error:
            raise PromptError(
                f"{uri}: cannot be read: {error}. Next: check {key}, and that `aws s3 ls {uri}` works"
            ) from None
        copy.seek(0)
        on_failure.pop_all()
        return copy


def _download_from_hub(repository: str, file: str) -> Path:
    """The local copy of a file of a Hugging Face dataset."""
    from huggingface_hub import hf_hub_download

    download = partial(hf_hub_download, repository, file, repo_type="dataset")
    problem = f"{repository}:{file}: cannot be read from the Hugging Face hub"
    next_step = "check the name and the network, or give a local path or an s3:// URI"
    return Path(from_hub(download, "dataset", repository, problem, next_step))
