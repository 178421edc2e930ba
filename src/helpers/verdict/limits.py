"""What limits each option at its highest load, by what its server said of itself. Rules and reasons: docs/metrics.md."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import pandas as pd

from helpers.config.benchmark import BenchmarkConfig
from helpers.number_text import duration, is_known, percent, plural, significant
from helpers.run.report_warning import ReportWarning

Kind = Literal["client", "memory", "queue", "compute", "unknown"]
FULL = 0.9
"""Mean share of the KV cache from which it is full: what one more request needs must be free too."""
BUSY = 0.9
"""Mean utilisation from which a processor has no time left."""
WAITS = 0.5
"""Requests that wait on average, from which a queue is there most of the time."""
AT_MOST = 0.85
"""Share of the most that the option ever ran at once, from which it runs at its cap: between two requests there are gaps."""
FLAT = 0.25
"""Growth of the throughput for growth of the running requests, both as logarithms, below which more of them bring little."""
LEAST_GROWTH = 1.2
"""By how much more requests have to run for that."""
QUANTITIES = ("server_running", "server_waiting", "server_kv_cache", "server_gpu", "server_cpu")


class Limit(NamedTuple):
    """What limits an option at a load point, and why that is said."""

    option: str
    dataset: str
    load: str
    kind: Kind
    because: str
    """A clause for behind a colon."""


def has_server_side(points: pd.DataFrame) -> pd.DataFrame:
    """The load points of which a server said anything that is shown, or could not be asked; none in runs without."""
    columns = [name for name in (*QUANTITIES, "server_trouble") if name in points]
    return points[points[columns].notna().any(axis=1)] if columns else points[:0]


def limits_of(points: pd.DataFrame, config: BenchmarkConfig) -> list[Limit]:
    """One for each option whose server was asked, in the config's order: at its highest load, on the first dataset there of which
    the server said anything.
    """
    known, found = has_server_side(points), []
    for option in config.options:
        mine = points[points["option"] == option.name]
        if mine.index.isin(known.index).any():
            highest = mine[mine["level"] == mine["level"].max()]
            said = highest[highest.index.isin(known.index)]
            row = (highest if said.empty else said).iloc[0]
            kind, because = _limit(row, mine)
            found.append(Limit(option.name, row["dataset"], row["load"], kind, because))
    return found


def _limit(row: pd.Series, mine: pd.DataFrame) -> tuple[Kind, str]:
    """The first rule that applies. `mine`: all load points of the option."""
    get = {name: row.get(name) for name in (*QUANTITIES, "server_preemptions", "server_running_max")}
    running, waiting, kv_cache = (get[f"server_{name}"] for name in ("running", "waiting", "kv_cache"))
    if row["client_limited"]:
        return "client", "the load generator, not the server, limited it, so the server could not show its limit"
    if is_known(get["server_preemptions"]) and get["server_preemptions"] > 0:
        full = f", which was {percent(kv_cache)} full on average" if is_known(kv_cache) else ""
        times = plural(round(get["server_preemptions"]), "time")
        return "memory", f"it took a running request out of its KV cache{full} {times}, to compute it again later"
    if is_known(kv_cache) and kv_cache >= FULL:
        return "memory", f"its KV cache was {percent(kv_cache)} full on average"
    most = mine["server_running_max"].max() if "server_running_max" in mine else None
    queues = is_known(waiting) and waiting >= WAITS
    if queues and is_known(running) and running >= AT_MOST * most:
        return (
            "queue",
            f"{significant(waiting)} requests waited on average while {significant(running)} ran, and never more than "
            f"{plural(round(most), 'request')} ran at once; a higher limit on requests that run together may serve more",
        )
    for name, words in (("server_gpu", "GPUs were"), ("server_cpu", "CPU was")):
        if is_known(get[name]) and get[name] >= BUSY:
            return "compute", f"its {words} busy {percent(get[name])} of the time{_and_yet(running, waiting)}"
    return _by_growth(row, mine) or ("unknown", _why_unknown(get, queues))


def _and_yet(running: float | None, waiting: float | None) -> str:
    if not is_known(running) or not is_known(waiting):
        return ""
    return f", with {significant(running)} requests running and {significant(waiting)} waiting on average"


def _by_growth(row: pd.Series, mine: pd.DataFrame) -> tuple[Kind, str] | None:
    """More requests ran at once than at the next lower load, and served hardly more tokens together."""
    if "server_running" not in mine or not is_known(row["server_running"]):
        return None
    below = mine[
        (mine["dataset"] == row["dataset"]) & (mine["level"] < row["level"]) & ~mine["client_limited"].astype(bool)
    ]
    below = below[(below["server_running"] > 0) & (below["output_tokens_per_s"] > 0)]
    if below.empty or not row["output_tokens_per_s"] > 0:
        return None
    last = below.loc[below["level"].idxmax()]
    more, faster = (row[name] / last[name] for name in ("server_running", "output_tokens_per_s"))
    if more < LEAST_GROWTH or math.log(faster) >= FLAT * math.log(more):
        return None
    return (
        "compute",
        f"{significant(row['server_running'])} requests ran at once, against {significant(last['server_running'])} at "
        f"{last['load']}, and together they served {significant(row['output_tokens_per_s'])} output tokens/s, against "
        f"{significant(last['output_tokens_per_s'])}",
    )


def _why_unknown(get: dict[str, float | None], queues: bool) -> str:
    """What speaks against each kind, as far as it is known."""
    if not any(is_known(get[name]) for name in QUANTITIES):
        return "nothing that its server said falls into the steady window"
    said = []
    if is_known(get["server_waiting"]):
        yet = " although it has run more at once" if queues else ", so it may serve more at a higher load"
        said.append(f"{significant(get['server_waiting'])} requests waited on average{yet}")
    if is_known(get["server_kv_cache"]):
        said.append(f"its KV cache was {percent(get['server_kv_cache'])} full")
    busy = [
        f"its {words} busy {percent(get[name])} of the time"
        for name, words in (("server_gpu", "GPUs were"), ("server_cpu", "CPU was"))
        if is_known(get[name])
    ]
    return "; ".join([*said, *(busy or ["how busy its processors were is not known"])])


# --- do client and server agree? ----------------------------------------------------------------------------------


COUNT_TOLERANCE = 0.01
SLOWER, SLOWER_S = 1.2, 0.05
"""From where the client's mean latency is far above the server's: by this factor and by so many seconds."""
FASTER, FASTER_S = 0.95, 0.01
"""From where it is below it, which cannot be."""


def check_server(points: pd.DataFrame) -> Iterator[ReportWarning]:
    """Where what the server counted and timed is not what the client recorded."""
    if "server_requests" not in points:
        return
    known = points.dropna(subset=["server_requests", "client_requests"])
    slack = (COUNT_TOLERANCE * known["client_requests"]).clip(lower=0.5)
    fewer = known[known["server_requests"] < known["client_requests"] - slack]
    more = known[known["server_requests"] > known["client_requests"] + known["client_failures"] + slack]
    if len(fewer):
        yield ReportWarning(
            kind="server_counts",
            message="The server counted fewer requests than it answered: its figures are of another server, or of one of "
            "several, and say little about what limits this option. Next: let metrics_url name the one server that answers.",
            rows=[_counts(row) for row in fewer.itertuples()],
        )
    if len(more):
        yield ReportWarning(
            kind="other_traffic",
            message="The server answered more requests than this run sent it: others used it at the same time, so the option may "
            "be faster and cheaper than measured. Next: measure while nobody else uses it.",
            rows=[_counts(row) for row in more.itertuples()],
        )
    agreed = known.drop(index=[*fewer.index, *more.index]).dropna(
        subset=["server_latency_s_mean", "client_latency_s_mean"]
    )
    server, client = agreed["server_latency_s_mean"].astype(float), agreed["client_latency_s_mean"].astype(float)
    slower = agreed[(client > SLOWER * server) & (client > server + SLOWER_S)]
    faster = agreed[(client < FASTER * server) & (client < server - FASTER_S)]
    if len(slower) or len(faster):
        yield ReportWarning(
            kind="server_latency",
            message="Client and server do not agree on how long requests took. Where the client saw more, the difference was "
            "spent before the server's clock began or behind its end: network, a proxy, a queue in front; where it saw less, the "
            "two did not time the same requests. Next: look at what stands between them; the verdict goes by the client's.",
            rows=[
                f"{row.option}, {row.dataset}, {row.load}: mean latency {duration(row.client_latency_s_mean)} by the client, "
                f"{duration(row.server_latency_s_mean)} by the server"
                for row in pd.concat([slower, faster]).itertuples()
            ],
        )


def _counts(row: tuple) -> str:
    failed = f" and {plural(int(row.client_failures), 'failure')}" if row.client_failures else ""
    return (
        f"{row.option}, {row.dataset}, {row.load}: {row.server_requests:,.0f} requests by the server, "
        f"{plural(int(row.client_requests), 'answer')}{failed} by the client"
    )
