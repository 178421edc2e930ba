"""What a day of traffic takes: instances, bills and break-evens, worked out by hand and minute by minute."""

import pandas as pd
import pytest
from examples import endpoint, load_point, make_config, option
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.verdict.judging import judge
from helpers.verdict.traffic_day import (
    LEAST_TIMES,
    billed_instance_hours,
    break_even_times,
    days_of,
    hour_ranges,
    ranked,
)
from helpers.verdict.what_if import config_at, settings_of

BUSY = [900.0 if 9 <= hour < 15 else 300.0 for hour in range(24)]
"""At 600 requests a minute for an instance: two instances from 9:00 to 15:00, one else."""
STARTED = {"create_called_at": "2026-11-01T10:00:00+00:00", "in_service_at": "2026-11-01T10:10:00+00:00"}
TOKENS = {"usd_per_1m_input_tokens": 1.0, "usd_per_1m_output_tokens": 5.0}
"""A request of 100 prompt and 24 output tokens costs 0.00022 $."""
DAYS_A_MONTH = 730 / 24


def day_config(options=("a",), curve=BUSY, **traffic):
    return make_config(list(options), traffic={"requests_per_minute": 600, "headroom": 0, "curve": curve, **traffic})


def days(config, points, endpoints):
    return days_of(judge(pd.DataFrame(points), endpoints, [], config, "run-1"), endpoints, config.traffic)


def token_endpoint(name="token"):
    return endpoint(name, price={"name": "per token", **TOKENS})


def token_point(name="token"):
    changes = {f"usd_per_1k_requests{end}": 0.22 for end in ("", "_low", "_high")}
    return load_point(name, usd_per_hour=None, **changes)


def test_two_instances_in_six_hours_and_one_else_by_hand():
    """18 x 1 + 6 x 2 instance-hours, and 10 minutes of the second one before 9:00; a fixed fleet is billed for 48."""
    (day,) = days(day_config(), [load_point("a")], [endpoint("a", **STARTED)])
    assert day.instances.value == [2 if 9 <= hour < 15 else 1 for hour in range(24)]
    assert day.startup_s == 600
    assert day.usd_per_month.value == pytest.approx(3.6 * (30 + 1 / 6) * DAYS_A_MONTH)
    assert day.fixed_usd_per_month.value == pytest.approx(3.6 * 48 * DAYS_A_MONTH)
    assert day.saved == pytest.approx(1 - (30 + 1 / 6) / 48)


def test_a_lower_capacity_needs_more_instances_and_a_higher_bill():
    """600 requests a minute, of which the interval is 540 to 660: at 580 one or two, at 1,250 two or three."""
    curve = [580.0] * 12 + [1250.0] * 12
    (day,) = days(day_config(curve=curve), [load_point("a")], [endpoint("a")])
    assert (day.instances.value[0], day.instances.low[0], day.instances.high[0]) == (1, 1, 2)
    assert (day.instances.value[12], day.instances.low[12], day.instances.high[12]) == (3, 2, 3)
    bill, fixed = day.usd_per_month, day.fixed_usd_per_month
    assert (bill.low, bill.value, bill.high) == pytest.approx([3.6 * h * DAYS_A_MONTH for h in (36, 48, 60)])
    assert (fixed.low, fixed.value, fixed.high) == pytest.approx([3.6 * h * DAYS_A_MONTH for h in (48, 72, 72)])


def test_the_headroom_is_kept_free_and_no_hour_is_without_an_instance():
    (day,) = days(day_config(curve=[0.0] * 23 + [300.0], headroom=0.5), [load_point("a")], [endpoint("a")])
    assert day.instances.value == [1] * 24
    (day,) = days(day_config(curve=[0.0] * 23 + [301.0], headroom=0.5), [load_point("a")], [endpoint("a")])
    assert day.instances.value == [1] * 23 + [2]


def test_instances_that_serve_together_are_created_together():
    """Two that serve 600 a minute together; at 900 there are four, of which two start 10 minutes before."""
    (day,) = days(day_config(), [load_point("a")], [endpoint("a", instance_count=2, **STARTED)])
    assert day.instances.value == [4 if 9 <= hour < 15 else 2 for hour in range(24)]
    assert day.usd_per_month.value == pytest.approx(3.6 * (60 + 2 / 6) * DAYS_A_MONTH)


@pytest.mark.parametrize("times", [{}, {"in_service_at": STARTED["in_service_at"]}])
def test_a_start_up_that_was_not_measured_is_left_out(times):
    (day,) = days(day_config(), [load_point("a")], [endpoint("a", **times)])
    assert day.startup_s is None
    assert day.usd_per_month.value == pytest.approx(3.6 * 30 * DAYS_A_MONTH)


def test_what_is_billed_by_the_token_has_no_instances_and_the_bill_of_its_requests():
    """18 x 300 + 6 x 900 requests a minute, 60 minutes each."""
    (day,) = days(day_config([option("token", price=TOKENS)]), [token_point()], [token_endpoint()])
    assert (day.instances, day.fixed_usd_per_month, day.saved) == (None, None, None)
    assert day.usd_per_month.value == pytest.approx(10_800 * 60 * 0.00022 * DAYS_A_MONTH)


