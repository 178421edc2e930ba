"""From a planted campaign to the request records that measuring it would have left, load point by load point.

The stations are simulated with their cold start, and the simulated times are put before the project's own functions: the
steady window is what `load.window.find_window` finds when it is asked as `AttemptRun` asks it, again and again, and the
load point ends when it says that there is enough, that the station is overloaded, or when the prompts run out.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from examples import facts, process
from planted_campaigns import PERCENT, TIMEOUT_S, Campaign, load_of
from simulation import Served, Work, draw_weather, draw_work, serve

from helpers.config.load import Load
from helpers.config.load_level import LoadLevel
from helpers.load.attempt_run import LOOK_EVERY_S, LOOK_SHARE
from helpers.load.control import choose_control
from helpers.load.race_state import read_block
from helpers.load.schedule import arrival_facts
from helpers.load.window import Window, find_window
from helpers.metrics.control import FOLDER
from helpers.metrics.sample_size import load_for_slo, requests_for_percentile
from helpers.run.records import ENOUGH_REQUESTS, OVERLOAD, Attempt, write_requests

START_NS = 1_000_000_000_000
"""Of every load point, on the simulated clock."""


class Ended(NamedTuple):
    """How a load point ended. Times in ns of the simulated clock."""

    window: Window
    close_ns: int
    stop_ns: int
    """Nothing is sent from here on."""
    because: str


class Times(NamedTuple):
    """What `find_window` looks at: requests that have ended, in order of t0."""

    t0_ns: np.ndarray
    done_ns: np.ndarray
    worker: np.ndarray
    ok: np.ndarray

    def in_order(self) -> Times:
        """As they are."""
        return self

    def ended_by(self, moment_ns: float) -> Times:
        """Those that have ended by then."""
        ended = self.done_ns <= moment_ns
        return Times(*(column[ended] for column in self))


class Written(NamedTuple):
    """What a file of records holds."""

    requests: int
    """Sent, warm-up and drain among them."""
    lasted_s: float


def write_campaign(campaign: Campaign, folder: Path) -> None:
    """Write one file of request records per load point, and the control block that ends the visit of each option."""
    points = [(o, d, level) for o in campaign.stations for d in campaign.shares for level in campaign.levels]
    count = campaign.config.datasets[0].count
    stations = [campaign.stations[option] for option, _, _ in points]
    rngs = [np.random.default_rng([campaign.seed, 2, number]) for number in range(len(points))]
    works = [
        draw_work(
            campaign.stations[option],
            load_of(dataset, level),
            count,
            rng,
            cold=True,
            slower=slower_of(campaign, (option, dataset, level), count),
        )
        for (option, dataset, level), rng in zip(points, rngs, strict=True)
    ]
    how = {"concurrency": [int(level.value) for _, _, level in points]}
    after_last_s = [math.inf] * len(points)
    if campaign.is_open:  # the same arrivals for all options
        arrivals = [_arrivals_s(campaign, dataset, level, count + 1) for _, dataset, level in points]
        how = {"arrivals_s": np.stack([one[:-1] for one in arrivals], axis=1)}
        after_last_s = [one[-1] for one in arrivals]
    service_s, refused = (np.stack([getattr(w, name) for w in works], axis=1) for name in ("service_s", "refused"))
    how |= {"stall_s": np.stack([work.stall_s for work in works], axis=1)}
    how |= {"weather": draw_weather(stations, np.random.default_rng([campaign.seed, 5]))}
    served = serve(stations, service_s, refused, TIMEOUT_S, **how)
    for option in campaign.stations:
        begin_s = 0.0
        for place in campaign.visit_of(option):
            number = points.index(place)
            mine = Served(*(part[:, number] for part in served))
            point = Attempt(*place, 0)
            begin_s += write_point(point, mine, works[number], after_last_s[number], campaign, folder, begin_s).lasted_s
        write_control(campaign, option, folder, campaign.at_end.get(option, 1.0), begin_s)


def write_control(campaign: Campaign, option: str, folder: Path, slower: float, begin_s: float) -> None:
    """Write the control block of an option, where the product asks for one."""
    load = campaign.config.load
    blocks = [] if campaign.is_open else [read_block(file) for file in folder.glob(f"{option}__*.parquet")]
    control = choose_control(blocks)
    if control is not None:
        (folder / FOLDER).mkdir(exist_ok=True)
        point = Attempt(option, control.dataset, control.level, 1, is_control=True)
        load = load.model_copy(update=control.asked(load))
        write_block(campaign, point, load, np.full(8 * control.requests + 500, slower), folder / FOLDER, begin_s)


def write_block(
    campaign: Campaign, point: Attempt, load: Load, slower: np.ndarray, folder: Path, begin_s: float
) -> Written:
    """Simulate one block that is asked for `load`, and write its records; `slower` has an entry for each request that might be
    sent.
    """
    station, level, count = campaign.stations[point.option], point.level, len(slower)
    place = [list(campaign.stations).index(point.option), list(campaign.shares).index(point.dataset)]
    which = 0 if point.is_control else point.repetition
    rng = np.random.default_rng([campaign.seed, 5, *place, (*campaign.levels, level).index(level), which])
    cold = not point.is_control and point.repetition == 1
    work = draw_work(station, load_of(point.dataset, level), count, rng, cold=cold, slower=slower)
    how: dict[str, object] = {"concurrency": [40 if level.is_open else int(level.value)]}
    after_last_s = math.inf
    if level.is_open:
        arrivals_s = np.cumsum(rng.exponential(1 / level.value, count + 1))
        how, after_last_s = {"arrivals_s": arrivals_s[:-1, None]}, arrivals_s[-1]
    how |= {"stall_s": work.stall_s[:, None], "weather": draw_weather([station], rng)}
    served = serve([station], work.service_s[:, None], work.refused[:, None], TIMEOUT_S, **how)
    mine = Served(*(part[:, 0] for part in served))
    return write_point(point, mine, work, after_last_s, campaign, folder, begin_s, load)


def slower_of(campaign: Campaign, point: tuple[str, str, LoadLevel], count: int) -> np.ndarray | float:
    """What drift and neighbours make of the service of a load point that ends with its window."""
    if point not in campaign.slower:
        return 1.0
    first, last = campaign.slower[point]
    return first + (last - first) * np.minimum(np.arange(count) / (1.5 * campaign.requests), 1)


def _arrivals_s(campaign: Campaign, dataset: str, level: LoadLevel, count: int) -> np.ndarray:
    place = campaign.levels.index(level), list(campaign.shares).index(dataset)
    return np.cumsum(np.random.default_rng([campaign.seed, 3, *place]).exponential(1 / level.value, count))


def write_point(
    point: Attempt,
    served: Served,
    work: Work,
    after_last_s: float,
    campaign: Campaign,
    folder: Path,
    begin_s: float,
    load: Load | None = None,
) -> Written:
    """Write the records of one load point, or of a block of one that is asked for `load`; `begin_s` is the wall clock."""
    sent_ns, done_ns, first_ns = (_ns(times) for times in (served.sent_s, served.done_s, _first_token_s(served, work)))
    ended = conduct(Times(sent_ns, done_ns, served.worker, served.ok), point.level, after_last_s, campaign, load)
    sent = sent_ns <= ended.stop_ns
    rows = _rows(point, served, work, (sent_ns, first_ns, done_ns), ended, int(sent.sum()))
    is_open = point.level.is_open
    before_close = arrival_facts(sent_ns[sent & (sent_ns < ended.close_ns)]) if is_open else None
    opened = ended.window.open_ns is not None
    last_ns = int(done_ns[sent].max())
    known = facts(
        option=point.option,
        dataset=point.dataset,
        load_point=point.id,
        load_kind=point.level.kind,
        level=point.level.value,
        repetition=point.repetition,
        window_open_ns=ended.window.open_ns,
        window_close_ns=ended.close_ns if opened else None,
        ended_because=ended.because,
        steady=ended.window.steady,
        steady_because=ended.window.because,
        asked_output_tokens=campaign.config.generation.max_output_tokens,
        fixed_output_length=campaign.config.generation.fixed_output_length,
        processes=[replace(process(), requests=len(rows))],
        scheduled=before_close,
        achieved=before_close,
        schedule_lag_ms={"p50": 0.0, "p99": 0.0, "max": 0.0} if is_open else None,
        turnaround_ms=None if is_open else {"p50": 0.0, "p99": 0.0, "max": 0.0},
        clock_pairs=[(START_NS, round(begin_s * 1e9)), (last_ns, round(begin_s * 1e9) + last_ns - START_NS)],
    )
    write_requests(folder / f"{point.id}.parquet", rows, known)
    return Written(len(rows), (last_ns - START_NS) / 1e9)


def _ns(seconds: np.ndarray) -> np.ndarray:
    return START_NS + np.round(seconds * 1e9).astype("int64")


def _first_token_s(served: Served, work: Work) -> np.ndarray:
    """When the prompt's part of the service is over."""
    start_s = np.minimum(served.start_s, served.done_s)
    return start_s + work.prefill_share * (served.done_s - start_s)


