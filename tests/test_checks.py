"""Each check fires on data that shows its fault, names the rows concerned, and is silent otherwise."""

from datetime import date

import pandas as pd
import pytest
from examples import endpoint, facts, load_point, make_config, open_facts, option, request, requests_table

from helpers.checks import check_run

TODAY = date(2026, 3, 1)
A = "a, short, concurrency 1"


def check(points=None, requests=None, windows=None, endpoints=None, prompts=(), config=None):
    """The warnings of a run of one sound load point, with some of it replaced."""
    return check_run(
        pd.DataFrame([load_point()] if points is None else points),
        requests_table([request(i, 0.5) for i in range(3)] if requests is None else requests),
        [facts()] if windows is None else windows,
        [endpoint()] if endpoints is None else endpoints,
        list(prompts),
        config or make_config(),
        TODAY,
    )


def test_a_sound_run_has_no_warning():
    assert check() == []


TWO = make_config(["a", "b"])
OPEN = make_config(load={"kind": "open_loop", "rate": [20]})
POINT = "a__short__c1__r0"
FAULTS = {
    "load points that were not run": (
        {"config": make_config(load={"concurrency": [1, 2, 4]})},
        "missing",
        "a: 2 load points missing: it was not run, or has no steady window",
        ["a, short, concurrency 2", "a, short, concurrency 4"],
    ),
    "an option that could not be deployed": (
        {"config": TWO, "endpoints": [endpoint("a"), endpoint("b", state="deleted", failure="no quota")]},
        "missing",
        "b: 1 load point missing: no quota",
        ["b, short, concurrency 1"],
    ),
    "repetitions that were not run": (
        {"config": make_config(load={"concurrency": [1], "repetitions": 3}), "points": [load_point(repetitions=2)]},
        "missing",
        "Repetitions are missing.",
        [f"{A}: 2 of 3"],
    ),
    "prompts that were sent twice": (
        {"requests": [request(i, 0.5, prompt_id=f"p{i % 2}") for i in range(3)]},
        "repeated_prompts",
        "Prompts were sent more than once",
        ["a: 50% of its prompts"],
    ),
    "answers that were not streamed": (
        {"requests": [request(i, 0.5, first_token_ns=None) for i in range(3)]},
        "not_streamed",
        "Answers were not streamed",
        ["a"],
    ),
    "two models": (
        {"config": make_config([option("a"), option("b", model="n")]), "points": [load_point("a"), load_point("b")]},
        "different_models",
        "The options do not serve the same model.",
        ["a: m", "b: n"],
    ),
    "answers of unequal length": (
        {"config": TWO, "points": [load_point("a"), load_point("b", output_tokens_mean=20.0)]},
        "output_length",
        "Answers differ in mean length by more than 5%",
        [f"{A}: 24.0 tokens", "b, short, concurrency 1: 20.0 tokens"],
    ),
    "short answers": (
        {"requests": [request(0, 0.5), request(1, 0.5, output_tokens=23), request(2, output_tokens=1)]},
        "output_length",
        "1 of 2 answers have fewer than the 24 output tokens asked for.",
        [POINT],
    ),
    "long answers": (
        {
            "requests": [request(0, 0.5), request(1, 0.5, output_tokens=25)],
            "config": make_config(generation={"fixed_output_length": False}),
        },
        "output_length",
        "1 of 2 answers have more than the 24 output tokens asked for.",
        [POINT],
    ),
    "echoed prompts": (
        {"requests": [request(0, 0.5, echoed_prompt=True), request(1, 0.5), request(2, echoed_prompt=None)]},
        "echoed_prompt",
        "1 answers began with the prompt",
        [POINT],
    ),
    "a search that measured nothing": (
        {"config": make_config(["a", "b"], load={"kind": "search", "over": "concurrency", "highest": 8})},
        "missing",
        "b: 1 search result missing: it was not run, or has no steady window",
        ["b, short: the search measured nothing"],
    ),
    "load points that the client limited": (
        {"windows": [facts(client_limited=["process 0 used 95% of its CPU", "late"]), facts(load_point="sound")]},
        "client_limited",
        "The client, not the server, shaped these load points: they are shown, but feed no verdict.",
        [f"{POINT}: process 0 used 95% of its CPU; late"],
    ),
    "no steady state": (
        {"windows": [facts(steady=False, steady_because="latency has a trend: drift +30%"), facts(load_point="x")]},
        "not_steady",
        "No steady state was found",
        [f"{POINT}: latency has a trend: drift +30%"],
    ),
    "failures": (
        {"points": [load_point(failures=3)]},
        "errors",
        "Requests failed; they count as infinitely slow.",
        [f"{A}: 3 of 200"],
    ),
    "few samples": (
        {"points": [load_point(n=99)]},
        "few_samples",
        "Fewer than 100 requests, which p95 wants.",
        [f"{A}: n = 99"],
    ),
    "an early end": (
        {"windows": [facts(), facts(load_point="x", ended_because="max_duration_s")]},
        "ended_early",
        "Load points ended because of: max_duration_s.",
        ["x"],
    ),
    "less load than asked": (
        {"points": [load_point(achieved_concurrency=0.97)]},
        "concurrency",
        "Fewer requests were in flight than asked.",
        ["a, short: 0.97 of 1 asked"],
    ),
    "fewer sends than scheduled": (
        {
            "config": OPEN,
            "points": [load_point(level=20, kind="open_loop", achieved_rate_per_s=19.5)],
            "windows": [open_facts(20.0)],
        },
        "arrivals",
        "Requests were sent at a rate that differs from the schedule's by more than 2%.",
        ["a, short, 20 requests/s: 19.50 requests/s sent of 20.00 scheduled"],
    ),
    "more sends than scheduled": (
        {"config": OPEN, "points": [load_point(level=20, kind="open_loop", achieved_rate_per_s=20.5)]},
        "arrivals",
        "Requests were sent at a rate that differs",
        ["a, short, 20 requests/s: 20.50 requests/s sent of 20.00 scheduled"],
    ),
    "a load point with two clocks": (
        {"windows": [facts(clock_source="mixed")]},
        "clock_sources",
        "Receive times come from more than one clock",
        ["a: mixed"],
    ),
    "load points with different clocks": (
        {"windows": [facts(), facts(clock_source="user"), facts(option="b")]},
        "clock_sources",
        "Receive times come from more than one clock",
        ["a: kernel and user", "b: kernel"],
    ),
    "tokens counted in two ways by one option": (
        {"requests": [request(0, 0.5), request(1, 0.5, output_tokens_source="tokenizer")]},
        "token_sources",
        "Output tokens source differs.",
        ["a: server and tokenizer"],
    ),
    "tokens counted otherwise by another option": (
        {"requests": [request(0, 0.5), request(1, 0.5, option="b", prompt_tokens_source="tokenizer")]},
        "token_sources",
        "Prompt tokens source differs.",
        ["a: server", "b: tokenizer"],
    ),
    "an unknown price": (
        {"endpoints": [endpoint(usd_per_hour=None)]},
        "no_price",
        "No price is known: measured, but not ranked.",
        ["a"],
    ),
    "an old price": (
        {"endpoints": [endpoint(price_as_of="2025-11-30")]},
        "old_price",
        "Prices were looked up more than 90 days ago.",
        ["a: 2025-11-30"],
    ),
    "a prompt bin that is not full": ({"prompts": ["only 3 prompts"]}, "prompts", "only 3 prompts", []),
}


