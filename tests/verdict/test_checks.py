"""Each check fires on data that shows its fault, names the rows concerned, and is silent otherwise."""

import math
from datetime import date

import pandas as pd
import pytest
from examples import endpoint, facts, load_point, make_config, open_facts, option, request, token_price, write_run

from helpers.metrics.control import Change, Move
from helpers.metrics.summary import read_load_points
from helpers.price import Price
from helpers.run.records import PROMPTS_RAN_OUT
from helpers.run.report_warning import WEIGHTS, gravest_first
from helpers.verdict.checks import check_run, same_output_length, same_prompts, served_models
from helpers.verdict.request_checks import audit

TODAY = date(2026, 3, 1)
A, B = "a, short, concurrency 1", "b, short, concurrency 1"


@pytest.fixture
def check(tmp_path):
    """The warnings of a run of one sound load point, with some of it replaced. `requests` are written, read and looked
    over, a level for each option and concurrency among them.
    """

    def run(points=None, requests=None, windows=None, endpoints=None, prompts=(), config=None, asked=24, moves=()):
        requests = [request(i, 0.5) for i in range(3)] if requests is None else requests
        levels = dict.fromkeys((row["option"], row["level"]) for row in requests)
        measured = [facts(option=o, level=level, asked_output_tokens=asked) for o, level in levels]
        names = dict.fromkeys(o for o, _ in levels)
        read = read_load_points(write_run(tmp_path, requests, measured), measured, make_config(names))
        return check_run(
            pd.DataFrame([load_point()] if points is None else points),
            [audit(level) for level in read],
            [facts()] if windows is None else windows,
            [endpoint()] if endpoints is None else endpoints,
            list(prompts),
            config or make_config(),
            TODAY,
            moves,
        )

    return run


def test_a_sound_run_has_no_warning(check):
    assert check() == []


def named(name, image):
    """A run of one option of that name, of which that image ran."""
    return {"config": make_config([name]), "points": [load_point(name)], "endpoints": [endpoint(name, image=image)]}


