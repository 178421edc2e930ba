"""Files of the Hugging Face hub: from the local cache, which needs no network, or else over the network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeVar

from helpers.errors import PromptError

T = TypeVar("T")
_TIMEOUT_S = 10.0


def from_hub(
    get: Callable[..., T], kind: Literal["model", "dataset"], repository: str, problem: str, next_step: str
) -> T:
    """The result of `get(local_files_only=...)`. Raises PromptError with the problem, what the hub says, and the next step."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    with suppress(OSError, ValueError):  # not in the cache
        return get(local_files_only=True)
    try:
        HfApi().repo_info(
            repository, repo_type=kind, timeout=_TIMEOUT_S
        )  # fails at once where `get` retries for a minute
        return get(local_files_only=False)
    except (HTTPError, OSError, ValueError) as error:
        raise PromptError(f"{problem}: {first_line(error)}. Next: {next_step}") from None


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).strip().partition("\n")[0]
