"""The load generator that everybody writes: aiohttp, a task per worker, every line read, stamped and decoded as it comes.

A process of its own. It reads one JSON object from standard input:

    url, ca_file (or null), concurrency, seconds, body (a JSON object), records_file

runs a closed loop for that long, writes one JSON line per request to `records_file`, and prints one JSON object:
CPU seconds from the first send to the last record written, CPU share while it sent, peak memory in MB.
Times are `time.perf_counter` seconds, which is `CLOCK_MONOTONIC` on Linux.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import statistics
import sys
import time
import uuid
from itertools import pairwise
from pathlib import Path

import aiohttp


async def send_one(session: aiohttp.ClientSession, work: dict) -> dict:
    """One request and its record."""
    request_id, text, usage, stamps = uuid.uuid4().hex, [], {}, []
    started = time.perf_counter()
    async with session.post(work["url"], json=work["body"], headers={"X-Request-Id": request_id}) as response:
        response.raise_for_status()
        async for line in response.content:
            if not line.startswith(b"data:"):
                continue
            now = time.perf_counter()
            data = line[5:].strip()
            if data == b"[DONE]":
                break
            event = json.loads(data)
            usage = event.get("usage") or usage
            if event["choices"] and event["choices"][0]["delta"].get("content"):
                text.append(event["choices"][0]["delta"]["content"])
                stamps.append(now)
    return {
        "request_id": request_id,
        "sent_s": started,
        "ttft_s": stamps[0] - started,
        "latency_s": stamps[-1] - started,
        "itl_s": [later - earlier for earlier, later in pairwise(stamps)],
        "prompt_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "output_characters": len("".join(text)),
    }


async def run(work: dict) -> dict:
    """The closed loop; each worker sends at least one request."""
    records: list[dict] = []
    context = ssl.create_default_context(cafile=work["ca_file"]) if work["ca_file"] else True
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def worker() -> None:
            while True:
                records.append(await send_one(session, work))
                if time.perf_counter() - wall >= work["seconds"]:
                    return

        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(work["concurrency"])))
        cpu_share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    summary = {
        "ttft_p50_s": statistics.median(record["ttft_s"] for record in records),
        "latency_p50_s": statistics.median(record["latency_s"] for record in records),
        "output_tokens": sum(record["output_tokens"] for record in records),
    }
    Path(work["records_file"]).write_text("".join(json.dumps(record) + "\n" for record in records))
    return {
        "requests": len(records),
        "cpu_s": time.process_time() - cpu,
        "cpu_share": cpu_share,
        "peak_memory_mb": peak_memory_mb(),
        "summary": summary,
    }


def peak_memory_mb() -> float:
    """Highest resident memory of this program; `ru_maxrss` would count what started it too."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))
