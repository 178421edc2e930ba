"""From request records to what a race knows: blocks of a load point share its requests, its prompts and its time."""

from dataclasses import replace

import pytest
from examples import endpoint, facts, make_config, request, summarise_load_points, write_run

from helpers.config.load_level import LoadLevel
from helpers.load.race import Leave, Measure
from helpers.load.race_state import blocks_of, points_of, read_block, seconds_left, sent_of, step_of, took_its_part
from helpers.metrics.attempts import is_overloaded
from helpers.run.records import OVERLOAD, read_facts
from helpers.verdict.judging import judge

LEVEL = LoadLevel("closed_loop", 1)


@pytest.fixture
def two_blocks(tmp_path):
    """A folder with two blocks at concurrency 1, each of 20 requests of 0.5 s in 20 s."""
    windows = [
        facts(
            30 * i,
            30 * i + 20,
            repetition=i + 1,
            load_kind="closed_loop",
            level=1.0,
            load_point=f"a__short__c1__r{i + 1}",
        )
        for i in range(2)
    ]
    rows = [request(30 * i + at, 0.5, repetition=i + 1, level=1.0) for i in range(2) for at in range(20)]
    return write_run(tmp_path, rows, windows)


def raced(**load):
    load = {"kind": "closed_loop", "concurrency": [1, 2], "race": True, "repeat_prompts": True, **load}
    return make_config(load=load, slo={"percentile": 90, "latency_s": 1, "error_rate": 0.1})


def test_blocks_come_in_the_order_in_which_they_were_measured(two_blocks):
    files = blocks_of("a", "short", LEVEL, two_blocks)
    assert [file.stem[-2:] for file in files] == ["r1", "r2"]
    assert [round(read_block(file).lasted_s, 1) for file in files] == [19.5, 19.5]


@pytest.mark.parametrize(("max_duration_s", "is_spent"), [(600, False), (41, True)])
def test_the_blocks_of_a_load_point_share_its_time(two_blocks, max_duration_s, is_spent):
    """Of 41 s two are left, which is less than a tenth."""
    config = raced(max_duration_s=max_duration_s)
    blocks = [read_block(file) for file in blocks_of("a", "short", LEVEL, two_blocks)]
    assert seconds_left(blocks, config) == pytest.approx(max_duration_s - 39)
    measured, unmeasured = points_of(config.options[0], config, two_blocks, endpoint("a"))["short"]
    assert (measured.n, measured.is_spent) == (40, is_spent)
    assert not unmeasured.is_measured and not unmeasured.is_spent


def test_prompts_that_may_not_be_repeated_end_a_load_point(two_blocks):
    blocks = [read_block(file) for file in blocks_of("a", "short", LEVEL, two_blocks)]
    config = raced(repeat_prompts=False)
    few = config.model_copy(update={"datasets": [config.datasets[0].model_copy(update={"count": sent_of(blocks) + 5})]})
    assert not points_of(config.options[0], config, two_blocks, endpoint("a"))["short"][0].is_spent
    assert points_of(config.options[0], few, two_blocks, endpoint("a"))["short"][0].is_spent


@pytest.mark.parametrize("elsewhere", [0, 2])
def test_an_option_that_is_never_steady_is_not_measured_three_times_at_each_load(tmp_path, elsewhere):
    """One more block at most, wherever it is; where two were unsteady before, this one was the last."""
    windows, rows = [], []
    for level, repetition in [(1.0, 1), *((2.0, i + 1) for i in range(elsewhere))]:
        name = f"a__short__c{level:g}__r{repetition}"
        place = {"load_kind": "closed_loop", "level": level, "repetition": repetition}
        windows.append(facts(0, 20, load_point=name, steady=False, **place))
        rows += [request(at, 0.5, level=level, repetition=repetition) for at in range(20)]
    write_run(tmp_path, rows, windows)
    config = raced()
    at_one = points_of(config.options[0], config, tmp_path, endpoint("a"))["short"][0]
    assert at_one.n == 0
    assert at_one.is_spent is (elsewhere == 2)


