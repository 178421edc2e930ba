"""Instances, dollars and the cheapest option over the traffic, worked out by hand and by trying every traffic."""

import itertools
import math

import pytest
from examples import token_price
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers.price import Price
from helpers.verdict.capacity import (
    HIGHEST_TRAFFIC,
    LOWEST_TRAFFIC,
    CheapestRange,
    break_even,
    candidates,
    capacity_of,
    cheapest_ranges,
    fleet,
    mean_tokens,
    requests_per_minute,
)
from helpers.verdict.chosen_points import mixed_cost
from helpers.verdict.verdict import ChosenPoint, Estimate, OptionVerdict, Verdict


def point(per_s=10.0, share=1.0, prompt=100.0, output=24.0, spread=0.1, **changes):
    """A load point at which an option serves `per_s` requests a second."""
    rate = Estimate(value=per_s, low=per_s * (1 - spread), high=per_s * (1 + spread))
    known = {"dataset": "short", "load_kind": "closed_loop", "level": 1.0, "load": "concurrency 1", "n": 200}
    known |= {"share": share, "requests_per_s": rate, "prompt_tokens_mean": prompt, "output_tokens_mean": output}
    return ChosenPoint(**known | {"latency_s": None, "cost": None} | changes)


def option(name="a", points=None, *, usd=3.6, together=1, status="feasible", cost=None, **changes):
    """An option billed by the hour: `usd` per instance. Its cost at full load is that of 1,000 requests, if not given."""
    points = [point()] if points is None else points
    prices = [] if usd is None else [hourly(usd)]
    if cost is None and usd is not None:
        cost = usd * together / (requests_per_minute(points).value * 60) * 1000
    known = {"option": name, "instance_type": "i", "instance_count": together, "status": status, "reason": ""}
    known |= {"points": points, "prices": prices, "cost": cost and Estimate(value=cost, low=None, high=None)}
    found = OptionVerdict(**known | changes)
    return found.model_copy(update={"capacity": capacity_of(found, 600, 0.3)})


def hourly(usd):
    return Price(usd_per_instance_hour=usd)


def by_token(name="t", usd_per_1k=1.0, points=None):
    """An option billed by the token, at `usd_per_1k` for 1,000 requests of 100 prompt and 24 output tokens."""
    return option(name, points, usd=None, cost=usd_per_1k, prices=[token_price(0.0, usd_per_1k / 24 * 1e3)])


def verdict(*options):
    known = {"run_id": "r", "config_name": "c", "model": "m", "measured_locally": False, "comparable": True}
    known |= {"cost_basis": "usd_per_1k_requests", "percentile": 95, "recommended": None, "tied": [], "warnings": []}
    return Verdict(**known, may_be_cheaper=[], nearest=None, nearest_reason=None, options=list(options))


# --- what one option needs ----------------------------------------------------------------------------------------

MIX = [point(10.0, 0.75, prompt=100.0, output=20.0), point(5.0, 0.25, prompt=300.0, output=40.0)]
"""A mean request takes 0.75 / 10 + 0.25 / 5 = 0.125 s, so 480 a minute; it has 150 prompt and 25 output tokens."""


def test_throughput_over_a_mix_adds_the_time_that_each_request_takes():
    alone, mixed = requests_per_minute([point(10.0)]), requests_per_minute(MIX)
    assert alone.model_dump() == pytest.approx({"value": 600, "low": 540, "high": 660})
    assert mixed.value == pytest.approx(480)


def test_the_interval_of_throughput_over_a_mix_is_that_of_the_price():
    """$0.01 an hour for each request an hour: what is dearer by some percent serves fewer by as many."""
    costs = [Estimate(value=1 / r.value, low=1 / r.high, high=1 / r.low) for r in (p.requests_per_s for p in MIX)]
    cost = mixed_cost(list(zip([p.share for p in MIX], costs, strict=True)))
    rate = requests_per_minute(MIX)
    assert (rate.low, rate.high) == (pytest.approx(60 / cost.high), pytest.approx(60 / cost.low))
    assert 432 < rate.low < 480 < rate.high < 528, "both datasets at their worst at once is less likely"


def test_throughput_is_unknown_where_a_part_of_it_is():
    unknown = Estimate(value=5.0, low=None, high=9.0)
    assert requests_per_minute([point(), point(requests_per_s=unknown)]).low is None
    assert requests_per_minute([point(spread=1.0)]).low is None, "nothing may have been served"


def test_mean_tokens_of_a_mix_by_hand():
    assert (mean_tokens(MIX, "prompt"), mean_tokens(MIX, "output")) == (150, 25)
    assert mean_tokens([*MIX, point(prompt=None)], "prompt") is None


