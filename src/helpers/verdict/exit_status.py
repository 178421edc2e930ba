"""The exit status of the commands, so that a script knows how a run ended. docs/running.md lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.verdict.verdict import Verdict

MEANINGS = {
    0: "a verdict: an option is recommended, perhaps without options that could not be measured, which are named",
    1: "the run failed: see the error above",
    2: "wrong usage, config, prompts or result files: see the error above",
    3: "no option meets the SLO, or the gate of quality where there is one",
    4: "undecided: no option is shown to meet the SLO (or the gate of quality), and not all are shown to miss it",
    5: "the budget is reached: the run stopped",
    6: "no option was measured: none could be deployed, none answered, or none on every dataset of the traffic",
    7: "a condition of --fail-if holds, or is unknown: the last line says which, with its numbers",
    129: "stopped by a closed terminal (SIGHUP)",
    130: "stopped by Ctrl-C",
    143: "stopped by SIGTERM",
}
MEANINGS_OF_CHECK = {0: "every check passed", 6: "not every option answers, or a notice cannot be sent: see above"}
VERDICT, FAILED, USAGE, INFEASIBLE, UNDECIDED, BUDGET, NOTHING, GATE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 130
_OF_ERROR = {
    **dict.fromkeys(("ConfigError", "NoSuchRun", "ParameterError", "PromptError", "ResultFileError"), USAGE),
    "BudgetExceeded": BUDGET,
    "NoOptionLeft": NOTHING,
}


def status_of_verdict(verdict: Verdict) -> int:
    """The status of a finished run. Options that were not measured are ignored where others were measured."""
    if verdict.recommended is not None:
        return VERDICT
    statuses = {option.status for option in verdict.options if option.option not in verdict.not_measured}
    if not statuses:
        return NOTHING
    return INFEASIBLE if statuses <= {"infeasible", "below_quality"} else UNDECIDED


def status_of_error(error: BaseException) -> int:
    """The status of an error, by its class or, if it stopped a notebook, by the class that the notebook reported."""
    if isinstance(error, SystemExit):  # by a signal
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return _OF_ERROR.get(getattr(error, "error_name", "") or type(error).__name__, FAILED)


def in_words(
    status: int, of_check: bool = False, verdict: Verdict | None = None, failed_gates: Sequence[str] = ()
) -> str:
    """The last line of a command: of `plan --check`, or of `report` and `import`, which lists what was not measured."""
    meanings = {**MEANINGS, **MEANINGS_OF_CHECK} if of_check else MEANINGS
    meaning = meanings.get(status_of_verdict(verdict) if verdict else status, "stopped by a signal")
    if verdict is not None and verdict.recommended is not None:
        meaning = f"a verdict: “{verdict.recommended}” is recommended"
    if verdict is not None and verdict.not_measured and status_of_verdict(verdict) != NOTHING:
        meaning += f"; not measured: {', '.join(f'“{name}”' for name in verdict.not_measured)}"
    if failed_gates:
        meaning = f"a gate failed: {'; '.join(failed_gates)} (the run itself: {meaning})"
    return f"exit status {status}: {meaning}"


def table_of_statuses() -> str:
    """All statuses, one line each, for `--help`."""
    return "\n".join(f"  {status:<4} {meaning}" for status, meaning in MEANINGS.items())
