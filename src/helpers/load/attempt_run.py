"""The run of one attempt: decides when it has measured enough. Sends nothing itself; its `LoadProcesses` do."""

from __future__ import annotations

import io
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import BaseModel

from helpers.config.load import Ramp, TraceReplay, processes_for
from helpers.load import messages
from helpers.load.attempt_progress import AttemptProgressView, OnProgress
from helpers.load.findings import Ended, facts_of
from helpers.load.messages import OPENING_AT_ONCE, AttemptSpec
from helpers.load.schedule import draw_arrivals
from helpers.load.spool import IndexReader
from helpers.load.window import NO_WINDOW, Times, Window, find_window
from helpers.run.records import (
    ENOUGH_REQUESTS,
    NOTHING_ANSWERED,
    OVERLOAD,
    PROMPTS_RAN_OUT,
    WHOLE_SCHEDULE,
    AttemptFacts,
    facts_metadata,
)

if TYPE_CHECKING:
    from helpers.load.load_processes import LoadProcesses

LOOK_EVERY_S = 0.25
LOOK_SHARE = 0.05
"""The next look waits for this share of the time so far, because each look costs more as requests accumulate."""
FEWEST_ROWS_TO_PARSE = 500
FEWEST_FAILURES, SHORTEST_FAILURE_S = 30, 1.0
"""An attempt without any answer ends after this many failures and seconds."""
POSTPROCESSING_PATIENCE = 5
"""Multiple of the silence allowed under load: parsing a single answer may take long."""
NOTHING_YET = messages.SendingStatus(sent=0, done=0, failed=0, in_flight=0, oldest_t0_ns=None, first_s=[])


class Finished(NamedTuple):
    """An attempt whose records are on disk."""

    facts: AttemptFacts
    requests: int
    failed: int
    write_cpu_s: float
    """CPU seconds that joining the parts took."""


