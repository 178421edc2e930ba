"""Is the verdict right? Seeded campaigns of simulated options with a known truth, judged by three sets of rules.

    .venv/bin/python tests/benchmarks/planted_truth.py [--campaigns 300] [--seed 1] [--requests 120]

The campaigns are described in `planted_campaigns`, the rules in `planted_rules`, what is counted in `planted_scores`.
Writes runs/benchmarks/planted_truth.json; what each campaign came to is beside it, in planted_truth_campaigns.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import multiprocessing
import shlex
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from planted_rules import RULES  # noqa: E402
from planted_scores import campaign_parser, score_campaign, totals  # noqa: E402

OUTPUT = ROOT / "runs" / "benchmarks"
FIGURES = {
    "contains_true_winner": ("the verdict contains the true winner", "at least 95%"),
    "single_winner_when_clear": ("names it alone where it is >10% cheaper", "at least 70%"),
    "one_left_when_clear": ("names one option alone there, whichever", ""),
    "infeasible_named": ("names an option that is infeasible", "never"),
    "infeasible_load_point_named": ("names an infeasible load point", ""),
    "coverage_95": ("95% intervals contain the truth", "92-98%"),
}


def main() -> None:
    parser = campaign_parser(
        "Is the verdict right? Campaigns whose truth is known.", 300, OUTPUT / "planted_truth.json"
    )
    arguments = parser.parse_args()
    begin = time.monotonic()
    outcomes = run(arguments)
    found = {rule: totals([one[rule] for one in outcomes]) for rule in RULES}
    ours = found.pop("our_rules")
    result = {
        "campaigns": arguments.campaigns,
        "seed": arguments.seed,
        "requests_per_load_point": arguments.requests,
        "command": shlex.join(["python", *sys.argv]),
        "seconds": round(time.monotonic() - begin, 1),
        **ours,
        **found,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    each = arguments.output.with_name(f"{arguments.output.stem}_campaigns.json")
    each.write_text(json.dumps([_without_intervals(one) for one in outcomes], indent=1) + "\n")
    print(table(result))
    if arguments.causes:
        print(causes(result))
    print(f"\n{result['seconds']:.0f} s; written: {arguments.output}")


def run(arguments: argparse.Namespace) -> list[dict]:
    """The outcomes of all campaigns, by seed."""
    score = partial(
        score_campaign,
        requests=arguments.requests,
        truth_requests=arguments.truth_requests,
        cache=OUTPUT / ".cache",
    )
    seeds = range(arguments.seed, arguments.seed + arguments.campaigns)
    outcomes = []
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for done, one in enumerate(pool.imap(score, seeds), 1):
            outcomes.append(one)
            if sys.stderr.isatty():
                print(f"\r{done} of {arguments.campaigns} campaigns", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    return outcomes


def _without_intervals(outcomes: dict[str, dict]) -> dict[str, dict]:
    return {rule: {k: v for k, v in one.items() if k != "intervals"} for rule, one in outcomes.items()}


def table(result: dict) -> str:
    """One row per figure, one column per set of rules."""
    plain, reference = result["plain_interval_rule"], result["reference_rules"]
    rules = {"ours": result, "plain intervals": plain, "report of 2024": reference}
    lines = [
        f"{result['campaigns']} campaigns of {result['requests_per_load_point']} requests a load point",
        f"{'':48}" + "".join(f"{name:>17}" for name in rules) + f"{'wanted':>15}",
    ]
    for key, (words, wanted) in FIGURES.items():
        cells = "".join(f"{_percent(figures[key]):>17}" for figures in rules.values())
        lines.append(f"{words:48}{cells}{wanted:>15}")
        if key == "coverage_95":
            for quantity in result["coverage_95_by_quantity"]:
                cells = "".join(
                    f"{_percent(figures['coverage_95_by_quantity'][quantity]):>17}" for figures in rules.values()
                )
                lines.append(f"    of {quantity:41}{cells}")
    asked = result["asked"]
    lines.append(
        f"{asked['single_winner']} campaigns have a clear winner; in {asked['infeasible_named']} an option is feasible by 10%"
    )
    return "\n".join(lines)


def causes(result: dict) -> str:
    """What went wrong with our rules, and where their intervals miss."""
    lines = []
    for what, counts in result["causes"].items():
        lines += ["", f"{what}: {sum(counts.values())}", *(f"{count:5}  {cause}" for cause, count in counts.items())]
    lines += ["", f"{'intervals':74}{'covered':>9}{'below':>7}{'above':>7}{'none':>7}{'n':>7}"]
    for place, row in result["coverage_95_by_place"].items():
        counts = "".join(f"{row[name]:>7}" for name in ("below", "above", "none", "n"))
        lines.append(f"{place:74}{_percent(row['coverage']):>9}{counts}")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


if __name__ == "__main__":
    main()
