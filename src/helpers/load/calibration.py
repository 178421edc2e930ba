"""How much of what is measured is the client itself: a short attempt against a loopback server with a known schedule.

Done before the first load of a run and kept with it, so that a report can show what the instrument adds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.config.benchmark import BenchmarkConfig
from helpers.config.load import ClosedLoop
from helpers.config.load_level import LoadLevel
from helpers.config.workload import Generation
from helpers.load.address import Address
from helpers.load.attempt_run import Finished
from helpers.load.cluster_processes import ClusterProcesses
from helpers.load.load_processes import LoadProcesses
from helpers.load.loopback_stub import LoopbackStub
from helpers.load.messages import AttemptSpec
from helpers.load.spread import percentiles_ms
from helpers.run.folder import RunFolder

if TYPE_CHECKING:
    from helpers.load.cluster import Cluster

TTFT_S, ITL_S, EVENTS = 0.02, 0.002, 16
SECONDS = 0.7
MOST_STREAMS = 256
OPEN_LOOP_STREAMS = 16
LOAD_PROCESSES = 1


class Measured(NamedTuple):
    """What was measured at one concurrency."""

    level: dict
    """As `instrument.json` lists it."""
    clock_source: str


def calibrate(config: BenchmarkConfig, run: RunFolder, cluster: Cluster | None = None) -> dict:
    """Measure the client at the lowest and the highest concurrency of the config; writes `run.instrument_file`.

    Of a cluster, on each of its nodes. Raises LoadError.
    """
    log_file, streams = run.logs / "calibration.log", _streams(config)
    if cluster is None:
        found = measure_client(streams, log_file)
    else:
        with ClusterProcesses(cluster, log_file) as processes:
            found = {"nodes": processes.calibrate(streams)}
    run.instrument_file.write_text(json.dumps(found, indent=1) + "\n")
    return found


def measure_client(concurrencies: Sequence[int], log_file: Path) -> dict:
    """What the client of this machine adds at each of these concurrencies.

    Overheads are what the client reports minus what the stub's own log says, per request, in ms: from the arrival of
    the request to the write of the first (last) event, so they include loopback both ways.
    """
    with TemporaryDirectory() as scratch, LoopbackStub() as stub, LoadProcesses(log_file, LOAD_PROCESSES) as processes:
        measured = [_measure(stub, processes, streams, Path(scratch)) for streams in concurrencies]
    clocks = {one.clock_source for one in measured}
    return {
        "clock_source": clocks.pop() if len(clocks) == 1 else "mixed",
        "load_processes": LOAD_PROCESSES,
        "levels": [one.level for one in measured],
    }


def _streams(config: BenchmarkConfig) -> list[int]:
    if config.load.largest_level().is_open:
        return [1, OPEN_LOOP_STREAMS]
    highest = min(MOST_STREAMS, int(config.load.largest_level().value))
    return sorted({1, highest})


def _measure(stub: LoopbackStub, processes: LoadProcesses, streams: int, scratch: Path) -> Measured:
    stub.configure(ttft_s=TTFT_S, itl_s=ITL_S, events=EVENTS)
    finished = processes.run(_spec(stub, streams, scratch), lambda progress: None)
    log = {served.request_id: served for served in stub.log()}
    table = pq.read_table(scratch / "records.parquet", filters=[("status", "=", "ok")])
    pairs = [(row, log[row["request_id"]]) for row in table.to_pylist() if row["request_id"] in log]
    # what the client reports - what the stub's own log says
    ttft_ns = [row["first_token_ns"] - row["sent_ns"] - (own.first_ns - own.arrival_ns) for row, own in pairs]
    latency_ns = [row["last_token_ns"] - row["sent_ns"] - (own.last_ns - own.arrival_ns) for row, own in pairs]
    level = {
        "concurrency": streams,
        "requests_per_s": len(pairs) / _seconds(table),
        "ttft_overhead_ms": _spread_ms(ttft_ns),
        "latency_overhead_ms": _spread_ms(latency_ns),
        "cpu_ms_per_request": _cpu_ms(finished),
    }
    return Measured(level, finished.facts.clock_source)


def _spread_ms(values_ns: list[int]) -> dict[str, float]:
    return {"mean": float(np.mean(values_ns)) / 1e6, **percentiles_ms(np.array(values_ns))}


def _seconds(table: pa.Table) -> float:
    return (max(table["done_ns"].to_pylist()) - min(table["sent_ns"].to_pylist())) / 1e9


def _cpu_ms(finished: Finished) -> float:
    """CPU of sending, parsing and writing, per request, ms."""
    seconds = sum(p.cpu_s + p.parse_cpu_s for p in finished.facts.processes) + finished.write_cpu_s
    return seconds / finished.requests * 1e3


def _spec(stub: LoopbackStub, streams: int, scratch: Path) -> AttemptSpec:
    prompts = scratch / "prompts.parquet"
    text = "How long does this take? " * 40
    columns = {"prompt_id": ["calibration"], "text": [text], "rendered": [text], "prompt_tokens": [240]}
    pq.write_table(pa.table(columns), prompts)
    return AttemptSpec(
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
