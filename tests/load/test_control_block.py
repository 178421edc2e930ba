"""The control block: which load point it comes back to, how much it takes, and when it is due."""

from dataclasses import replace

import pytest
from examples import SECOND_NS, endpoint, facts, make_config, process, request, write_run

from helpers.config.load_level import LoadLevel
from helpers.load.control import SHARE, choose_control
from helpers.load.plan import asked_of, attempts_of, count_attempts, file_of, missing_attempts
from helpers.load.race_state import Block
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger
from helpers.run.records import Attempt

PER_S = {1: 2.0, 2: 4.0, 4: 8.0, 8: 10.0}
"""Requests per second at a concurrency."""


def block(begin_s, level, n=200, repetition=1, **changes):
    """A block of `n` requests that begins then."""
    lasts_s = n / PER_S[int(level)]
    pairs = [(0, round(begin_s * SECOND_NS)), (round(lasts_s * SECOND_NS), round((begin_s + lasts_s) * SECOND_NS))]
    known = {"level": float(level), "clock_pairs": pairs, "processes": [replace(process(), requests=n)]}
    return Block(facts(0, lasts_s, repetition=repetition, **known | changes), lasts_s)


def visit(*levels, n=200):
    """Blocks one after the other."""
    found, at_s = [], 0.0
    for level in levels:
        found.append(block(at_s, level, n))
        at_s += found[-1].lasted_s
    return found


@pytest.mark.parametrize("levels", [(1, 2, 4, 8), (8, 4, 2, 1), (2, 8, 1, 4)])
def test_it_takes_at_most_a_twentieth_of_requests_and_time(levels):
    blocks = visit(*levels, n=400)
    control = choose_control(blocks)
    sends = control.requests + 3 * control.level.value
    assert sends <= SHARE * 1600
    assert control.seconds <= SHARE * sum(b.lasted_s for b in blocks) + 1e-9
    assert sends <= control.seconds * PER_S[int(control.level.value)] + 1e-9


def test_it_comes_back_to_what_was_measured_early():
    assert choose_control(visit(2, 1, 8, n=400)).level == LoadLevel("closed_loop", 2)
    assert choose_control(visit(1, 8, 2, n=400)).level == LoadLevel("closed_loop", 1)


def test_a_load_point_at_which_too_few_requests_fit_is_passed_over():
    """At concurrency 8 a block of three rounds sends 48 requests, and a twentieth is 30."""
    assert choose_control(visit(8, 2, 1)).level == LoadLevel("closed_loop", 2)


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        visit(1, 2, n=100),
        visit(1, n=400),
        [*visit(1, 2, 8, n=400), block(500, 1, 400, repetition=2)],
        [block(0, 1, 400, steady=False), block(200, 2, 400, client_limited=["late"])],
    ],
    ids=[
        "nothing measured",
        "too few requests",
        "a twentieth of them is 20",
        "early and late already",
        "not to be judged",
    ],
)
def test_there_is_none(blocks):
    assert choose_control(blocks) is None


# --- when it is due -----------------------------------------------------------------------------------------------

CONFIG = make_config(load={"concurrency": [1, 2], "min_requests": 300, "warmup_requests": 4, "min_duration_s": 60})
(OPTION,) = CONFIG.options
FIRST, SECOND = (Attempt("a", "short", LoadLevel("closed_loop", level), 1) for level in (1, 2))


@pytest.fixture
def run(tmp_path):
    """A run whose only option is up, and measured at its first load point."""
    run = RunFolder(tmp_path / "run")
    Ledger(run.ledger_file, run.run_id).put(endpoint("a"))
    measure(run, FIRST, 0)
    return run


def measure(run, attempt, begin_s, n=600, config=CONFIG):
    level = int(attempt.level.value)
    known = block(begin_s, level, n, load_point=attempt.id).facts
    gap_s = 1 / PER_S[level]
    rows = [request(i * gap_s, 0.4, level=float(level), repetition=1) for i in range(n)]
    write_run(file_of(attempt, run).parent, rows, [known])
    return config


def test_it_is_due_when_all_load_points_are_measured_and_not_before(run):
    assert missing_attempts(OPTION, CONFIG, run) == [SECOND]
    measure(run, SECOND, 300)
    (control,) = missing_attempts(OPTION, CONFIG, run)
    assert control.is_control
    assert control.level == FIRST.level
    assert count_attempts(OPTION, CONFIG, run) == (2, 2), "it is no load point"
    assert control not in attempts_of(OPTION, CONFIG, run)
    measure(run, control, 450, 40)
    assert missing_attempts(OPTION, CONFIG, run) == []
    assert file_of(control, run).parent != run.requests


def test_no_endpoint_is_brought_up_for_it(run):
    measure(run, SECOND, 300)
    ledger = Ledger(run.ledger_file, run.run_id)
    for state in ("deleting", "deleted", "failed"):
        ledger.update("a", state=state)
        assert missing_attempts(OPTION, CONFIG, run) == []
    ledger.update("a", state="in_service")
    assert len(missing_attempts(OPTION, CONFIG, run)) == 1


def test_it_can_be_switched_off(run):
    measure(run, SECOND, 300)
    off = CONFIG.model_copy(update={"load": CONFIG.load.model_copy(update={"control": False})})
    assert missing_attempts(OPTION, off, run) == []


def test_it_is_asked_for_few_requests_within_its_time_and_goes_on_in_the_prompts(run):
    measure(run, SECOND, 300)
    (control,) = missing_attempts(OPTION, CONFIG, run)
    asked = asked_of(control, OPTION, CONFIG, run)
    first = asked_of(FIRST, OPTION, CONFIG, run)
    assert asked.load.min_requests < 0.05 * 1200
    assert asked.load.max_duration_s <= 0.0501 * 450
    assert (asked.load.warmup_requests, asked.load.min_duration_s, asked.fewest_independent) == (1, 0, 1)
    assert asked.start_of_prompts == pytest.approx((first.start_of_prompts + 600 / 200) % 1)


def test_a_race_ends_with_it_too(tmp_path):
    config = make_config(
        load={"concurrency": [1, 2], "race": {"first_look": 300, "max_requests": 300}},
        slo={"percentile": 90, "latency_s": 1, "error_rate": 0.1},
    )
    run = RunFolder(tmp_path / "raced")
    Ledger(run.ledger_file, run.run_id).put(endpoint("a"))
    at_s = 0.0
    while not (following := missing_attempts(config.options[0], config, run))[0].is_control:
        measure(run, following[0], at_s)
        at_s += 300
    asked = asked_of(following[0], config.options[0], config, run)
    assert asked.load.min_requests <= 60
    measure(run, following[0], at_s, 40)
    assert missing_attempts(config.options[0], config, run) == []
