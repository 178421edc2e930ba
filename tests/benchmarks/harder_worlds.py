"""Is the verdict right in harder worlds? Seeded campaigns of simulated options with a known truth, world by world: measured in
full, and raced.

    .venv/bin/python tests/benchmarks/harder_worlds.py [--campaigns 60] [--seed 1] [--requests 120] [--worlds calm drift ...]

The worlds are described in `planted_worlds`. Hours and dollars are those of endpoints that are loaded one after the other, with
ten minutes of start-up each; those of the race stand as a share of what measuring in full takes. Writes
runs/benchmarks/harder_worlds.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import multiprocessing
import shlex
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from planted_scores import SPENT, campaign_parser, score_world, totals  # noqa: E402
from planted_worlds import WORLDS  # noqa: E402

OUTPUT = ROOT / "runs" / "benchmarks"
COLUMNS = {
    "held": ("contains_true_winner", ">= 97%"),
    "infeas.": ("infeasible_named", "<= 1%"),
    "at inf. load": ("infeasible_load_point_named", "<= 1%"),
    "single": ("single_winner_when_clear", ">= 95%"),
    "p95": ("latency", ">= 90%"),
    "rate": ("requests_per_s", ">= 90%"),
    "price": ("price", ">= 90%"),
    "within 5%": ("within_5_percent", ">= 95%"),
    "alarmed": ("alarmed", "calm <= 5%"),
}
"""Header -> figure of `planted_scores.totals`, or quantity whose 95% intervals are counted; what is wanted."""


def main() -> None:
    parser = campaign_parser(
        "Is the verdict right in harder worlds? Campaigns whose truth is known.", 60, OUTPUT / "harder_worlds.json"
    )
    parser.add_argument("--worlds", nargs="*", choices=list(WORLDS), default=list(WORLDS))
    arguments = parser.parse_args()
    begin, found = time.monotonic(), {}
    score = partial(
        score_world, requests=arguments.requests, truth_requests=arguments.truth_requests, cache=OUTPUT / ".cache"
    )
    seeds = range(arguments.seed, arguments.seed + arguments.campaigns)
    print(
        f"{arguments.campaigns} campaigns of each world, seeds from {arguments.seed}, {arguments.requests} requests a load point"
    )
    print(_line("", [*COLUMNS, *SPENT], "clear"))
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for world in arguments.worlds:
            jobs, full = [(world, seed) for seed in seeds], {}
            for name, raced in ((world, False), (f"{world}, raced", True)):
                outcomes = list(pool.imap(partial(score, raced=raced), jobs))
                found[name] = totals(outcomes)
                print(row(name, found[name], full), flush=True)
                if arguments.causes:
                    print(causes(outcomes), flush=True)
                full = found[name]["spent"]
    print(_line("wanted", [*(wanted for _, wanted in COLUMNS.values()), "<= 50%", "<= 75%", ""], ""))
    result = {
        "campaigns": arguments.campaigns,
        "seed": arguments.seed,
        "requests_per_load_point": arguments.requests,
        "command": shlex.join(["python", *sys.argv]),
        "seconds": round(time.monotonic() - begin, 1),
        "worlds": found,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['seconds']:.0f} s; written: {arguments.output}")


def row(name: str, figures: dict, full: dict[str, float]) -> str:
    """The line of a world; `full` is what measuring in full takes."""
    values = figures | figures["coverage_95_by_quantity"]
    cells = ["–" if values[key] is None else f"{values[key]:.1%}" for key, _ in COLUMNS.values()]
    spent = [f"{value / full[key]:.0%}" if full else f"{value:,.0f}" for key, value in figures["spent"].items()]
    return _line(name, [*cells, *spent], str(figures["asked"]["single_winner"]))


def causes(outcomes: list[dict]) -> str:
    """What went wrong, campaign by campaign."""
    return "\n".join(f"    {o['seed']}: {what}: {why}" for o in outcomes for what, why in o["why"].items())


def _line(first: str, cells: list[str], last: str) -> str:
    return f"{first:24}" + "".join(f"{cell:>13}" for cell in cells) + f"{last:>8}"


if __name__ == "__main__":
    main()
