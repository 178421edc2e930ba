"""Which endpoint of a race comes up next, and for which it is no longer worth waiting."""

import threading

import pytest
from examples import endpoint, facts, make_config, option, request, write_run

from helpers.endpoints.racing import end_state, note_leave, place_for, race_order
from helpers.load.race_state import leader_of
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger

RACE = {"concurrency": [1], "race": {"first_look": 30, "max_requests": 400}}
SLO = {"percentile": 90, "latency_s": 1, "error_rate": 0.1}


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def begin(run, best, prices=(10.0, 100.0, 50.0), load=RACE):
    """A race of options a, b, ..., of which these are the most output tokens/s and $/h, and its ledger."""
    names = "abc"[: len(best)]
    config = make_config(
        [option(name, best_output_tokens_per_s=most) for name, most in zip(names, best, strict=True)],
        load=load,
        slo=SLO,
    )
    ledger = Ledger(run.ledger_file, "run")
    for name, usd in zip(names, prices, strict=False):
        ledger.put(endpoint(name, usd))
    return config, ledger


def lead(run):
    """Option a meets the SLO, with 2 requests of 24 tokens a second."""
    window = facts(0, 200, level=1.0, repetition=1, load_point="a__short__c1__r1")
    write_run(run.requests, [request(at / 2, 0.5, repetition=1) for at in range(400)], [window])


@pytest.mark.parametrize(
    ("best", "prices", "order"),
    [
        ((100, 5000, 600), (10.0, 100.0, 50.0), "bca"),
        ((100, None, 600), (10.0, 100.0, 50.0), "acb"),
        ((100, 5000, None), (10.0, 100.0, None), "bac"),
        ((None, None, 600), (10.0, None, 50.0), "acb"),
    ],
    ids=["all bounds known", "one unknown", "unpriced last", "neither"],
)
def test_options_come_up_by_the_least_that_they_can_cost_if_that_is_known_of_all_that_have_a_price(
    run, best, prices, order
):
    config, ledger = begin(run, best, prices)
    assert "".join(one.name for one in race_order(config, run, ledger)) == order


def test_without_a_race_options_come_up_as_the_config_lists_them(run):
    config, ledger = begin(run, (100, 5000, 600), load={"race": False})
    assert "".join(one.name for one in race_order(config, run, ledger)) == "abc"


def test_an_option_that_cannot_win_does_not_wait_for_its_turn_and_one_that_may_does(run):
    config, _ = begin(run, (None, 400, 6000))
    lead(run)
    places = threading.Semaphore(0)
    with place_for(config.options[1], places, config, run):
        pass
    assert not places.acquire(blocking=False), "it gives no place back that it never had"
    threading.Timer(0.2, places.release).start()
    with place_for(config.options[2], places, config, run):
        assert not places.acquire(blocking=False)
    assert places.acquire(blocking=False)


def test_the_ledger_says_why_an_option_was_never_loaded_with_both_prices_and_their_origin(run):
    config, ledger = begin(run, (None, 400, 6000))
    lead(run)
    for one in config.options[1:]:
        note_leave(one, config, run, ledger)
    assert ledger.record("b").race_outcome == "never loaded"
    because = ledger.record("b").race_because
    leader, least = leader_of(config, run.requests, ledger.records(), "b")[0], 1000 * (100 / 3600) / (400 / 24)
    assert because == (
        "before any load: even at the most that it can serve it costs more than the leader ($1.67 against "
        f"${leader.value:.3g} per 1,000 requests, at least ${least - leader.high:.3g} more); its most is 400 output tokens/s, "
        "stated as best_output_tokens_per_s"
    )
    assert end_state(config.options[1], ledger) == "never loaded"
    assert ledger.record("c").race_outcome is None and end_state(config.options[2], ledger) == "done"
