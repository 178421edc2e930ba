"""How fast and how exact is the load generator? `make benchmark` prints one table and writes runs/benchmarks/.

Clients: `ours`, and `aiohttp`, what one writes by hand, on the same machine in the same minutes: read the ratio. Servers:
the project's loopback stub, and where it is at hand a ground-truth server in C. The client (and its parent process) keeps to
one CPU and the server to another where there are two.

* `rate`: answers of 64 events without delay, each answer in one write (`whole`), which shows how fast the client can be,
  or in a write per event (`each`), which is as much work as a network can make of it and soon limits the server.
  Requests per second, and CPU per request: all that the client spends, sending, parsing and writing the records, divided
  by all requests.
* `accuracy`: TTFT 200 ms, then 64 events at 20 ms. Error = what the client reports - what the server logged:

      TTFT     (first token stamp - sent stamp) - (before the first event's write - the request's arrival)
      latency  the same with the last token
      ITL      each gap between chunks - the same gap between writes

  So the error of TTFT and latency holds two trips through loopback (`send_ms`: from the sent stamp to the request's
  arrival; `receive_ms`: from the first event's write to its stamp), tens of microseconds in all, which no client can do
  without; with the C server also its delay in reading, as it stamps a request after reading it. `mean` is of the signed
  error, p50, p99 and max are of its size. The first request of each connection is left out.
* `4 turns`: users in conversations, who think for half a second between turns and send all that was said before.
* `open_loop`: constant and Poisson arrivals. Rate, CV of gaps, index of dispersion and lag-1 autocorrelation are those
  of the server's stamps of arrival, so they hold for what was really sent; schedule lag is sent - scheduled. `nobody` is
  a process that only waits for the same moments: how late this machine is by itself.
* `start_up`: from the start of the program to the records of ten requests on disk; memory of all its processes.
* `scaling`: one load process and two, which share the server's CPU where there are but two.

`other_cpu_share` is what everything else used of a CPU meanwhile, or the host took away: well above 0, run it again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from clients import (
    EVENTS,
    Sample,
    Work,
    measure_aiohttp,
    measure_ours,
    run_aiohttp,
    send_ten_requests,
    timer_lateness_ns,
    usage,
)
from servers import GroundTruth, Stub

from helpers.load.schedule import arrival_facts
from helpers.load.spread import percentiles_ms

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "runs" / "benchmarks"
CONCURRENCIES = (1, 16, 64, 256, 1024)
COMPARED = (64, 256)
"""Concurrencies at which TLS and signed requests are measured too."""
RATES = (50.0, 500.0, 2000.0)
TTFT_S, ITL_S = 0.2, 0.02
RATE_S, ACCURACY_S, OPEN_LOOP_S = 1.5, 4.0, 5.0
QUICK_S = 1.0
TURNS = 4
DISTURBED_SHARE = 0.2
BLUE, ORANGE = "#0072B2", "#D55E00"
"""Of Okabe and Ito's palette, safe for colour-blind readers."""


@dataclass(frozen=True)
class Case:
    """One row to be."""

    mode: str
    client: str
    server: str
    concurrency: int | None
    seconds: float
    format: str = "openai_chat"
    tls: bool = False
    rate: float | None = None
    arrivals: str | None = None
    processes: int = 1
    writes: str = "each"
    turns: int = 1

    @property
    def title(self) -> str:
        """As it stands in progress lines."""
        form = self.format + (" TLS" if self.tls else "")
        level = f"c={self.concurrency}" if self.rate is None else f"{self.arrivals} {self.rate:g}/s"
        more = f" {self.processes} processes" if self.mode == "scaling" else ""
        more += f" {self.turns} turns" if self.turns > 1 else ""
        return f"{self.mode} {form} {self.server} {self.writes} {level} {self.client}{more}"


