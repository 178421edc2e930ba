"""The simulator is right by closed forms, gives the same records for the same seed, and its campaigns are judged well."""

import dataclasses
import functools
import math
from itertools import pairwise

import numpy as np
import pytest
from conftest import thorough
from planted_campaigns import ERROR_LIMIT, draw_campaign
from planted_race import race
from planted_records import Times, conduct, write_campaign
from planted_rules import RULES, our_rules
from planted_scores import outcome, score_campaign, score_world, totals
from planted_worlds import WORLDS, draw_world
from simulation import (
    QUICK_ERROR_S,
    WORKER_GAP_S,
    Load,
    Station,
    draw_weather,
    draw_work,
    serve,
    true_figures,
    upper_percentile,
)

from helpers.metrics.control import FOLDER
from helpers.metrics.sample_size import requests_for_slo
from helpers.run.records import ENOUGH_REQUESTS, read_facts, read_requests

PROMPTS = (300, 301)
ONE_SECOND = Station(slots=1, prefill_s_per_token=0.1 / 300, s_per_output_token=0.9 / 64)
"""A tenth of a second for the prompt, the rest for 64 tokens."""
FEW = {"requests": 120, "truth_requests": 6_000}


def served(station, concurrency, count=40, timeout_s=1e9):
    work = draw_work(station, Load(PROMPTS), count, np.random.default_rng(1), cold=False)
    return serve([station], work.service_s[:, None], work.refused[:, None], timeout_s, concurrency=[concurrency])


def truth(station, *, percent=95, timeout_s=1e9, requests=200_000, **load):
    [found] = true_figures([station], [Load(PROMPTS, **load)], timeout_s, percent, [1], requests=requests)
    return found


# --- closed forms -------------------------------------------------------------------------------------------------


def test_one_worker_and_constant_service_give_one_answer_a_second():
    times = served(ONE_SECOND, 1)
    np.testing.assert_allclose(times.sent_s[:, 0], np.arange(40.0))
    np.testing.assert_allclose(times.done_s[:, 0], np.arange(1.0, 41.0))


@pytest.mark.parametrize(("slots", "workers"), [(1, 1), (1, 4), (2, 8), (3, 8), (4, 2), (8, 8)])
def test_constant_service_is_shared_by_slots(slots, workers):
    """D/D/k in a closed loop: as many answers a second as slots or workers, whichever is less; the rest waits."""
    found = truth(dataclasses.replace(ONE_SECOND, slots=slots), concurrency=workers, requests=2400)
    per_s = min(slots, workers)
    assert found.requests_per_s == pytest.approx(per_s, rel=0.02)
    whole_turns = math.ceil(workers / slots)
    assert found.p_latency_s == pytest.approx(whole_turns, abs=2 * workers * WORKER_GAP_S)


def test_requests_in_service_slow_each_other_down():
    """With c <= k each request finds c - 1 others, so it takes 1 + slowdown x (c - 1)."""
    station = dataclasses.replace(ONE_SECOND, slots=4, slowdown=0.25)
    assert truth(station, concurrency=4, requests=2400).p_latency_s == pytest.approx(1.75, abs=0.02)
    assert truth(station, concurrency=1, requests=2400).p_latency_s == pytest.approx(1.0)
    assert station.capacity_per_s(300, 60) == pytest.approx(4 / 1.75)


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_one_slot_with_exponential_service_is_the_m_m_1_queue(rate):
    """Latency is exponential with mean 1 / (service rate - arrival rate) (e.g. Kleinrock 1975, section 3.2)."""
    station = dataclasses.replace(ONE_SECOND, noise="gamma", noise_cv=1.0)
    for percent in (50, 95):
        expected = -math.log(1 - percent / 100) / (1 - rate)
        assert truth(station, rate_per_s=rate, percent=percent).p_latency_s == pytest.approx(expected, rel=0.05)


