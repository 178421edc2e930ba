"""Did an option move during its visit? Planted changes are found, chance is not, and what is compared is early and late."""

import math

import numpy as np
import pytest
from examples import SECOND_NS, facts, make_config, request, write_run
from pydantic import ValidationError

from helpers.metrics.control import FALSE_ALARMS, FOLDER, Change, Move, apart, change_between, is_controlled, read_moves

TWO_LEVELS = make_config(load={"concurrency": [1, 2]})


def lognormal(rng, n, median=1.0, cv=0.1, kept=0.0):
    """Latencies of a median; their logarithms are a first-order autoregression."""
    steps = rng.standard_normal(n)
    for i in range(1, n):
        steps[i] = kept * steps[i - 1] + math.sqrt(1 - kept**2) * steps[i]
    return median * np.exp(cv * steps)


def test_a_change_is_the_ratio_of_geometric_means():
    first, last = np.tile([1.0, 4.0, 2.0, 2.0], 5), np.tile([2.0, 3.0, 3.0, 4.5], 5)
    ratio = (2 * 3 * 3 * 4.5) ** 0.25 / (1 * 4 * 2 * 2) ** 0.25
    assert change_between(first, last, 0.95).value == pytest.approx(ratio - 1)


def test_its_interval_is_students():
    """Against scipy's own, for values that alternate, and so have no memory."""
    from scipy import stats

    first, last = np.tile([1.0, 2.0], 30), np.tile([1.1, 2.6], 12)
    expected = stats.ttest_ind(np.log(last), np.log(first), equal_var=True).confidence_interval(0.9)
    found = change_between(first, last, 0.9)
    assert [math.log1p(found.low), math.log1p(found.high)] == pytest.approx(list(expected))


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_nothing_is_found_where_nothing_moves_and_a_real_change_is(kept):
    rng = np.random.default_rng([1, round(kept * 10)])
    found = {
        slower: [
            change_between(lognormal(rng, 120, kept=kept), lognormal(rng, 30, slower, kept=kept), 0.95)
            for _ in range(300)
        ]
        for slower in (1.0, 1.2)
    }
    alarms = {slower: np.mean([not one.low <= 0 <= one.high for one in changes]) for slower, changes in found.items()}
    assert alarms[1.0] <= 0.1
    assert alarms[1.2] >= 0.8


def test_few_stalls_decide_nothing():
    rng = np.random.default_rng(5)
    first, last = lognormal(rng, 120), lognormal(rng, 30)
    last[4] *= 30
    assert change_between(first, last, 0.95).value < 0.3


def test_too_few_values_say_nothing():
    assert change_between(np.linspace(1, 2, 19), np.linspace(1, 2, 90), 0.95) is None


@pytest.mark.parametrize(
    ("change", "is_shown"),
    [
        (Change(0.09, 0.06, 0.12), True),
        (Change(-0.09, -0.12, -0.06), True),
        (Change(0.09, -0.01, 0.2), False),
        (Change(0.01, 0.005, 0.015), False),
    ],
)
def test_a_change_is_shown_if_it_is_more_than_chance_and_no_trifle(change, is_shown):
    assert Move("a", "short", "concurrency 1", 100, 30, change).is_shown is is_shown


def measured(begin_s, end_s, level=1.0, **changes):
    pairs = [(0, round(begin_s * SECOND_NS)), (round((end_s - begin_s) * SECOND_NS), round(end_s * SECOND_NS))]
    return facts(begin_s, end_s, level=level, clock_pairs=pairs, **changes)


def test_blocks_far_apart_stand_for_start_and_end():
    early, other, late = measured(0, 10), measured(10, 90, 2.0), measured(90, 100, repetition=1)
    assert apart([late, other, early]) == (early, late)
    assert apart([early, measured(10, 20, repetition=1), measured(20, 100, 2.0)]) is None, "both are early"
    assert apart([early, other]) is None, "each load point once"
    assert apart([]) is None


@pytest.mark.parametrize("changes", [{"steady": False}, {"client_limited": ["late"]}, {"window_open_ns": None}])
def test_what_says_nothing_of_the_server_is_not_compared(changes):
    assert apart([measured(0, 10), measured(10, 90, 2.0), measured(90, 100, repetition=1, **changes)]) is None


