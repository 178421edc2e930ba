"""Gates of `--fail-if`: conditions on a finished run that a script, such as a CI job, must not pass.

The vocabulary is closed and nothing is evaluated: a condition is one of `WORDS`, or a name, a comparison and a value. What is
unknown never passes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers import number_text as text
from helpers.config.benchmark import BenchmarkConfig
from helpers.errors import ParameterError, shown
from helpers.verdict.exit_status import GATE, NOTHING, UNDECIDED, in_words, status_of_verdict

if TYPE_CHECKING:
    from helpers.verdict.compare import Comparison
    from helpers.verdict.verdict import CostBasis, Verdict

Finding = tuple[bool | None, str]
"""Whether a condition holds, None where that is unknown, and why, with the numbers."""
PRICES = {"usd_per_1k_requests": "per 1,000 requests", "usd_per_1m_output_tokens": "per 1M output tokens"}
"""The verdict's `cost_basis` -> its words."""
MONTH = "usd_per_month"
SHOWN, POSSIBLE = "regression", "possible_regression"
ALLOWED = (
    f"undecided, tied, not_measured, below_quality, {SHOWN}, {SHOWN} > PERCENT, {POSSIBLE} > PERCENT, recommended != OPTION, "
    f"{', '.join(f'{name} > NUMBER' for name in (MONTH, *PRICES))}"
)
_COMPARED = re.compile(r"(?P<name>\w+) *(?P<sign>!=|>) *(?P<value>\S.*)")


@dataclass(frozen=True)
class Gate:
    """A condition as it was written, and how it is judged."""

    condition: str
    find: Callable[[Verdict, Comparison | None], Finding]


@dataclass(frozen=True)
class GateResult:
    """What a gate found in a finished run."""

    condition: str
    holds: bool | None
    """None: unknown, which fails too."""
    because: str

    @property
    def failed(self) -> bool:
        """True unless the condition is known not to hold."""
        return self.holds is not False

    def __str__(self) -> str:
        said = {True: "holds", False: "does not hold", None: "is unknown, which fails"}[self.holds]
        return f"{self.condition}: {said}: {self.because}"


@dataclass(frozen=True)
class Judged:
    """How a finished run ends: with its verdict, and with what its gates found."""

    verdict: Verdict
    gates: Sequence[GateResult] = ()

    @property
    def status(self) -> int:
        """The exit status."""
        return GATE if any(gate.failed for gate in self.gates) else status_of_verdict(self.verdict)

    def in_words(self) -> str:
        """The last line of the command."""
        return in_words(self.status, verdict=self.verdict, failed_gates=[str(g) for g in self.gates if g.failed])


def read_gates(given: Iterable[str], config: BenchmarkConfig) -> list[Gate]:
    """The gates of all `--fail-if`, each of which may have several conditions between semicolons.

    Raises ParameterError for a condition outside the vocabulary, and RunFolderError for a baseline that cannot be read.
    """
    return [_gate(one.strip(), config) for conditions in given for one in conditions.split(";")]


def judge_gates(gates: Iterable[Gate], verdict: Verdict, comparison: Comparison | None) -> list[GateResult]:
    """What each gate finds in a finished run."""
    return [GateResult(gate.condition, *gate.find(verdict, comparison)) for gate in gates]


def _gate(condition: str, config: BenchmarkConfig) -> Gate:
    if condition in WORDS:
        if condition == SHOWN:
            _refuse_without_baseline(config)
        if condition == "below_quality" and (config.quality is None or config.quality.gate is None):
            raise ParameterError(
                "--fail-if below_quality: the config has no gate for answers. Expected quality.gate. Next: add it, or delete the "
                "condition"
            )
        return Gate(condition, WORDS[condition])
    match = _COMPARED.fullmatch(condition)
    name, sign, value = match.groups() if match else ("", "", "")
    if (name, sign) == ("recommended", "!="):
        options = [option.name for option in config.options]
        if value not in options:
            raise ParameterError(
                f"--fail-if {shown(condition)}: the config has no option {shown(value)}. Expected one of: {', '.join(options)}. "
                "Next: correct the name"
            )
        return Gate(condition, lambda verdict, _: _is_another(verdict, value))
    if name in (SHOWN, POSSIBLE) and sign == ">":
        _refuse_without_baseline(config)
        share = _number(condition, value, "a number of percent, for example 10") / 100
        return Gate(condition, lambda _, comparison: _has_regressed(comparison, share, name == POSSIBLE))
    if name in (MONTH, *PRICES) and sign == ">":
        limit = _number(condition, value)
        find = _costs_a_month if name == MONTH else _costs
        return Gate(condition, lambda verdict, _: find(verdict, name, limit))
    which = " A price needs its unit: usd_per_1k_requests or usd_per_1m_output_tokens." if name == "price" else ""
    raise ParameterError(
        f"--fail-if: bad value {shown(condition)}.{which} Expected one of: {ALLOWED}. Next: correct the condition; "
        "docs/running.md explains each"
    )


def _number(condition: str, value: str, expected: str = "a number of dollars, for example 2000 or 0.3") -> float:
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise ParameterError(
            f"--fail-if {shown(condition)}: bad value {shown(value)}. Expected {expected}. Next: correct it"
        )
    return limit


