"""Which settings are secrets, by their names or by what they look like, and how those are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

SECRET_NAME = re.compile("token$|key$|secret|password|credential", re.IGNORECASE)
"""Names of settings whose values are secrets."""
HIDDEN = "(hidden)"
"""Stands for a secret wherever settings are shown."""
_IN_A_VALUE = re.compile(
    r"://[^/?#@\s]*:[^/?#@\s]+@"  # the password of a URL
    r"|[?&;][^=&;#]*(?:key|token|sig|signature|secret|password|credential)=[^&;#\s]+"  # a signed URL, a key in a query
    r"|\b(?:bearer|basic)\s+(?=\S*\d)\S{8,}"  # an Authorization header
    r"|--?[\w-]*(?:key|token|secret|password)[= ][^-\s]\S{7,}"  # an argument of a command
    r"|\b(?:hf_[a-z0-9]{8,}|sk-[\w-]{8,}|AKIA[a-z0-9]{12,}|gh[opsu]_[a-z0-9]{8,})"  # keys that are known by their beginning
    r"|-----BEGIN [A-Z ]*PRIVATE KEY",
    re.IGNORECASE,
)


def looks_secret(value: object) -> bool:
    """True for text that holds what only a secret looks like, whatever the name of its setting."""
    return isinstance(value, str) and bool(_IN_A_VALUE.search(value))


def without_secrets(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as they may be shown, in their order: a value whose name tells a secret is hidden."""
    return {name: HIDDEN if SECRET_NAME.search(name) else value for name, value in settings.items()}
