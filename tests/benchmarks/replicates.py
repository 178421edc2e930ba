"""Do intervals of prices contain how much endpoints of one type differ? Seeded campaigns with a planted spread.

    .venv/bin/python tests/benchmarks/replicates.py [--campaigns 400] [--seed 1]

Each campaign is one option on k endpoints, whose speeds are lognormal; its load point is summarised as that of a run is. Prints,
for spreads and k, how many 95% intervals of the price contain the price of a mean endpoint, and how wide they are; beside it the
same of as many requests to one endpoint.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from planted_replicates import coverage

SPREADS, REPLICATES = (0.0, 0.05, 0.1, 0.2), (2, 3, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of price intervals over endpoints that differ.")
    parser.add_argument("--campaigns", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spreads", type=float, nargs="+", default=SPREADS)
    parser.add_argument("--replicates", type=int, nargs="+", default=REPLICATES)
    arguments = parser.parse_args()
    print("| spread between endpoints | endpoints | coverage | width of the interval | coverage with one endpoint |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for spread in arguments.spreads:
        for replicates in arguments.replicates:
            found = coverage(arguments.campaigns, replicates, spread, arguments.seed)
            shares = f"{found.with_spread:.1%} | {found.mean_width:.0%} | {found.of_one_endpoint:.1%}"
            print(f"| {spread:.0%} | {replicates} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