class AttemptRun:
    """One attempt, from its schedule to its records. Used once."""

    def __init__(self, processes: LoadProcesses, spec: AttemptSpec, on_progress: OnProgress) -> None:
        self._processes, self._spec = processes, spec
        self._senders = range(processes_for(spec.load, spec.level, len(processes), processes.nodes))
        self._indices = [IndexReader(spec.part_folder(i)) for i in self._senders]
        self._times = Times()
        self._latest = dict.fromkeys(self._senders, NOTHING_YET)
        self._schedule_ns = np.empty(0, "int64")
        self._start_ns = 0
        self._close_ns: int | None = None
        self._stopped = False
        self._ended_because = ENOUGH_REQUESTS
        self._window = NO_WINDOW
        self._next_look_s = 0.0
        self._view = AttemptProgressView(spec.load, on_progress)

    def run(self) -> Finished:
        """Connect, load, judge, parse, write. Raises LoadError if a load process dies."""
        spec = self._spec
        if spec.level.is_open:
            timed = spec.prompts_file if spec.replays_lengths else None
            self._schedule_ns = draw_arrivals(spec.load, spec.level, self._schedule_seed(), Path(spec.base_dir), timed)
            in_memory = io.BytesIO()  # np.save to a full disk raises an error that names neither cause nor file
            np.save(in_memory, self._schedule_ns)
            spec.schedule_file.write_bytes(in_memory.getbuffer())
        machine = self._processes.watch(spec)
        self._view.show("connecting", self._latest.values(), NO_WINDOW)
        self._processes.get_ready(spec)
        for i in self._senders:
            self._processes.send(i, messages.Prepare(spec=spec, load_process=i, of=len(self._senders)))
        ready = self._collect(messages.Ready, Counter(self._senders), "it prepared to send", self._preparation_s())
        machine.begin()
        self._start_ns = time.monotonic_ns() + self._processes.start_delay_ns
        wall_pair = (time.monotonic_ns(), time.time_ns())
        self._send_to_all(messages.Go(start_ns=self._start_ns))
        sent = self._until_sent()
        machine_facts = machine.end()
        nodes = self._processes.of_nodes(spec)
        # Not the window of the moment at which load was stopped: by now the index has the rows of the drain too, and one
        # that was sent before the stop but answered after it may be the t0 at which the window closes.
        window, close_ns = self._final_window()
        return self._write_records(
            Ended(
                spec=spec,
                start_ns=self._start_ns,
                schedule_ns=self._schedule_ns,
                window=window,
                close_ns=close_ns,
                ended_because=self._ended_because,
                ready={i: reply for i, [reply] in ready.items()},
                sent=sent,
                pids=dict(enumerate(self._processes.pids)),
                clock_pairs=[wall_pair, (time.monotonic_ns(), time.time_ns())],
                machine=machine_facts,
                nodes=nodes,
                voided=self._processes.voided,
            )
        )

    def _schedule_seed(self) -> int:
        """One per attempt: the same for all options, so that they get the same arrivals."""
        spec = self._spec
        words = [spec.seed, *spec.dataset.encode(), spec.repetition, *spec.level.slug.encode()]
        return int(np.random.SeedSequence(words).generate_state(1, "uint64")[0])

    def _preparation_s(self) -> float:
        """How long a process may take to make bodies and connections: unanswered ones time out in turn."""
        rounds = math.ceil(self._spec.level.value / len(self._senders) / OPENING_AT_ONCE)
        return self._processes.silence_s + rounds * self._spec.load.request_timeout_s

    def _send_to_all(self, message: BaseModel) -> None:
        for i in self._senders:
            self._processes.send(i, message)

    def _collect(self, kind: type[BaseModel], owed: Counter, doing: str, patience_s: float) -> dict[int, list]:
        """Messages of a kind, as many as each process owes, by process; others may come in between."""
        got: dict[int, list] = {i: [] for i in owed}
        self._processes.expect(owed, doing, patience_s)
        while any(len(got[i]) < count for i, count in owed.items()):
            found = self._processes.next_reply(1.0, self._spec)
            if found is not None and isinstance(found[1], kind):
                index, reply = found
                got[index].append(reply)
                if len(got[index]) == owed[index]:
                    self._processes.release(index)
        return got

    # --- under load -----------------------------------------------------------------------------------------------

    def _until_sent(self) -> dict[int, messages.Sent]:
        sent: dict[int, messages.Sent] = {}
        self._processes.expect(self._senders, "it sent requests", self._processes.silence_s)
        while len(sent) < len(self._senders):
            found = self._processes.next_reply(LOOK_EVERY_S, self._spec)
            if found is not None:
                index, reply = found
                if isinstance(reply, messages.Sent):
                    sent[index] = reply
                    self._processes.release(index)
                elif isinstance(reply, messages.SendingStatus):
                    self._latest[index] = reply
                    self._view.note(reply)
            self._hold_to_deadline(sent)
            if self._close_ns is None:
                self._look()
            elif not self._stopped and all(status.clear_ns == self._close_ns for status in self._latest.values()):
                self._stop_or_reopen()
            self._view.show("drain" if self._close_ns else None, self._latest.values(), self._window)
        return sent

    def _hold_to_deadline(self, sent: dict[int, messages.Sent]) -> None:
        """Processes end the load themselves if they are not stopped; one that does not is killed."""
        longest_s = self._spec.longest_load_s + self._processes.silence_s
        if time.monotonic_ns() > self._start_ns + longest_s * 1e9:
            index = next(i for i in self._senders if i not in sent)
            raise self._processes.give_up(index, f"its load did not end within {longest_s:g} s", self._spec)

    def _look(self) -> None:
        """Look at the requests that have ended so far, and close the window if they are enough."""
        elapsed_s = (time.monotonic_ns() - self._start_ns) / 1e9
        reason = self._end_of_supply()
        if reason is None and elapsed_s >= self._spec.load.max_duration_s:
            reason = "max_duration_s"
        if reason is None:
            if elapsed_s < self._next_look_s:
                return
            self._next_look_s = elapsed_s + max(LOOK_EVERY_S, LOOK_SHARE * elapsed_s)
            self._read_indices()
            oldest = [p.oldest_t0_ns for p in self._latest.values() if p.oldest_t0_ns is not None]
            self._window = find_window(
                self._times, self._spec, self._start_ns, min(oldest, default=time.monotonic_ns())
            )
            if self._window.overloaded:
                reason = OVERLOAD
            elif self._nothing_is_answered(elapsed_s):
                reason = NOTHING_ANSWERED
            elif not self._window.enough:
                return
        self._ended_because = reason or ENOUGH_REQUESTS
        self._close_ns = time.monotonic_ns()
        self._send_to_all(messages.Close(close_ns=self._close_ns))
        if reason == OVERLOAD:  # what waits in the queue is answered, but nothing is added to it
            self._stop()

    def _nothing_is_answered(self, elapsed_s: float) -> bool:
        """True if every stream has failed and none has been answered, often and long enough to be sure."""
        done, failed = (sum(getattr(p, name) for p in self._latest.values()) for name in ("done", "failed"))
        streams = 0 if self._spec.level.is_open else self._spec.level.value
        return done == failed >= max(FEWEST_FAILURES, streams) and elapsed_s >= SHORTEST_FAILURE_S

    def _stop_or_reopen(self) -> None:
        """Once all its requests are answered: is the window still enough? Otherwise load, which never stopped, continues.

        The window was closed regardless of requests in flight; judged at that moment, it would lack its slowest ones.
        """
        window, _ = self._final_window()
        if self._ended_because == ENOUGH_REQUESTS and not window.enough:
            self._close_ns = None
            self._send_to_all(messages.Close(close_ns=None))
        else:
            self._stop()

    def _stop(self) -> None:
        self._stopped = True
        self._send_to_all(messages.Stop())

    def _end_of_supply(self) -> str | None:
        """Why nothing more can be sent; None if something can."""
        if not any(status.ended for status in self._latest.values()):
            return None
        if not self._spec.level.is_open or self._schedule_is_unfinished():
            return PROMPTS_RAN_OUT
        return WHOLE_SCHEDULE if isinstance(self._spec.load, Ramp | TraceReplay) else "max_duration_s"

    def _schedule_is_unfinished(self) -> bool:
        if self._spec.sessions is not None:  # what was sent holds later turns too
            return len(self._schedule_ns) > 0 and time.monotonic_ns() < self._start_ns + self._schedule_ns[-1]
        return sum(status.sent for status in self._latest.values()) < len(self._schedule_ns)

    def _read_indices(self) -> None:
        for index in self._indices:
            self._times.append(index.new_rows())

    # --- afterwards -----------------------------------------------------------------------------------------------

    def _final_window(self) -> tuple[Window, int]:
        """The window, and its close moved to the next t0: both ends are sends, so requests / length is no biased rate.

        Where nothing was sent any more, it ends when a worker first wanted to send and could not.
        """
        self._read_indices()
        t0, done, _, _ = self._times.in_order()
        close_ns = self._close_ns
        following = int(np.searchsorted(t0, close_ns))
        if following < len(t0):
            close_ns = int(t0[following])
        elif self._ended_because == PROMPTS_RAN_OUT and not self._spec.level.is_open and len(t0):
            freed = done[done > t0[-1]]
            close_ns = min(close_ns, int(freed.min())) if len(freed) else close_ns
        return find_window(self._times, self._spec, self._start_ns, close_ns), close_ns

    def _write_records(self, ended: Ended) -> Finished:
        self._view.show("parsing", self._latest.values(), self._window)
        tasks = self._parse_tasks(ended)
        readers = self._readers_of(tasks)
        for reader, task in zip(readers, tasks, strict=True):
            self._processes.send(reader, task)
        patience_s = POSTPROCESSING_PATIENCE * self._processes.silence_s
        replies = self._collect(messages.Parsed, Counter(readers), "it read the answers", patience_s)
        parsed: dict[int, list[messages.Parsed]] = {}
        for reader, task in zip(readers, tasks, strict=True):  # a process answers in the order in which it was asked
            parsed.setdefault(task.load_process, []).append(replies[reader].pop(0))
        facts = facts_of(ended, parsed)
        write = messages.Write(
            part_files=[task.part_file for task in tasks],
            metadata=facts_metadata(facts),
            output_file=self._spec.output_file,
        )
        self._processes.send(0, write)
        written = self._collect(messages.Written, Counter([0]), "it wrote the records", patience_s)[0][0]
        counts = [one for parts in parsed.values() for one in parts]
        return Finished(facts, sum(one.requests for one in counts), sum(one.failed for one in counts), written.cpu_s)

    def _readers_of(self, tasks: list[messages.Parse]) -> list[int]:
        """The process that does each task: by turns, of those on the machine where the answers are."""
        turns: Counter[Sequence[int]] = Counter()
        readers = []
        for task in tasks:
            neighbours = self._processes.neighbours(task.load_process)
            readers.append(neighbours[turns[neighbours] % len(neighbours)])
            turns[neighbours] += 1
        return readers

    def _parse_tasks(self, ended: Ended) -> list[messages.Parse]:
        """Even shares of the rows for all load processes."""
        total = sum(sent.requests for sent in ended.sent.values())
        size = max(FEWEST_ROWS_TO_PARSE, math.ceil(total / len(self._processes)))
        opened = ended.window.open_ns is not None
        return [
            messages.Parse(
                spec=self._spec,
                load_process=i,
                first=first,
                last=min(first + size, sent.requests),
                open_ns=ended.window.open_ns,
                close_ns=ended.close_ns if opened else None,
                clock_pairs=sent.clock_pairs,
                part_file=str(self._spec.spool / f"part-{i:04}-{first:012}.arrow"),
            )
            for i, sent in sorted(ended.sent.items())
            for first in range(0, sent.requests, size)
        ]
