"""Turns tokens into text as they arrive: incremental detokenising and stop texts."""

import codecs
from collections.abc import Sequence


class StreamingDetokenizer:
    """Text of a byte-level BPE answer, token by token, in time linear in its length.

    A token may end in the middle of a UTF-8 character: its bytes are held back until the next token.
    The joined text equals decoding the whole answer at once; special tokens give no text.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, tokens: Sequence[int]) -> str:
        """The text that these tokens complete."""
        return self._decoder.decode(b"".join([self._token_bytes[token] for token in tokens]))

    def finish(self) -> str:
        """What was held back: an incomplete character becomes U+FFFD."""
        return self._decoder.decode(b"", final=True)


class StopTexts:
    """Ends a stream of text before the first stop text; holds back a possible start of one."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """The text that may be shown now, and whether a stop text was found."""
        if not self._stop:
            return text, False
        text = self._held + text
        found = [position for position in map(text.find, self._stop) if position >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        keep = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def finish(self) -> str:
        """What was held back, once it is known that no stop text follows."""
        return self._held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