def test_several_slots_are_the_m_m_k_queue():
    """P(latency > t) with Erlang's C, k = 4 slots, offered load 2.4."""
    k, offered, t = 4, 2.4, 3.0
    busy = offered**k / math.factorial(k) * k / (k - offered)
    waits = busy / (sum(offered**i / math.factorial(i) for i in range(k)) + busy)
    drain = k - offered
    beyond = (1 - waits) * math.exp(-t) + waits * (drain * math.exp(-t) - math.exp(-drain * t)) / (drain - 1)
    station = dataclasses.replace(ONE_SECOND, slots=k, noise="gamma", noise_cv=1.0)
    percent = 100 * (1 - beyond)
    assert truth(station, rate_per_s=offered, percent=percent).p_latency_s == pytest.approx(t, rel=0.04)


@pytest.mark.parametrize("noise", ["gamma", "lognormal"])
def test_noise_has_mean_one_and_its_cv(noise):
    station = dataclasses.replace(ONE_SECOND, noise=noise, noise_cv=0.4)
    service_s = draw_work(station, Load(PROMPTS), 200_000, np.random.default_rng(2), cold=False).service_s
    assert service_s.mean() == pytest.approx(1.0, rel=0.01)
    assert service_s.std() == pytest.approx(0.4, rel=0.02)


def test_littles_law_holds():
    station = dataclasses.replace(ONE_SECOND, slots=3, noise_cv=0.5, slowdown=0.2)
    times = served(station, 8, count=20_000)
    latency_s = times.done_s - times.sent_s
    per_s = (len(latency_s) - 1) / (times.sent_s[-1, 0] - times.sent_s[0, 0])
    assert per_s * latency_s.mean() == pytest.approx(8, rel=0.01)
    assert (np.diff(times.sent_s[:, 0]) >= 0).all() and (np.diff(times.start_s[:, 0]) >= 0).all()


def test_errors_are_as_frequent_as_planted_and_infinitely_slow():
    station = dataclasses.replace(ONE_SECOND, error_rate=0.06, hang_share=0.5)
    found = truth(station, concurrency=1, timeout_s=10.0)
    assert found.error_rate == pytest.approx(0.06, abs=0.002)
    assert math.isinf(found.p_latency_s)
    mean_s = 0.94 * 1.0 + 0.03 * 10.0 + 0.03 * QUICK_ERROR_S
    assert found.requests_per_s == pytest.approx(0.94 / mean_s, rel=0.02)


def test_who_waits_too_long_gives_up_and_leaves_the_slot_alone():
    times = served(ONE_SECOND, 4, timeout_s=2.5)
    assert not times.ok.all() and (times.done_s - times.sent_s).max() <= 2.5 + 1e-9
    work_s = np.where(times.ok, 1.0, np.maximum(times.done_s - times.start_s, 0)).sum()
    assert work_s == pytest.approx(times.done_s.max(), abs=0.1)


def test_more_than_can_be_served_has_no_steady_state():
    found = truth(ONE_SECOND, rate_per_s=1.2, requests=6_000)
    assert found.overloaded and math.isinf(found.p_latency_s)


def test_a_cold_station_is_slower_at_first():
    station = dataclasses.replace(ONE_SECOND, cold_excess=2.0, cold_requests=5.0)
    cold = draw_work(station, Load(PROMPTS), 100, np.random.default_rng(1), cold=True).service_s
    np.testing.assert_allclose(cold, 1 + 2 * np.exp(-np.arange(100) / 5))


def test_percentile_by_hand():
    assert upper_percentile(np.arange(1.0, 101.0), 95) == 95
    assert upper_percentile(np.array([1.0, math.inf]), 95) == math.inf


# --- campaigns and their records ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def campaign():
    return draw_campaign(3, **FEW)


@pytest.fixture(scope="module")
def folder(campaign, tmp_path_factory):
    path = tmp_path_factory.mktemp("planted")
    write_campaign(campaign, path)
    return path


def test_a_seed_gives_the_same_campaign_and_records(campaign, folder, tmp_path):
    again = draw_campaign(3, **FEW)
    assert again.truths == campaign.truths and again.limit_s == campaign.limit_s
    write_campaign(again, tmp_path)
    assert read_facts(tmp_path) == read_facts(folder)
    assert read_requests(tmp_path).equals(read_requests(folder))
    assert draw_campaign(4, **FEW).stations != campaign.stations


