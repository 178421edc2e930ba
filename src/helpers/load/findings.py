"""What is known about an attempt besides its requests, and whether it was the server that was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from helpers.load.clocks import clocks_moved, clocks_uncertain
from helpers.load.messages import AttemptSpec, Parsed, Ready, Sent
from helpers.load.schedule import arrival_facts
from helpers.load.spool import index_blocks
from helpers.load.spread import percentiles_ms
from helpers.load.window import Window
from helpers.run.machine import MachineFacts
from helpers.run.records import ArrivalFacts, AttemptFacts, LoadProcessFacts, NodeFacts

BUSY_SHARE = 0.9
"""A load process that used more of its CPU than this had no room for what comes late."""
IDLE_SHARE = 0.02
"""Workers that wait this share of the time before they send again hold fewer requests in flight than asked."""
STANDSTILL_SHARE = 0.02
"""A load process that did not run for more of the window than this measured another load than was asked."""
LATE_MS, LATE_SHARE = 5.0, 0.05
"""Requests of an open loop may go out this late at p99, in ms or as a share of the median latency."""
LOOP_LAG_MS = 5.0
"""At p99; it only matters where the kernel did not stamp what the event loop read late."""


@dataclass(frozen=True)
class Ended:
    """An attempt whose load is over, before its answers are parsed."""

    spec: AttemptSpec
    start_ns: int
    schedule_ns: np.ndarray
    """Offsets of all arrivals; empty for a closed loop."""
    window: Window
    close_ns: int
    ended_because: str
    ready: dict[int, Ready]
    sent: dict[int, Sent]
    """By load process, as `ready` and `pids`."""
    pids: dict[int, int]
    clock_pairs: list[tuple[int, int]]
    machine: MachineFacts | None = None
    nodes: Sequence[NodeFacts] = ()
    voided: Sequence[str] = ()

    @property
    def machines(self) -> list[tuple[str, list[int]]]:
        """The load machines: what follows `load process 1` or `workers` in a sentence, and the processes that sent from there."""
        if not self.nodes:
            return [("", sorted(self.sent))]
        senders = [(f" on {node.words}", [i for i in node.load_processes if i in self.sent]) for node in self.nodes]
        return [one for one in senders if one[1]]

    def where(self, index: int) -> str:
        """The machine of a process, in the same way."""
        return next(where for where, indices in self.machines if index in indices)


def facts_of(ended: Ended, parsed: dict[int, list[Parsed]]) -> AttemptFacts:
    """The facts, from the index of the spool and from the replies of the load processes; `parsed` by load process."""
    spec, window, close_ns = ended.spec, ended.window, ended.close_ns
    attempt, is_open = spec.attempt, spec.level.is_open
    lag_ns = turnaround_ns = None
    if is_open:
        lag_ns = _of_all_rows(ended, _schedule_lag_ns)
    else:
        turnaround_ns = _of_all_rows(ended, lambda rows: _turnaround_ns(rows, window.open_ns, close_ns))
    processes = [_process_facts(i, ended, parsed.get(i, [])) for i in sorted(ended.sent)]
    clock_source = _clock_source([one for parts in parsed.values() for one in parts])
    return AttemptFacts(
        option=attempt.option,
        dataset=attempt.dataset,
        load_point=attempt.id,
        load_kind=spec.level.kind,
        level=float(spec.level.value),
        repetition=attempt.repetition,
        window_open_ns=window.open_ns,
        window_close_ns=close_ns if window.open_ns is not None else None,
        ended_because=ended.ended_because,
        steady=window.steady,
        steady_because=window.because,
        asked_output_tokens=None if spec.replays_lengths else spec.generation.max_output_tokens,
        fixed_output_length=spec.generation.fixed_output_length,
        processes=processes,
        scheduled=_scheduled_facts(ended) if is_open else None,
        achieved=_achieved_facts(ended) if is_open else None,
        schedule_lag_ms=_spread_or_none(lag_ns),
        turnaround_ms=_spread_or_none(turnaround_ns),
        connect_ms=_counted_spread(ended, "connect_ns"),
        tls_ms=_counted_spread(ended, "tls_ns"),
        clock_source=clock_source,
        client_limited=[
            *_own_failures(ended),
            *clocks_moved(ended.nodes),
            *(_limits(ended, processes, clock_source) if _was_served(ended, parsed) else []),
        ],
        clock_pairs=ended.clock_pairs,
        machine=ended.machine,
        nodes=list(ended.nodes),
        voided=list(ended.voided),
        context_ends=sum(sent.context_ends or 0 for sent in ended.sent.values()) if spec.sessions else None,
    )


# --- did the client shape what was measured? ----------------------------------------------------------------------


def _was_served(ended: Ended, parsed: dict[int, list[Parsed]]) -> bool:
    """Was any request of the window answered? Where all failed, the server was measured, however busy the client was."""
    counts = [one for parts in parsed.values() for one in parts]
    if sum(one.failed for one in counts) == sum(one.requests for one in counts):
        return False
    opened = ended.window.open_ns or 0
    return bool(_of_all_rows(ended, lambda rows: rows["ok"][_t0_ns(rows) >= opened]).any())


def _own_failures(ended: Ended) -> list[str]:
    """Requests that this machine could not send or receive: none of them says anything about the server."""
    counts = sum((Counter(sent.own_failures) for sent in ended.sent.values()), Counter())
    return [f"this machine failed {count} requests: {words}" for words, count in counts.most_common(3)]


def _limits(ended: Ended, processes: list[LoadProcessFacts], clock_source: str) -> list[str]:
    """Each machine by itself: one that was late is not made good by others that were not."""
    return [
        *_busy(ended, processes),
        *_idle(ended),
        *_stood_still(ended),
        *_late(ended),
        *_uncertain_clocks(ended),
        *_unstamped(processes, clock_source),
    ]


def _stood_still(ended: Ended) -> list[str]:
    """Kernel stamps hide from the latencies that a process did not run; what it would have sent in that time is missing."""
    opened, closed = ended.window.open_ns, ended.close_ns
    if opened is None:
        return []
    found = []
    for index, sent in sorted(ended.sent.items()):
        still_ns = sum(max(0, min(end, closed) - max(start, opened)) for start, end in sent.standstills)
        if still_ns > STANDSTILL_SHARE * (closed - opened):
            share = still_ns / (closed - opened)
            found.append(f"load process {index}{ended.where(index)} did not run for {share:.1%} of the window")
    return found


def _busy(ended: Ended, processes: list[LoadProcessFacts]) -> list[str]:
    return [
        f"load process {process.load_process}{ended.where(process.load_process)} used {process.cpu_share:.0%} of its CPU"
        for process in processes
        if process.cpu_share > BUSY_SHARE
    ]


def _idle(ended: Ended) -> list[str]:
    """Workers of a closed loop that wait between an answer and the next send are not c streams."""
    opened, closed, level = ended.window.open_ns, ended.close_ns, ended.spec.level
    if level.is_open or opened is None:
        return []
    found = []
    for where, indices in ended.machines:
        workers = sum(len(range(i, int(level.value), len(ended.sent))) for i in indices)
        waited_ns = _of_all_rows(ended, lambda rows: _turnaround_ns(rows, opened, closed), indices).sum()
        share = float(waited_ns / (workers * max(closed - opened, 1)))
        if share > IDLE_SHARE:
            since = "an answer" if level.is_held else "the end of a think time"
            found.append(f"workers{where} waited {share:.1%} of the time between {since} and the next send")
    return found


def _late(ended: Ended) -> list[str]:
    if not ended.spec.level.is_open:
        return []
    most_ms, found = _most_late_ms(ended), []
    for where, indices in ended.machines:
        lag_ms = _spread_or_none(_of_all_rows(ended, _schedule_lag_ns, indices))
        if lag_ms is not None and lag_ms["p99"] > most_ms:
            found.append(f"requests were sent late{where}: p99 {lag_ms['p99']:.1f} ms after their time")
    return found


def _most_late_ms(ended: Ended) -> float:
    median_ns = np.median(_of_all_rows(ended, lambda rows: rows["done_ns"] - _t0_ns(rows)))
    return max(LATE_MS, LATE_SHARE * float(median_ns) / 1e6)


def _uncertain_clocks(ended: Ended) -> list[str]:
    """A clock may be wrong by what a process may stand still of the window, and by what a request may be late."""
    if ended.window.open_ns is None or not ended.nodes:
        return []
    most_ms = STANDSTILL_SHARE * (ended.close_ns - ended.window.open_ns) / 1e6
    return clocks_uncertain(ended.nodes, min(most_ms, _most_late_ms(ended)) if ended.spec.level.is_open else most_ms)


def _unstamped(processes: list[LoadProcessFacts], clock_source: str) -> list[str]:
    lag = max((process.loop_lag_ms["p99"] for process in processes), default=0.0)
    if clock_source == "kernel" or lag <= LOOP_LAG_MS:
        return []
    return [f"the event loop was late by {lag:.1f} ms at p99, and the kernel did not stamp all reads"]


# --- parts of the facts -------------------------------------------------------------------------------------------


def _process_facts(index: int, ended: Ended, parsed: list[Parsed]) -> LoadProcessFacts:
    sent = ended.sent[index]
    return LoadProcessFacts(
        load_process=index,
        pid=ended.pids[index],
        requests=sent.requests,
        cpu_s=sent.cpu_s,
        cpu_share=sent.cpu_s / sent.wall_s if sent.wall_s else 0.0,
        parse_cpu_s=sum(one.cpu_s for one in parsed),
        loop_lag_ms=sent.loop_lag_ms,
        peak_memory_mb=sent.peak_memory_mb,
        node=next((node.words for node in ended.nodes if index in node.load_processes), None),
    )


def _clock_source(parsed: list[Parsed]) -> str:
    answered, by_kernel = sum(one.answered for one in parsed), sum(one.stamped_by_kernel for one in parsed)
    return "kernel" if by_kernel >= answered > 0 else "mixed" if by_kernel else "user"


def _scheduled_facts(ended: Ended) -> ArrivalFacts | None:
    until = int(np.searchsorted(ended.schedule_ns, ended.close_ns - ended.start_ns))
    return arrival_facts(ended.schedule_ns[:until])


def _achieved_facts(ended: Ended) -> ArrivalFacts | None:
    """Of what the schedule sent: of sessions, only the first turns."""
    return arrival_facts(_of_all_rows(ended, lambda rows: rows["sent_ns"][_is_scheduled(rows, ended.close_ns)]))


def _is_scheduled(rows: np.ndarray, before_ns: int) -> np.ndarray:
    return (rows["scheduled_ns"] > 0) & (rows["scheduled_ns"] < before_ns)


def _t0_ns(rows: np.ndarray) -> np.ndarray:
    return np.where(rows["scheduled_ns"] > 0, rows["scheduled_ns"], rows["sent_ns"])


def _schedule_lag_ns(rows: np.ndarray) -> np.ndarray:
    """Sent - scheduled; what a new connection took is the server's and the network's, not the client's.

    Nor is what was never sent, because there was no connection: its sending and its end have the same time. A session's later
    turns were to be sent at the end of their think time.
    """
    due_ns = np.maximum(rows["scheduled_ns"], rows["idle_since_ns"])
    known = (rows["sent_ns"] < rows["done_ns"]) & (due_ns > 0)
    rows = rows[known]
    return np.maximum(0, rows["sent_ns"] - due_ns[known] - rows["connect_ns"] - rows["tls_ns"])


def _turnaround_ns(rows: np.ndarray, open_ns: int | None, close_ns: int) -> np.ndarray:
    """From an answer's end, and the user's think time if there is one, to the worker's next send within the window, where the
    connection was kept.
    """
    if open_ns is None:
        return np.empty(0, "int64")
    sent_ns = rows["sent_ns"]
    kept = (rows["idle_since_ns"] > 0) & (rows["connect_ns"] == 0) & (sent_ns >= open_ns) & (sent_ns < close_ns)
    return np.maximum(0, sent_ns[kept] - rows["idle_since_ns"][kept])


def _counted_spread(ended: Ended, column: str) -> dict[str, float] | None:
    """n and percentiles, ms, of connections made in advance and of those that a request waited for; None if there was none."""
    beforehand = [ns for ready in ended.ready.values() for ns in getattr(ready, column)]
    under_load = _of_all_rows(ended, lambda rows: rows[column][rows[column] > 0])
    values = np.concatenate([np.array(beforehand, "int64"), under_load])
    return {"n": len(values), **percentiles_ms(values)} if len(values) else None


def _spread_or_none(values_ns: np.ndarray | None) -> dict[str, float] | None:
    return None if values_ns is None or not len(values_ns) else percentiles_ms(values_ns)


def _of_all_rows(
    ended: Ended, column_of: Callable[[np.ndarray], np.ndarray], indices: Sequence[int] | None = None
) -> np.ndarray:
    """One column made from the rows of all load processes, or of these, block by block."""
    folders = [ended.spec.part_folder(i) for i in (sorted(ended.sent) if indices is None else indices)]
    columns = [column_of(rows) for folder in folders for rows in index_blocks(folder)]
    return np.concatenate(columns) if columns else np.empty(0, "int64")
