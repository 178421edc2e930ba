"""Schedules of open loops: their distribution, their seed, and faults of a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from helpers.config.load import LoadLevel, OpenLoop, Ramp, TraceReplay
from helpers.errors import ConfigError
from helpers.load.schedule import arrival_facts, draw_arrivals

pytestmark = pytest.mark.timing


def draw(rate=100.0, seed=1, **changes):
    load = OpenLoop(kind="open_loop", rate=[rate], **{"max_duration_s": 200, **changes})
    return draw_arrivals(load, LoadLevel("open_loop", rate), seed, Path())


def test_poisson_gaps_are_exponential():
    gaps = np.diff(draw()) / 1e9
    assert len(gaps) == pytest.approx(20_000, rel=0.03)
    assert stats.kstest(gaps, "expon", args=(0, 0.01)).pvalue > 0.01


@pytest.mark.parametrize("burstiness", [0.25, 4.0])
def test_gamma_gaps_have_their_shape(burstiness):
    gaps = np.diff(draw(arrivals="gamma", burstiness=burstiness)) / 1e9
    assert stats.kstest(gaps, "gamma", args=(burstiness, 0, 0.01 / burstiness)).pvalue > 0.01


def test_constant_gaps_do_not_drift():
    times = draw(rate=30.0, arrivals="constant")
    assert times == pytest.approx(np.arange(1, len(times) + 1) / 30 * 1e9, abs=1)


def test_the_seed_decides():
    assert (draw(seed=1) == draw(seed=1)).all()
    assert len(draw(seed=1)) != len(draw(seed=2)) or (draw(seed=1) != draw(seed=2)).any()


@pytest.mark.parametrize("ends", [(0, 100), (100, 20), (50, 50)])
def test_a_ramps_rate_changes_evenly(ends):
    load = Ramp(kind="ramp", from_rate=ends[0], to_rate=ends[1], duration_s=100)
    times = draw_arrivals(load, load.levels()[0], 3, Path()) / 1e9
    counts, edges = np.histogram(times, bins=10, range=(0, 100))
    expected = (ends[0] + (ends[1] - ends[0]) * (edges[:-1] + 5) / 100) * 10
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected.max())


def test_facts_of_known_arrivals():
    facts = arrival_facts(np.arange(0, 300) * 10**7)
    assert (facts.requests, facts.autocorrelation) == (300, None)
    assert facts.rate == pytest.approx(100)
    assert facts.gap_cv == pytest.approx(0)
    pairs = arrival_facts(np.repeat(np.arange(0, 300) * 10**7, 2))
    assert pairs.autocorrelation == pytest.approx(-1, abs=0.01)
    assert pairs.gap_cv == pytest.approx(1, abs=0.01)
    assert arrival_facts(np.array([5])) is None


def test_dispersion_is_the_variance_of_counts_over_their_mean():
    counts = np.tile([5, 15], 50)
    inside = [second + np.linspace(0.2, 0.8, count) for second, count in enumerate(counts)]
    times = np.concatenate(inside)
    times[0], times[-1] = 0, 100
    assert arrival_facts(times * 1e9).dispersion == pytest.approx(counts.var(ddof=1) / 10)
    assert arrival_facts(np.arange(0, 300) * 10**7).dispersion == 0
    assert arrival_facts(np.arange(0, 99) * 10**7).dispersion is None, "too few to tell"


def test_a_trace_starts_with_its_first_request_and_ends_with_the_load_point(tmp_path):
    (tmp_path / "trace.csv").write_text("at,what\n1005.5,x\n1003,y\n1004,z\n1100,w\n")
    load = TraceReplay(kind="trace", path="trace.csv", timestamp="at", speed=[2.0], max_duration_s=40)
    assert draw_arrivals(load, load.levels()[0], 0, tmp_path).tolist() == [0, 500_000_000, 1_250_000_000]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.csv", None, "no such file"),
        ("wrong.csv", "time\n1\n", "no column 'timestamp'.*one of: time"),
        ("words.csv", "timestamp\n1\nsoon\n", "record 2.*soon"),
        ("short.jsonl", '{"timestamp": 1}\n', "1 times"),
        ("broken.jsonl", '{"timestamp": 1}\n{"timest', "cannot be read"),
    ],
)
def test_a_faulty_trace_is_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    load = TraceReplay(kind="trace", path=name)
    with pytest.raises(ConfigError, match=f"load.path '{name}'.*{words}"):
        draw_arrivals(load, load.levels()[0], 0, tmp_path)
