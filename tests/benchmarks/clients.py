"""The two clients, each driven for one load and looked at from outside.

`ours`: the load generator of `helpers.load`, as the notebooks drive it. `aiohttp`: `aiohttp_client.py`. Both give a
`Sample`; their CPU is all that they spend on a load: sending, parsing, and writing the records.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from helpers.config.load import ClosedLoop, OpenLoop
from helpers.config.load_level import LoadLevel
from helpers.config.workload import Conversations, Generation
from helpers.load.address import Address, SigV4
from helpers.load.load_processes import LoadProcesses
from helpers.load.messages import AttemptSpec, SessionSpec
from helpers.load.precise_timer import PreciseTimer
from helpers.run.records import AttemptFacts

EVENTS = 64
PROMPTS = 512
PROMPT_WORDS = 300
THINK_S = 0.5
WORDS = ("the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "with", "as", "at", "be")
LONGEST_REST_S = 60.0
"""After this long beyond its time, with drain and parsing, a load is ended and the benchmark fails."""
AIOHTTP_CLIENT = Path(__file__).with_name("aiohttp_client.py")
RECORD_COLUMNS = ["request_id", "scheduled_ns", "sent_ns", "first_token_ns", "last_token_ns", "chunk_ns"]
RECORD_COLUMNS += ["status", "error"]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Work:
    """What a client is to do. `rate` null: a closed loop of `concurrency`; else an open loop."""

    url: str
    form: str
    ca_file: str | None
    concurrency: int | None
    rate: float | None
    arrivals: str | None
    seconds: float
    processes: int = 1
    turns: int = 1
    """Of a conversation. More than one: `concurrency` users, who think for THINK_S between turns."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds per process, over N seconds."""

    wall_s: float
    client_s: float
    server_s: float
    everything_s: float

    def __sub__(self, earlier: Usage) -> Usage:
        now, then = astuple(self), astuple(earlier)
        return Usage(*(b - a for a, b in zip(then, now, strict=True)))

    @property
    def others_s(self) -> float:
        """Of what is neither client nor server."""
        return max(0.0, self.everything_s - self.client_s - self.server_s)


@dataclass(frozen=True)
class Sample:
    """What came of it."""

    requests: pd.DataFrame
    """All, in the order in which they were sent: `request_id`, `scheduled_ns`, `sent_ns`, `first_token_ns`,
    `last_token_ns`, `chunk_ns`."""
    cpu_s: float
    cpu_share: float
    """CPU seconds per second while it sent, of the busiest load process."""
    peak_memory_mb: float
    """Of the load process; the largest if there are more."""
    clock_source: str
    used: Usage


@cache
def prompt_texts() -> list[str]:
    """Seeded prompts of about 300 tokens."""
    rng = np.random.default_rng(1)
    return [" ".join(rng.choice(WORDS, PROMPT_WORDS)) for _ in range(PROMPTS)]


# --- ours ---------------------------------------------------------------------------------------------------------


def measure_ours(work: Work, folder: Path, server_pid: int, begin: Callable[[], None]) -> Sample:
    """Run the load in load processes of its own. `begin()` is called between their warming up and the load."""
    with LoadProcesses(log_file=folder / "load.log", processes=work.processes, first_place=0) as processes:
        return measure_with(processes, processes.pids, work, folder, server_pid, begin)


def measure_with(
    processes: LoadProcesses, pids: list[int], work: Work, folder: Path, server_pid: int, begin: Callable[[], None]
) -> Sample:
    """Run the load in these load processes, wherever they are; `pids`: theirs on this machine."""
    imports = replace(work, concurrency=work.processes, rate=None, seconds=0.3)
    _run(processes, spec_of(imports, folder), imports.seconds)
    begin()
    spec = spec_of(work, folder)
    before = usage(server_pid, pids)
    facts = _run(processes, spec, work.seconds)
    used = usage(server_pid, pids) - before
    peak_memory_mb = max(map(peak_memory, pids))
    table = pq.read_table(spec.output_file, columns=RECORD_COLUMNS).to_pandas()
    failed = table[table["status"] != "ok"]
    if len(failed):
        raise RuntimeError(f"{len(failed)} of {len(table)} requests failed, the first: {failed.iloc[0].to_dict()}")
    return Sample(
        requests=table.sort_values("sent_ns", ignore_index=True),
        cpu_s=used.client_s,
        cpu_share=max(process.cpu_share for process in facts.processes),
        peak_memory_mb=peak_memory_mb,
        clock_source=facts.clock_source,
        used=used,
    )


