"""Orders for load processes, a server that answers them as they ask, and what came of them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from helpers.config.load import ClosedLoop, LoadBase
from helpers.config.load_level import LoadLevel
from helpers.config.workload import Generation
from helpers.load.address import Address
from helpers.load.load_processes import LoadProcesses
from helpers.load.messages import AttemptSpec
from helpers.metrics.formulas import with_latencies
from helpers.run.records import AttemptFacts, read_facts, read_requests

TOKENS = 8
STUB = Path(__file__).with_name("stub_server.py")


@contextmanager
def moody_stub(host: str = "127.0.0.1") -> Iterator[str]:
    """The URL of `stub_server.py`, which answers each request as its `behaviour` says, in a process of its own."""
    process = subprocess.Popen([sys.executable, str(STUB), host], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://{host}:{process.stdout.readline().strip()}/v1"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def server_log(url: str) -> dict[str, dict]:
    """Request id -> what that server noted of it."""
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/log", timeout=30) as answer:
        return json.load(answer)


def write_prompts_file(folder: Path, prompts: int) -> Path:
    rows = pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(prompts)],
            "text": [f"Question number {i}?" for i in range(prompts)],
            "rendered": [f"<user>Question number {i}?<assistant>" for i in range(prompts)],
            "prompt_tokens": [11] * prompts,
        }
    )
    path = folder / "prompts.parquet"
    rows.to_parquet(path)
    return path


def spec_of(
    folder: Path,
    url: str,
    behaviour: str = "stream",
    api: str = "openai_chat",
    prompts: int = 200,
    address: dict | None = None,
    tokens: int = TOKENS,
    fixed_output_length: bool = False,
    load: LoadBase | None = None,
    level: LoadLevel | None = None,
    **closed_loop: object,
) -> AttemptSpec:
    """A load point against a stub: a closed loop unless a load and its level are given.

    Times out late: a machine that stands still for a moment is no failure of a request.
    """
    (folder / "requests").mkdir(exist_ok=True)
    if load is None:
        known = {"concurrency": [1], "min_requests": 6, "warmup_requests": 1, "request_timeout_s": 20}
        load = ClosedLoop(**{**known, "max_duration_s": 30, **closed_loop})
        level = load.levels()[0]
    known = {"url": url, "api": api, "framing": "plain", "request_id_header": "X-Request-Id"}
    return AttemptSpec(
        option="stub",
        dataset=behaviour,
        level=level,
        repetition=1,
        seed=1,
        address=Address(**{**known, **(address or {})}),
        load=load,
        generation=Generation(max_output_tokens=tokens, fixed_output_length=fixed_output_length),
        extra_body={"behaviour": behaviour},
        tokenizer="synthetic:2m",
        prompts_file=str(write_prompts_file(folder, prompts)),
        prompt_tokens_column="prompt_tokens",
        output_file=str(folder / "requests" / "point.parquet"),
    )


def measure(processes: LoadProcesses, spec: AttemptSpec) -> tuple[pd.DataFrame, AttemptFacts]:
    """Run a load point; its records with latencies, and its facts, both read back from the file."""
    processes.run(spec, on_progress=lambda progress: None)
    folder = Path(spec.output_file).parent
    return with_latencies(read_requests(folder)), read_facts(folder)[0]


def mean_in_flight(requests: pd.DataFrame, facts: AttemptFacts) -> float:
    """Mean number of requests under way in the steady window."""
    opened, closed = facts.window_open_ns, facts.window_close_ns
    inside = requests["done_ns"].clip(upper=closed) - requests["sent_ns"].clip(lower=opened)
    return inside.clip(lower=0).sum() / (closed - opened)
