"""When a window holds enough: requests, and independent ones."""

from types import SimpleNamespace

import numpy as np

from helpers.config.load import ClosedLoop
from helpers.load.window import Times, find_window
from helpers.metrics.intervals import design_effect


def times_of(latency_s, concurrency):
    """A closed loop whose requests have these latencies, in the order of sending."""
    free_s, t0, done = np.zeros(concurrency), [], []
    workers = []
    for latency in latency_s:
        worker = int(free_s.argmin())
        t0.append(free_s[worker])
        free_s[worker] += latency
        done.append(free_s[worker])
        workers.append(worker)
    rows = np.zeros(
        len(t0), [("scheduled_ns", "int64"), ("sent_ns", "int64"), ("done_ns", "int64"), ("worker", "int64")]
    )
    rows["sent_ns"], rows["done_ns"] = np.array(t0) * 1e9 + 1, np.array(done) * 1e9 + 1
    rows["worker"] = workers
    times = Times()
    times.append(rows)
    return times, int(min(free_s) * 1e9)


def window_of(latency_s, fewest_independent, concurrency=4):
    times, until_ns = times_of(latency_s, concurrency)
    load = ClosedLoop(concurrency=[concurrency], min_requests=100, warmup_requests=1)
    asked = SimpleNamespace(load=load, level=load.levels()[0], percentile=95.0, fewest_independent=fewest_independent)
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