@pytest.mark.parametrize(
    ("traffic", "headroom", "instances", "utilisation"),
    [
        (600, 0.3, 2, 600 / 960),
        (336, 0.3, 1, 0.7),
        (337, 0.3, 2, 337 / 960),
        (480, 0.0, 1, 1.0),
        (481, 0.0, 2, 481 / 960),
        (0.001, 0.3, 1, 0.001 / 480),
    ],
)
def test_instances_are_whole_and_loaded_up_to_the_head_room(traffic, headroom, instances, utilisation):
    """480 a minute each, of which 70% are 336."""
    found = fleet(option(points=MIX), traffic, headroom, hourly(3.6))
    assert (found.instances, found.utilisation) == (instances, pytest.approx(utilisation))
    assert found.usd_per_fleet_hour == pytest.approx(3.6 * instances)


@pytest.mark.parametrize(("traffic", "instances"), [(336, 2), (337, 4), (672, 4), (673, 6)])
def test_instances_come_in_the_number_that_was_measured_together(traffic, instances):
    """480 a minute of two instances, of which 70% are 336."""
    pair = option(points=MIX, together=2)
    found = fleet(pair, traffic, 0.3, hourly(3.6))
    assert pair.capacity.requests_per_minute_per_instance.value == pytest.approx(240)
    assert (found.instances, found.usd_per_fleet_hour) == (instances, pytest.approx(3.6 * instances))
    assert found.utilisation == pytest.approx(traffic / (240 * instances))


def test_the_capacity_of_a_mix_on_two_instances_by_hand():
    """600 a minute need two pairs: 4 x 3.6 = 14.4 $/h for 36,000 requests of 25 output and 175 tokens. At 9 and 4.5 requests/s a
    mean request takes 0.00833 and 0.00556 s longer, so sqrt(0.00833² + 0.00556²) in all: 60 / 0.13502 / 2 = 222.2 a minute.
    """
    capacity = option(points=MIX, together=2).capacity
    assert capacity.requests_per_minute_per_instance.model_dump() == pytest.approx(
        {"value": 240, "low": 222.197, "high": 256.837}, abs=0.001
    )
    assert (capacity.instances, capacity.utilisation) == (4, pytest.approx(600 / 960))
    assert (capacity.usd_per_fleet_hour, capacity.usd_per_month) == pytest.approx((14.4, 14.4 * 730))
    assert capacity.usd_per_1m_output_tokens == pytest.approx(14.4 / (36_000 * 25) * 1e6)
    assert capacity.usd_per_1m_tokens == pytest.approx(14.4 / (36_000 * 175) * 1e6)


def test_the_bill_of_a_traffic_has_the_price_of_cached_tokens():
    full, reduced = (token_price(2.0, 12.0, usd_per_1m_cached_input_tokens=cached) for cached in (None, 0.2))
    high, low = (
        option(points=[point(cached_tokens_mean=50.0)], usd=None, prices=[price]).capacity for price in (full, reduced)
    )
    assert low.usd_per_month / high.usd_per_month == pytest.approx((50 * 2 + 50 * 0.2 + 24 * 12) / (100 * 2 + 24 * 12))


def test_what_is_billed_by_the_token_has_a_bill_and_no_instances():
    """36,000 requests an hour of 150 x 2 + 25 x 12 = 600 millionths of a dollar: 21.6 $/h."""
    capacity = option(points=MIX, usd=None, prices=[token_price(2.0, 12.0)]).capacity
    assert (capacity.instances, capacity.utilisation) == (None, None)
    assert (capacity.usd_per_fleet_hour, capacity.usd_per_month) == pytest.approx((21.6, 21.6 * 730))
    assert capacity.usd_per_1m_output_tokens == pytest.approx(24.0)
    assert capacity.usd_per_1m_tokens == pytest.approx(600 / 175)


def test_without_a_price_or_tokens_the_bill_is_unknown():
    unpriced = option(usd=None).capacity
    assert unpriced.instances == 2
    assert (unpriced.usd_per_fleet_hour, unpriced.usd_per_month, unpriced.usd_per_1m_tokens) == (None, None, None)
    no_tokens = option(points=[point(output=None)]).capacity
    assert no_tokens.usd_per_fleet_hour == pytest.approx(7.2)
    assert (no_tokens.usd_per_1m_output_tokens, no_tokens.usd_per_1m_tokens) == (None, None)
    assert by_token(points=[point(output=None)]).capacity.usd_per_fleet_hour is None