@pytest.mark.parametrize(("run", "kind", "message", "rows"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_warning_with_its_rows(run, kind, message, rows):
    (warning,) = check(**run)
    assert warning.kind == kind
    assert warning.message.startswith(message)
    assert warning.rows == rows


@pytest.mark.parametrize(
    "run",
    [
        {"points": [load_point("a"), load_point("b", output_tokens_mean=25.0)], "config": TWO},
        {
            "requests": [request(0, 0.5, output_tokens=5)],
            "config": make_config(generation={"fixed_output_length": False}),
        },
        {"requests": [request(0, 0.5, output_tokens=5, echoed_prompt=True, phase="warmup"), request(1, 0.5)]},
        {"windows": [facts(steady=None, ended_because="end of the schedule")]},
        {"windows": [facts(clock_source="user"), facts(clock_source="user")]},
        {"points": [load_point(level=20, kind="open_loop", achieved_concurrency=3.0)], "config": OPEN},
        {"points": [load_point(level=20, kind="open_loop", achieved_rate_per_s=19.7)], "config": OPEN},
        {
            "points": [load_point(level=3)],
            "config": make_config(load={"kind": "search", "over": "concurrency", "highest": 8}),
        },
        {"points": [load_point(n=100)]},
        {"points": [load_point(n=50)], "config": make_config(slo={"percentile": 90})},
        {"points": [load_point(achieved_concurrency=0.99)]},
        {"requests": [request(0, 0.5), request(1, output_tokens=None, output_tokens_source=None)]},
        {"endpoints": [endpoint(price_as_of="2025-12-01")]},
        {"endpoints": [endpoint(), endpoint("never measured", usd_per_hour=None)]},
    ],
)
def test_what_is_just_right_is_no_fault(run):
    assert check(**run) == []


def test_all_faults_are_told_the_gravest_first_and_prompts_last():
    found = check(
        points=[load_point(failures=1, n=9)],
        windows=[facts(ended_because="prompts ran out")],
        prompts=["few prompts"],
        config=make_config(["a", option("b", model="n")]),
        endpoints=[endpoint(usd_per_hour=None)],
    )
    assert [warning.kind for warning in found] == [
        "missing",
        "different_models",
        "errors",
        "few_samples",
        "ended_early",
        "no_price",
        "prompts",
    ]