def cases(quick: bool, with_ground_truth: bool) -> list[Case]:
    """All rows, the clients to be compared next to each other."""
    concurrencies = (1, 64) if quick else CONCURRENCIES
    rate_s, accuracy_s, open_s = (QUICK_S, 2.0, QUICK_S) if quick else (RATE_S, ACCURACY_S, OPEN_LOOP_S)
    c_server = "gtserver" if with_ground_truth else "stub"
    plain_rows = {
        "rate": (rate_s, [("stub", "whole"), (c_server, "each")]),
        "accuracy": (accuracy_s, [("stub", "each"), *([("gtserver", "each")] if with_ground_truth else [])]),
    }
    found = []
    for mode, (seconds, servers) in plain_rows.items():
        for c in concurrencies:
            for server, writes in servers:
                found += [Case(mode, name, server, c, seconds, writes=writes) for name in ("ours", "aiohttp")]
        for c in (c for c in COMPARED if c in concurrencies):
            tls = Case(mode, "ours", "stub", c, seconds, tls=True, writes=servers[0][1])
            signed = replace(tls, format="sagemaker")
            found += [tls, replace(tls, client="aiohttp"), replace(signed, tls=False), signed]
    found.append(Case("accuracy", "ours", "stub", concurrencies[1 if quick else 3], 2 * accuracy_s, turns=TURNS))
    for rate in (500.0,) if quick else RATES:
        waits = Case("open_loop", "nobody", "none", None, open_s / 2, rate=rate, arrivals="constant", writes="")
        found.append(waits)
        for kind in ("constant", "poisson"):
            found.append(replace(waits, client="ours", server="stub", seconds=open_s, arrivals=kind, writes="whole"))
    found += [Case("scaling", "ours", "stub", 256, rate_s, processes=processes, writes="whole") for processes in (1, 2)]
    found += [Case("start_up", client, "stub", 1, 0.0, writes="whole") for client in ("ours", "aiohttp")]
    return found


# --- measuring ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """Where the client and the server run; null: not pinned."""

    client_cpus: list[int] | None
    server_cpu: int | None
    words: str

    @classmethod
    def here(cls) -> Machine:
        """The first CPU for the client, the second for the server, if there are two to be had."""
        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        system = f"{os.cpu_count()} CPUs, {platform.system()} {platform.release()}, Python {platform.python_version()}"
        if len(cpus) < 2:
            return cls(None, None, f"{system}; client and server share what there is: nothing is pinned")
        return cls(cpus[:1], cpus[1], f"{system}; client on CPU {cpus[0]}, server on CPU {cpus[1]}")


def measure(case: Case, server: Stub | GroundTruth | None, machine: Machine, folder: Path) -> dict:
    """One row."""
    if server is None:
        return empty_row(case, machine) | nobody(case)
    delays = (TTFT_S, ITL_S) if case.mode == "accuracy" else (0.0, 0.0)
    work = work_of(case, server)
    server.set_schedule(0.0, 0.0, EVENTS, send_each=False)
    if case.mode == "start_up":
        return empty_row(case, machine) | start_up(case, work, folder)
    client = measure_ours if case.client == "ours" else measure_aiohttp
    sample = client(work, folder, server.pid, lambda: server.set_schedule(*delays, EVENTS, case.writes == "each"))
    return empty_row(case, machine) | row_of(case, sample, server.log())


def work_of(case: Case, server: Stub | GroundTruth) -> Work:
    """What the client of a case is to do."""
    return Work(
        url=server.url(case.format),
        form=case.format,
        ca_file=server.ca_file,
        concurrency=case.concurrency,
        rate=case.rate,
        arrivals=case.arrivals,
        seconds=case.seconds,
        processes=case.processes,
        turns=case.turns,
    )


def row_of(case: Case, sample: Sample, log: pd.DataFrame) -> dict:
    """What client and server say of a load."""
    check(sample, log)
    used = sample.used
    busy_s = (log["last_ns"].max() - log["arrival_ns"].min()) / 1e9
    row = {
        "requests": len(sample.requests),
        "cpu_ms_per_request": sample.cpu_s / len(sample.requests) * 1e3,
        "cpu_share": sample.cpu_share,
        "server_cpu_share": used.server_s / busy_s,
        "other_cpu_share": used.others_s / used.wall_s,
        "peak_memory_mb": sample.peak_memory_mb,
        "clock_source": sample.clock_source,
    }
    if case.mode == "open_loop":
        return row | arrivals(sample, log)
    row |= rates(sample, case.concurrency)
    return row | errors(sample, log, case.concurrency) if case.mode == "accuracy" else row