@pytest.mark.parametrize(
    ("options", "concurrency", "goes_on"), [(["a"], [1, 2], True), (["a"], [1], False), (["a", "b"], [1], True)]
)
def test_a_race_sends_no_more_than_the_full_grid(two_blocks, options, concurrency, goes_on):
    """40 requests were sent, 10 in each block. The grid takes 29 for the SLO at each load, and 6 for its warm-up and drain.

    Half of what it takes of an option that was not loaded yet is kept for that.
    """
    for i in (2, 3):
        place = {"level": 1.0, "repetition": i + 1}
        window = facts(30 * i, 30 * i + 20, load_kind="closed_loop", load_point=f"a__short__c1__r{i + 1}", **place)
        write_run(two_blocks, [request(30 * i + at, 0.5, **place) for at in range(2)], [window])
    load = {"concurrency": concurrency, "race": True, "repeat_prompts": True, "min_requests": 1}
    config = make_config(options, load=load, slo={"percentile": 90, "latency_s": 1, "error_rate": 0.1})
    step = step_of(config.options[0], config, two_blocks, [endpoint(name) for name in options])
    assert isinstance(step, Measure) is goes_on
    assert goes_on or step == Leave("undecided")


def test_an_option_that_was_not_loaded_has_its_part_whatever_another_took(two_blocks):
    """The first was sent 90 requests, more than the whole grid: 35 for each, as where its warm-up found no steady state."""
    for i in range(2, 9):
        place = {"level": 1.0, "repetition": i + 1}
        window = facts(30 * i, 30 * i + 20, load_kind="closed_loop", load_point=f"a__short__c1__r{i + 1}", **place)
        write_run(two_blocks, [request(30 * i + at, 0.5, **place) for at in range(20)], [window])
    load = {"concurrency": [1], "race": True, "repeat_prompts": True, "min_requests": 1}
    config = make_config(["a", "b"], load=load, slo={"percentile": 90, "latency_s": 0.3, "error_rate": 0.1})
    first, second = config.options
    endpoints = [endpoint("a"), endpoint("b")]
    assert isinstance(step_of(first, config, two_blocks, endpoints), Leave)
    assert step_of(second, config, two_blocks, endpoints) == Measure("short", 1)


def open_blocks(folder, *rates, unsteady=()):
    """A block at each rate, of 40 requests that are answered within 0.1 s; and the config."""
    config = make_config(
        load={"kind": "open_loop", "rate": [1, 2], "max_duration_s": 600, "race": True, "repeat_prompts": True},
        slo={"percentile": 90, "latency_s": 1, "error_rate": 0.1},
    )
    for rate in rates:
        level = LoadLevel("open_loop", rate)
        place = {"level": float(rate), "load_kind": "open_loop", "load_point": f"a__short__{level.slug}__r1"}
        rows = [request(at / rate, 0.1, level=float(rate)) for at in range(40)]
        write_run(folder, rows, [facts(0, 40 / rate, **place, steady=rate not in unsteady)])
    return config


def test_room_at_the_highest_rate_is_shown_by_one_more_that_no_verdict_names(tmp_path):
    """2 requests/s are 0.76 of 2.63; the least short number above is 2.7."""
    config = open_blocks(tmp_path, 1, 2)
    low, high = points_of(config.options[0], config, tmp_path, endpoint("a"))["short"]
    assert (low.needs, high.needs, high.state, high.may_be_decided) == (None, 2.7, "undecided", True)
    assert step_of(config.options[0], config, tmp_path, [endpoint("a")]) == Measure("short", 2.7)
    open_blocks(tmp_path, 2.7)
    points = points_of(config.options[0], config, tmp_path, endpoint("a"))["short"]
    assert [(point.level, point.needs, point.may_be_decided) for point in points] == [(1, None, True), (2, None, True)]
    table = summarise_load_points(tmp_path, read_facts(tmp_path), [endpoint("a")], config)
    assert dict(zip(table["level"], table["shows_room"], strict=True)) == {1: True, 2: True, 2.7: False}
    named = judge(table, [endpoint("a")], [], config, "run").option("a")
    assert "2.7" not in named.reason + (named.may_be_cheaper_because or "")


def test_a_rate_without_room_is_given_up(tmp_path):
    config = open_blocks(tmp_path, 1, 2, 2.7, unsteady=(2.7,))
    high = points_of(config.options[0], config, tmp_path, endpoint("a"))["short"][1]
    assert (high.needs, high.state, high.may_be_decided) == (None, "undecided", False)


def test_one_overloaded_block_of_many_does_not_exclude_a_load_point():
    blocks = [facts(0, 30), facts(30, 60, repetition=2), replace(facts(60, 80, repetition=3), ended_because=OVERLOAD)]
    assert not is_overloaded(blocks)
    assert is_overloaded([*blocks[1:2], replace(facts(60, 100), ended_because=OVERLOAD)])


