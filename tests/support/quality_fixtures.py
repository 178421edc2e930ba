"""A finished run of two options of which the cheaper one answers worse, by the command line, made once for all tests."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import planted_quality
import pytest
from command_line import LOAD, config_of, openai, run_main
from planted_quality import SAMPLES

from helpers.run.folder import RunFolder

QUALITY = {
    "scorer": "numeric",
    "reference": "solution.sums",
    "samples": SAMPLES,
    "gate": {"not_worse_than": {"option": "good", "by": 0.1}},
}


def write_questions(folder: Path) -> None:
    draw = random.Random(4)
    with (folder / "sums.jsonl").open("w", encoding="utf-8") as file:
        for number in range(150):
            one, two = draw.randrange(1000), draw.randrange(1000)
            sums = [f"{one + two:,}"] if number % 10 else None  # every tenth has no reference
            record = {"id": number, "text": f"What is {one} plus {two}?", "solution": {"sums": sums}}
            file.write(json.dumps(record) + "\n")


def run_quality(folder: Path) -> None:
    """A run of two options of which the cheaper one is right in 60 of 100 answers, the other in 90."""
    write_questions(folder)
    server = subprocess.Popen(
        [sys.executable, planted_quality.__file__], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        options = [
            openai("cheap", url, served_model="right-60", model="small model", price={"usd_per_hour": 0.5}),
            openai("good", url, served_model="right-90", price={"usd_per_hour": 2.0}, extra_body={"temperature": 0.7}),
        ]
        config = config_of(
            folder,
            *options,
            prompts={"source": {"kind": "jsonl", "path": "sums.jsonl"}},
            datasets=[{"name": "sums", "prompt_tokens": [1, 100], "count": 140}],
            load={**LOAD, "concurrency": [4], "min_requests": 60, "max_duration_s": 20},
            quality=QUALITY,
            endpoints={"max_parallel_loads": 1},
        )
        status, said = run_main("report", "--config", config)
        (folder / "said.txt").write_text(f"{status}\n{said}")
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def quality_run(made_once) -> RunFolder:
    (run,) = (made_once("quality-run", run_quality) / "runs").iterdir()
    return RunFolder(run)
