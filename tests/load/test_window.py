"""When a window holds enough: requests, and independent ones."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from helpers.config.load import ClosedLoop, OpenLoop
from helpers.config.load_level import LoadLevel
from helpers.config.workload import Conversations
from helpers.load.window import Times, find_window
from helpers.metrics.intervals import design_effect, percentile_interval, rate_interval
from helpers.metrics.looks import share_spent_at


def times_of(latency_s, concurrency, failed=()):
    """A closed loop whose requests have these latencies, in the order of sending; `failed` are the places of failures."""
    free_s, t0, done = np.zeros(concurrency), [], []
    workers = []
    for latency in latency_s:
        worker = int(free_s.argmin())
        t0.append(free_s[worker])
        free_s[worker] += latency
        done.append(free_s[worker])
        workers.append(worker)
    names = ("scheduled_ns", "sent_ns", "done_ns", "worker", "ok")
    rows = np.zeros(len(t0), [(name, "int64") for name in names])
    rows["ok"] = 1
    rows["ok"][list(failed)] = 0
    rows["sent_ns"], rows["done_ns"] = np.array(t0) * 1e9 + 1, np.array(done) * 1e9 + 1
    rows["worker"] = workers
    times = Times()
    times.append(rows)
    return times, int(min(free_s) * 1e9)


def window_of(latency_s, fewest_independent=1, concurrency=4, failed=(), **load):
    times, until_ns = times_of(latency_s, concurrency, failed)
    load = ClosedLoop(concurrency=[concurrency], min_requests=100, warmup_requests=1, **load)
    known = {"percentile": 95.0, "fewest_independent": fewest_independent, "sessions": None}
    asked = SimpleNamespace(load=load, level=load.levels()[0], **known)
    return find_window(times, asked, 0, until_ns)


def queue(n, seed, memory):
    """Latencies that remember the ones before them, as those of requests in one queue do."""
    rng = np.random.default_rng(seed)
    noise, found = rng.normal(size=n), np.zeros(n)
    for i in range(1, n):
        found[i] = memory * found[i - 1] + noise[i]
    return 1 + 0.1 * found * np.sqrt(1 - memory**2)


def test_requests_that_are_independent_are_enough_at_once():
    window = window_of(queue(140, 1, 0.0), 59)
    assert window.steady and window.enough


def test_requests_that_are_alike_are_not_enough_though_they_are_as_many():
    latency_s = queue(140, 5, 0.9)
    assert design_effect([latency_s], 95) > 3
    assert not window_of(latency_s, 59).enough, "140 tell as much as about 40"
    assert "independent ones that the SLO asks for" in window_of(latency_s, 59).because


def test_a_window_goes_on_until_they_are_enough():
    latency_s = queue(4000, 5, 0.9)
    enough = [n for n in range(140, 4001, 40) if window_of(latency_s[:n], 59).enough]
    assert enough, "at some time"
    assert enough[0] / design_effect([latency_s[: enough[0]]], 95) > 59 / 2


def test_where_nothing_is_asked_for_the_number_of_requests_decides():
    window = window_of(queue(140, 5, 0.9), 1)
    assert window.enough is window.steady


# --- how exact a window is ------------------------------------------------------------------------------------------


def widths(window):
    """(requests, half-width of throughput, of the percentile) as the window says, shares in percent."""
    n, *shares = re.search(r"at (\d+) requests, .* ±(\S+)% of throughput, ±(\S+)% of p95", window.because).groups()
    return int(n), *map(float, shares)


def independent(n, seed=1):
    return np.random.default_rng(seed).gamma(4, 0.25, n)


@pytest.mark.parametrize("n", [3400, 16_000])
def test_half_widths_are_those_of_the_textbook(n):
    """As wide as a look of its number is: the first is at 100 requests, each later one at twice as many."""
    at, throughput, percent = widths(window_of(independent(n), target_relative_ci=0.05))
    look = np.log2(at / 100) + 1
    z = stats.norm.ppf(1 - 0.025 * share_spent_at(look))
    assert throughput == pytest.approx(100 * z * 0.5 / np.sqrt(at), rel=0.2), "a renewal process of CV 0.5"
    p95 = stats.gamma(4, scale=0.25).ppf(0.95)
    expected = z * np.sqrt(0.95 * 0.05 / at) / stats.gamma(4, scale=0.25).pdf(p95) / p95
    assert percent == pytest.approx(100 * expected, rel=0.35), "of a quantile of independent values"


def test_a_window_ends_once_its_intervals_are_narrow_and_no_sooner():
    ends = [n for n in range(120, 3300, 60) if window_of(independent(n), target_relative_ci=0.12).enough]
    assert ends and ends[0] > 400
    assert window_of(independent(ends[0]), target_relative_ci=0.5).enough
    assert not window_of(independent(ends[0]), target_relative_ci=0.01).enough


def test_between_two_looks_nothing_new_is_looked_at():
    found = [widths(window_of(independent(n), target_relative_ci=0.05)) for n in (450, 520, 700)]
    assert found[0] == found[1] == found[2], "400 requests each"


def test_failures_count_as_infinite_latencies():
    latency_s = independent(900)
    _, _, percent = widths(window_of(latency_s, target_relative_ci=0.05))
    _, _, of_failing = widths(window_of(latency_s, target_relative_ci=0.05, failed=range(3, 900, 16)))
    assert np.isfinite(percent) and of_failing == np.inf


def test_requests_that_wait_in_the_same_queue_count_as_fewer():
    alike, free = (widths(window_of(queue(1700, 3, m), target_relative_ci=0.05))[2] for m in (0.97, 0.0))
    assert alike > 1.5 * free


def missed_at_some_look(spend):
    """How often, of 400 windows looked at when they hold 100 to 1600 requests, an interval misses the truth at some look."""
    missed, truth = np.zeros(2), stats.gamma(4, scale=0.25).ppf(0.95)
    for seed in range(400):
        latency_s, wrong = independent(1600, seed), np.zeros(2, bool)
        for look in range(1, 6):
            error, here = 0.05 * spend(look), latency_s[: 100 * 2 ** (look - 1)]
            sides = (1 - error / 2, 1 - error / 2)
            found = (
                (rate_interval([np.ones(len(here))], [here], sides, independent=False), 1.0),
                (percentile_interval(here, 95, design_effect([here], 95), True, 1 - error), truth),
            )
            wrong |= [not (low <= true <= high) for (low, high), true in found]
        missed += wrong
    return missed / 400


def test_intervals_that_share_the_error_of_all_looks_hold_at_all_of_them():
    assert (missed_at_some_look(share_spent_at) <= 0.05).all()
    assert (missed_at_some_look(lambda look: 1.0) > 0.08).all(), "else this could not fail"
    assert sum(map(share_spent_at, range(1, 10_000))) == pytest.approx(1, abs=1e-3)


def opens_at(turns, level, load, think_time_s=1):
    """When the window opens, s, of requests of one second; `turns`: of a session on average, None without sessions."""
    times, until_ns = times_of(np.ones(400), 4)
    sessions = turns and SimpleNamespace(conversations=Conversations(think_time_s=think_time_s), mean_turns=turns)
    asked = SimpleNamespace(load=load, level=level, percentile=95.0, fewest_independent=1, sessions=sessions)
    return find_window(times, asked, 0, until_ns).open_ns / 1e9


def test_a_window_opens_no_earlier_than_a_session_takes_on_average():
    closed = ClosedLoop(concurrency=[4], min_requests=100, warmup_requests=2)
    assert opens_at(None, LoadLevel("closed_loop", 4), closed) == pytest.approx(2)
    assert opens_at(6, LoadLevel("users", 4), closed) == pytest.approx(6), "six answers of each user"
    assert opens_at(1, LoadLevel("users", 4), closed) == pytest.approx(2), "the config's warm-up, if it is longer"
    opened = OpenLoop(kind="open_loop", rate=[4], min_requests=100, warmup_s=3)
    assert opens_at(None, LoadLevel("open_loop", 4), opened) == pytest.approx(3)
    assert opens_at(5, LoadLevel("sessions", 4), opened) == pytest.approx(10), (
        "five turns of a second each, and to think"
    )
    assert opens_at(1, LoadLevel("sessions", 4), opened) == pytest.approx(3)