def spec_of(work: Work, folder: Path, requests: int | None = None) -> AttemptSpec:
    """What to run for a load of `work.seconds`, or of so many requests."""
    common = {
        "min_requests": requests or 1_000_000,
        "max_duration_s": 60 if requests else work.seconds,
        "repeat_prompts": requests is None,
        "processes": work.processes,
    }
    if work.rate is None:
        load = ClosedLoop(kind="closed_loop", concurrency=[work.concurrency], warmup_requests=1, **common)
        level = LoadLevel("closed_loop" if work.turns == 1 else "users", work.concurrency)
    else:
        load = OpenLoop(kind="open_loop", rate=[work.rate], arrivals=work.arrivals, **common)
        level = LoadLevel("open_loop", work.rate)
    sigv4 = None
    if work.form == "sagemaker":
        profile = folder / "aws_config"
        profile.write_text("[profile benchmark]\naws_access_key_id = benchmark\naws_secret_access_key = benchmark\n")
        sigv4 = SigV4(service="sagemaker", region="us-east-1", profile="benchmark", config_file=str(profile))
    address = Address(
        url=work.url,
        api="openai_chat",
        framing="aws_event_stream" if work.form == "sagemaker" else "plain",
        request_id_header="X-Amzn-SageMaker-Inference-Id" if work.form == "sagemaker" else "X-Request-Id",
        served_model="stub",
        sigv4=sigv4,
        ca_file=work.ca_file,
    )
    (folder / "requests").mkdir(exist_ok=True)
    return AttemptSpec(
        option="benchmark",
        dataset="benchmark",
        level=level,
        repetition=1,
        seed=1,
        address=address,
        load=load,
        generation=Generation(max_output_tokens=EVENTS),
        extra_body={},
        tokenizer="synthetic:2m",
        sessions=_sessions(work.turns) if work.turns > 1 else None,
        prompts_file=str(_prompts_file(folder, requests or PROMPTS, work.turns)),
        prompt_tokens_column="prompt_tokens",
        output_file=str(folder / "requests" / "point.parquet"),
    )


def _sessions(turns: int) -> SessionSpec:
    conversations = Conversations(think_time_s=THINK_S, history="answered")
    return SessionSpec(conversations=conversations, context_tokens=1_000_000, mean_turns=turns)


def _prompts_file(folder: Path, count: int, turns: int) -> Path:
    path = folder / f"prompts_{count}_{turns}.parquet"
    if not path.is_file():
        texts = prompt_texts()[:count]
        ids = [f"p{number}" for number in range(count)]
        columns = {"prompt_id": ids, "text": texts, "rendered": texts, "prompt_tokens": PROMPT_WORDS}
        if turns > 1:
            said = [{"system": "", "turns": [[text, "recorded"]] * turns} for text in texts]
            columns["conversation"] = [json.dumps(each) for each in said]
            columns["turns:prompt_tokens"] = [[PROMPT_WORDS * turn for turn in range(1, turns + 1)]] * count
        pd.DataFrame(columns).to_parquet(path)
    return path


def _run(processes: LoadProcesses, spec: AttemptSpec, seconds: float) -> AttemptFacts:
    """The load to its end, or LoadError if it has none."""
    watchdog = threading.Timer(seconds + LONGEST_REST_S, processes.kill)
    watchdog.start()
    try:
        return processes.run(spec, on_progress=_ignore).facts
    finally:
        watchdog.cancel()


def _ignore(progress: object) -> None:
    """Nobody watches a benchmark's load points."""