def test_truths_are_kept_on_disk(campaign, tmp_path):
    first = draw_campaign(3, **FEW, cache=tmp_path)
    [file] = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    assert draw_campaign(3, **FEW, cache=tmp_path).truths == first.truths == campaign.truths
    assert file.stat().st_mtime_ns == written


def test_every_load_point_is_recorded_and_its_window_is_as_found(campaign, folder):
    facts, requests = read_facts(folder), read_requests(folder)
    assert len(facts) == len(campaign.truths)
    for one in facts:
        mine = requests[requests["load_point"] == one.load_point]
        t0 = mine["scheduled_ns"].fillna(mine["sent_ns"])
        steady = (t0 >= one.window_open_ns) & (t0 < one.window_close_ns)
        assert steady.tolist() == (mine["phase"] == "steady").tolist()
        assert one.ended_because != ENOUGH_REQUESTS or (steady.sum() >= 120 and one.steady)


def test_a_steady_load_point_ends_with_enough_requests_and_drains():
    campaign = dataclasses.replace(draw_campaign(0, **FEW), requests=20)
    level = campaign.levels[0]
    t0_ns = 1_000_000_000_000 + np.arange(400) * 1_000_000_000
    times = Times(t0_ns, t0_ns + 1_000_000_000, np.zeros(400, int), np.ones(400, bool))
    ended = conduct(times, level, math.inf, campaign)
    assert (ended.because, ended.window.steady) == (ENOUGH_REQUESTS, True)
    assert ended.window.open_ns == t0_ns[4]  # four answers by the worker come first
    needed = requests_for_slo(campaign.config.slo, len(campaign.levels))
    assert (
        needed <= ended.window.requests <= 1.1 * needed and ended.close_ns in t0_ns and ended.stop_ns >= ended.close_ns
    )


def test_the_winner_is_the_cheapest_that_meets_the_slo(campaign):
    """By brute force over all choices of a level per dataset."""
    prices = {}
    for option in campaign.stations:
        price = 0.0
        for dataset, share in campaign.shares.items():
            rows = [(level, campaign.truths[option, dataset, level]) for level in campaign.levels]
            within = [
                (level, t) for level, t in rows if t.p_latency_s <= campaign.limit_s and t.error_rate <= ERROR_LIMIT
            ]
            amount = [t.requests_per_s * (t.output_tokens / 1e3 if campaign.per_token else 1) for _, t in within]
            price += share * (campaign.stations[option].usd_per_hour / 3.6 / max(amount) if within else math.inf)
        if price < math.inf:
            prices[option] = price
    assert campaign.true_prices() == pytest.approx(prices)
    assert list(campaign.true_prices()) == sorted(prices, key=prices.get)


# --- judged -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes():
    return [score_campaign(seed, **FEW, cache=None) for seed in range(1, 7)]


def test_an_answer_that_knows_the_truth_is_right(campaign, folder):
    winner = next(iter(campaign.true_prices()))
    right = our_rules(campaign, folder)._replace(recommended=winner, candidates=frozenset([winner]), chosen={})
    found = outcome(campaign, right)
    assert found.contained and found.single_winner is not False and not found.infeasible_named
    nothing = outcome(campaign, right._replace(recommended=None, candidates=frozenset()))
    assert not nothing.contained and "contained" in nothing.why


def test_the_verdict_on_six_campaigns(outcomes):
    """Seeded, so the same every time. The full benchmark is tests/benchmarks/planted_truth.py."""
    found = {rule: totals([one[rule] for one in outcomes]) for rule in RULES}
    ours, reference = found["our_rules"], found["reference_rules"]
    assert ours["contains_true_winner"] >= 5 / 6
    assert ours["infeasible_named"] == 0
    assert ours["single_winner_when_clear"] >= 0.5
    assert ours["coverage_95"] >= 0.85
    assert reference["coverage_95"] is None
    assert reference["infeasible_load_point_named"] > ours["infeasible_load_point_named"]


# --- harder worlds ------------------------------------------------------------------------------------------------


