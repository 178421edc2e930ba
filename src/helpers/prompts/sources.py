"""Records that prompts are made from: the Python reference, or what a file holds.

A record is a set of named texts (columns), with an answer where the source has one. Records are read one at a time,
in the order of the source; lengths are in characters, because no tokenizer is involved yet.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from helpers.config.workload import FileSource, PythonReferenceSource, ShareGPTSource
from helpers.errors import PromptError, cut, shown
from helpers.prompts.record_shapes import CONVERSATIONS, fields_of, records_in, turns_of, what_is_asked
from helpers.prompts.source_files import read_values

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

_MIN_PROSE_CHARACTERS = 40
_MIN_LETTER_SHARE = 0.7  # code, grammar and tables have fewer letters per character than sentences
_NOT_PROSE = re.compile(r">>>|::=|^\s*[+|]|^\s*[-=*~^]{3,}\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a source."""

    record_id: str
    where: str
    """Its place, for messages: `file:line`, or the topic of the reference."""
    columns: dict[str, str]
    """Column -> text. A column that is null in the source is empty."""
    answer: str | None
    """The ground truth, if the source has one; several acceptable answers are on a line each."""
    references: tuple[str, ...] = ()
    """The acceptable answers, each by itself."""
    text_from: tuple[str, ...] = ()
    """The keys of the source that the column `text` was made from, where it has no such column."""


def read_records(
    source: PythonReferenceSource | FileSource | ShareGPTSource,
    base_dir: Path,
    passage_characters: int = PASSAGE_CHARACTERS,
    reference: str | None = None,
) -> Iterator[Record]:
    """The records of a source, in its own order, at most `source.max_records`.

    `reference` names the column of the answer instead of `source.answer`; it may be missing in a record. `base_dir` is the folder
    that relative paths start from. `passage_characters` is the length that a `context` of the Python reference has at least (it
    ends with a paragraph). Raises PromptError naming file and line.
    """
    if isinstance(source, PythonReferenceSource):
        return _read_python_reference(passage_characters)
    return islice(_read_file(source, base_dir, reference), source.max_records)


def describe_source(source: PythonReferenceSource | FileSource | ShareGPTSource) -> str:
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

    Topics quote one another, so a paragraph that was seen before is left out: no two start alike.
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


# --- files --------------------------------------------------------------------------------------------------------


def _read_file(source: FileSource | ShareGPTSource, base_dir: Path, reference: str | None) -> Iterator[Record]:
    """One record per value; its columns are the keys of its object, and `text`: what it asks, under any key."""
    hub = isinstance(source, FileSource) and source.kind != "jsonl"
    for where, whole in read_values(source.path, base_dir, hub):
        for value in records_in(whole):
            fields = fields_of(value)
            if fields is None:
                raise PromptError(
                    f"{where}: {shown(value)}, expected a JSON object whose keys are the columns, a text, or a list of turns. "
                    "Next: correct or delete it"
                )
            is_conversation = isinstance(source, ShareGPTSource)
            yield _conversation(fields, where) if is_conversation else _record(source, fields, where, reference)


def conversations_of_file(
    source: FileSource | ShareGPTSource, base_dir: Path
) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """(record id, place for messages, turns as `record_shapes.turns_of`) of each record, at most `source.max_records`.

    Raises PromptError naming file and line, also for a record that holds no conversation.
    """
    return islice(_read_conversations(source, base_dir), source.max_records)


def _read_conversations(
    source: FileSource | ShareGPTSource, base_dir: Path
) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    hub = isinstance(source, FileSource) and source.kind != "jsonl"
    for where, whole in read_values(source.path, base_dir, hub):
        for value in records_in(whole):
            fields = fields_of(value) or {}
            if (turns := turns_of(fields)) is None:
                if any(key in fields and fields[key] is None for key in CONVERSATIONS):
                    turns = []
                else:
                    raise PromptError(
                        f"{where}: no conversation: {shown(value)}. Expected turns in a list under one of: "
                        f'{", ".join(CONVERSATIONS)}, such as {{"messages": [{{"role": "user", "content": "..."}}]}}. Next: '
                        "correct or delete it, or leave out prompts.conversations"
                    )
            yield _record_id(fields, where), where, [(speaker, _encodable(words)) for speaker, words in turns]


def _record(source: FileSource, fields: dict[str, Any], where: str, reference: str | None) -> Record:
    if "answer" in source.model_fields_set and source.answer and source.answer not in fields:
        raise PromptError(
            f"{where}: no column {source.answer!r}, which prompts.source.answer names; the columns are "
            f"{', '.join(sorted(fields))}. Next: name one of them, or write `answer: null`"
        )
    asked = None if "text" in fields else what_is_asked(fields)
    taken = asked.keys if asked and asked.is_conversation else ()
    columns = {key: _column_text(field) for key, field in fields.items() if key not in taken}
    found = _inside(fields, reference) if reference else fields.get(source.answer) if source.answer else None
    if asked:
        columns["text"] = _encodable(asked.text)
        found = asked.reply if _answer_text(found) is None and reference is None else found
    keys = asked.keys if asked else ()
    return Record(_record_id(fields, where), where, columns, _answer_text(found), _references(found), keys)


def _conversation(fields: dict[str, Any], where: str) -> Record:
    """A conversation: column `text` is what the human says first, empty if nothing; the answer is the reply."""
    asked = what_is_asked(fields)
    if asked is None or not asked.is_conversation:
        if any(key in fields and fields[key] is None for key in CONVERSATIONS):
            return Record(_record_id(fields, where), where, {"text": ""}, None)
        raise PromptError(
            f"{where}: no conversation; the keys are {cut(', '.join(sorted(fields)))}. Expected turns, such as "
            f'{{"from": "human", "value": "..."}}, in a list under one of: {", ".join(CONVERSATIONS)}. Next: write '
            "`kind: file`, which reads other records too"
        )
    columns, reply = {"text": _encodable(asked.text)}, asked.reply
    return Record(_record_id(fields, where), where, columns, _answer_text(reply), _references(reply), asked.keys)


def _record_id(fields: dict[str, Any], where: str) -> str:
    named = next((fields[column] for column in ID_COLUMNS if fields.get(column) is not None), None)
    return where.rpartition("/")[2] if named is None else _column_text(named)


def _inside(fields: dict[str, Any], name: str) -> object:
    """The field of a name, or of a path such as `answers.text`; None where the record has none."""
    if name in fields:
        return fields[name]
    outer, _, inner = name.partition(".")
    return _inside(fields[outer], inner) if inner and isinstance(fields.get(outer), dict) else None


def _references(answer: object) -> tuple[str, ...]:
    texts = [_column_text(one) for one in (answer if isinstance(answer, list) else [answer])]
    return tuple(text for text in texts if text.strip())


def _answer_text(answer: object) -> str | None:
    if isinstance(answer, list):
        answer = "\n".join(_column_text(one) for one in answer if one is not None)
    return None if answer in (None, "") else _column_text(answer)


def _column_text(value: object) -> str:
    """Text as it is, a list of texts line by line, anything else as JSON; what is null is empty."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = "\n".join(value)
    if value is None:
        return ""
    return _encodable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _encodable(text: str) -> str:
    """Half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