rates_per_s = st.floats(0.5, 200)
traffics = st.floats(LOWEST_TRAFFIC, HIGHEST_TRAFFIC)
headrooms = st.floats(0, 0.9)


@settings(deadline=None, derandomize=True)
@given(rates_per_s, st.integers(1, 4), traffics, st.floats(1, 5), headrooms, headrooms)
def test_more_head_room_or_traffic_never_needs_fewer_instances(rate, together, traffic, more, headroom, other):
    served = option(points=[point(rate)], together=together)
    less, most = sorted((headroom, other))
    found = fleet(served, traffic, less, hourly(1.0))
    assert fleet(served, traffic, most, hourly(1.0)).instances >= found.instances
    assert fleet(served, traffic * more, less, hourly(1.0)).instances >= found.instances
    assert found.instances % together == 0
    assert found.utilisation <= (1 - less) * (1 + 1e-6)
    fewer = found.instances - together
    assert fewer == 0 or traffic > fewer * rate * 60 / together * (1 - less)


@settings(deadline=None, derandomize=True)
@given(rates_per_s, traffics, headrooms, st.floats(0.01, 100), st.floats(0.1, 10))
def test_the_bill_grows_with_the_price(rate, traffic, headroom, usd, factor):
    served = option(points=[point(rate)])
    bill = fleet(served, traffic, headroom, hourly(usd)).usd_per_fleet_hour
    assert fleet(served, traffic, headroom, hourly(usd * factor)).usd_per_fleet_hour == pytest.approx(bill * factor)


# --- over a range of traffic --------------------------------------------------------------------------------------


def test_only_what_meets_the_slo_and_has_a_price_is_a_candidate():
    states = ["recommended", "tied", "feasible", "undecided", "not_judged", "infeasible", "unpriced", "incomplete"]
    options = [option(state, status=state) for state in states]
    assert [o.option for o in candidates(verdict(*options))] == ["recommended", "tied", "feasible"]


def ranges_of(*options, headroom=0.0):
    return [(r.low, r.high, r.option) for r in cheapest_ranges(verdict(*options), headroom)]


def test_whole_instances_change_the_cheapest_option_by_hand():
    """Small ones serve 60 a minute for 1 $/h, large ones 6,000 for 4. Four small ones cost as much as a large one, which
    is cheaper at full load: so it leads from the fourth on.
    """
    small = option("a small one", [point(1.0)], usd=1.0)
    large = option("the large one", [point(100.0)], usd=4.0)
    assert ranges_of(small, large) == [(1, 180, "a small one"), (180, 10_000, "the large one")]
    assert ranges_of(small, large, headroom=0.5)[0] == (1, 90, "a small one")
    assert ranges_of(small) == [(1, 10_000, "a small one")]


def test_a_new_instance_may_hand_the_lead_back_and_forth():
    """Of 6,000 a minute at 3 $/h and of 4,000 at 2.5: one of each, then 6 against 5 up to 8,000, then 6 against 7.5."""
    big, mid = option("big", [point(100.0)], usd=3.0), option("mid", [point(200 / 3)], usd=2.5)
    expected = [(1, 4000, "mid"), (4000, 6000, "big"), (6000, 8000, "mid"), (8000, 10_000, "big")]
    found = ranges_of(big, mid)
    assert [name for _, _, name in found] == [name for _, _, name in expected]
    assert [edge for low, high, _ in found for edge in (low, high)] == pytest.approx(
        [edge for low, high, _ in expected for edge in (low, high)]
    )


def test_instances_that_belong_together_are_rented_together():
    """Two that serve 6,000 together for 2 $/h, against one that serves 3,000 for 1.5: 2 against 1.5 up to 3,000, then
    against 3, then 4 against 4.5.
    """
    pair = option("pair", [point(100.0)], usd=1.0, together=2)
    single = option("single", [point(50.0)], usd=1.5)
    assert ranges_of(pair, single) == [(1, 3000, "single"), (3000, 10_000, "pair")]


def test_the_token_is_cheaper_until_an_instance_is_full_enough_by_hand():
    """1 $ for 1,000 requests is 0.06 $/h for one a minute; an instance at 6 $/h equals 100 a minute."""
    tokens, hour = by_token("tokens", 1.0), option("hour", [point(10.0)], usd=6.0)
    assert ranges_of(tokens, hour) == [(1, pytest.approx(100), "tokens"), (pytest.approx(100), 10_000, "hour")]
    assert break_even(tokens, hour, 0.0) == pytest.approx(100)


