"""The two servers with a known schedule: the project's loopback stub, and a ground-truth server in C where it is at hand.

Logs are DataFrames, one row per request in order of arrival, times in `CLOCK_MONOTONIC` nanoseconds: `request_id` (null
where the server keeps none), `arrival_ns` (the stub: the kernel's stamp; the C server: after its read), and, each taken
just before the write, `first_ns`, `last_ns`, `event_ns` (of every event, null where not kept).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.load.loopback_stub import LoopbackStub

GROUND_TRUTH_SOURCE = Path(__file__).resolve().parents[3] / "shared" / "ground-truth" / "gtserver.c"
START_TIMEOUT_S = 10.0


class Stub:
    """The loopback stub."""

    name = "stub"

    def __init__(self, tls: bool, cpu: int | None, host: str = "127.0.0.1") -> None:
        self._stub = LoopbackStub(tls, cpu, host)
        self.pid, self.ca_file = self._stub.pid, self._stub.ca_file

    def url(self, form: str) -> str:
        sagemaker = f"{self._stub.url}/endpoints/stub/invocations-response-stream"
        return sagemaker if form == "sagemaker" else self._stub.chat_url

    def set_schedule(self, ttft_s: float, itl_s: float, events: int, send_each: bool) -> None:
        self._stub.configure(ttft_s, itl_s, events, send_each=send_each, event_times=ttft_s > 0)

    def log(self) -> pd.DataFrame:
        columns = ["request_id", "connection", "arrival_ns", "first_ns", "last_ns", "end_ns", "event_ns"]
        return pd.DataFrame(self._stub.log(), columns=columns).sort_values("arrival_ns", ignore_index=True)

    def close(self) -> None:
        self._stub.close()


class GroundTruth:
    """The C server. Its log has no request ids and no times of single events, so requests are joined in order."""

    name = "gtserver"
    ca_file = None
    _RECORD = np.dtype(
        [(name, "<u8") for name in ("first_byte_ns", "arrival_ns", "first_ns", "last_ns", "end_ns")]
        + [(name, "<u4") for name in ("events", "late_us", "connection", "body_bytes")]
        + [("longest_gap_ns", "<u8")]
    )

    def __init__(self, folder: Path, cpu: int | None) -> None:
        program = folder / "gtserver"
        subprocess.run(["gcc", "-O2", "-o", str(program), str(GROUND_TRUTH_SOURCE)], check=True, capture_output=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._process = subprocess.Popen([str(program), str(port)])
        if cpu is not None:
            os.sched_setaffinity(self._process.pid, {cpu})
        self.pid = self._process.pid
        self._url = f"http://127.0.0.1:{port}"
        self._dump = folder / "gtserver.log"
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._get("/ctl/stat")
                return
            except OSError:
                if time.monotonic() > deadline:
                    self.close()
                    raise
                time.sleep(0.05)

    @staticmethod
    def why_absent() -> str | None:
        """Why it cannot be used here; null if it can."""
        if not GROUND_TRUTH_SOURCE.is_file():
            return "../shared/ground-truth/gtserver.c is not there"
        return None if shutil.which("gcc") else "there is no gcc"

    def url(self, form: str) -> str:
        return f"{self._url}/v1/chat/completions"

    def set_schedule(self, ttft_s: float, itl_s: float, events: int, send_each: bool) -> None:
        times = f"ttft_us={round(ttft_s * 1e6)}&itl_us={round(itl_s * 1e6)}"
        self._get(f"/ctl/config?{times}&n={events}&coalesce={int(not send_each)}")

    def log(self) -> pd.DataFrame:
        self._get(f"/ctl/dump?path={self._dump}")
        rows = np.fromfile(self._dump, self._RECORD)
        times = {name: rows[name].astype("int64") for name in ("arrival_ns", "first_ns", "last_ns")}
        log = pd.DataFrame({"request_id": None, **times, "event_ns": None})
        return log[rows["end_ns"] > 0].sort_values("arrival_ns", ignore_index=True)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _get(self, target: str) -> None:
        with urllib.request.urlopen(self._url + target, timeout=START_TIMEOUT_S) as answer:
            answer.read()