def _refuse_without_baseline(config: BenchmarkConfig) -> None:
    from helpers.verdict.compare import baseline_of, require_baseline

    if not baseline_of(config):
        raise ParameterError(
            "--fail-if regression: the config names no baseline. Expected parameters.analyse_metrics.baseline_run_dir. "
            "Next: set it to the id, the folder or the s3:// URL of an earlier run"
        )
    require_baseline(config)


# --- conditions ---------------------------------------------------------------------------------------------------


def _is_undecided(verdict: Verdict, _: Comparison | None) -> Finding:
    status = status_of_verdict(verdict)
    if status == NOTHING:
        return None, "nothing was measured"
    if status == UNDECIDED:
        return True, f"no option is shown to {verdict.aim}, and not all are shown not to"
    named = verdict.recommended
    return False, "no option meets the SLO" if named is None else f"“{named}” is recommended"


def _is_tied(verdict: Verdict, _: Comparison | None) -> Finding:
    if verdict.recommended is None:
        return None, "no option is recommended"
    if verdict.tied:
        return True, f"“{verdict.recommended}” is tied with {_quoted(verdict.tied)}"
    return False, f"“{verdict.recommended}” is tied with no other"


def _is_not_measured(verdict: Verdict, _: Comparison | None) -> Finding:
    missing = verdict.not_measured
    return bool(missing), f"not measured: {_quoted(missing)}" if missing else "every option was measured"


def _is_below_quality(verdict: Verdict, _: Comparison | None) -> Finding:
    gated = {o.option: o.quality for o in verdict.options if o.quality is not None and o.quality.gate is not None}
    if failed := [name for name, quality in gated.items() if quality.gate == "failed"]:
        return True, f"the answers of {_quoted(failed)} do not pass quality.gate"
    if not gated:
        return None, "no gate was judged"
    if is_open := [name for name, quality in gated.items() if quality.gate == "open"]:
        return None, f"it is open whether the answers of {_quoted(is_open)} pass quality.gate"
    return False, "the answers of every option pass quality.gate"


def _is_another(verdict: Verdict, name: str) -> Finding:
    if verdict.recommended is None:
        return None, "no option is recommended"
    tied = ", tied with it" if verdict.recommended != name and name in verdict.tied else ""
    return verdict.recommended != name, f"“{verdict.recommended}” is recommended{tied}"


def _costs_a_month(verdict: Verdict, _: str, limit: float) -> Finding:
    if verdict.recommended is None:
        return None, "no option is recommended"
    capacity = verdict.option(verdict.recommended).capacity
    if capacity is None or capacity.usd_per_month is None:
        return None, f"the bill of “{verdict.recommended}” is unknown"
    usd = capacity.usd_per_month
    return usd > limit, f"“{verdict.recommended}” takes {_usd(usd, limit)} a month"


def _costs(verdict: Verdict, unit: CostBasis, limit: float) -> Finding:
    if verdict.recommended is None:
        return None, "no option is recommended"
    cost = verdict.option(verdict.recommended).cost
    if cost is None:
        return None, f"the price of “{verdict.recommended}” is unknown"
    if verdict.cost_basis != unit:
        return None, f"this run compares prices {PRICES[verdict.cost_basis]} (the report says why)"
    low, high = ("unknown" if bound is None else text.dollars(bound) for bound in (cost.low, cost.high))
    said = f"“{verdict.recommended}” costs {_usd(cost.value, limit)} {PRICES[unit]} (interval {low} to {high})"
    return cost.value > limit, said


def _has_regressed(comparison: Comparison | None, share: float = 0.0, is_possible: bool = False) -> Finding:
    """Worse by more than `share` in any compared metric: for real, by the rule of `compare`, or as far as its interval goes."""
    if comparison is None:
        return None, "this run was not compared with its baseline"
    compared = [row for row in comparison.rows if not row.is_without_price]
    bounds = {row: row.worse_by(len(comparison.rows)) for row in compared}
    than = f"worse than in the baseline {comparison.baseline_run}"
    than = f"more than {text.percent(share)} {than}" if share else than
    if worse := [row for row, by in bounds.items() if by is not None and by[is_possible] > share]:
        words = text.some(row.in_words() for row in worse)
        return True, f"it is not excluded that these are {than}: {words}" if is_possible else f"{than}: {words}"
    unknown = [f"{row.where()}: {row.metric}" for row, by in bounds.items() if by is None]
    if unknown := [*comparison.not_compared, *unknown]:
        return None, f"nothing is shown to be {than}, but not all could be compared: {text.some(unknown)}"
    many = text.plural(len(compared), "compared number")
    return False, f"none of {many} can be {than}" if is_possible else f"none of {many} is shown to be {than}"


WORDS: dict[str, Callable[[Verdict, Comparison | None], Finding]] = {
    "undecided": _is_undecided,
    "tied": _is_tied,
    "not_measured": _is_not_measured,
    "below_quality": _is_below_quality,
    SHOWN: lambda _, comparison: _has_regressed(comparison),
}
"""Conditions without a value."""


def _usd(value: float, limit: float) -> str:
    """A value with as many digits as tell it from the limit."""
    return text.dollars_apart(value, limit)[0]


def _quoted(names: list[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)