TWO = make_config(["a", "b"])
OPEN = make_config(load={"kind": "open_loop", "rate": [20]})
UNMOVED = Move("a", "short", "concurrency 2", 120, 30, Change(0.01, -0.03, 0.05))
TREND_FOUND = "latency has a trend: drift +30%"
FAULTS = {
    "load points that were not run": (
        {"config": make_config(load={"concurrency": [1, 2, 4]})},
        "missing",
        "a: 2 load points missing: it was not run, or has no steady window",
        ["a, short, concurrency 2", "a, short, concurrency 4"],
    ),
    "an option that could not be deployed": (
        {"config": TWO, "endpoints": [endpoint("a"), endpoint("b", state="deleted", failure="option 'b': no quota")]},
        "missing",
        "b: 1 load point missing: no quota",
        [B],
    ),
    "repetitions that were not run": (
        {"config": make_config(load={"concurrency": [1], "repetitions": 3}), "points": [load_point(repetitions=2)]},
        "few_repetitions",
        "Repetitions are missing.",
        [f"{A}: 2 of 3"],
    ),
    "an option that was slower at the end": (
        {"moves": [Move("a", "short", "concurrency 1", 120, 30, Change(0.094, 0.061, 0.123)), UNMOVED]},
        "moved",
        "The service changed while it was measured. Intervals leave out what changes between load points: differences of less "
        "than 9% from one of these options may be due to that. Next: measure again at another hour, or set "
        "load.repetitions: 2.",
        [f"{A}: requests took 9% longer [6%, 12%] at the end of the visit than at its start"],
    ),
    "an option that was faster at the end of a race": (
        {
            "moves": [Move("a", "short", "concurrency 1", 120, 30, Change(-0.2, -0.3, -0.1))],
            "config": make_config(load={"race": True}),
        },
        "moved",
        "The service changed while it was measured. Intervals leave out what changes between load points: differences of less "
        "than 20% from one of these options may be due to that. Next: measure again at another hour, or set load.race: false "
        "and load.repetitions: 2.",
        [f"{A}: requests took 20% less [10%, 30%] at the end of the visit than at its start"],
    ),
    "prompts that were sent twice": (
        {"requests": [request(i, 0.5, prompt_id=f"p{i % 2}") for i in range(3)]},
        "repeated_prompts",
        "Prompts were sent more than once",
        ["a: 1 of its 2 prompts"],
    ),
    "a cache that found less than was asked for": (
        {
            "points": [
                load_point(asked_hit_rate=0.5, sent_hit_rate=0.496, found_hit_rate=0.02),
                load_point(level=2, asked_hit_rate=0.5, sent_hit_rate=0.496, found_hit_rate=0.451),
                load_point(level=4, asked_hit_rate=0.5, sent_hit_rate=0.496, found_hit_rate=None),
            ],
            "config": make_config(load={"concurrency": [1, 2, 4]}),
        },
        "hit_rate",
        "Prefix caches found another share of the prompt tokens than prompts.prefix asks",
        [f"{A}: asked 50%, sent 50%, found 2%"],
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
        "The options do not serve the same model, so they are compared per output token.",
        ["a: m", "b: n"],
    ),
    "a model that was found to be another than the config says": (
        {
            "config": TWO,
            "points": [load_point("a"), load_point("b")],
            "endpoints": [endpoint("a"), endpoint("b", model="n")],
        },
        "different_models",
        "The options do not serve the same model, so they are compared per output token.",
        ["a: m", "b: n"],
    ),
    "a name that says another version than the image": (
        named(
            "DJL 0.25.0 on ml.g5.12xlarge",
            image="1.dkr.ecr.us-east-1.amazonaws.com/djl-inference:0.26.0-deepspeed0.12.6",
        ),
        "stale_name",
        "An option's name gives another version than the image that ran.",
        ["DJL 0.25.0 on ml.g5.12xlarge: the name says 0.25.0, its image is djl-inference:0.26.0-deepspeed0.12.6"],
    ),
    "a mean that hides the tail": (
        {"points": [load_point(slo="missed", latency_s_mean_ok=0.9, latency_s_p95=1.2)]},
        "mean_hides_tail",
        "The mean meets the limit, but p95 does not: a report of means would pass these.",
        [f"{A}: mean 900 ms, p95 1.20 s, limit 1 s"],
    ),
    "a mean that hides an endless tail": (
        {"points": [load_point(slo="undecided", latency_s_mean_ok=1.0, latency_s_p95=math.inf)]},
        "errors_hide_tail",
        "Errors are the cause, not latency: more than 0.05 of the requests failed, so p95 is missed however fast",
        [f"{A}: mean 1.00 s, 0 of 200 requests failed, limit 1 s"],
    ),
    "a mean that hides the tail of TTFT": (
        {"points": [load_point(slo="missed", ttft_s_p95=0.4)], "config": make_config(slo={"ttft_s": 0.3})},
        "mean_hides_tail",
        "The mean meets the limit, but p95 does not",
        [f"{A}: mean 70.0 ms, p95 400 ms, limit 0.3 s"],
    ),
    "prompts of unequal length": (
        {"config": TWO, "points": [load_point("a"), load_point("b", prompt_tokens_mean=110.0)]},
        "prompt_length",
        "Prompts differ in mean length by more than 5%: requests are unequal work",
        [f"{A}: 100.0 tokens", f"{B}: 110.0 tokens"],
    ),
    "answers of unequal length": (
        {"config": TWO, "points": [load_point("a"), load_point("b", output_tokens_mean=20.0)]},
        "output_length",
        "Answers differ in mean length by more than 5%",
        [f"{A}: 24.0 tokens", f"{B}: 20.0 tokens"],
    ),
    "short answers": (
        {"requests": [request(0, 0.5), request(1, 0.5, output_tokens=23), request(2, output_tokens=1)]},
        "output_length",
        "1 of 2 answers have fewer than the 24 output tokens requested.",
        [f"{A}: 1 of 2"],
    ),
    "long answers": (
        {
            "requests": [request(0, 0.5), request(1, 0.5, output_tokens=25)],
            "config": make_config(generation={"fixed_output_length": False}),
        },
        "output_length",
        "1 of 2 answers have more than the 24 output tokens requested.",
        [f"{A}: 1 of 2"],
    ),
    "echoed prompts": (
        {"requests": [request(0, 0.5, echoed_prompt=True), request(1, 0.5), request(2, echoed_prompt=None)]},
        "echoed_prompt",
        "1 answers began with the prompt; it was stripped before tokens were counted.",
        [f"{A}: 1"],
    ),
    "a search that measured nothing": (
        {"config": make_config(["a", "b"], load={"kind": "search", "over": "concurrency", "highest": 8})},
        "missing",
        "b: 1 search result missing: it was not run, or has no steady window",
        ["b, short: the search measured nothing"],
    ),
    "load points that the client limited": (
        {"windows": [facts(client_limited=["process 0 used 95% of its CPU", "late"]), facts(option="sound")]},
        "client_limited",
        "The client, not the server, limited these load points: they are shown, but the verdict ignores them.",
        [f"{A}: process 0 used 95% of its CPU; late"],
    ),
    "load machines that were lost": (
        {"windows": [facts(voided=["10.0.0.7 (Ray node ab) was lost", "a clock moved"]), facts(option="sound")]},
        "measured_again",
        "These load points were begun again because of the machines that send (load.cluster); what was measured before is not ",
        [f"{A}: 10.0.0.7 (Ray node ab) was lost; a clock moved"],
    ),
    "a latency that drifts": (
        {"windows": [facts(steady=False, steady_because=TREND_FOUND), facts(option="b")]},
        "trend",
        "Latency drifts over the window: these load points cannot show that the SLO is met.",
        [f"{A}: {TREND_FOUND}"],
    ),
    "no steady state": (
        {"windows": [facts(steady=False, steady_because="too few requests"), facts(option="b")]},
        "not_steady",
        "No steady state was found: these load points cannot show that the SLO is met.",
        [f"{A}: too few requests"],
    ),
    "failures": (
        {"points": [load_point(failures=3)]},
        "errors",
        "Requests failed; they count as infinitely slow.",
        [f"{A}: 3 of 200"],
    ),
    "few samples": (
        {"points": [load_point(n=58, slo="undecided"), load_point(level=4, n=59, slo="undecided")]},
        "few_samples",
        "Fewer than the 59 requests that are needed to show p95 with 95% confidence, unless the limit is far away: these",
        [f"{A}: n = 58"],
    ),
    "an early end": (
        {"windows": [facts(), facts(option="b", ended_because="max_duration_s")]},
        "ended_early",
        "Load points ended early: max_duration_s.",
        [B],
    ),
    "prompts that ran out": (
        {"windows": [facts(ended_because=PROMPTS_RAN_OUT)]},
        "ended_early",
        "Load points ended early: prompts ran out. Their intervals are wider than they were to be. "
        "Next: raise the `count` of their datasets, with a source that has more, "
        "or set load.repeat_prompts: true.",
        [A],
    ),
    "less load than asked": (
        {"points": [load_point(achieved_concurrency=0.97)]},
        "concurrency",
        "Fewer requests were in flight than requested.",
        ["a, short: 0.970 of 1 requested"],
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
        "Some output tokens were counted by the server, others by a tokenizer.",
        ["a: server and tokenizer"],
    ),
    "tokens counted otherwise by another option": (
        {"requests": [request(0, 0.5), request(1, 0.5, option="b", prompt_tokens_source="tokenizer")]},
        "token_sources",
        "Some prompt tokens were counted by the server, others by a tokenizer.",
        ["a: server", "b: tokenizer"],
    ),
    "requests that went out twice": (
        {"requests": [request(i, 0.5, resent=i > 0, phase="warmup" if i == 1 else "steady") for i in range(3)]},
        "resent",
        "2 requests were sent a second time on a new connection, because the server closed the kept-alive one",
        ["a: 2 of 3"],
    ),
    "an unknown price": (
        {"endpoints": [endpoint(usd_per_instance_hour=None)]},
        "no_price",
        "No price is known: measured, but not ranked.",
        ["a"],
    ),
    "an old price": (
        {"endpoints": [endpoint(price=Price(usd_per_instance_hour=1.0, as_of="2025-11-30"))]},
        "old_price",
        "Prices were looked up more than 90 days ago.",
        ["a: 2025-11-30"],
    ),
    "a prompt bin that is not full": ({"prompts": ["only 3 prompts"]}, "prompts", "only 3 prompts", []),
}


