"""Runs that several test files read, imported through the front door: the measurements of January 2024, and twins."""

from __future__ import annotations

from pathlib import Path

import reference_rules as rules
import result_files as files
import yaml

from helpers.__main__ import main
from helpers.config.benchmark import PROJECT_ROOT
from helpers.run.folder import RunFolder

REFERENCE = PROJECT_ROOT.parent / "shared" / "reference" / "llama2-13b-inf2-g5-p4d"
BINS = {
    "en_1-500": [1, 500],
    "en_500-1000": [500, 1000],
    "en_1000-2000": [1000, 2000],
    "en_2000-3000": [2000, 3001],
    "en_3000-4000": [3000, 4000],
}


def import_reference(folder: Path, datasets: list[str], slo: dict, status: int = 0) -> None:
    """`make import` on the reference's raw data, options named as its experiments are."""
    prices = {
        row["instance_type"]: row["price_per_hour"]
        for row in rules.read_csv(REFERENCE / "instance_pricing_per_hour.csv")
    }
    experiments = {
        row["experiment_name"]: row["instance_type"] for row in rules.read_csv(REFERENCE / "all_metrics.csv")
    }
    config = {
        "name": "reference",
        "run_root": str(folder / "runs"),
        "model": {"name": "Llama-2-13b", "tokenizer": "NousResearch/Llama-2-13b-chat-hf", "context_tokens": 4096},
        "datasets": [{"name": name, "prompt_tokens": BINS[name]} for name in datasets],
        "generation": {"max_output_tokens": 100},
        "options": [
            {
                "name": name,
                "target": "imported",
                "format": "fmbench_volleys",
                "path": str(REFERENCE / "all_metrics.csv"),
                "select": {"experiment_name": name},
                "instance_type": instance,
                "price": {"usd_per_hour": float(prices[instance]), "source": "published", "as_of": "2024-01-23"},
            }
            for name, instance in sorted(experiments.items())
        ],
        "load": {"kind": "closed_loop", "concurrency": [1, 2, 4]},
        "slo": {"percentile": 95, "latency_s": 20, "confidence": 0.95, **slo},
        "traffic": {"requests_per_minute": 100},
    }
    path = folder / "reference.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(["import", "--config", str(path)]) == status


def run_in(folder: Path) -> RunFolder:
    (run,) = (folder / "runs").iterdir()
    return RunFolder(run)


def import_twins(folder: Path, limit_s: float, status: int) -> None:
    """Import two options with the same results."""
    files.write_json(folder / "results.json", files.vllm(files.closed_loop(4, 60)))
    options = [files.option(name, "vllm", ["results.json"]) for name in ("a", "b")]
    slo = {"percentile": 90, "latency_s": limit_s, "error_rate": 0.1, "confidence": 0.9}
    assert main(["import", "--config", str(files.write_config(folder, *options, slo=slo))]) == status
    (page,) = folder.glob("runs/*/report.html")
    page.rename(folder / page.name)
