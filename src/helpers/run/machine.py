"""The state of the machine while a load point ran: what else it did. Looked at before and after, never in between.

CPU use is in CPUs: 0.5 is half of one, on any machine.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import psutil

    from helpers.run.report_warning import ReportWarning

BUSY_MACHINE = "busy_machine"
"""The kind of the warning."""
BUSY_CPUS = 0.25
"""Other programs that use more than this disturb the measurement."""
BUSY_STEAL = 0.05
"""So do other guests of the same host that take more than this share of the time."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FORWARDERS = ("docker-proxy",)
"""They listen for a server that is no child of theirs, so that its CPU time cannot be separated from that of others."""


@dataclass(frozen=True)
class MachineFacts:
    """The machine that sent the load, while it did; unknown is None."""

    cpus: int
    load_average: float | None
    """Of the last minute, when the load ended."""
    steal_share: float | None
    """Share of the CPU time that the host gave to other guests."""
    own_cpus: float
    """Used by this process, by what it started and, where it is on this machine, by the server."""
    others_cpus: float | None
    """Used by all others; None where the server is on this machine but cannot be separated from them."""
    serves: bool
    """Is the server on this machine?"""

    @property
    def is_busy(self) -> bool:
        """Did it do so much else that what the server on it achieved is not what it can do?"""
        others, steal = self.others_cpus or 0.0, self.steal_share or 0.0
        return self.serves and (others > BUSY_CPUS or steal > BUSY_STEAL)

    @property
    def words(self) -> str:
        """The figures, for a reader."""
        said = "unknown" if self.others_cpus is None else f"{self.others_cpus:.2f}"
        said = f"other programs used {said} of {self.cpus} CPUs"
        said += f", {self.steal_share:.1%} stolen" if self.steal_share is not None else ""
        return said + (f", load average {self.load_average:.1f}" if self.load_average is not None else "")


def busy_words(busy: list[MachineFacts]) -> str:
    """What disturbed load points on a busy machine, at most."""
    others = max(one.others_cpus or 0.0 for one in busy)
    steal = max(one.steal_share or 0.0 for one in busy)
    load = max(one.load_average or 0.0 for one in busy)
    said = f"The machine was busy: other programs used up to {others:.1f} of its {busy[0].cpus} CPUs"
    said += f", other guests of its host up to {steal:.0%} of the time" if steal > BUSY_STEAL else ""
    return f"{said} (load average up to {load:.1f})"


def machine_sentence(warnings: list[ReportWarning]) -> str | None:
    """What a reader of the bottom line must know of the machine; None where it was quiet."""
    return next((warning.message for warning in warnings if warning.kind == BUSY_MACHINE), None)


class MachineWatch:
    """Create it before the connections are made, `begin` when load begins, `end` when it has ended."""

    def __init__(self, url: str) -> None:
        """`url`: where the server is."""
        import psutil

        self._roots = [psutil.Process()]
        at = urlsplit(url)
        self._serves = at.hostname in LOOPBACK
        self._knows_server = not self._serves
        if self._serves and (server := _listener(at.port or 80)) is not None:
            self._roots.append(server)
            self._knows_server = True

    def begin(self) -> None:
        """The first look."""
        self._started_s, self._own_before = time.monotonic(), self._own_cpu_s()
        self._before = _cpu_times_s()

    def end(self) -> MachineFacts:
        """The second look, and what lies between."""
        import psutil

        after, own = _cpu_times_s(), self._own_cpu_s()
        wall_s, cpus = max(time.monotonic() - self._started_s, 1e-9), psutil.cpu_count() or 1
        own_cpus = sum(spent - self._own_before.get(pid, 0.0) for pid, spent in own.items()) / wall_s
        busy_cpus = (after["busy"] - self._before["busy"]) / wall_s
        stolen = after["steal"] - self._before["steal"] if "steal" in after else None
        return MachineFacts(
            cpus=cpus,
            load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            steal_share=None if stolen is None else stolen / (wall_s * cpus),
            own_cpus=own_cpus,
            others_cpus=max(0.0, busy_cpus - own_cpus) if self._knows_server else None,
            serves=self._serves,
        )

    def _own_cpu_s(self) -> dict[int, float]:
        """CPU seconds so far of each process that belongs to the run."""
        import psutil

        spent = {}
        for root in self._roots:
            try:
                for process in (root, *root.children(recursive=True)):
                    times = process.cpu_times()
                    spent[process.pid] = times.user + times.system
            except psutil.Error:
                continue  # it ended
        return spent


def _cpu_times_s() -> dict[str, float]:
    """Seconds since boot in which CPUs worked, and, where the system reports it, were stolen."""
    import psutil

    times = psutil.cpu_times()
    found = {"busy": sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))}
    return found | ({"steal": times.steal} if hasattr(times, "steal") else {})


def _listener(port: int) -> psutil.Process | None:
    """The process that listens on a port of this machine; None where that is unknown."""
    import psutil

    try:
        pids = [c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port]
        process = psutil.Process(pids[0]) if pids and pids[0] else None
        return None if process is None or process.name() in FORWARDERS else process
    except psutil.Error:
        return None
