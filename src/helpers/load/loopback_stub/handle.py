"""The stub as its users see it."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
from urllib.parse import urlencode

from helpers.load.loopback_stub.schedule import ServedRequest

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0


class LoopbackStub:
    """A stub in a separate process; a context manager that ends it."""

    def __init__(self, tls: bool = False, cpu: int | None = None, host: str = "127.0.0.1") -> None:
        """`tls`: with a certificate made on the spot. `cpu`: the CPU to keep to, where the platform has that. `host`: of it."""
        command = [sys.executable, "-m", "helpers.load.loopback_stub", "--host", host]
        command += ["--tls"] if tls else []
        command += [] if cpu is None else ["--cpu", str(cpu)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(
                f"the loopback stub did not start (code {self._process.returncode}); see its error output"
            )
        address = json.loads(line)
        self.url: str = address["url"]
        self.ca_file: str | None = address["ca_file"]
        """The certificate that a client must trust; None without TLS. Gone when the stub ends."""
        self._trust = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None

    def __enter__(self) -> LoopbackStub:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def chat_url(self) -> str:
        """Answers OpenAI chat completions."""
        return f"{self.url}/v1/chat/completions"

    def configure(
        self,
        ttft_s: float = 0.0,
        itl_s: float = 0.0,
        events: int = 64,
        workers: int = 0,
        stall_at_s: float = 0.0,
        stall_s: float = 0.0,
        send_each: bool = False,
        event_times: bool = False,
    ) -> None:
        """Set the schedule of the requests to come (see `Schedule`) and clear the log."""
        self._get(
            "/configure",
            ttft_us=round(ttft_s * 1e6),
            itl_us=round(itl_s * 1e6),
            events=events,
            workers=workers,
            stall_at_us=round(stall_at_s * 1e6),
            stall_us=round(stall_s * 1e6),
            send_each=int(send_each),
            event_times=int(event_times),
        )

    def log(self) -> list[ServedRequest]:
        """Every request whose answer was sent in full since the schedule was set."""
        return [ServedRequest(*row) for row in json.loads(self._get("/log"))]

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _get(self, path: str, **query: int) -> bytes:
        url = f"{self.url}{path}?{urlencode(query)}"
        with urllib.request.urlopen(url, timeout=START_TIMEOUT_S, context=self._trust) as answer:
            return answer.read()
