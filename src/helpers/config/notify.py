"""Who hears how a run ended, when nobody watches it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from helpers.config.strict import Strict, in_words

_ARN = r"arn:aws[a-z\-]*:sns:[a-z0-9\-]+:\d{12}:[A-Za-z0-9_\-]{1,256}"


class Notify(Strict):
    """Channels that are sent a notice when a run ends, fails, is stopped or reaches its budget; several may be given."""

    sns_topic: (
        Annotated[
            str,
            *in_words(
                _ARN,
                "the ARN of a standard SNS topic",
                lambda text: "arn:aws:sns:us-east-1:123456789012:benchmarks",
            ),
        ]
        | None
    ) = Field(default=None, description="ARN of an SNS topic.")
    webhook: (
        Annotated[
            str,
            *in_words(r"https?://[^\s/?#@]+(?:[/?][!-~]*)?", "a URL without a user", lambda text: "${WEBHOOK_URL}"),
        ]
        | None
    ) = Field(
        default=None,
        description="URL, as ${NAME} because it is a secret, that takes a JSON POST with `text`: Slack, Teams, Mattermost.",
    )
    command: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Program and its arguments, started without a shell, with the message on its standard input.",
    )

    @model_validator(mode="after")
    def _at_least_one(self) -> Notify:
        if self.sns_topic is None and self.webhook is None and self.command is None:
            raise ValueError("give at least one of sns_topic, webhook, command")
        return self
