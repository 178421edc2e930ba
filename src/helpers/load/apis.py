"""What one event of each serving API says. A reader takes the JSON of one event and gives a `Piece`."""

from __future__ import annotations

from typing import NamedTuple


class Piece(NamedTuple):
    """One event: visible text, its tokens if told, and what else the event carries."""

    text: str = ""
    tokens: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None


def read_openai(event: dict | list) -> Piece:
    """OpenAI chat and text completions, streamed or whole. A role-only delta has no text and is not a token."""
    if not isinstance(event, dict):
        return Piece(error=f"unexpected event: {str(event)[:200]}")
    if event.get("error"):
        return Piece(error=_error_text(event["error"]))
    usage = event.get("usage") or {}
    choice = (event.get("choices") or [{}])[0]
    delta = choice.get("delta") or choice.get("message") or {}
    text = delta.get("content") or delta.get("reasoning_content") or choice.get("text") or ""
    return Piece(
        text=text,
        finish_reason=choice.get("finish_reason"),
        prompt_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
    )


def read_tgi(event: dict | list) -> Piece:
    """Hugging Face TGI: one token per event, `details` in the last; or one object with `generated_text`."""
    event = event[0] if isinstance(event, list) and event else event
    if not isinstance(event, dict) or event.get("error"):
        return Piece(error=_error_text(event.get("error") if isinstance(event, dict) else event))
    token, details = event.get("token"), event.get("details") or {}
    if token is None:
        return Piece(
            text=event.get("generated_text") or "",
            finish_reason=details.get("finish_reason"),
            prompt_tokens=_length(details.get("prefill")),
            output_tokens=details.get("generated_tokens"),
        )
    return Piece(
        text="" if token.get("special") else token.get("text") or "",
        tokens=1,
        finish_reason=details.get("finish_reason"),
        prompt_tokens=_length(details.get("prefill")),
        output_tokens=details.get("generated_tokens"),
    )


def read_djl(event: dict | list) -> Piece:
    """DJL Serving (LMI) JSON lines: a token per line, `details` in the last; or one object with `generated_text`."""
    event = event[0] if isinstance(event, list) and event else event
    if not isinstance(event, dict):
        return Piece(error=f"unexpected event: {str(event)[:200]}")
    details = event.get("details") or {}
    if event.get("error") or event.get("code", 200) >= 400 or details.get("finish_reason") == "error":
        return Piece(error=_error_text(event.get("error") or event))
    token = event.get("token")
    if token is None and "outputs" in event:
        outputs = event["outputs"]
        return Piece(text="".join(outputs) if isinstance(outputs, list) else str(outputs))
    text = token.get("text") or "" if isinstance(token, dict) else event.get("generated_text") or ""
    ids = token.get("id") if isinstance(token, dict) else None
    return Piece(
        text=text,
        tokens=None if ids is None else len(ids) if isinstance(ids, list) else 1,
        finish_reason=details.get("finish_reason"),
        output_tokens=details.get("generated_tokens"),
    )


API_READERS = {"openai_chat": read_openai, "openai_completions": read_openai, "tgi": read_tgi, "djl": read_djl}


def _length(value: object) -> int | None:
    """TGI lists the prompt's tokens under `prefill`; an empty list means that it was not asked for."""
    return len(value) or None if isinstance(value, list) else None


def _error_text(error: object) -> str:
    if isinstance(error, dict):
        return str(error.get("message") or error)[:500]
    return str(error)[:500]