def _rows(
    point: Attempt,
    served: Served,
    work: Work,
    times_ns: tuple[np.ndarray, np.ndarray, np.ndarray],
    ended: Ended,
    count: int,
) -> list[dict]:
    opened, is_open, rows = ended.window.open_ns, point.level.is_open, []
    columns = (*times_ns, served.ok, work.refused, work.prompt_tokens, work.output_tokens)
    for number, (sent, first, done, ok, refused, prompt, output) in enumerate(
        zip(*(column[:count].tolist() for column in columns), strict=True)
    ):
        warm = opened is not None and sent >= opened
        rows.append(
            {
                "option": point.option,
                "dataset": point.dataset,
                "load_point": point.id,
                "level": point.level.value,
                "repetition": point.repetition,
                "request_id": f"{point.id}-{number}",
                "prompt_id": f"{point.dataset}-{number}",
                "phase": "warmup" if not warm else "steady" if sent < ended.close_ns else "drain",
                "scheduled_ns": sent if is_open else None,
                "sent_ns": sent,
                "first_byte_ns": first if ok else done if refused else None,
                "first_token_ns": first if ok else None,
                "last_token_ns": done if ok else None,
                "done_ns": done,
                "load_process": 0,
                "clock_source": "kernel",
                "prompt_tokens": prompt,
                "output_tokens": output if ok else None,
                "prompt_tokens_source": "server",
                "output_tokens_source": "server" if ok else None,
                "status": "ok" if ok else "http_error" if refused else "timeout",
                "http_status": 200 if ok else 503 if refused else None,
                "finish_reason": "length" if ok else None,
                "echoed_prompt": False if ok else None,
            }
        )
    return rows


