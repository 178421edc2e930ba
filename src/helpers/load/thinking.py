"""Which part of an answer is thinking: what its API marks as such or, where it marks nothing, what its text has in <think> tags.

The opening tag may be missing, because the chat template wrote it at the end of the prompt. Then a closing tag that nothing
opened ends the thinking. An answer without any tag is thinking from end to end only where the prompt is known to open it: where
the prompt was rendered here, or where the option's `thinking_tags` say so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import accumulate

from helpers.config.workload import ThinkingTags
from helpers.load.readings import adds_up
from helpers.load.responses import Answer

OPENING, CLOSING = "<think>", "</think>"
APIS_THAT_RENDER = frozenset({"openai_chat", "bedrock_converse"})
"""Their servers apply the chat template: what it ends with is not known here."""


def divide(answer: Answer, api: str, tags: ThinkingTags, prompt: str) -> None:
    """Fill `thought`, `first_answer_ns` and, of an answer that is `ok`, `answered`; `prompt` is as it was sent.

    Where nothing is thinking the answer begins with the first token, behind thinking with the first chunk that has more than
    white space.
    """
    if not answer.thought and tags != "ignored":
        is_open = tags == "opened" or (api not in APIS_THAT_RENDER and prompt.rstrip().endswith(OPENING))
        answer.thought = _in_tags(answer.chunk_texts, is_open)
    begins = _first_of_answer(answer)
    if begins is not None and answer.first_token_ns is not None:
        answer.first_answer_ns = answer.chunk_ns[begins]
    answer.answered = begins is not None if answer.status == "ok" else None


def without_thinking(text: str, tags: ThinkingTags) -> str:
    """The `content` of a chat's message without what it has in <think> tags, as chat templates keep it in a history."""
    thought = {} if tags == "ignored" else _in_tags([text], tags == "opened")
    return text[thought[0] :].lstrip() if thought else text


def _first_of_answer(answer: Answer) -> int | None:
    """Place of the first chunk of the answer; None where there is none."""
    if not answer.thought:
        return 0 if answer.chunk_texts else None
    after = (text[answer.thought.get(place, 0) :] for place, text in enumerate(answer.chunk_texts))
    return next((place for place, text in enumerate(after) if text.strip()), None)


def _in_tags(texts: Sequence[str], is_open: bool) -> dict[int, int]:
    """Place of a text -> how many of its first characters are thinking, tags included."""
    whole = "".join(texts)
    before, closing, _ = whole.partition(CLOSING)
    if not (is_open or whole.lstrip().startswith(OPENING) or (closing and OPENING not in before)):
        return {}
    size = len(before + closing)
    starts = accumulate(map(len, texts), initial=0)
    return {
        place: min(len(text), size - at)
        for place, (text, at) in enumerate(zip(texts, starts, strict=False))
        if at < size
    }


def count_thinking(answer: Answer, token_ends: Callable[[str], Sequence[int] | None]) -> None:
    """Fill `reasoning_tokens` and who counted them; None where it thought and nobody can count, and where nothing says whether.

    By the server, unless its count is 0 although thinking came (SGLang's always is), or more than all its output; by its chunks,
    where their tokens are known and none holds both; else by `token_ends`, the places at which the tokens of a text end.
    """
    said, texts, tokens = answer.reasoning_tokens, answer.chunk_texts, answer.chunk_tokens
    most = sys.maxsize if answer.output_tokens is None else answer.output_tokens
    counted, source = None, "server"
    if said is not None and (said > 0 or not answer.thought):
        counted = said if said <= most else None
    elif answer.thought and tokens is not None and all(n == len(texts[i]) for i, n in answer.thought.items()):
        counted = min(sum(tokens[place] for place in answer.thought), most)
    elif answer.thought:
        ends = token_ends("".join([texts[place][:size] for place, size in sorted(answer.thought.items())]))
        counted, source = (None if ends is None else min(len(ends), most)), "tokenizer"
    answer.reasoning_tokens, answer.reasoning_tokens_source = counted, None if counted is None else source


def tokens_by_text(texts: Sequence[str], ends: Sequence[int] | None, total: int) -> list[int] | None:
    """Tokens of each text, where `ends` are the places at which the tokens of all texts together end; None where their number
    is not `total` but for a few special tokens.

    A token belongs to the text in which it ends: the one that it was waited for.
    """
    if ends is None or not adds_up(len(ends), total):
        return None
    counts, place, text_ends = [0] * len(texts), 0, list(accumulate(map(len, texts)))
    for end in ends:
        while end > text_ends[place] and place < len(texts) - 1:
            place += 1
        counts[place] += 1
    return counts
