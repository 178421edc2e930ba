"""What does a race save on a real engine? The quickstart raced and in full, by turns: verdict, requests and time of each.

    .venv/bin/python tests/benchmarks/raced_pairs.py [--pairs 5] [--config configs/quickstart.yml]

Each is a whole `make report` in a run folder of its own under runs/benchmarks/raced_pairs, on the same machine: leave it alone
meanwhile. Writes runs/benchmarks/raced_pairs.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path

import yaml

from helpers.load.race_points import BASES
from helpers.run.folder import RunFolder
from helpers.run.records import read_facts
from helpers.series.series import run_series
from helpers.verdict.verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "runs" / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(description="A config raced and in full, by turns, on this machine.")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "quickstart.yml")
    arguments = parser.parse_args()
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        configs = {is_raced: write_config(Path(folder), arguments.config, is_raced) for is_raced in (True, False)}
        for number in range(arguments.pairs):
            turns = (True, False) if number % 2 == 0 else (False, True)
            found = {
                is_raced: figures_of(run_series(str(configs[is_raced]), say=lambda line: None)) for is_raced in turns
            }
            raced, full = found[True], found[False]
            pairs.append({"raced": raced, "full": full, "same_option": raced["option"] == full["option"]})
            print(f"{number + 1}. raced: {words(raced)}\n   full:  {words(full)}", flush=True)
    same = sum(pair["same_option"] for pair in pairs)
    shares = {
        key: sum(p["raced"][key] for p in pairs) / sum(p["full"][key] for p in pairs) for key in ("requests", "minutes")
    }
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "same_option": same,
        "raced_of_full": shares,
        "pairs": pairs,
    }
    output = OUTPUT / "raced_pairs.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"The same option in {same} of {len(pairs)} pairs; the race took {shares['requests']:.0%} of the requests and "
        f"{shares['minutes']:.0%} of the time of notebook 03; written: {output}"
    )


def write_config(folder: Path, config: Path, is_raced: bool) -> Path:
    """A config that differs from this one in whether it races."""
    path = folder / f"{'raced' if is_raced else 'full'}.yml"
    changes = {
        "extends": str(config.resolve()),
        "load": {"race": is_raced},
        "run_root": str(OUTPUT / "raced_pairs" / path.stem),
    }
    path.write_text(yaml.safe_dump(changes))
    return path


def figures_of(run: RunFolder) -> dict:
    """What a run found, and what that took."""
    verdict = Verdict.model_validate_json((run.path / "verdict.json").read_text(encoding="utf-8"))
    (notebook,) = (run.path / "notebooks").glob("03_*.ipynb")
    chosen = next((option for option in verdict.options if option.option == verdict.recommended), None)
    return {
        "run": run.run_id,
        "option": verdict.recommended,
        "tied": verdict.tied,
        "loads": {point.dataset: point.load for point in chosen.points} if chosen else {},
        verdict.cost_basis: chosen.cost.value if chosen and chosen.cost else None,
        "requests": sum(process.requests for facts in read_facts(run.requests) for process in facts.processes),
        "minutes": json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"] / 60,
    }


def words(figures: dict) -> str:
    loads = ", ".join(f"{load} on {dataset}" for dataset, load in figures["loads"].items())
    price = "".join(f", {figures[basis]:.3g} {basis}" for basis in BASES if figures.get(basis))
    tied = f", tied with {', '.join(figures['tied'])}" if figures["tied"] else ""
    named = f"{figures['option']} at {loads}{price}{tied}" if figures["option"] else "no option is named"
    return f"{named}; {figures['requests']:,} requests, {figures['minutes']:.1f} min"


if __name__ == "__main__":
    main()