def send_ten_requests() -> None:
    """A whole life: read the work from standard input, start a load process, send ten requests, write the records."""
    given = json.load(sys.stdin)
    folder = Path(given.pop("folder"))
    with LoadProcesses(log_file=folder / "load.log", processes=1, first_place=0) as processes:
        requests = processes.run(spec_of(Work(**given), folder, requests=10), on_progress=_ignore).requests
        peak_memory_mb = peak_memory(os.getpid()) + sum(peak_memory(pid) for pid in processes.pids)
    print(json.dumps({"requests": requests, "peak_memory_mb": peak_memory_mb}))


# --- nobody -------------------------------------------------------------------------------------------------------


def timer_lateness_ns(rate: float, seconds: float) -> list[int]:
    """How late this machine wakes a process that does nothing but wait for a constant schedule; no client is better."""
    lateness: list[int] = []

    async def wait() -> None:
        over = asyncio.Event()
        start, gap_ns, count = time.monotonic_ns() + 10_000_000, 1e9 / rate, round(rate * seconds)

        def ring() -> None:
            while len(lateness) < count:
                due = start + round(len(lateness) * gap_ns)
                now = time.monotonic_ns()
                if due > now:
                    timer.set(due)
                    return
                lateness.append(now - due)
            over.set()

        timer = PreciseTimer(ring)
        timer.set(start)
        await over.wait()
        timer.close()

    asyncio.run(wait())
    return lateness


# --- aiohttp ------------------------------------------------------------------------------------------------------


def measure_aiohttp(work: Work, folder: Path, server_pid: int, begin: Callable[[], None]) -> Sample:
    """Run the load in a process of its own; closed loops of one process only."""
    records_file = folder / "aiohttp.jsonl"
    begin()
    before = usage(server_pid, [])
    result = run_aiohttp(work, records_file)
    used = usage(server_pid, []) - before
    with records_file.open() as file:
        records = [json.loads(line) for line in file]
    columns = {
        "request_id": [row["request_id"] for row in records],
        "scheduled_ns": None,
        "sent_ns": [round(row["sent_s"] * 1e9) for row in records],
        "first_token_ns": [round((row["sent_s"] + row["ttft_s"]) * 1e9) for row in records],
        "last_token_ns": [round((row["sent_s"] + row["latency_s"]) * 1e9) for row in records],
        "chunk_ns": [_stamps_ns(row) for row in records],
    }
    return Sample(
        requests=pd.DataFrame(columns).sort_values("sent_ns", ignore_index=True),
        cpu_s=result["cpu_s"],
        cpu_share=result["cpu_share"],
        peak_memory_mb=result["peak_memory_mb"],
        clock_source="user",
        used=used,
    )


def run_aiohttp(work: Work, records_file: Path) -> dict:
    """What `aiohttp_client.py` prints."""
    body = {
        "messages": [{"role": "user", "content": prompt_texts()[0]}],
        "model": "stub",
        "max_tokens": EVENTS,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    given = {
        "url": work.url,
        "ca_file": work.ca_file,
        "concurrency": work.concurrency,
        "seconds": work.seconds,
        "body": body,
        "records_file": str(records_file),
    }
    done = subprocess.run(
        [sys.executable, str(AIOHTTP_CLIENT)],
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=work.seconds + LONGEST_REST_S,
    )
    return json.loads(done.stdout)


def _stamps_ns(row: dict) -> np.ndarray:
    return ((row["sent_s"] + row["ttft_s"] + np.cumsum([0.0, *row["itl_s"]])) * 1e9).round().astype("int64")


# --- looking at processes from outside, on Linux ----------------------------------------------------------------------------


def usage(server_pid: int, client_pids: list[int]) -> Usage:
    """So far. The client is this process, its ended children and `client_pids`."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    client_s = time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(_cpu_s, client_pids))
    user, nice, system, _, _, _, _, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    everything_s = (user + nice + system + steal) / TICKS_PER_S
    return Usage(time.monotonic(), client_s, _cpu_s(server_pid), everything_s)


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process, all threads; resolution 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def peak_memory(pid: int) -> float:
    """Highest resident memory of a process so far, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
