"""What a person asks in a record, under any of the keys that datasets use.

Published datasets and log files of APIs spell the same few things in many ways: a conversation (ShareGPT, OpenAI messages,
UltraChat, LMSYS-Chat, MT-Bench, Gemini contents), an instruction with its input (Alpaca, Dolly), a question with its passage
(SQuAD, LongBench), a request as it was sent (OpenAI and Bedrock batch files), or one text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

HUMAN_SPEAKERS = frozenset({"human", "user", "prompter"})
MODEL_SPEAKERS = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard", "model", "bot", "ai"})
REQUESTS = ("body", "modelInput", "request", "payload", "row")
"""Keys of what wraps a record."""
CONVERSATIONS = ("conversations", "messages", "conversation", "items", "turns", "contents", "dialog", "dialogue")
ALSO_CONVERSATIONS = ("data", "prompt", "input", "texts")
"""Keys that may hold a conversation or something else."""
QUESTIONS_ONLY = ("turns", "texts")
"""Keys of lists of texts that are all the human's."""
TEXTS = (
    "prompt",
    "question",
    "instruction",
    "query",
    "user_prompt",
    "inputs",
    "text_input",
    "input",
    "content",
    "problem",
)
ADDED_TEXTS = ("input", "context", "passage")
"""What an instruction or a question is about; it follows after an empty line."""
LISTS = (
    "data",
    "rows",
    "examples",
    "instances",
    "records",
    "questions",
    "samples",
    "requests",
    "prompts",
    "train",
    "test",
)
"""Keys under which a JSON object holds all records of a file."""
_SPEAKER, _WORDS = ("from", "role", "speaker"), ("value", "content", "text", "parts")


class Asked(NamedTuple):
    """What a record asks."""

    text: str
    """Empty where nothing is asked."""
    reply: object
    """The answer to it that the record holds; None if it has none."""
    keys: tuple[str, ...]
    """Where the text was found."""
    is_conversation: bool


def records_in(value: object) -> list[object]:
    """The records in a value of a file: those under the one key of a list, else the value itself."""
    if isinstance(value, dict) and "text" not in value and what_is_asked(value) is None:
        for key in LISTS:
            records = value.get(key)
            if isinstance(records, list) and records and all(isinstance(one, dict) for one in records):
                return records
        if isinstance(value.get("prompts"), list):
            return value["prompts"]
    return [value]


def fields_of(value: object) -> dict[str, Any] | None:
    """A record as an object: a text, or a conversation without a key, gets one; None for what is neither."""
    if isinstance(value, str):
        return {"text": value}
    if _is_conversation(value) and value:
        return {"messages": value}
    return value if isinstance(value, dict) else None


def what_is_asked(fields: dict[str, Any]) -> Asked | None:
    """What a record asks, and the reply to it; None where no key is known to hold either."""
    for prefix, inner in (*((f"{key}.", fields.get(key)) for key in REQUESTS), ("", fields)):
        asked = (_first_exchange(inner) or _flat_text(inner)) if isinstance(inner, dict) else None
        if asked:
            return asked._replace(keys=tuple(f"{prefix}{key}" for key in asked.keys))
    return None


def turns_of(fields: dict[str, Any]) -> list[tuple[str, str]] | None:
    """(speaker in lower case, words) of each turn of a record's conversation; None where it holds none."""
    for inner in (*(fields.get(key) for key in REQUESTS), fields):
        asked = _first_exchange(inner) if isinstance(inner, dict) else None
        if asked is not None:
            (key,) = asked.keys
            if key in QUESTIONS_ONLY and all(isinstance(turn, str) for turn in inner[key]):
                return [("user", turn) for turn in inner[key]]
            return [_speaker_and_words(turn, i) for i, turn in enumerate(inner[key])]
    return None


def _first_exchange(fields: dict[str, Any]) -> Asked | None:
    """What the human said first, and the model's reply right after it."""
    for key in (*CONVERSATIONS, *ALSO_CONVERSATIONS):
        turns, surely = fields.get(key), key in CONVERSATIONS
        if not _is_conversation(turns, (*_SPEAKER, *_WORDS) if surely else _SPEAKER) or not (turns or surely):
            continue
        said = [_speaker_and_words(turn, i) for i, turn in enumerate(turns)]
        for (speaker, words), (next_speaker, reply) in zip(said, [*said[1:], ("", "")], strict=True):
            if speaker in HUMAN_SPEAKERS and words.strip():
                answered = next_speaker in MODEL_SPEAKERS and key not in QUESTIONS_ONLY
                return Asked(words, reply or None if answered else None, (key,), True)
        return Asked("", None, (key,), True)
    return None


def _is_conversation(turns: object, names: tuple[str, ...] = _SPEAKER) -> bool:
    """True for a list of turns: objects with one of these names, or texts by turns. Also for an empty list."""
    if not isinstance(turns, list):
        return False
    return all(isinstance(turn, str) for turn in turns) or all(
        isinstance(turn, dict) and any(name in turn for name in names) for turn in turns
    )


def _speaker_and_words(turn: str | dict[str, Any], number: int) -> tuple[str, str]:
    """Who speaks, in lower case, and the words; the texts of a list without speakers are the human's and the model's by turns."""
    if isinstance(turn, str):
        return ("human", "gpt")[number % 2], turn
    speaker = next((turn[name] for name in _SPEAKER if isinstance(turn.get(name), str)), "")
    words = next((turn[name] for name in _WORDS if turn.get(name) is not None), "")
    return speaker.lower(), _words(words)


def _words(content: object) -> str:
    """The text of a turn; of a list of parts those that are text."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def texts_of_messages(messages: list[object]) -> list[str]:
    """The texts of a conversation's messages, in their order, without those that hold none."""
    said = [_words(message.get("content")) for message in messages if isinstance(message, dict)]
    return [words for words in said if words.strip()]


def _flat_text(fields: dict[str, Any]) -> Asked | None:
    """One text, with what it is about."""
    there = [key for key in TEXTS if key in fields and (fields[key] is None or isinstance(fields[key], str))]
    if not there:
        return None
    main = next((key for key in there if (fields[key] or "").strip()), None)
    if main is None:
        return Asked("", None, (there[0],), False)
    added = [key for key in ADDED_TEXTS if key != main and isinstance(fields.get(key), str) and fields[key].strip()]
    return Asked("\n\n".join(fields[key] for key in (main, *added)), None, (main, *added), False)
