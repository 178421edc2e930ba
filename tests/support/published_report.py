"""The report of January 2024 as it was published, read from its file, and beside it what the same data say by other rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.verdict.verdict import Verdict

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


@dataclass(frozen=True)
class Comparison:
    """The published report and what the same data say by other rules."""

    published: PublishedReport
    points: pd.DataFrame
    verdict: Verdict
    config: BenchmarkConfig
    deployments: dict[str, str | None]
    """Option -> name of the deployment, in the raw data."""

    @cached_property
    def picks(self) -> list[Pick]:
        """The published recommendations, datasets in the config's order."""
        order = [dataset.name for dataset in self.config.datasets]
        return sorted(self.published.picks, key=lambda pick: (order.index(pick.dataset), pick.instance_type))

    @property
    def here(self) -> str | None:
        """The option that is named here: recommended, else best by its estimates."""
        return self.verdict.recommended or self.verdict.best_estimate

    def option_on(self, instance_type: str) -> str:
        """The option that ran on an instance type."""
        return next(o.option for o in self.verdict.options if o.instance_type == instance_type)

    def on(self, option: str, dataset: str) -> pd.DataFrame:
        """The load points of an option and a dataset, by level."""
        rows = self.points[(self.points["option"] == option) & (self.points["dataset"] == dataset)]
        return rows.sort_values("level")

    def at(self, option: str, dataset: str, level: float) -> pd.Series:
        """One load point."""
        (row,) = (row for _, row in self.on(option, dataset).iterrows() if row["level"] == level)
        return row

    def picked(self, pick: Pick) -> pd.Series:
        """The load point that the published report recommends."""
        return self.at(self.option_on(pick.instance_type), pick.dataset, pick.level)

    @cached_property
    def winner(self) -> pd.Series:
        """The load point of the published winner."""
        fields = self.published.winner
        return self.at(self.option_on(fields["instance_type"]), self.published.dataset, float(fields["concurrency"]))

    @cached_property
    def named(self) -> pd.Series:
        """The load point, on the same dataset, of the option that is named here."""
        (level,) = (p.level for p in self.verdict.option(self.here).points if p.dataset == self.published.dataset)
        return self.at(self.here, self.published.dataset, level)

    def rows(self, kind: str) -> list[str]:
        """The rows of all warnings of a kind."""
        return [row for warning in self.verdict.warnings if warning.kind == kind for row in warning.rows]

    def see(self, *kinds: str) -> str:
        """Where the report lists all rows of these kinds of warnings."""
        numbers = [str(i) for i, warning in enumerate(self.verdict.warnings, start=1) if warning.kind in kinds]
        return f" (Warning{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}.)" if numbers else ""