def check(sample: Sample, log: pd.DataFrame) -> None:
    """Client and server speak of the same requests, each answered in full; else RuntimeError."""
    if len(sample.requests) != len(log):
        raise RuntimeError(f"the client has {len(sample.requests)} requests, the server's log has {len(log)}")
    short = int((sample.requests["chunk_ns"].map(len) != EVENTS).sum())
    if short:
        raise RuntimeError(f"{short} of {len(log)} answers have not the {EVENTS} events that were sent")


def empty_row(case: Case, machine: Machine) -> dict:
    """What is known before; every key is in every row, null where it has no meaning."""
    unknown = (
        "requests_per_s events_per_s cpu_ms_per_request cpu_share server_cpu_share other_cpu_share peak_memory_mb requests "
        "ttft_error_ms itl_error_ms latency_error_ms send_ms receive_ms schedule_lag_ms achieved_rate gap_cv dispersion "
        "autocorrelation start_up_s clock_source joined_by"
    )
    return asdict(case) | dict.fromkeys(unknown.split()) | {"machine": machine.words}


def rates(sample: Sample, concurrency: int) -> dict:
    """Sends per second after the first of each connection, up to the last."""
    sent = sample.requests["sent_ns"].to_numpy()[concurrency:]
    if len(sent) < 2:
        return {"requests_per_s": None, "seconds": None}
    seconds = (sent[-1] - sent[0]) / 1e9
    per_s = (len(sent) - 1) / seconds
    return {"requests_per_s": per_s, "events_per_s": per_s * EVENTS, "seconds": seconds}


def errors(sample: Sample, log: pd.DataFrame, concurrency: int) -> dict:
    """What the client reports - what the server logged, ms."""
    joined, by = join(sample.requests.iloc[concurrency:], log, concurrency)
    server_ttft, server_latency = joined["first_ns"] - joined["arrival_ns"], joined["last_ns"] - joined["arrival_ns"]
    found = {
        "joined_by": by,
        "requests": len(joined),
        "ttft_error_ms": spread(joined["first_token_ns"] - joined["sent_ns"] - server_ttft),
        "latency_error_ms": spread(joined["last_token_ns"] - joined["sent_ns"] - server_latency),
    }
    if by == "request id":
        gaps = [
            np.diff(mine) - np.diff(theirs) for mine, theirs in zip(joined["chunk_ns"], joined["event_ns"], strict=True)
        ]
        found["itl_error_ms"] = spread(np.concatenate(gaps))
        found["send_ms"] = spread(joined["arrival_ns"] - joined["sent_ns"])
        found["receive_ms"] = spread(joined["first_token_ns"] - joined["first_ns"])
    return found


def join(requests: pd.DataFrame, log: pd.DataFrame, concurrency: int) -> tuple[pd.DataFrame, str]:
    """Each request with its row of the server's log, and how they were joined.

    A log without request ids is joined in order: the n-th that was sent with the n-th that arrived. Two that overtake
    each other on the way are exchanged, which leaves the mean as it is and moves no error by more than they differ.
    """
    if log["request_id"].notna().all():
        joined = requests.merge(log, on="request_id", how="left", validate="one_to_one")
        by = "request id"
    else:
        theirs = log.iloc[concurrency : concurrency + len(requests)].reset_index(drop=True).drop(columns="request_id")
        joined = pd.concat([requests.reset_index(drop=True), theirs], axis=1)
        by = "order"
    if joined["arrival_ns"].isna().any() or len(joined) != len(requests):
        raise RuntimeError(f"the server's log does not hold every request: {len(log)} for {len(requests)}")
    return joined, by


