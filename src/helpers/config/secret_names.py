"""Which settings are secrets, by name or by appearance, and how they are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

SECRET_NAME = re.compile("token$|key$|secret|password|credential", re.IGNORECASE)
"""Names of settings whose values are secrets."""
HIDDEN = "(hidden)"
"""Shown in place of a secret."""
_IN_A_VALUE = re.compile(
    r"://[^/?#@\s]*:[^/?#@\s]+@"  # the password of a URL
    r"|[?&;][^=&;#]*(?:key|token|sig|signature|secret|password|credential)=[^&;#\s]+"  # a signed URL, a key in a query
    r"|\b(?:bearer|basic)\s+(?=\S*\d)\S{8,}"  # an Authorization header
    r"|--?[\w-]*(?:key|token|secret|password)[= ][^-\s]\S{7,}"  # an argument of a command
    r"|\b(?:hf_[a-z0-9]{8,}|sk-[\w-]{8,}|AKIA[a-z0-9]{12,}|gh[opsu]_[a-z0-9]{8,})"  # keys with a known prefix
    r"|-----BEGIN [A-Z ]*PRIVATE KEY",
    re.IGNORECASE,
)


def looks_secret(value: object) -> bool:
    """True for text that contains something that looks like a secret, under any setting's name."""
    return isinstance(value, str) and bool(_IN_A_VALUE.search(value))


def without_secrets(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as they may be shown, in order: values with the name of a secret are hidden."""
    return {name: HIDDEN if SECRET_NAME.search(name) else value for name, value in settings.items()}