def conduct(times: Times, level: LoadLevel, after_last_s: float, campaign: Campaign, load: Load | None = None) -> Ended:
    """When `AttemptRun` would have closed the window. `times` are those of all requests that there are prompts for;
    `after_last_s` is when an open loop would have sent one more; `load` is what a block is asked for.
    """
    spec = SimpleNamespace(
        load=load or load_for_slo(campaign.config),
        level=level,
        percentile=float(PERCENT),
        fewest_independent=1 if load else requests_for_percentile(campaign.config.slo),
        sessions=None,
    )
    supply_s = after_last_s
    if not level.is_open:
        supply_s = (int(times.done_ns[times.done_ns > times.t0_ns[-1]].min()) - START_NS) / 1e9
    look_s = LOOK_EVERY_S
    while True:
        now_ns = START_NS + round(look_s * 1e9)
        because = "max_duration_s" if look_s >= spec.load.max_duration_s else None
        because = "prompts ran out" if look_s >= supply_s else because
        seen = times.ended_by(now_ns)
        if because is None and len(seen.t0_ns) >= spec.load.min_requests:
            sent = times.t0_ns <= now_ns
            waiting = times.t0_ns[sent & (times.done_ns > now_ns)]
            window = find_window(seen, spec, START_NS, int(waiting.min()) if len(waiting) else now_ns)
            because = ENOUGH_REQUESTS if window.enough else None
            because = OVERLOAD if window.overloaded else because
        next_s = look_s + max(LOOK_EVERY_S, LOOK_SHARE * look_s)
        if because is not None:
            close_ns = START_NS + round(min(look_s, supply_s) * 1e9) if because == "prompts ran out" else now_ns
            answered_ns = max(now_ns, int(times.done_ns[times.t0_ns < close_ns].max()))
            stop_ns = now_ns if because == OVERLOAD else answered_ns
            following = times.t0_ns[(times.t0_ns >= close_ns) & (times.t0_ns <= stop_ns)]
            close_ns = int(following[0]) if len(following) else close_ns
            window = find_window(times.ended_by(answered_ns), spec, START_NS, close_ns)
            if because != ENOUGH_REQUESTS or window.enough:
                return Ended(window, close_ns, stop_ns, because)
            next_s = max(next_s, (answered_ns - START_NS) / 1e9)
        look_s = next_s