NOTHING_TO_DO = ("mean_hides_tail", "prompts", "missing")
"""Kinds whose message needs no next step, or has it in words that are quoted."""


@pytest.mark.parametrize(("run", "kind", "message", "rows"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_warning_with_its_rows(check, run, kind, message, rows):
    (warning,) = check(**run)
    assert warning.kind == kind
    assert warning.message.startswith(message)
    assert warning.rows == rows
    assert "Next: " in warning.message or warning.kind in NOTHING_TO_DO
    assert kind in {kind for kinds in WEIGHTS.values() for kind in kinds}


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
        {"points": [load_point(asked_hit_rate=0.5, sent_hit_rate=0.5, found_hit_rate=None)]},
        {"points": [load_point(found_hit_rate=0.9)]},
        {
            "requests": [request(i, 0.5, prompt_id="p") for i in range(3)],
            "config": make_config(load={"prefix_cache_salt": True}),
        },
        {"points": [load_point(n=9), load_point(n=9, slo="missed")]},
        {"points": [load_point(n=9, slo="undecided")], "config": make_config(load={"race": True})},
        {"points": [load_point(n=50)], "config": make_config(slo={"percentile": 90})},
        {"points": [load_point(achieved_concurrency=0.99)]},
        {"requests": [request(0, 0.5), request(1, output_tokens=None, output_tokens_source=None)]},
        {"endpoints": [endpoint(price=Price(usd_per_instance_hour=1.0, as_of="2025-12-01"))]},
        {"endpoints": [endpoint(local=True, price=Price(usd_per_instance_hour=1.0, as_of="2025-11-30"))]},
        {"endpoints": [endpoint(), endpoint("never measured", usd_per_instance_hour=None)]},
        {"endpoints": [endpoint(price=token_price(3.0, 15.0))]},
        {"endpoints": [endpoint(model="m")]},
        {"points": [load_point("a"), load_point("b", prompt_tokens_mean=104.0)], "config": TWO},
        {  # 100 and 110 tokens on average, as 200 prompts of 1 to 500 may well be by chance: 4 x sqrt(2) x 140 / sqrt(200)
            "points": [
                load_point("a", prompt_tokens_sd=140.0),
                load_point("b", prompt_tokens_mean=110.0, prompt_tokens_sd=140.0),
            ],
            "config": TWO,
        },
        {"points": [load_point(latency_s_mean_ok=0.9, latency_s_p95=1.2)]},
        {"points": [load_point(slo="missed", latency_s_mean_ok=1.1, latency_s_p95=1.2)]},
        {"points": [load_point(slo="missed", ttft_s_p95=4.0)]},
        {"points": [load_point(slo="undecided", latency_s_p95=None)]},
        {"windows": [facts(steady=True, steady_because=TREND_FOUND)]},
        {"requests": [request(0, 0.5, output_tokens=5)], "asked": None},
        {
            "requests": [request(0, 0.5, output_tokens=5)],
            "config": make_config(generation={"max_output_tokens": 5}),
            "asked": 5,
        },
    ],
)
def test_what_is_just_right_is_no_fault(check, run):
    assert check(**run) == []