def rows(begin_s, n, latency_s, **changes):
    """`n` requests, each slower or faster than the one before."""
    return [request(begin_s + i, latency_s * (0.98, 1.02)[i % 2], **changes) for i in range(n)]


@pytest.fixture
def folders(tmp_path):
    """Two load points of an option, the first of 1 s; and a control block of 1.2 s."""
    known = {"option": "a", "dataset": "short"}
    windows = [measured(0, 100, repetition=1), measured(100, 200, 2.0, repetition=1)]
    sent = rows(0, 100, 1.0, repetition=1) + rows(100, 100, 1.5, repetition=1, level=2.0)
    control = measured(200, 230, repetition=1, load_point="a__short__c1__control", **known)
    requests = write_run(tmp_path / "requests", sent, windows)
    return requests, write_run(tmp_path / FOLDER, rows(200, 30, 1.2, repetition=1), [control])


def test_a_control_block_is_compared_with_the_first_attempt_at_its_load_point(folders):
    (move,) = read_moves(*folders, TWO_LEVELS)
    assert (move.option, move.dataset, move.load) == ("a", "short", "concurrency 1")
    assert (move.first_n, move.last_n) == (100, 30)
    assert move.change.value == pytest.approx(0.2, abs=0.02)
    assert move.is_shown


def test_repetitions_far_apart_need_no_control_block(folders, tmp_path):
    again = measured(200, 300, repetition=2)
    write_run(folders[0], rows(200, 100, 1.1, repetition=2), [again])
    (move,) = read_moves(folders[0], tmp_path / "none", TWO_LEVELS)
    assert move.change.value == pytest.approx(0.1, abs=0.02)


def test_nothing_is_compared_where_it_is_switched_off(folders, tmp_path):
    write_run(folders[0], rows(200, 100, 1.1, repetition=2), [measured(200, 300, repetition=2)])
    config = make_config(load={"concurrency": [1, 2], "control": False})
    assert read_moves(folders[0], tmp_path / "none", config) == []


@pytest.mark.parametrize(
    "load",
    [
        {"kind": "ramp", "from_rate": 1, "to_rate": 2, "duration_s": 9},
        {"kind": "trace", "path": "trace.csv"},
        {"kind": "open_loop", "rate": [1, 2]},
        {"kind": "search", "over": "rate", "highest": 8},
    ],
)
def test_what_cannot_be_controlled_is_refused(load):
    with pytest.raises(ValidationError, match="leave out `control`"):
        make_config(load={**load, "control": True})


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ({"concurrency": [1, 2]}, True),
        ({"concurrency": [1]}, False),
        ({"concurrency": [1], "control": True}, True),
        ({"concurrency": [1, 2], "control": False}, False),
        ({"kind": "search", "over": "concurrency", "highest": 8}, True),
        ({"kind": "search", "over": "rate", "highest": 8}, False),
        ({"kind": "open_loop", "rate": [1, 2]}, False),
        ({"kind": "ramp", "from_rate": 1, "to_rate": 2, "duration_s": 9}, False),
    ],
)
def test_options_with_several_load_points_are_controlled_unless_the_config_says_otherwise(load, expected):
    config = make_config(load=load)
    assert is_controlled(config.options[0], config) is expected


def test_the_level_is_shared_among_the_options(folders):
    """Of more options that are compared each has a wider interval."""
    (alone,) = read_moves(*folders, TWO_LEVELS)
    for folder in folders:
        for file in list(folder.glob("a__*.parquet")):
            copies = facts_of_copy(file)
            write_run(folder, *copies)
    first, second = read_moves(*folders, make_config(["a", "b"], load={"concurrency": [1, 2]}))
    assert first.change.value == pytest.approx(alone.change.value) == second.change.value
    ratio = (first.change.high - first.change.low) / (alone.change.high - alone.change.low)
    from scipy import special

    assert ratio == pytest.approx(special.ndtri(1 - FALSE_ALARMS / 4) / special.ndtri(1 - FALSE_ALARMS / 2), rel=0.03)


def facts_of_copy(file):
    """The records of a file as those of option b."""
    import pyarrow.parquet as pq

    from helpers.run.records import read_attempt_facts

    known = read_attempt_facts(file)
    copy = type(known)(**{**vars(known), "option": "b", "load_point": known.load_point.replace("a__", "b__", 1)})
    return [{**row, "option": "b"} for row in pq.read_table(file).to_pylist()], [copy]
