"""How a race stands: from request records and the ledger to what each option took, and what the full grid would take."""

from dataclasses import replace

import pytest
from examples import endpoint, facts, make_config, request, token_price, write_run

from helpers.load.race_standing import NOTHING, Bill, standings_of, total

HOUR = {"create_called_at": "2026-11-01T10:00:00+00:00", "deleted_at": "2026-11-01T11:00:00+00:00"}


def raced(options=("a",), **load):
    closed = {} if "kind" in load else {"kind": "closed_loop", "concurrency": [1, 2]}
    load = {**closed, "race": True, "repeat_prompts": True, **load}
    return make_config(options, load=load, slo={"percentile": 90, "latency_s": 1, "error_rate": 0.1})


def block(option="a", level=1.0, start_s=0, repetition=1, kind="closed_loop", **changes):
    """20 requests of 0.5 s, one a second, in a window of 20 s: rows and facts."""
    where = {"option": option, "level": level, "repetition": repetition}
    rows = [request(start_s + at, 0.5, **where) for at in range(20)]
    return rows, facts(start_s, start_s + 20, load_kind=kind, **where, **changes)


def write(folder, *blocks):
    rows, windows = zip(*blocks, strict=True)
    return write_run(folder, [row for mine in rows for row in mine], list(windows))


def standing_of(config, folder, record):
    (standing,) = standings_of(config, folder, [record])
    return standing


def test_the_full_grid_takes_the_place_of_the_races_load(tmp_path):
    """29 requests show a p90, and half as many 10% errors at each of two levels. So 4 + 29 + 2 at one worker, 8 + 29 + 4 at
    two; at 1 request/s 76 s, against the race's 2 x 19.5 s.
    """
    folder = write(tmp_path, block(), block(start_s=30, repetition=2))
    standing = standing_of(raced(), folder, endpoint("a", 3.6, **HOUR))
    assert standing.spent == Bill(40, pytest.approx(1.0), pytest.approx(3.6))
    assert standing.full == Bill(76, pytest.approx(1 + 37 / 3600), pytest.approx(3.6 + 37e-3))


def test_the_full_grid_waits_for_steady_states_as_the_race_did(tmp_path):
    """A block of 8 is to send 4 to warm up, 8 and 2: the first took 6 more, and so would each of two load points."""
    rows, first = block()
    first = replace(first, processes=[replace(first.processes[0], requests=20)])
    folder = write(tmp_path, (rows, first), block(start_s=30, repetition=2))
    assert standing_of(raced(race={"first_look": 8}), folder, endpoint("a", 3.6, **HOUR)).full.requests == 76 + 2 * 6


def test_the_rate_between_levels_is_interpolated_and_beyond_them_bounded(tmp_path):
    """Measured at two workers alone, at 1/s: half of it at one, the same at four (16 + 29 + 8 requests)."""
    folder = write(tmp_path, block(level=2.0))
    config = raced(concurrency=[1, 2, 4])
    standing = standing_of(config, folder, endpoint("a", 3.6))
    assert standing.full.hours * 3600 == pytest.approx(35 / 0.5 + 41 + 53)


def test_a_load_point_of_the_full_grid_ends_with_its_time(tmp_path):
    standing = standing_of(raced(max_duration_s=30), write(tmp_path, block()), endpoint("a", 3.6))
    assert (standing.full.requests, standing.full.hours * 3600) == (60, pytest.approx(60))


def test_what_has_no_rate_is_unknown_and_so_is_the_sum(tmp_path):
    config, folder = raced(["a", "b"]), write(tmp_path, block())
    seen, unseen = standings_of(config, folder, [endpoint("a"), endpoint("b")])
    assert (unseen.option, unseen.spent, unseen.prices) == ("b", NOTHING, None)
    assert unseen.full == Bill(76, None, None)
    assert total([seen.full, unseen.full]) == Bill(152, None, None)


def test_an_option_that_failed_would_have_failed_in_the_full_grid_too(tmp_path):
    config, folder = raced(["a", "b"]), write(tmp_path, block())
    failed = standings_of(config, folder, [endpoint("a"), endpoint("b", failure="option 'b': no capacity", **HOUR)])[1]
    assert failed.full == failed.spent and failed.spent.hours == pytest.approx(1)
    assert failed.because == "no capacity"


def test_without_a_price_only_the_dollars_are_unknown(tmp_path):
    standing = standing_of(raced(), write(tmp_path, block()), endpoint("a", None, **HOUR))
    assert standing.spent.usd is None and standing.full.usd is None
    assert standing.full.hours is not None


def test_tokens_are_billed_by_the_request(tmp_path):
    """A million prompt tokens at $2 for 20 requests: 76 cost $7.60."""
    record = endpoint("a", price=token_price(2.0, 0.0), billed_input_tokens=1_000_000)
    standing = standing_of(raced(), write(tmp_path, block()), record)
    assert (standing.spent.usd, standing.full.usd) == (pytest.approx(2.0), pytest.approx(7.6))


def test_nothing_is_billed_on_this_machine(tmp_path):
    standing = standing_of(raced(), write(tmp_path, block()), endpoint("a", 3.6, local=True, **HOUR))
    assert (standing.spent.usd, standing.full.usd) == (0, 0)


def test_an_open_loop_is_as_fast_as_its_schedule(tmp_path):
    config = raced(kind="open_loop", rate=[1, 2], warmup_s=10)
    standing = standing_of(config, write(tmp_path, block(kind="open_loop")), endpoint("a", 3.6))
    assert (standing.full.requests, standing.full.hours * 3600) == (39 + 49, pytest.approx(39 + 24.5))


def test_blocks_and_options_come_in_the_order_in_which_they_were_measured(tmp_path):
    """Also over a restart of the machine, after which its monotonic clock begins anew."""
    boot = 10**18
    before, later = {"clock_pairs": [(0, boot)]}, {"clock_pairs": [(0, boot + 10**12)]}
    folder = write(
        tmp_path,
        block("b", start_s=100, **before),
        block("a", start_s=200, **before),
        block("a", 2.0, start_s=300, **before),
        block("a", 2.0, start_s=5, repetition=2, **later),
        block("a", start_s=50, repetition=2, **later),
    )
    first, second = standings_of(raced(["a", "b"]), folder, [endpoint("a"), endpoint("b")])
    assert (first.option, second.option) == ("b", "a")
    assert [(visit.level.value, visit.requests) for visit in second.visits] == [(1, 20), (2, 40), (1, 20)]


def test_how_it_left_is_that_of_the_ledger(tmp_path):
    left = endpoint("a", race_outcome="infeasible", race_because="after 20 requests: it misses the SLO")
    standing = standing_of(raced(), write(tmp_path, block()), left)
    assert (standing.outcome, standing.because) == ("infeasible", "after 20 requests: it misses the SLO")