def arrivals(sample: Sample, log: pd.DataFrame) -> dict:
    """How regular the requests came, by the server's stamps, and how late they were sent."""
    facts = arrival_facts(log["arrival_ns"].to_numpy())
    return {
        "requests_per_s": facts.rate,
        "events_per_s": facts.rate * EVENTS,
        "achieved_rate": facts.rate,
        "gap_cv": facts.gap_cv,
        "dispersion": facts.dispersion,
        "autocorrelation": facts.autocorrelation,
        "schedule_lag_ms": spread(sample.requests["sent_ns"] - sample.requests["scheduled_ns"]),
        "seconds": (log["arrival_ns"].max() - log["arrival_ns"].min()) / 1e9,
    }


def nobody(case: Case) -> dict:
    """How late timers are without any load."""
    before = usage(os.getpid(), [])
    lateness_ns = np.array(timer_lateness_ns(case.rate, case.seconds))
    used = usage(os.getpid(), []) - before
    return {
        "requests": len(lateness_ns),
        "schedule_lag_ms": spread(lateness_ns),
        "other_cpu_share": max(0.0, used.everything_s - used.client_s) / used.wall_s,
    }


def start_up(case: Case, work: Work, folder: Path) -> dict:
    """From the start of a program to its records on disk."""
    started_ns = time.time_ns()
    if case.client == "ours":
        given = json.dumps({**asdict(work), "folder": str(folder)})
        command = [sys.executable, str(Path(__file__)), "--ten-requests"]
        done = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=True)
        result, records_file = json.loads(done.stdout), folder / "requests" / "point.parquet"
    else:
        records_file = folder / "aiohttp.jsonl"
        result = run_aiohttp(replace(work, concurrency=10), records_file)
    return {
        "requests": result["requests"],
        "start_up_s": (records_file.stat().st_mtime_ns - started_ns) / 1e9,
        "peak_memory_mb": result["peak_memory_mb"],
    }


def spread(values_ns: pd.Series | np.ndarray) -> dict[str, float]:
    """Signed mean, and p50, p99 and max of the size, ms."""
    values = np.asarray(values_ns, dtype=float)
    return {"mean": values.mean() / 1e6, **percentiles_ms(np.abs(values))}


# --- showing ------------------------------------------------------------------------------------------------------


def table(rows: list[dict]) -> str:
    """All rows, in sections that share columns."""
    lines = []
    for heading, modes, columns in SECTIONS:
        mine = [row for row in rows if row["mode"] in modes]
        if not mine:
            continue
        cells = [[title for title, _ in columns]] + [[text(row) for _, text in columns] for row in mine]
        widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        lines += ["", heading, ""]
        for line in cells:
            words, numbers = line[:WORD_COLUMNS], line[WORD_COLUMNS:]
            padded = [cell.ljust(width) for cell, width in zip(words, widths, strict=False)]
            padded += [cell.rjust(width) for cell, width in zip(numbers, widths[WORD_COLUMNS:], strict=True)]
            lines.append("  ".join(padded))
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _of(key: str, digits: int, part: str | None = None):
    def text(row: dict) -> str:
        value = row[key] if part is None or row[key] is None else row[key][part]
        return _number(value, digits)

    return text


def _percent(key: str):
    return lambda row: "–" if row[key] is None else f"{row[key]:.0%}"


