"""Salts: characters of its own in each request, so that a prefix cache finds nothing of the prompt from there on."""

from __future__ import annotations

from hashlib import blake2b

SALT_CHARACTERS = 9


def salt_of(request_id: str) -> str:
    """The salt of a request: 8 hexadecimal digits and a space, the same whenever the id is the same."""
    return blake2b(request_id.encode(), digest_size=4).hexdigest() + " "


def salted_prompt(text: str, rendered: str, salt: str, after: int = 0) -> tuple[str, str]:
    """Text and rendered prompt, as they are with a salt behind the first `after` characters of the user's text."""
    user_text = text.strip()  # chat templates strip it too
    at = max(rendered.find(user_text), 0) + after
    return text[:after] + salt + text[after:], rendered[:at] + salt + rendered[at:]
