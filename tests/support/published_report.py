"""The report of January 2024 as it was published: what its text says, read from its file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MODIFIED = re.compile(r"\*\*Last modified \(UTC\): (\d{4}-\d\d-\d\d \d\d:\d\d)[^*]*\*\*")
CLAIM = re.compile(r"based on the test results (the best .*?) *$", re.MULTILINE)
COMPARED = re.compile(r"model on \"(.*?)\" instances")
FIELD = re.compile(r"^\| (\w+) \| (.*?) \|$", re.MULTILINE)
PICK = re.compile(
    r"^\|`payload_(?P<dataset>\S+)\.jsonl`\|`(?P<instance_type>\S+)`\|.*is a `concurrency level of (?P<level>\d+)`.*"
    r"`average latency of (?P<latency_s>[\d.]+) seconds`.*`completion size of (?P<output_tokens>\d+) tokens` with "
    r"`(?P<per_minute>\d+) transactions/minute`",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Pick:
    """The load that the report recommends for an instance type and a dataset, with the figures that it gives."""

    dataset: str
    instance_type: str
    level: int
    latency_s: float
    """Mean of the means of volleys."""
    output_tokens: int
    """Per request; on p4d.24xlarge the prompt is among them."""
    per_minute: int
    """Mean of the volleys' rates of requests, without decimals."""


@dataclass(frozen=True)
class PublishedReport:
    """What the text of the report says."""

    modified: str
    """UTC."""
    claim: str
    """Of the summary sentence, what it says is best."""
    compared: list[str]
    """Instance types that the summary lists as compared."""
    winner: dict[str, str]
    """The table about the winner, as it is written."""
    picks: list[Pick]

    @property
    def dataset(self) -> str:
        """The dataset that the winner was chosen on."""
        return self.winner["payload_file"].removeprefix("payload_").removesuffix(".jsonl")


def read_published(path: Path) -> PublishedReport:
    """Read report.md."""
    text = path.read_text(encoding="utf-8")
    fields = dict(FIELD.findall(text))
    fields.pop("Information")
    return PublishedReport(
        modified=MODIFIED.search(text)[1],
        claim=CLAIM.search(text)[1].replace("`", ""),
        compared=COMPARED.search(text)[1].replace("`", "").split(", "),
        winner=fields,
        picks=[
            Pick(
                found["dataset"],
                found["instance_type"],
                int(found["level"]),
                float(found["latency_s"]),
                int(found["output_tokens"]),
                int(found["per_minute"]),
            )
            for found in PICK.finditer(text)
        ],
    )