def test_a_warning_that_may_change_the_option_is_named_first_and_prices_age_last(check):
    found = check(
        points=[load_point(failures=1, n=9, slo="undecided"), load_point("b")],
        windows=[facts(ended_because="prompts ran out")],
        prompts=["few prompts"],
        config=make_config(["a", option("b", model="n"), "c"]),
        endpoints=[
            endpoint(price=Price(usd_per_instance_hour=1.0, as_of="2025-11-30")),
            endpoint("b", usd_per_instance_hour=None),
        ],
    )
    sorted_kinds = [warning.kind for warning in gravest_first(reversed(found))]
    assert sorted_kinds == [
        "different_models",
        "missing",
        "no_price",
        "few_samples",
        "ended_early",
        "prompts",
        "errors",
        "old_price",
    ]


def test_an_old_price_may_change_the_order_only_of_options_on_different_instances(check):
    def said(other):
        old = Price(usd_per_instance_hour=1.0, as_of="2025-11-30")
        records = [endpoint(price=old), endpoint("b", instance_type=other)]
        (warning,) = check(points=[load_point("a"), load_point("b")], config=TWO, endpoints=records)
        return warning.message

    assert "perhaps which option is the cheapest" in said("ml.g5.xlarge")
    assert "perhaps which option is the cheapest" not in said("self-hosted")