WORD_COLUMNS = 3
WHO = [
    ("mode", lambda row: row["mode"]),
    (
        "format",
        lambda row: (
            row["format"]
            + (" TLS" if row["tls"] else "")
            + (" SigV4" if row["format"] == "sagemaker" else "")
            + (f" {row['turns']} turns" if row["turns"] > 1 else "")
        ),
    ),
    ("server", lambda row: f"{row['server']} {row['writes']}"),
]
USE = [
    ("CPU ms/req", _of("cpu_ms_per_request", 3)),
    ("memory MB", _of("peak_memory_mb", 0)),
    ("client CPU", _percent("cpu_share")),
    ("server CPU", _percent("server_cpu_share")),
    ("other CPU", _percent("other_cpu_share")),
]
CLIENT = ("client", lambda row: row["client"])
SECTIONS = [
    (
        "Closed loop, answers at once",
        ("rate", "scaling"),
        [
            *WHO,
            ("c", _of("concurrency", 0)),
            ("processes", _of("processes", 0)),
            CLIENT,
            ("req/s", _of("requests_per_s", 0)),
            ("events/s", _of("events_per_s", 0)),
            *USE,
        ],
    ),
    (
        f"Closed loop, TTFT {TTFT_S * 1e3:g} ms, ITL {ITL_S * 1e3:g} ms, {EVENTS} events: error of what the client reports, ms",
        ("accuracy",),
        [
            *WHO,
            ("c", _of("concurrency", 0)),
            CLIENT,
            ("n", _of("requests", 0)),
            *[(f"TTFT {part}", _of("ttft_error_ms", 3, part)) for part in ("mean", "p50", "p99", "max")],
            *[(f"ITL {part}", _of("itl_error_ms", 3, part)) for part in ("p50", "p99")],
            *[(f"latency {part}", _of("latency_error_ms", 3, part)) for part in ("mean", "p99")],
            *USE,
            ("clock", lambda row: row["clock_source"]),
        ],
    ),
    (
        "Open loop, answers at once: arrivals as the server saw them; lag = sent - scheduled, ms",
        ("open_loop",),
        [
            *WHO,
            CLIENT,
            ("arrivals", lambda row: row["arrivals"]),
            ("asked/s", _of("rate", 0)),
            ("achieved/s", _of("achieved_rate", 2)),
            ("n", _of("requests", 0)),
            ("gap CV", _of("gap_cv", 3)),
            ("dispersion", _of("dispersion", 3)),
            ("lag-1", _of("autocorrelation", 3)),
            *[(f"lag {part}", _of("schedule_lag_ms", 3, part)) for part in ("p50", "p99", "max")],
            *USE,
        ],
    ),
    (
        "Ten requests, from the start of the program to the records on disk",
        ("start_up",),
        [
            *WHO,
            CLIENT,
            ("requests", _of("requests", 0)),
            ("s", _of("start_up_s", 2)),
            ("memory MB", _of("peak_memory_mb", 0)),
        ],
    ),
]


def result_words(row: dict) -> str:
    """A row in a few words, for progress lines."""
    if row["mode"] == "start_up":
        return f"{row['start_up_s']:.2f} s, {row['peak_memory_mb']:.0f} MB"
    if row["client"] == "nobody":
        return f"lag p99 {row['schedule_lag_ms']['p99']:.3f} ms"
    if row["mode"] == "open_loop":
        return (
            f"{row['achieved_rate']:.2f}/s, gap CV {row['gap_cv']:.3f}, lag p99 {row['schedule_lag_ms']['p99']:.3f} ms"
        )
    if row["mode"] == "accuracy":
        error = row["ttft_error_ms"]
        return f"TTFT error mean {error['mean']:.3f}, p99 {error['p99']:.3f} ms (n = {row['requests']})"
    return f"{row['requests_per_s']:,.0f} req/s, {row['cpu_ms_per_request']:.3f} CPU ms/request"


