"""Which settings are secrets, by their names, and how those are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

SECRET_NAME = re.compile("token$|key$|secret|password|credential", re.IGNORECASE)
"""Names of settings whose values are secrets."""
HIDDEN = "(hidden)"
"""Stands for a secret wherever settings are shown."""


def without_secrets(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as they may be shown, in their order: a value whose name tells a secret is hidden."""
    return {name: HIDDEN if SECRET_NAME.search(name) else value for name, value in settings.items()}