def test_the_break_even_is_the_last_one_where_new_instances_bring_the_token_back():
    """150 a minute each at 6 $/h: equal at 100, then more expensive from the second on (12 $/h against 9) up to 200, and from
    the third on (18 against 18) never again.
    """
    tokens, hour = by_token("tokens", 1.0), option("hour", [point(2.5)], usd=6.0)
    found = ranges_of(tokens, hour)
    assert [name for _, _, name in found] == ["tokens", "hour", "tokens", "hour"]
    assert [low for low, _, _ in found] == pytest.approx([1, 100, 150, 200])
    assert break_even(tokens, hour, 0.0) == pytest.approx(200)


@pytest.mark.parametrize(("usd", "expected"), [(1000.0, None), (0.05, LOWEST_TRAFFIC), (0.06 * 600, 600.0)])
def test_a_break_even_may_lie_beyond_the_range_or_before_it(usd, expected):
    """600 a minute are 36 $/h by the token, 10,000 are 600 $/h."""
    found = break_even(by_token("tokens", 1.0), option("hour", [point(1000.0)], usd=usd), 0.0)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_an_option_whose_bill_is_unknown_is_never_the_cheapest_and_has_no_break_even():
    unknown, hour = by_token("unknown", 1.0, [point(output=None)]), option("hour")
    assert ranges_of(unknown, hour) == [(1, 10_000, "hour")]
    assert break_even(unknown, hour, 0.0) is None
    assert ranges_of(unknown) == []


def test_without_candidates_there_is_no_range():
    assert cheapest_ranges(verdict(option(status="infeasible")), 0.3) == []


billed_by_hour = st.tuples(rates_per_s, st.floats(0.1, 100), st.integers(1, 3))
billed_by_token = st.floats(0.001, 10)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    hours=st.lists(billed_by_hour, min_size=1, max_size=3),
    tokens=st.lists(billed_by_token, max_size=2),
    headroom=st.floats(0, 0.5),
)
def test_the_cheapest_over_the_traffic_is_what_trying_every_traffic_finds(hours, tokens, headroom):
    options = [option(f"h{i}", [point(rate)], usd=usd, together=n) for i, (rate, usd, n) in enumerate(hours)]
    options += [by_token(f"t{i}", usd) for i, usd in enumerate(tokens)]
    found = cheapest_ranges(verdict(*options), headroom)
    assert (found[0].low, found[-1].high) == (LOWEST_TRAFFIC, HIGHEST_TRAFFIC)
    assert all(one.high == other.low and one.option != other.option for one, other in itertools.pairwise(found))
    for step in range(400):
        traffic = LOWEST_TRAFFIC * (HIGHEST_TRAFFIC / LOWEST_TRAFFIC) ** ((step + 0.5) / 400)
        if any(abs(traffic / r.low - 1) < 1e-6 for r in found):
            continue
        bills = {o.option: fleet(o, traffic, headroom, o.price).usd_per_fleet_hour for o in options}
        (here,) = [r.option for r in found if r.low <= traffic < r.high]
        assert bills[here] <= min(bills.values()) * (1 + 1e-9), traffic


@settings(max_examples=60, deadline=None, derandomize=True)
@given(usd_per_1k=st.floats(0.01, 10), hourly=billed_by_hour, headroom=st.floats(0, 0.5))
def test_beyond_the_break_even_the_hour_is_always_cheaper_and_just_below_it_is_not(usd_per_1k, hourly, headroom):
    rate, usd, together = hourly
    tokens, hour = by_token("tokens", usd_per_1k), option("hour", [point(rate)], usd=usd, together=together)

    def saved(traffic):
        by_the_token, by_the_hour = (fleet(o, traffic, headroom, o.price) for o in (tokens, hour))
        return by_the_token.usd_per_fleet_hour - by_the_hour.usd_per_fleet_hour

    at = break_even(tokens, hour, headroom)
    grid = [math.exp(math.log(HIGHEST_TRAFFIC) * (step + 0.5) / 300) for step in range(300)]
    if at is None:
        assert saved(HIGHEST_TRAFFIC) <= 1e-9 * usd_per_1k * HIGHEST_TRAFFIC
        return
    assert all(saved(traffic) > 0 for traffic in grid if traffic > at * (1 + 1e-6))
    assume(at > LOWEST_TRAFFIC * (1 + 1e-6))
    assert saved(at * (1 - 1e-7)) <= 1e-6 * usd * together


def test_ranges_are_data():
    assert cheapest_ranges(verdict(option("a")), 0.3) == [CheapestRange(1.0, 10_000.0, "a")]


def test_of_equal_bills_that_of_the_recommended_option_counts():
    found = cheapest_ranges(verdict(option("a"), option("b", status="recommended")), 0.3)
    assert [one.option for one in found] == ["b"]
