"""Hides secrets in text from outside (a server's message, a container's log): verbatim or encoded, as base64 (also
within other bytes, as in `Basic` credentials) or hexadecimal, or for a URL, JSON, HTML or Python.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from urllib.parse import quote

from helpers.config.secret_names import HIDDEN

FEWEST_CHARACTERS = 4
"""Shorter texts are not secrets, and would match everywhere."""
FEWEST_ENCODED = 8
"""Minimum length for a search in base64 and hexadecimal too, and for the beginning of a secret at the end of a text."""


AWS_TOKENS = ("sagemaker-api-key-", "bedrock-api-key-")
"""Prefixes of bearer tokens derived from AWS credentials: always hidden, because they are renewed during a run."""


def secret_hider(secrets: Iterable[str | None]) -> Callable[[str], str]:
    """A function that replaces each secret, a partial one at the end of the text, and AWS bearer tokens by `(hidden)`.

    Call it before truncating the text, because a truncated secret is not found.
    """
    known = {secret for secret in secrets if secret and len(secret) >= FEWEST_CHARACTERS}
    if not known:
        return _without_aws_tokens
    forms = {form for secret in known for form in _forms(secret)}
    longest_first = sorted({form.lower() for form in forms}, key=len, reverse=True)
    spelled = ["".join(map(_spelled, secret)) for secret in sorted(known, key=len, reverse=True)]
    anywhere = re.compile("|".join([*spelled, *map(re.escape, longest_first)]), re.IGNORECASE)

    def hide(text: str) -> str:
        text = anywhere.sub(HIDDEN, _without_aws_tokens(text))
        begun = max(_begun_at_end(text.lower(), form) for form in longest_first)
        return text[: len(text) - begun] + HIDDEN if begun else text

    return hide


def _without_aws_tokens(text: str) -> str:
    return _aws_token().sub(HIDDEN, text)


@cache
def _aws_token() -> re.Pattern[str]:
    """A complete AWS bearer token, verbatim or encoded."""
    begin = "|".join(re.escape(form) for prefix in AWS_TOKENS for form in sorted(_forms(prefix), key=len, reverse=True))
    return re.compile(rf"(?:{begin})[\w+/=%\\-]*", re.IGNORECASE | re.ASCII)


def _begun_at_end(text: str, form: str) -> int:
    """How many characters of `form` the text ends with; 0 if only a few."""
    most = min(len(text), len(form) - 1)
    return next((n for n in range(most, FEWEST_ENCODED - 1, -1) if text.endswith(form[:n])), 0)


def _spelled(character: str) -> str:
    """A pattern for a character, also as escaped (once or repeatedly) in JSON, Python, HTML or a URL."""
    if character.isascii() and character.isalnum():
        return character
    code = ord(character)
    spellings = {character, quote(character, safe=""), html.escape(character), f"&#{code};", f"&#x{code:x};"}
    spellings |= {
        json.dumps(character)[1:-1].lstrip("\\"),
        f"u{code:04x}",
        f"x{code:02x}",
        "+" if character == " " else character,
    }
    return r"\\*(?:" + "|".join(re.escape(one) for one in sorted(spellings, key=len, reverse=True) if one) + ")"


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])
    data = secret.encode("utf-8", "surrogatepass")
    if len(data) >= FEWEST_ENCODED:
        yield data.hex()
        yield "".join(f"%{byte:02x}" for byte in data)
        for before in range(3):
            yield from _in_base64(data, before)


def _in_base64(data: bytes, before: int) -> Iterator[str]:
    """The base64 characters that do not depend on the surrounding bytes, of which `before` (modulo 3) come first."""
    whole = slice(-(-before * 8 // 6), (before + len(data)) * 8 // 6)
    yield base64.b64encode(bytes(before) + data).decode()[whole]
    yield base64.urlsafe_b64encode(bytes(before) + data).decode()[whole]
