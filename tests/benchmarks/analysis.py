"""Time and peak memory of analysing many request records: `make benchmark-analysis`.

    .venv/bin/python tests/benchmarks/analysis.py [--records 1000000] [--chunks 64] [--load-points 10]

Makes a run folder of that many records (with the times of all chunks of every answer) in a temporary folder, analyses it
in a process of its own as notebook 04 does, and writes runs/benchmarks/analysis.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from examples import endpoint, facts, make_config, option  # noqa: E402

from helpers.run.folder import RunFolder  # noqa: E402
from helpers.run.records import METADATA_KEY, SCHEMA, facts_metadata  # noqa: E402

OUTPUT = ROOT / "runs" / "benchmarks" / "analysis.json"
BLOCK = 20_000
"""Records per row group."""
WORKERS = 64
SERVICE_NS, CHUNK_NS = 200_000_000, 20_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of analysing many request records.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--chunks", type=int, default=64, help="of each answer; 0: no chunk times")
    parser.add_argument("--load-points", type=int, default=10)
    parser.add_argument("--analyse", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.analyse:
        print(json.dumps(analyse(Path(arguments.analyse))))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "benchmark-20260101-000000")
        size = write_run(run, arguments.records, arguments.chunks, arguments.load_points)
        command = [sys.executable, __file__, "--analyse", str(run.path)]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    result = {
        "records": arguments.records,
        "chunks_per_record": arguments.chunks,
        "load_points": arguments.load_points,
        "file_mb": size / 1e6,
        **found,
        "command": shlex.join(["python", *sys.argv]),
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        f"{arguments.records:,} records with {arguments.chunks} chunk times each, {arguments.load_points} load points, "
        f"{size / 1e6:,.0f} MB on disk: read, summarised, checked and judged in {found['seconds']:.1f} s, "
        f"at most {found['peak_memory_mb']:,.0f} MB of memory"
    )


def write_run(run: RunFolder, records: int, chunks: int, load_points: int) -> int:
    """Write the records of one option at N levels; returns the bytes of the files."""
    each, rng = records // load_points, np.random.default_rng(1)
    levels = list(range(1, load_points + 1))
    for level in levels:
        span_ns = each // WORKERS * SERVICE_NS
        name = f"a__short__c{level}__r0"
        about = facts(0, span_ns / 1e9, level=float(level), load_point=name)
        schema = SCHEMA.with_metadata({METADATA_KEY: facts_metadata(about).encode()})
        with pq.ParquetWriter(run.requests / f"{name}.parquet", schema, compression="zstd") as writer:
            for first in range(0, each, BLOCK):
                writer.write_table(_block(rng, name, level, first, min(BLOCK, each - first), chunks, schema))
    (run.path / "run.json").write_text(json.dumps({"machine": {"vcpus": 2}, "levels": levels}))
    return sum(path.stat().st_size for path in run.requests.glob("*.parquet"))


def _block(
    rng: np.random.Generator, name: str, level: int, first: int, n: int, chunks: int, schema: pa.Schema
) -> pa.Table:
    sent = (np.arange(first, first + n) // WORKERS) * SERVICE_NS
    first_token = sent + rng.integers(20_000_000, 60_000_000, n)
    gaps = rng.exponential(CHUNK_NS, (n, max(chunks, 1))).astype(np.int64)
    gaps[:, 0] = 0
    times = first_token[:, None] + gaps.cumsum(axis=1)
    known = {
        "option": np.full(n, "a"),
        "dataset": np.full(n, "short"),
        "load_point": np.full(n, name),
        "level": np.full(n, float(level)),
        "repetition": np.zeros(n, dtype=np.int32),
        "request_id": [f"{name}-{i}" for i in range(first, first + n)],
        "prompt_id": [f"p{i % 100_000}" for i in range(first, first + n)],
        "phase": np.full(n, "steady"),
        "sent_ns": sent,
        "first_byte_ns": first_token,
        "first_token_ns": first_token,
        "last_token_ns": times[:, -1],
        "done_ns": times[:, -1],
        "load_process": np.zeros(n, dtype=np.int32),
        "clock_source": np.full(n, "kernel"),
        "prompt_tokens": rng.integers(100, 500, n).astype(np.int32),
        "output_tokens": np.full(n, max(chunks, 1), dtype=np.int32),
        "prompt_tokens_source": np.full(n, "server"),
        "output_tokens_source": np.full(n, "server"),
        "status": np.full(n, "ok"),
        "http_status": np.full(n, 200, dtype=np.int32),
        "echoed_prompt": np.zeros(n, dtype=bool),
    }
    if chunks:
        offsets = np.arange(n + 1, dtype=np.int32) * chunks
        known["chunk_ns"] = pa.ListArray.from_arrays(offsets, pa.array(times.ravel()))
        known["chunk_tokens"] = pa.ListArray.from_arrays(offsets, pa.array(np.ones(n * chunks, dtype=np.int32)))
    columns = [pa.array(known[f.name], f.type) if f.name in known else pa.nulls(n, f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def analyse(folder: Path) -> dict[str, float]:
    """What notebook 04 does with a run, without its figures; seconds and peak memory of this process."""
    from helpers.run.ledger import Ledger
    from helpers.verdict.analysis import read_measurements
    from helpers.verdict.judging import judge

    run = RunFolder(folder)
    levels = run.about()["levels"]
    price = {"usd_per_hour": 1.0}
    config = make_config([option("a", price=price)], load={"concurrency": levels})
    Ledger(run.ledger_file, run.run_id).put(endpoint("a"))
    begin = time.perf_counter()
    measured = read_measurements(config, run)
    judge(measured.points, measured.endpoints, measured.warnings, config, run.run_id)
    seconds = time.perf_counter() - begin
    assert measured.points["itl_s_p50"].notna().all() or measured.points["output_tokens_mean"].max() == 1
    return {"seconds": seconds, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    main()
