"""Does the gate of `quality` err as rarely as it says, and do intervals of scores hold the truth? Simulated campaigns.

Three options answer 200 prompts, alike by prompt, with known mean scores; with --prompts another number. Run from the project's
folder: .venv/bin/python tests/benchmarks/planted_quality_gate.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

import planted_quality  # noqa: E402

ALLOWED = {
    "equal: refused": "at most 6%",
    "worse by by: passed": "at most 5% (1 - slo.confidence, two options together)",
    "worse by 2 x by: passed": "at most 1%",
    "at min_score: passed": "at most 5%",
    "at min_score: refused": "at most 5%",
    "interval of the score": "93% to 97%",
    "interval of the difference": "93% to 97%",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=300)
    parser.add_argument("--prompts", type=int, default=planted_quality.PROMPTS)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    planted_quality.PROMPTS = given.prompts
    scorers = ("exact_match", "token_f1")
    found = {scorer: planted_quality.campaigns(scorer, given.campaigns, given.seed) for scorer in scorers}
    print(f"{given.campaigns} campaigns of {given.prompts} prompts, by = {planted_quality.BY}, confidence 95%")
    print(f"{'':34}{''.join(f'{scorer:>14}' for scorer in scorers)}   allowed")
    for name in found["exact_match"]:
        shares = "".join(f"{found[scorer][name]:>14.1%}" for scorer in scorers)
        print(f"{name:34}{shares}   {ALLOWED.get(name, '')}")


if __name__ == "__main__":
    main()
