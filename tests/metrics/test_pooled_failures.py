"""Failures are pooled over the load points of an option that do not differ, and only over those."""

import numpy as np
import pandas as pd
import pytest
from examples import load_point, make_config

from helpers.metrics.pooled_failures import fisher_p, pool_failures
from helpers.metrics.sample_size import load_for_slo, requests_for_slo

SLO = make_config(slo={"error_rate": 0.03}).slo


def pooled(*failures_of_n, **changes):
    """States of the error rate of load points of which so many of so many requests failed."""
    rows = [
        load_point(
            "a",
            rate=10,
            level=2**i,
            slo="undecided",
            **{"failures": f, "n": n, "error_rate": f / n, "slo_error_rate": "undecided", "slo_latency_s": "met"}
            | changes,
        )
        for i, (f, n) in enumerate(failures_of_n)
    ]
    return pool_failures(pd.DataFrame(rows), SLO)


def test_one_failure_in_120_does_not_keep_an_option_from_being_shown():
    found = pooled((1, 120), (0, 120), (1, 120), (0, 120))
    assert set(found["slo_error_rate"]) == {"met"} and set(found["slo"]) == {"met"}
    assert set(found["failures_pooled_over"]) == {4} and set(found["lacking_error_rate"]) == {0}


def test_sixty_requests_a_point_do_together():
    assert set(pooled((0, 60), (0, 60))["slo_error_rate"]) == {"met"}
    assert pooled((0, 60))["slo_error_rate"].item() == "undecided"


def test_a_load_that_fails_more_often_is_not_hidden_among_the_others():
    found = pooled((0, 120), (0, 120), (0, 120), (12, 120))
    assert found["failures_pooled_over"].tolist() == [3, 3, 3, 1]
    assert found["slo_error_rate"].tolist() == ["met", "met", "met", "undecided"], "by itself it is as it was"


@pytest.mark.parametrize(
    "changes", [{"overloaded": True}, {"steady": False}, {"client_limited": True}, {"error_rate": None}]
)
def test_what_cannot_be_trusted_neither_gives_nor_takes(changes):
    assert set(pooled((0, 120), (0, 120), **changes)["slo_error_rate"]) == {"undecided"}


def test_loads_that_requests_that_hang_keep_from_being_steady_show_that_errors_are_too_many():
    """Of 390 requests 6% failed, each held a stream until its time-out, and no load point became steady."""
    assert set(pooled((8, 130), (7, 130), (8, 130), steady=False)["slo"]) == {"missed"}


def test_groups_of_a_closed_loop_may_show_that_limits_are_met():
    """Nobody knows whether the requests behind them were in a steady state; in an open loop a queue may have been growing."""
    found = pooled((0, 120), (0, 120), steady=None)
    assert set(found["slo"]) == {"met"}
    assert set(pooled((0, 120), (0, 120), steady=None, load_kind="open_loop")["slo"]) == {"undecided"}


def test_the_table_stays_in_one_piece():
    """Cells that change the kind of their column tear it into blocks, of which pandas warns in a red box of a notebook."""
    found = pooled(*[(i % 3, 120) for i in range(8)], slo_error_rate="undecided", lacking_error_rate=None)
    blocks = [block.dtype for block in found._mgr.blocks if isinstance(block.dtype, np.dtype)]
    assert len(blocks) == len(set(blocks))


def test_bursts_count_for_as_many_as_are_independent():
    assert set(pooled((0, 60), (0, 60), failure_effect=2.0)["slo_error_rate"]) == {"undecided"}


def test_the_requests_that_are_lacking_are_those_of_all():
    """One of 120: the upper bound of 1 / 120 is 3.9%, and 1.2 x as many would show 3%."""
    found = pooled((1, 60), (0, 60))
    assert set(found["slo_error_rate"]) == {"undecided"}
    assert 0 < found["lacking_error_rate"].iloc[0] < 120


def test_fishers_test_by_hand():
    """3 of 4 against 1 of 4 cups of tea: 34 of 70 tables are no likelier."""
    assert fisher_p(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert fisher_p(0, 10, 0, 30) == 1.0


def test_what_a_load_point_has_to_send_follows_from_the_number_of_levels():
    config = make_config(slo={"error_rate": 0.03}, load={"min_requests": 10, "concurrency": [1, 2, 4]})
    assert load_for_slo(config).min_requests == 33
    assert requests_for_slo(config.slo, 3) == 59, "p95 takes 59 at each load"
