"""An open loop shows that its SLO is met only with evidence of room below capacity."""

import math

import numpy as np
import pandas as pd
import pytest
from examples import load_point, make_config, request, requests_table

from helpers.metrics.formulas import limit_is_met, with_latencies
from helpers.metrics.room import saturated_rate, show_room

SLO = make_config().slo
OVERLOADED = {"overloaded": True, "steady": False, "saturated_per_s_low": 9.0, "saturated_per_s_high": 11.0}


def states(*rates, **of_rate):
    """Rate -> state, of load points that by themselves meet the SLO."""
    rows = [load_point("a", level=rate, kind="open_loop", rate=rate, **of_rate.get(f"at_{rate}", {})) for rate in rates]
    found = show_room(pd.DataFrame(rows), SLO)
    return dict(zip(found["level"].astype(int), found["slo"], strict=True)), found


def test_a_rate_without_a_higher_one_shows_nothing():
    found, points = states(6)
    assert found == {6: "undecided"}
    assert points["shows_room"].tolist() == [False]
    assert points["latency_s_p95_high"].item() == math.inf


def test_a_rate_has_room_up_to_a_share_of_one_that_was_kept_up_with():
    assert states(6, 8)[0] == {6: "met", 8: "undecided"}
    assert states(7, 8)[0] == {7: "undecided", 8: "undecided"}


@pytest.mark.parametrize("changes", [{"steady": False}, {"client_limited": True}])
def test_a_higher_rate_that_was_not_kept_up_with_is_no_evidence(changes):
    assert states(6, 8, at_8=changes)[0][6] == "undecided"


def test_what_a_saturated_server_answers_bounds_its_capacity():
    """At least 9/s: 6 is two thirds of it; 8 is not surely below 0.75 x 9; 12 is more than the 11/s that it may serve."""
    found, _ = states(6, 8, 12, at_12=OVERLOADED)
    assert found == {6: "met", 8: "undecided", 12: "missed"}


def test_a_window_that_is_long_against_the_memory_of_the_queue_needs_no_other():
    """rho = 8 / 9, service 0.35 s: 100 x 0.35 x 81 = 2835 s."""
    for seconds, state in ((2800.0, "undecided"), (2900.0, "met")):
        assert states(8, 12, at_8={"window_s": seconds}, at_12=OVERLOADED)[0][8] == state


def test_a_rate_that_was_measured_for_the_others_is_never_shown_to_meet_a_limit():
    """However long its window is against the memory of the queue."""
    rows = [
        load_point("a", level=rate, kind="open_loop", rate=rate, **changes)
        for rate, changes in ((6, {}), (8, {"window_s": 1e6}), (12, OVERLOADED))
    ]
    found = {highest: show_room(pd.DataFrame(rows), SLO, highest)["slo"].tolist() for highest in (8.0, 6.0)}
    assert found == {8.0: ["met", "met", "missed"], 6.0: ["met", "undecided", "missed"]}


def test_closed_loops_are_left_as_they_are():
    points = pd.DataFrame([load_point("a", level=4)])
    assert show_room(points, SLO).equals(points)


def test_a_saturated_rate_is_counted_where_answers_end():
    """Two arrive a second and one is served: an answer a second, whatever came."""
    rows = [request(i / 2, i / 2) for i in range(200)]
    low, high = saturated_rate(with_latencies(requests_table(rows)), 0, 100_000_000_000)
    assert low <= 1 <= high and high - low < 0.05


def test_moments_of_a_quiet_spell_show_nothing():
    values = np.full(60, 0.1) + np.arange(60) * 1e-4
    assert limit_is_met(values, 1.0, 95, 0.95, effect=3.0) == "met"
    assert limit_is_met(values, 1.0, 95, 0.95, effect=3.0, effect_of_all=None) == "undecided"