def test_failures_too_near_their_limit_to_be_told_from_it_end_an_option(two_blocks):
    """Of 600 requests at two loads a tenth failed, and a tenth may: no look to come would decide that."""
    for level in (1, 2):
        name = {"level": float(level), "repetition": 3}
        rows = [request(at, None if at % 10 == 5 else 0.5, **name) for at in range(300)]
        write_run(
            two_blocks, rows, [facts(0, 300, load_kind="closed_loop", load_point=f"a__short__c{level}__r3", **name)]
        )
    config = raced(race={"first_look": 30, "max_requests": 500})
    points = points_of(config.options[0], config, two_blocks, endpoint("a"))["short"]
    assert [(point.n, point.state, point.may_be_decided) for point in points] == [
        (340, "undecided", False),
        (300, "undecided", False),
    ]


def test_a_load_point_is_not_given_up_because_few_requests_happen_to_be_alike(tmp_path):
    """3 of 64 were beyond the limit, and the slowest quarter came in one spell: 64 may count for 5, or for many more."""
    slow = [request(at, 2.0 if at in (21, 26, 31) else 0.2 if 20 <= at < 36 else 0.1, level=1.0) for at in range(64)]
    write_run(tmp_path, slow, [facts(0, 64, load_kind="closed_loop", level=1.0, load_point="a__short__c1__r1")])
    config = raced(race={"first_look": 30, "max_requests": 480})
    at_one = points_of(config.options[0], config, tmp_path, endpoint("a"))["short"][0]
    assert (at_one.n, at_one.state, at_one.may_be_decided) == (64, "undecided", True)


@pytest.mark.parametrize(("n", "may_be_decided"), [(40, True), (80, False)])
def test_no_load_point_is_given_up_after_its_first_look(tmp_path, n, may_be_decided):
    """A tenth of its requests was beyond the limit, and a tenth may be: perhaps bad luck at first, soon no more."""
    rows = [request(at, 2.0 if at % 10 == 2 else 0.1, level=1.0) for at in range(n)]
    write_run(tmp_path, rows, [facts(0, n, load_kind="closed_loop", level=1.0, load_point="a__short__c1__r1")])
    config = raced(race={"first_look": 30, "max_requests": 120})
    at_one = points_of(config.options[0], config, tmp_path, endpoint("a"))["short"][0]
    assert (at_one.n, at_one.may_be_decided) == (n, may_be_decided)


@pytest.mark.parametrize(("waited", "is_over"), [(0, True), (400, False)])
def test_the_full_grid_would_wait_for_steady_states_as_the_race_did(tmp_path, waited, is_over):
    """Of 700 requests that a race sent, its first block took 400 more than were asked for until it was steady."""
    first, config = 30 + waited, raced(race={"first_look": 30, "max_requests": 480}, min_requests=120)
    for repetition, n in ((1, first), (2, 700 - first)):
        place = {"level": 1.0, "repetition": repetition}
        rows = [request(at, 0.1, **place) for at in range(n)]
        window = facts(0, n, load_kind="closed_loop", load_point=f"a__short__c1__r{repetition}", **place)
        write_run(tmp_path, rows, [replace(window, processes=[replace(window.processes[0], requests=n)])])
    assert took_its_part(config.options[0], config, tmp_path) is is_over


def test_a_load_point_with_an_unsteady_block_is_given_up(tmp_path):
    """It was overloaded for the shorter part of its time, which keeps it from being met for good."""
    for repetition, (seconds, changes) in enumerate(
        ((20, {}), (10, {"steady": False, "ended_because": OVERLOAD})), start=1
    ):
        place = {"level": 1.0, "repetition": repetition, "load_kind": "closed_loop"}
        window = facts(0, seconds, load_point=f"a__short__c1__r{repetition}", **place, **changes)
        write_run(tmp_path, [request(at, 0.5, level=1.0, repetition=repetition) for at in range(10)], [window])
    at_one = points_of(raced().options[0], raced(), tmp_path, endpoint("a"))["short"][0]
    assert (at_one.n, at_one.state, at_one.may_be_decided) == (20, "undecided", False)


def test_a_block_that_is_measured_again_under_its_name_is_read_again(two_blocks):
    """The first is set aside because its server was lost; another takes its name."""
    config = raced()
    points_of(config.options[0], config, two_blocks, endpoint("a"))
    again = facts(0, 20, repetition=1, load_kind="closed_loop", level=1.0, load_point="a__short__c1__r1")
    write_run(two_blocks, [request(at, 3.0, repetition=1, level=1.0) for at in range(10)], [again])
    assert points_of(config.options[0], config, two_blocks, endpoint("a"))["short"][0].n == 30
