"""What a race is expected to take, worked out by hand for a small config."""

import pytest
from examples import make_config

from helpers.load.race_estimate import expected_load
from helpers.metrics.looks import looks_of

SLO = {"percentile": 90, "latency_s": 2, "error_rate": 0.1}


def raced(**load):
    race = {"first_look": 30, "max_requests": 240}
    closed = {} if "kind" in load else {"kind": "closed_loop", "concurrency": [1]}
    load = {**closed, "race": race, "repeat_prompts": True, **load}
    return make_config(load=load, slo=SLO)


def test_one_level_at_one_worker():
    """Blocks of 30, 30, 60 and 120 requests, each with 4 + 2 more for warm-up and drain: the first, the next two, and for the
    first option all three that are left. Each request takes 2 s.
    """
    config = raced()
    assert looks_of(config).totals == (30, 60, 120, 240)
    first, second = (expected_load(config.options[0], place, config) for place in (1, 2))
    assert first.requests == pytest.approx(36 + (36 + 66) + (36 + 66 + 126))
    assert second.requests == pytest.approx(36 + (36 + 66) + (36 + 66 + 126) / 2)
    assert first.seconds == pytest.approx(2 * first.requests)


def test_levels_are_bracketed_not_all_measured():
    """Two of three have a first look, of 36, 42 and 56 requests; the next two looks take 102, 114 and 140."""
    config = raced(concurrency=[1, 2, 4])
    load = expected_load(config.options[0], 10**9, config)
    assert load.requests == pytest.approx(2 * (36 + 42 + 56) / 3 + (102 + 114 + 140) / 3)


def test_an_open_loop_takes_its_schedule():
    config = raced(kind="open_loop", rate=[2.0])
    load = expected_load(config.options[0], 1, config)
    assert (load.requests, load.seconds) == (30 + 90 + 210, pytest.approx(330 / 2))


def test_prompts_that_are_not_repeated_bound_it():
    config = raced(repeat_prompts=False)
    assert expected_load(config.options[0], 1, config).requests == pytest.approx(36 + 102 + 200)


def test_a_limit_that_is_measured_only_in_the_run_gives_no_time():
    config = make_config(load=raced().load.model_dump(), slo=SLO | {"latency_s": {"times_single_request": 4}})
    load = expected_load(config.options[0], 1, config)
    assert load.requests > 0 and load.seconds is None


def test_a_limit_that_says_nothing_of_the_whole_answer_gives_no_time():
    config = raced()
    slo = config.slo.model_copy(update={"latency_s": None, "ttft_s": 1.0})
    load = expected_load(config.options[0], 1, config.model_copy(update={"slo": slo}))
    assert load.requests > 0 and load.seconds is None