def draw(rows: list[dict], path: Path) -> None:
    """Two panels, as SVG and PNG: error of TTFT, and CPU per request, against concurrency."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    style = {"svg.hashsalt": "instrument", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    panels = [
        ("accuracy", "error of TTFT, p99, ms", lambda row: row["ttft_error_ms"]["p99"]),
        ("rate", "CPU of the client, ms per request", lambda row: row["cpu_ms_per_request"]),
    ]
    with mpl.rc_context(style):
        figure, all_axes = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
        for axes, (mode, label, value) in zip(all_axes, panels, strict=True):
            for client, colour, marker in (("ours", BLUE, "o"), ("aiohttp", ORANGE, "s")):
                mine = [r for r in rows if plain(r) and r["mode"] == mode and r["client"] == client]
                if not mine:
                    continue
                x, y = [row["concurrency"] for row in mine], [value(row) for row in mine]
                axes.plot(x, y, color=colour, marker=marker, lw=1.4, ms=5)
                axes.annotate(
                    client, (x[-1], y[-1]), xytext=(7, 0), textcoords="offset points", color=colour, va="center"
                )
            axes.set(xscale="log", yscale="log", xlabel="concurrency, streams at once", ylabel=label)
            ticks = sorted({row["concurrency"] for row in rows if row["mode"] == mode})
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            axes.minorticks_off()
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if mode == "accuracy" else (1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(lambda number, _: f"{number:g}")
            axes.grid(color="#e3e3e3")
            axes.set_axisbelow(True)
            axes.set_xlim(right=max(ticks, default=1) * 3.2)
        figure.suptitle(f"Lower is better. One load process; {rows[0]['machine']}", fontsize=8)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=150)
        plt.close(figure)


def plain(row: dict) -> bool:
    """Rows that the figure compares."""
    return (
        row["server"] == "stub"
        and (row["mode"], row["writes"]) != ("rate", "each")
        and row["format"] == "openai_chat"
        and not row["tls"]
        and row["turns"] == 1
    )


# --- the program --------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and accuracy of the load generator.")
    parser.add_argument("--quick", action="store_true", help="few and short rows, for development")
    parser.add_argument("--only", help="only rows whose title contains this, for example 'accuracy openai_chat stub'")
    parser.add_argument("--ten-requests", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("The benchmark reads CPU and memory of processes from /proc: it needs Linux.")
    if arguments.ten_requests:
        send_ten_requests()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    run(arguments.quick, arguments.only or "")


def run(quick: bool, only: str) -> None:
    """All rows, and what is written about them."""
    machine = Machine.here()
    print(machine.words)
    absent = GroundTruth.why_absent()
    if absent:
        print(f"no rows with the ground-truth server: {absent}")
    wanted = [case for case in cases(quick, with_ground_truth=not absent) if only in case.title]
    if not wanted:
        sys.exit(
            f"no row's title contains {only!r}; a title is for example {Case('rate', 'ours', 'stub', 64, 1.0).title!r}"
        )
    begin, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="instrument-") as name, ExitStack() as stack:
        folder = Path(name)
        servers = {}
        for number, case in enumerate(wanted, 1):
            key = case.server, case.tls
            if case.server == "none":
                servers[key] = None
            elif key not in servers:
                servers[key] = start_server(case, machine, folder)
                stack.callback(servers[key].close)
            with client_cpus(machine, case.processes):
                rows.append(measure(case, servers[key], machine, folder))
            at = time.monotonic() - begin
            print(
                f"[{number}/{len(wanted)} {at // 60:.0f}:{at % 60:02.0f}] {case.title}: {result_words(rows[-1])}",
                flush=True,
            )
    print(table(rows))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    output = OUTPUT / ("instrument.json" if not (quick or only) else "instrument_part.json")
    output.write_text(json.dumps(rows, indent=1) + "\n")
    draw(rows, output)
    disturbed = sum((row["other_cpu_share"] or 0) > DISTURBED_SHARE for row in rows)
    if disturbed:
        share = f"{DISTURBED_SHARE:.0%}"
        print(
            f"\n{disturbed} of {len(rows)} rows were disturbed: something else used more than {share} of a CPU meanwhile."
        )
    written = ", ".join(str(output.with_suffix(end).relative_to(ROOT)) for end in (".json", ".svg", ".png"))
    print(f"\n{machine.words}\nwritten: {written}")


def start_server(case: Case, machine: Machine, folder: Path) -> Stub | GroundTruth:
    """The server of a case, on its CPU."""
    return Stub(case.tls, machine.server_cpu) if case.server == "stub" else GroundTruth(folder, machine.server_cpu)


@contextmanager
def client_cpus(machine: Machine, processes: int) -> Iterator[None]:
    """Keep this process, and the clients that it starts, to the client's CPU; more load processes need more CPUs."""
    if machine.client_cpus is None or processes > 1:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, machine.client_cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


if __name__ == "__main__":
    main()
