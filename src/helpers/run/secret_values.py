"""Secrets of AWS Secrets Manager. Their values are in no message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import boto3


def secret_value(reference: str, session: boto3.Session) -> str:
    """The text of a secret (`id`), or of one key of a JSON secret (`id#key`).

    Raises ValueError in words that follow the secret's name, and what botocore raises.
    """
    secret_id, _, key = reference.partition("#")
    text = session.client("secretsmanager").get_secret_value(SecretId=secret_id).get("SecretString")
    if text is None:
        raise ValueError("is binary. Expected text. Next: store it as text")
    if not key:
        return text
    try:
        return str(json.loads(text)[key])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"is no JSON object with the key {key!r}. Next: correct the part behind the #") from None