def test_without_a_price_there_are_instances_and_no_bill():
    (day,) = days(day_config(), [load_point("a", usd_per_hour=None)], [endpoint("a", usd_per_instance_hour=None)])
    assert max(day.instances.value) == 2
    assert (day.fixed_usd_per_month, day.usd_per_month, day.saved) == (None, None, None)
    assert ranked([day]) == []


def test_estimates_come_last_and_are_compared_only_among_themselves():
    config = day_config(["a", "b"])
    points = [load_point("a"), load_point("b", slo="undecided", usd_per_hour=1.0)]
    found = days(config, points, [endpoint("a"), endpoint("b", usd_per_instance_hour=1.0)])
    assert [(day.option.option, day.option.is_estimate) for day in found] == [("a", False), ("b", True)]
    assert [day.option.option for day in ranked(found)] == ["a"]
    assert [day.option.option for day in ranked(found[1:])] == ["b"]


def test_an_option_that_misses_the_slo_has_no_day():
    assert days(day_config(), [load_point("a", slo="missed")], [endpoint("a")]) == []


def test_without_a_curve_there_is_no_day():
    assert days(make_config(), [load_point("a")], [endpoint("a")]) == []


def test_other_settings_keep_the_curve():
    config = day_config()
    assert config_at(config, settings_of(config)).traffic == config.traffic


# --- start-up -----------------------------------------------------------------------------------------------------


def test_an_instance_that_is_needed_again_within_its_start_up_is_kept():
    """Two in hour 0 and 2, one else, 1.5 hours of start-up: hour 1 keeps both, and the next day's first one begins at 22:30."""
    assert billed_instance_hours([2, 1, 2] + [1] * 21, 1.5) == 2 + 2 + 2 + 19 + 1.5 + 2


by_hour = st.lists(st.integers(1, 5), min_size=24, max_size=24)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(by_hour, st.integers(0, 60 * 30))
def test_what_is_billed_is_what_counting_every_minute_finds(instances, startup_min):
    minutes = [instances[minute // 60] for minute in range(24 * 60)] * 3
    billed = sum(max(minutes[minute : minute + startup_min + 1]) for minute in range(24 * 60)) / 60
    assert billed_instance_hours(instances, startup_min / 60) == pytest.approx(billed)
    assert sum(instances) <= billed <= 24 * max(instances)


# --- against tokens -----------------------------------------------------------------------------------------------


def pair(curve, usd=3.6, rate=10.0):
    """The day by the token, and that of an instance which serves `rate` requests a second for `usd` $/h."""
    config = day_config(["hour", option("token", price=TOKENS)], curve=curve)
    points = [load_point("hour", rate=rate, usd_per_hour=usd), token_point()]
    found = days(config, points, [endpoint("hour", usd_per_instance_hour=usd), token_endpoint()])
    by_name = {day.option.option: day for day in found}
    return by_name["token"], by_name["hour"], config.traffic


def test_the_hour_is_cheaper_once_an_instance_is_full_enough_by_hand():
    """300 requests a minute are 3.96 $/h by the token, so 3.6 $/h are as much at 0.909 of them. A second instance comes at
    twice as many, at 7.2 against 7.92.
    """
    assert break_even_times(*pair([300.0] * 24)) == pytest.approx(3.6 / 3.96, rel=1e-3)


def test_the_break_even_is_the_last_one_where_a_further_instance_brings_the_token_back():
    """At 5 $/h an instance: equal at 1.263; two from 2 on are 10 against 7.92, equal at 2.525; three from 4 on are 15 against
    15.84, and so on: never again.
    """
    assert break_even_times(*pair([300.0] * 24, usd=5.0)) == pytest.approx(10 / 3.96, rel=1e-3)


def test_quiet_hours_move_the_break_even():
    """In 12 hours nothing comes, and an instance is there all the same: 3.6 $/h against 1.98 by the token. From twice as many on
    there is a second one in the other 12 hours, 5.4 $/h on average; with a third one from 4 on, 7.2 against 7.92.
    """
    assert break_even_times(*pair([300.0, 0.0] * 12)) == pytest.approx(5.4 / 1.98, rel=1e-3)


@pytest.mark.parametrize(("usd", "rate", "expected"), [(100.0, 10.0, None), (0.01, 1000.0, LEAST_TIMES)])
def test_a_break_even_may_lie_beyond_the_range_or_before_it(usd, rate, expected):
    assert break_even_times(*pair([300.0] * 24, usd=usd, rate=rate)) == expected


# --- hours --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        (range(24), [(0, 24)]),
        ([], []),
        (range(9, 15), [(9, 15)]),
        ([22, 23], [(22, 24)]),
        ([22, 23, 0, 1], [(22, 2)]),
        ([0, 5, 23], [(5, 6), (23, 1)]),
        ([0, 5, 6], [(0, 1), (5, 7)]),
    ],
)
def test_stretches_of_the_day(marked, expected):
    assert hour_ranges([hour in marked for hour in range(24)]) == expected
