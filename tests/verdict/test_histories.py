"""Histories that the options wrote themselves: where they differ in length, the report warns, and only there."""

from datetime import date

import pandas as pd
import pytest
from examples import endpoint, facts, load_point, make_config, request, write_run

from helpers.metrics.summary import read_load_points
from helpers.run.report_warning import MAY_CHANGE_THE_OPTION
from helpers.verdict.checks import check_run
from helpers.verdict.request_checks import audit

USERS, TURNS = 12, 4
POINTS = [load_point("a", kind="users", level=2), load_point("b", kind="users", level=2)]


def conversing(history="answered", **generation):
    prompts = {"source": {"kind": "jsonl", "path": "c.jsonl"}}
    prompts["conversations"] = {"think_time_s": 1, "history": history}
    return make_config(["a", "b"], load={"concurrency": [2]}, prompts=prompts, generation=generation)


def sent(option, answer, sessions=range(USERS), counts=1.0, first=60):
    """Conversation s of `first` + s tokens, in which each further turn adds an answer and 20 words of the user."""
    return [
        request(session + turn / 10, 0.05, option=option, level=2.0, load_point="")
        | {"turn": turn, "session_id": f"{option}{session}", "prompt_id": f"s{session}-turn{turn}"}
        | {"prompt_tokens": None if answer is None else round(counts * (first + session + (turn - 1) * (20 + answer)))}
        for session in sessions
        for turn in range(1, TURNS + 1)
    ]


def warnings_of(folder, rows, config, points=POINTS):
    windows = [facts(option=name, level=2.0, load_kind="users") for name in ("a", "b")]
    read = read_load_points(write_run(folder, rows, windows), windows, config)
    ends = [endpoint("a"), endpoint("b")]
    return check_run(pd.DataFrame(points), [audit(p) for p in read], windows, ends, [], config, date(2026, 3, 1))


def histories_of(*args):
    return [warning for warning in warnings_of(*args) if warning.kind == "histories"]


def test_longer_answers_make_longer_histories_and_the_turn_where_they_differ_most_is_named(tmp_path):
    [warning] = histories_of(tmp_path, sent("a", 24) + sent("b", 60), conversing())
    assert warning.rows == [
        "short, turn 4: a 198 and b 306 prompt tokens, after a 66 and b 66 at turn 1 (medians of the 12 conversations that both "
        "were sent so far)"
    ]
    assert warning.weight == MAY_CHANGE_THE_OPTION
    assert "differ by more than 10%" in warning.message and "history: recorded" in warning.message
    assert "do not obey generation.fixed_output_length" in warning.message
    free = histories_of(tmp_path, sent("a", 24) + sent("b", 60), conversing(fixed_output_length=False))
    assert "or generation.fixed_output_length: true" in free[0].message


@pytest.mark.parametrize(
    ("rows", "config"),
    [
        (sent("a", 24) + sent("b", 28), conversing()),  # 198 and 210: 6%
        (sent("a", 24) + sent("b", 60), conversing("recorded")),
        (sent("a", 24) + sent("b", 60, range(9)), conversing()),  # too few to say
        (sent("a", 24) + sent("b", 60, range(USERS, 2 * USERS)), conversing()),  # no conversation in common
        (sent("a", 24, counts=2.0) + sent("b", 24), conversing()),  # another tokenizer, the same histories
        (sent("a", 24) + sent("b", 24, range(20), first=60), conversing()),  # other conversations as well
        (sent("a", None) + sent("b", 60), conversing()),  # nobody counted
        ([row | {"turn": None} for row in sent("a", 24) + sent("b", 60)], make_config(["a", "b"])),
    ],
    ids=["alike", "recorded", "few", "others", "tokenizers", "more", "unknown", "single turns"],
)
def test_what_is_no_difference_of_histories_is_no_warning(tmp_path, rows, config):
    assert histories_of(tmp_path, rows, config) == []


def test_failed_turns_do_not_count(tmp_path):
    failed = [row | {"status": "timeout"} if row["turn"] == 4 else row for row in sent("b", 60)]
    [warning] = histories_of(tmp_path, sent("a", 24) + failed, conversing())
    assert warning.rows[0].startswith("short, turn 3: a 154 and b 226 prompt tokens")


def test_unequal_prompts_of_answered_histories_have_a_next_step_that_helps(tmp_path):
    points = [load_point("a", kind="users", level=2), load_point("b", kind="users", level=2, prompt_tokens_mean=150.0)]
    for history, helps in (("answered", True), ("recorded", False)):
        found = warnings_of(tmp_path / history, sent("a", 24), conversing(history), points)
        [warning] = [one for one in found if one.kind == "prompt_length"]
        assert ("history: recorded" in warning.message) == helps
