"""Schedules of open loops: their distribution, their seed, and faults of a trace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from helpers.config.load import OpenLoop, Ramp, TraceReplay
from helpers.config.load_level import LoadLevel
from helpers.errors import ConfigError
from helpers.load.schedule import arrival_facts, draw_arrivals
from helpers.prompts.traces import read_trace


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
        ("absent.csv", None, "No such file.*Next: set load.path"),
        ("wrong.csv", "when\n1\n2\n", "no column 'timestamp'.*one of: when.*Next: set load.timestamp"),
        ("words.csv", "timestamp\n1\nsoon\n", r"record 2 \(words.csv:3\): bad value 'soon' in 'timestamp'.*Next: "),
        ("short.jsonl", '{"timestamp": 1}\n', "1 times.*Next: "),
        ("broken.jsonl", '{"timestamp": 1}\n{"timest', "cannot be read: broken.jsonl:2: not valid JSON"),
        ("null.jsonl", '{"timestamp": 1}\n{"timestamp": null}\n', "record 2.*bad value None"),
        ("huge.jsonl", '{"timestamp": 1}\n{"timestamp": 1' + "0" * 400 + "}\n", "record 2.*bad value"),
        ("both.csv", "timestamp\n1\n2024-01-01\n", "1 of 2 times are dates, the others numbers.*Next: "),
    ],
)
def test_a_faulty_trace_is_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    load = TraceReplay(kind="trace", path=name)
    with pytest.raises(ConfigError, match=f"load.path '{name}'.*{words}"):
        draw_arrivals(load, load.levels()[0], 0, tmp_path)


AZURE_2023 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
)
AZURE_2024 = AZURE_2023.replace("5900,", "5900+00:00,").replace("1690,", "1690+00:00,")
BURST_GPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,C\n45,GPT-4,1,2,3,C\n"
)
MOONCAKE = "".join(
    json.dumps({"timestamp": t, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}) + "\n"
    for t in (27000, 30000)
)


@pytest.mark.parametrize(
    ("name", "content", "seconds", "read_as"),
    [
        ("azure_2023.csv", AZURE_2023, 4.314579, "dates"),
        ("azure_2024.CSV", AZURE_2024, 4.314579, "dates"),
        ("zulu.tsv", "time\tn\n2024-05-10T00:00:00Z\t1\n2024-05-10T02:00:01+02:00\t2\n", 1, "dates"),
        ("BurstGPT_1.csv", BURST_GPT, 40, "seconds: its columns are those of BurstGPT"),
        ("mooncake.JSONL", MOONCAKE, 3, "milliseconds: its columns are those of Mooncake"),
        ("list.json", json.dumps([{"ts": 0.5, "n": 1}, {"ts": 2}], indent=1), 1.5, "seconds: numbers with fractions"),
        ("epoch.csv", "timestamp\n1700000000000\n1700000001500\n", 1.5, "milliseconds since 1970, by their size"),
        ("named.csv", "timestamp_ms\n0\n1500\n", 1.5, "milliseconds, as 'timestamp_ms' says"),
        ("times.txt", "0.25\n1.75\n", 1.5, "seconds: numbers with fractions"),
    ],
)
def test_traces_that_people_have_are_read_in_their_unit(tmp_path, name, content, seconds, read_as):
    (tmp_path / name).write_text(content)
    load = TraceReplay(kind="trace", path=name)
    assert draw_arrivals(load, load.levels()[0], 0, tmp_path).tolist() == [0, pytest.approx(seconds * 1e9, abs=1000)]
    assert f"2 requests in {seconds:g} s" in read_trace(load, tmp_path).words.replace(f"{seconds:,.6g}", f"{seconds:g}")
    assert f"times read as {read_as}" in read_trace(load, tmp_path).words


def test_a_unit_that_is_not_certain_is_asked_for(tmp_path):
    (tmp_path / "t.csv").write_text("timestamp\n0\n3000\n6000\n")
    with pytest.raises(ConfigError) as error:
        read_trace(TraceReplay(kind="trace", path="t.csv"), tmp_path)
    for part in (
        "load.unit: ",
        "0 to 6,000",
        "0.0005 requests a second, or 0.5",
        "Next: write `unit: s` or `unit: ms`",
    ):
        assert part in str(error.value)
    for unit, seconds in {"s": 6000, "ms": 6, "us": 0.006}.items():
        read = read_trace(TraceReplay(kind="trace", path="t.csv", unit=unit), tmp_path)
        assert read.seconds[-1] == pytest.approx(seconds)
    (tmp_path / "d.csv").write_text(AZURE_2023)
    with pytest.raises(ConfigError, match=r"load\.unit: .* are dates, .*Next: delete load\.unit"):
        read_trace(TraceReplay(kind="trace", path="d.csv", unit="ms"), tmp_path)
