"""The command line on a small config whose options are servers behind URLs."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from conftest import small_config

from helpers.__main__ import main

LOAD = {
    "kind": "closed_loop",
    "concurrency": [1, 2],
    "min_requests": 24,
    "warmup_requests": 1,
    "max_duration_s": 10,
    "request_timeout_s": 5,
    "repeat_prompts": True,
}


def openai(name: str, url: str, **more: object) -> dict:
    price = {"usd_per_hour": 1.0, "as_of": "2026-11-01"}
    return {"name": name, "target": "openai", "base_url": url, "served_model": "m", "price": price, **more}


def config_of(folder: Path, *options: dict, **changes: object) -> str:
    datasets = [{"name": "short", "prompt_tokens": [60, 120], "count": 60}]
    return str(small_config(folder, **{"options": list(options), "datasets": datasets, "load": LOAD, **changes}))


def run_main(*arguments: str) -> tuple[int, str]:
    """Exit status, and what a terminal shows."""
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
        status = main(list(arguments))
    return status, said.getvalue()