# --- names and images ---------------------------------------------------------------------------------------------

ECR = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
DJL = f"{ECR}/djl-inference:0.24.0-neuronx-sdk2.14.1"
TGI = f"{ECR}/huggingface-pytorch-tgi-inference:2.1.1-tgi1.4.0-gpu-py310-cu121-ubuntu20.04"
VLLM = "vllm/vllm-openai:v0.6.3"


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        ("TGI 1.3.1 on g5", TGI, "1.3.1"),
        ("tgi1.3.1 on g5", TGI, "1.3.1"),
        ("tgi-1.3.1", TGI, "1.3.1"),
        ("vLLM 0.6.2", VLLM, "0.6.2"),
        ("vllm v0.5.0 (g6.xlarge)", VLLM, "0.5.0"),
        ("DJL 0.25 with bs 4", DJL, "0.25"),
        ("inf2 djl 0.24.0 sdk 2.15.0", DJL, "2.15.0"),
    ],
)
def test_a_version_in_a_name_that_did_not_run_is_stale(check, name, image, said):
    (warning,) = check(**named(name, image))
    assert warning.kind == "stale_name"
    assert warning.rows == [f"{name}: the name says {said}, its image is {image.rpartition('/')[2]}"]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("TGI 1.4.0 on g5", TGI),
        ("tgi1.4 on g5.12xlarge", TGI),
        ("pytorch tgi 2.1.1", TGI),
        ("vLLM 0.6.3", VLLM),
        ("vllm v0.6", VLLM),
        ("vLLM", VLLM),
        ("DJL 0.24.0 sdk 2.14", DJL),
        ("djl 0.24.0 llama 3.1 8b", DJL),
        ("Llama 3.1 on ml.g5.12xlarge", VLLM),
        ("batch of 4", "openvino-genai"),
        ("vLLM 0.6.2", None),
        ("vLLM 0.6.2", "vllm/vllm-openai:latest"),
        ("SGLang 0.3.1", VLLM),
    ],
)
def test_a_right_version_in_a_name_or_one_of_something_else_is_no_fault(check, name, image):
    assert check(**named(name, image)) == []


# --- is it comparable? --------------------------------------------------------------------------------------------


def test_the_model_is_what_the_config_says_of_the_option_else_what_the_endpoint_was_found_to_serve():
    config = make_config(["a", option("b", model="n"), option("c")])
    found = served_models(config, [endpoint("a"), endpoint("b", model="x"), endpoint("c", model="x")])
    assert found == {"a": "m", "b": "n", "c": "x"}


@pytest.mark.parametrize(("same", "tokens"), [(same_output_length, "output_tokens"), (same_prompts, "prompt_tokens")])
@pytest.mark.parametrize(
    ("length", "sd", "n", "equal"),
    [
        (104.9, 0.0, 200, True),
        (105.1, 0.0, 200, False),
        (110.0, 30.0, 200, True),  # 4 x sqrt(2) x 30 / sqrt(200) = 12
        (110.0, 20.0, 200, False),  # 8
        (110.0, 30.0, 800, False),  # 6
    ],
)
def test_lengths_are_equal_within_5_percent_or_what_chance_explains(same, tokens, length, sd, n, equal):
    points = [load_point("a", n=n), load_point("b", n=n)]
    for point, mean in zip(points, (100.0, length), strict=True):
        point |= {f"{tokens}_mean": mean, f"{tokens}_sd": sd}
    assert same(pd.DataFrame(points)) is equal


def test_lengths_are_means_over_all_loads_of_a_dataset():
    """Each load of b lies more than 5% off, but 300 requests of 106 and 100 of 94 are 103 on average."""
    points = [
        load_point("a", output_tokens_mean=100.0),
        load_point("b", output_tokens_mean=106.0, n=300),
        load_point("b", level=4, output_tokens_mean=94.0, n=100),
    ]
    assert same_output_length(pd.DataFrame(points))
    assert not same_output_length(pd.DataFrame(points[:2]))
    apart = [load_point("a"), load_point("b", dataset="long", output_tokens_mean=240.0)]
    assert same_output_length(pd.DataFrame(apart)), "of different datasets"
