"""How much of what is measured is the client itself: a short load point against a loopback server with a known schedule.

Done before the first load of a run and kept beside it, so that a report can show what the instrument adds.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.config import BenchmarkConfig, Generation
from helpers.load.conductor import Finished
from helpers.load.loopback_stub import LoopbackStub
from helpers.load.order import Order
from helpers.load.team import LoadTeam
from helpers.load_config import ClosedLoop, LoadLevel
from helpers.targets.base import Address

TTFT_S, ITL_S, EVENTS = 0.02, 0.002, 16
SECONDS = 0.7
MOST_STREAMS = 256
OPEN_LOOP_STREAMS = 16
FILE_NAME = "instrument.json"


def calibrate(config: BenchmarkConfig, folder: Path, log_file: Path) -> dict:
    """Measure the client at the lowest and the highest concurrency of the config; writes `instrument.json`.

    Overheads are what the client reports minus what the stub's own log says, per request, in ms: from the arrival of
    the request to the write of the first (last) event, so that loopback both ways is in them.
    """
    with TemporaryDirectory() as scratch, LoopbackStub() as stub, LoadTeam(log_file) as team:
        levels = [_measure(stub, team, streams, Path(scratch)) for streams in _streams(config)]
    found = {
        "clock_source": levels[-1].pop("clock_source"),
        "load_processes": 1,
        "levels": [{k: v for k, v in level.items() if k != "clock_source"} for level in levels],
    }
    (folder / FILE_NAME).write_text(json.dumps(found, indent=1) + "\n")
    return found


def _streams(config: BenchmarkConfig) -> list[int]:
    if config.load.level_kind != "closed_loop":
        return [1, OPEN_LOOP_STREAMS]
    highest = min(MOST_STREAMS, int(config.load.largest_level().value))
    return sorted({1, highest})


def _measure(stub: LoopbackStub, team: LoadTeam, streams: int, scratch: Path) -> dict:
    stub.configure(ttft_s=TTFT_S, itl_s=ITL_S, events=EVENTS)
    finished = team.run(_order(stub, streams, scratch), lambda progress: None)
    served = {request.request_id: request for request in stub.log()}
    table = pq.read_table(scratch / "records.parquet", filters=[("status", "=", "ok")])
    rows = [row for row in table.to_pylist() if row["request_id"] in served]
    ttft = [_overhead_ms(row, "first_token_ns", served[row["request_id"]].first_ns, served) for row in rows]
    latency = [_overhead_ms(row, "last_token_ns", served[row["request_id"]].last_ns, served) for row in rows]
    facts = finished.facts
    return {
        "concurrency": streams,
        "requests_per_s": len(rows) / _seconds(table),
        "ttft_overhead_ms": _spread(ttft),
        "latency_overhead_ms": _spread(latency),
        "cpu_ms_per_request": _cpu_ms(finished),
        "clock_source": facts.clock_source,
    }


def _overhead_ms(row: dict, column: str, served_ns: int, served: dict) -> float:
    own = row[column] - row["sent_ns"]
    return (own - (served_ns - served[row["request_id"]].arrival_ns)) / 1e6


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "mean": float(np.mean(values)),
        "p50": float(np.percentile(values, 50)),
        "p99": float(np.percentile(values, 99)),
        "max": float(np.max(values)),
    }


def _seconds(table: pa.Table) -> float:
    return (max(table["done_ns"].to_pylist()) - min(table["sent_ns"].to_pylist())) / 1e9


def _cpu_ms(finished: Finished) -> float:
    """CPU of sending, parsing and writing, per request, ms."""
    seconds = sum(p.cpu_s + p.parse_cpu_s for p in finished.facts.processes) + finished.write_cpu_s
    return seconds / finished.requests * 1e3


def _order(stub: LoopbackStub, streams: int, scratch: Path) -> Order:
    prompts = scratch / "prompts.parquet"
    text = "How long does this take? " * 40
    columns = {"prompt_id": ["calibration"], "text": [text], "rendered": [text], "prompt_tokens": [240]}
    pq.write_table(pa.table(columns), prompts)
    return Order(
        option="calibration",
        dataset="calibration",
        level=LoadLevel("closed_loop", streams),
        repetition=1,
        seed=0,
        address=Address(
            url=stub.chat_url,
            api="openai_chat",
            framing="plain",
            request_id_header="X-Request-Id",
            ca_file=stub.ca_file,
        ),
        load=ClosedLoop(
            concurrency=[streams], min_requests=1, max_duration_s=SECONDS, min_duration_s=SECONDS, repeat_prompts=True
        ),
        generation=Generation(max_output_tokens=EVENTS),
        extra_body={},
        tokenizer="none",
        prompts_file=str(prompts),
        prompt_tokens_column="prompt_tokens",
        output_file=str(scratch / "records.parquet"),
    )