def test_weather_has_the_mean_and_memory_that_it_is_to_have():
    station = dataclasses.replace(ONE_SECOND, weather_cv=0.3, weather_s=10.0)
    weather = draw_weather([station] * 40, np.random.default_rng(1))
    values = weather.slower
    assert values.mean() == pytest.approx(1, abs=0.01) and values.std() == pytest.approx(0.3, abs=0.01)
    later = round(10 / weather.step_s[0])
    alike = [np.corrcoef(one[:-later], one[later:])[0, 1] for one in values.T]
    assert np.mean(alike) == pytest.approx(math.exp(-1), abs=0.05)


def test_stalls_take_their_time_from_one_request_or_from_all():
    """One worker, one second each, and every 200th 10 s: 21/20 s on average; a whole station that stalls holds up all four."""
    stalls = dataclasses.replace(ONE_SECOND, slots=4, stall_share=1 / 200, stall_s=10.0)
    assert truth(stalls, concurrency=1).requests_per_s == pytest.approx(1 / 1.05, rel=0.02)
    alone = truth(stalls, concurrency=4).requests_per_s
    together = truth(dataclasses.replace(stalls, stalls_all=True), concurrency=4).requests_per_s
    assert alone == pytest.approx(4 / 1.05, rel=0.02)
    assert together == pytest.approx(1 / (0.25 + 10 / 200), rel=0.05)


def test_drift_is_averaged_over_the_visit():
    drifting = dataclasses.replace(ONE_SECOND, drift=0.2)
    assert truth(drifting, concurrency=1, requests=2400).requests_per_s == pytest.approx(1 / 1.1, rel=0.01)


def test_limits_of_ttft_and_tpot_have_their_truth():
    """A tenth of a second for the prompt; 0.9 s for 64 tokens, the first of which is waited for."""
    found = truth(ONE_SECOND, concurrency=1, requests=2400)
    assert found.p_ttft_s == pytest.approx(0.1) and found.p_tpot_s == pytest.approx(0.9 / 63)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["open_loop", "ttft_tpot", *thorough("autocorrelated", "server_stalls")])
def test_a_world_is_judged(world):
    """All of them: tests/benchmarks/harder_worlds.py."""
    found = score_world((world, 7), requests=60, truth_requests=1_200, cache=None)
    assert found["intervals"]


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_is_the_same_again(world):
    draw = functools.partial(draw_world, world, requests=60, truth_requests=200, cache=None)
    assert draw(7) == draw(7) != draw(8)


def test_time_goes_on_over_a_visit_and_a_control_block_ends_it(tmp_path):
    campaign = draw_world("drift", 1, cache=None, **FEW)
    write_campaign(campaign, tmp_path)
    controls = {facts.option: facts for facts in read_facts(tmp_path / FOLDER)}
    assert controls, "some are small enough"
    for option, station in campaign.stations.items():
        mine = sorted((f for f in read_facts(tmp_path) if f.option == option), key=lambda f: f.clock_pairs[0][1])
        assert [(f.option, f.dataset, f.load) for f in mine] == campaign.visits[option]
        mine += [controls[option]] if option in controls else []
        assert all(one.clock_pairs[-1][1] <= following.clock_pairs[0][1] for one, following in pairwise(mine))
        slower = [campaign.slower[place] for place in campaign.visits[option]]
        assert slower[0][0] == 1 and slower[-1][1] == pytest.approx(1 + station.drift) == campaign.at_end[option]


# --- raced --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [105, *thorough(120)])
def test_a_raced_campaign_is_right_for_fewer_requests(seed, tmp_path):
    """Where options are clearly apart, or none meets the SLO; the full grid has at least 120 requests in each window."""
    campaign = draw_campaign(seed, **FEW)
    in_full, raced = tmp_path / "full", tmp_path / "raced"
    in_full.mkdir(), raced.mkdir()
    found = race(campaign, raced)
    scored = outcome(campaign, found.answer)
    assert scored.contained
    assert not scored.infeasible_load_point_named
    assert scored.single_winner in (True, None)
    write_campaign(campaign, in_full)
    assert found.sent < 0.6 * len(read_requests(in_full, ["status"]))
    assert race(campaign, raced).sent == 0, "with these records the race is over"
