"""Answers in a race: who may lead, who comes first, and whose answers nobody needs."""

from __future__ import annotations

import pytest
from examples import endpoint, facts, make_config, option, request, write_run

from helpers.endpoints.quality_pass import lacks_answers
from helpers.endpoints.racing import is_wanted, race_order
from helpers.load.race_state import leader_of
from helpers.metrics.answers import answers_file
from helpers.run.folder import RunFolder
from helpers.run.ledger import Ledger

GATES = {"than c": {"not_worse_than": {"option": "c", "by": 0.05}}, "least": {"min_score": 0.5}, "none": None}


def begin(folder, gate: str):
    config = make_config(
        [option(name, best_output_tokens_per_s=most) for name, most in zip("abc", (None, 400, 6000), strict=True)],
        load={"concurrency": [1], "race": {"first_look": 30, "max_requests": 400}},
        slo={"percentile": 90, "latency_s": 1, "error_rate": 0.1},
        prompts={"source": {"kind": "jsonl", "path": "x.jsonl"}},
        quality={"scorer": "numeric", "gate": GATES[gate]},
    )
    run = RunFolder(folder)
    ledger = Ledger(run.ledger_file, "run")
    for name, usd in zip("abc", (10.0, 100.0, 50.0), strict=True):
        ledger.put(endpoint(name, usd))
    window = facts(0, 200, level=1.0, repetition=1, load_point="a__short__c1__r1")  # a meets the SLO
    write_run(run.requests, [request(at / 2, 0.5, repetition=1) for at in range(400)], [window])
    return config, run, ledger


@pytest.mark.parametrize(
    ("gate", "found", "leads"),
    [
        ("least", "passed", True),
        ("least", "failed", False),
        ("least", "open", False),
        ("least", None, False),
        ("none", None, True),
    ],
)
def test_only_an_option_that_has_passed_the_gate_may_lead(tmp_path, gate, found, leads):
    config, run, ledger = begin(tmp_path, gate)
    ledger.update("a", quality_gate=found)
    assert (leader_of(config, run.requests, ledger.records()) is not None) is leads


def test_the_option_that_others_are_compared_with_comes_first(tmp_path):
    for gate, order in (("than c", "cab"), ("least", "acb")):
        folder = tmp_path / gate
        folder.mkdir()
        config, run, ledger = begin(folder, gate)
        assert "".join(one.name for one in race_order(config, run, ledger)) == order


@pytest.mark.parametrize(
    ("outcome", "is_asked"),
    [
        ("infeasible", False),
        ("more expensive", False),
        ("never loaded", False),
        ("not cheaper", True),
        ("settled", True),
    ],
)
def test_answers_of_what_cannot_win_are_not_collected_unless_others_are_compared_with_it(tmp_path, outcome, is_asked):
    config, run, ledger = begin(tmp_path, "than c")
    for name in "bc":
        ledger.update(name, race_outcome=outcome)
    a, b, c = config.options
    assert lacks_answers(a, config, run, ledger), "it is still in the race"
    assert lacks_answers(b, config, run, ledger) is is_wanted(b, config, run) is is_asked
    assert lacks_answers(c, config, run, ledger) and is_wanted(c, config, run)
    file = answers_file("c", run)
    file.parent.mkdir()
    file.touch()
    assert not lacks_answers(c, config, run, ledger), "a finished pass is not repeated"
    without = config.model_copy(update={"quality": None})
    assert not lacks_answers(a, without, run, ledger)
