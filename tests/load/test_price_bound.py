"""The least that an option can cost, before it is deployed: never above what anyone has measured, and what is unknown excludes
nothing.
"""

import csv
import math

import pytest
from examples import endpoint, facts, make_config, request, write_run

from helpers.config.containers.accelerators import ACCELERATORS, INSTANCES, Peak, peak_of
from helpers.load.price_bound import ON_CHIP_BYTES, Most, cannot_win, most_of, roofline
from helpers.load.race import Leave, Measure
from helpers.load.race_state import least_prices_of, step_of

PEAK = Peak(1e12, {4: 400e12, 8: 200e12, 16: 100e12})
"""A terabyte a second."""
ROWS = list(csv.DictReader(ACCELERATORS.open(encoding="utf-8", newline="")))


def test_few_streams_are_bound_by_memory_and_many_by_arithmetic():
    weights = 8e9
    read = 16e9 - ON_CHIP_BYTES
    assert roofline(PEAK, 1, weights, 16, 1) == pytest.approx(1e12 / read)
    assert roofline(PEAK, 1, weights, 16, 10) == pytest.approx(10 * 1e12 / read)
    assert roofline(PEAK, 1, weights, 16, math.inf) == pytest.approx(100e12 / 16e9)
    assert roofline(PEAK, 1, weights, 4, math.inf) == pytest.approx(400e12 / 16e9)
    assert roofline(PEAK, 4, weights, 16, 1) == pytest.approx(4e12 / (16e9 - 4 * ON_CHIP_BYTES))


def test_drafted_tokens_save_reads_but_no_arithmetic():
    assert roofline(PEAK, 1, 8e9, 16, 1, 4) == pytest.approx(4 * roofline(PEAK, 1, 8e9, 16, 1))
    assert roofline(PEAK, 1, 8e9, 16, math.inf, 4) == roofline(PEAK, 1, 8e9, 16, math.inf)


def test_weights_that_stay_on_the_chip_are_not_read_again():
    assert roofline(PEAK, 1, 100e6, 8, 1) == 200e12 / 200e6


LLAMA_8B, LLAMA_70B, LLAMA_13B, LLAMA_7B = 7.5e9, 69.5e9, 12.85e9, 6.6e9
"""Parameters without input embeddings: Llama 3.1 and 3.3, Llama 2."""
NIM = "docs.nvidia.com/nim/benchmarking/llm/1.0.0/performance, Llama-3.3-70b, 2 x H100, fp8 TP2"
TRT = "github.com/NVIDIA/TensorRT-LLM docs/source/performance"
PUBLISHED = [
    # instance family, accelerators, parameters, bits, requests in flight, output tokens/s, source
    ("p4d", 1, LLAMA_8B, 16, 1, 75, "johnmusgrave.com/p/vllm-throughput-latency-sweep-on: A100 40GB, bf16, vLLM 0.23"),
    ("p4d", 1, LLAMA_8B, 16, 8, 6.6 * 75, "the same, 6.6 times at concurrency 8"),
    ("p5", 1, LLAMA_8B, 16, 4, 580.3, "yobitelcomm.github.io/bench/recipes/concurrency-sweep: H100, fp16, vLLM 0.21"),
    ("p5", 2, LLAMA_70B, 8, 1, 51.67, f"{NIM}, concurrency 1"),
    ("p5", 2, LLAMA_70B, 8, 25, 623.4, f"{NIM}, concurrency 25"),
    ("p5", 1, LLAMA_7B, 8, 64, 9193, f"{TRT}.md at release/0.5.0: LLaMA 7B, FP8, batch 64, 128 + 128 tokens"),
    ("p6-b200", 1, LLAMA_70B, 4, math.inf, 11253.28, f"{TRT}/perf-overview.md at 0.19.0: Llama 3.3 70B FP4, 128 + 128"),
    (
        "g5",
        4,
        LLAMA_13B,
        16,
        4,
        96,
        "github.com/aws-samples/foundation-model-benchmarking-tool, Llama 2 13B, TGI 1.1.0",
    ),
    ("inf2", 12, LLAMA_13B, 16, 4, 50, "the same, inf2.48xlarge, DJL 0.24.0"),
]


@pytest.mark.parametrize(("family", "count", "weights", "bits", "streams", "measured", "source"), PUBLISHED)
def test_nobody_has_measured_more_than_the_bound(family, count, weights, bits, streams, measured, source):
    bound = roofline(peak_of(f"ml.{family}.xlarge"), count, weights, bits, streams)
    assert measured < bound, source
    assert roofline(peak_of(f"ml.{family}.xlarge"), count, weights, 4, streams) >= bound, "fewer bits are no slower"


def test_a_batch_of_one_comes_near_the_bound():
    """The bound says something: real decoding reaches a good part of it."""
    assert 0.6 * roofline(peak_of("ml.p4d.24xlarge"), 1, LLAMA_8B, 16, 1) < 75


def test_the_file_of_accelerators_is_whole():
    of_family = {}
    for row in csv.DictReader(INSTANCES.open(encoding="utf-8", newline="")):
        of_family[row["family"]] = row["accelerator"]
    named = [(family, row["accelerator"]) for row in ROWS for family in row["families"].split()]
    assert len(dict(named)) == len(named), "no family twice"
    assert all(of_family[family] == accelerator for family, accelerator in named)
    assert {"g4dn", "g5", "g6", "g6e", "p3", "p4d", "p4de", "p5", "p5e", "p5en", "inf2", "trn1"} <= {*dict(named)}
    for row in ROWS:
        assert row["as_of"] and row["source"]
        assert 0 < float(row["tflops_16_bit"]) <= float(row["tflops_8_bit"]) <= float(row["tflops_4_bit"])
        assert 200 < float(row["memory_gb_per_s"]) < 20_000


# --- of an option -------------------------------------------------------------------------------------------------


def deployed(name="a", kind="vllm", instance_type="ml.g5.xlarge", count=1, **container):
    known = {"kind": kind, "model_id": "org/model", "active_parameters_b": 7.5, **container}
    known = {key: value for key, value in known.items() if value is not None}
    return {
        "name": name,
        "target": "sagemaker",
        "instance_type": instance_type,
        "instance_count": count,
        "container": known,
    }


def most(option, **sections):
    config = make_config([option], **sections)
    return most_of(config.options[0], config)


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        ({}, 4),
        ({"weight_bits": 16}, 16),
        ({"quantization": "fp8"}, 8),
        ({"quantization": "fp8", "weight_bits": 16}, 8),
        ({"quantization": "awq", "weight_bits": 16}, 4),
        ({"weight_bits": 16, "dtype": "bfloat16"}, 16),
        ({"weight_bits": 16, "environment": {"SM_VLLM_QUANTIZATION": "awq"}}, 4),
    ],
)
def test_weights_have_the_fewest_bits_that_the_settings_allow(settings, bits):
    found = most(deployed(**settings))
    assert found.output_tokens_per_s == roofline(peak_of("ml.g5.xlarge"), 1, 7.5e9, bits, 1)
    assert f"7.5 billion weights of {bits} bits" in found.because


@pytest.mark.parametrize(
    ("kind", "settings", "tokens"),
    [
        ("vllm", {"speculation": {"method": "ngram", "num_speculative_tokens": 3}}, 4),
        ("vllm", {"speculation": {"method": "ngram"}}, None),
        ("vllm", {"environment": {"SM_VLLM_SPECULATIVE_CONFIG": "{}"}}, None),
        ("sglang", {"environment": {"SM_SGLANG_SPECULATIVE_ALGORITHM": "EAGLE"}}, None),
        ("tgi", {"speculative_tokens": 2}, 3),
        ("tgi", {"model_id": "org/model-medusa"}, None),
    ],
)
def test_speculative_decoding_of_unknown_length_has_no_bound(kind, settings, tokens):
    found, plain = most(deployed(kind=kind, **settings)), most(deployed(kind=kind))
    assert found.output_tokens_per_s == (tokens and pytest.approx(tokens * plain.output_tokens_per_s))
    assert ("speculatively" in found.because) == (tokens is None)


def test_all_instances_and_the_highest_concurrency_count_and_an_open_loop_has_any_number():
    loop = {"concurrency": [1, 8]}
    two = most(deployed(count=2), load=loop)
    assert two.output_tokens_per_s == roofline(peak_of("ml.g5.xlarge"), 2, 7.5e9, 4, 8)
    assert "2 x NVIDIA A10G (600 GB/s, 560 TFLOP/s each)" in two.because and two.because.endswith("concurrency 8")
    found = most(deployed(), load={"kind": "open_loop", "rate": [1]})
    assert found.output_tokens_per_s == 560e12 / 15e9


@pytest.mark.parametrize(
    ("option", "because"),
    [
        (deployed(active_parameters_b=None), "container.active_parameters_b"),
        (deployed(instance_type="ml.g7.2xlarge"), "data/accelerators.csv does not have ml.g7.2xlarge"),
        ({**deployed(), "local": True}, "best_output_tokens_per_s"),
        ({**deployed(), "api": "tgi", "container": {"image": "mine:1"}}, "best_output_tokens_per_s"),
        ("a", "best_output_tokens_per_s"),
    ],
)
def test_what_is_not_known_has_no_bound_and_says_why(option, because):
    found = most(option)
    assert found[:2] == (None, None) and found.because.startswith("unknown: ") and because in found.because
    assert found.least_prices(10.0) == (0.0, 0.0)


def test_what_is_stated_wins_and_bounds_requests_of_fixed_length():
    stated = {**deployed(), "best_output_tokens_per_s": 240}
    assert most(stated) == Most(240, 10, "stated as best_output_tokens_per_s")
    assert most(stated).least_prices(3.6) == pytest.approx((3.6 / 36_000 * 1e3, 3.6 / 864_000 * 1e6))
    assert most(stated).least_prices(None) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("option", "generation"),
    [
        ({}, {"fixed_output_length": False}),
        ({"api": "tgi"}, {}),
        ({"omit_body_keys": ["ignore_eos"]}, {}),
        ({"extra_body": {"n": 2}}, {}),
    ],
)
def test_requests_have_no_bound_where_their_length_is_open(option, generation):
    stated = {**deployed(), "best_output_tokens_per_s": 240, **option}
    assert most(stated, generation=generation).requests_per_s is None


def test_only_what_costs_more_in_each_basis_cannot_win():
    assert cannot_win((2.0, 2.0), (1.9, 1.9))
    assert not cannot_win((2.0, 2.0), (1.9, 2.1))
    assert not cannot_win((0.0, 2.0), (1.9, 1.9))
    assert not cannot_win((2.0, 2.0), (2.0, 2.0))


# --- in a race ----------------------------------------------------------------------------------------------------


@pytest.fixture
def led(tmp_path):
    """Records of `a`, which meets the SLO at concurrency 1, 2 requests of 24 tokens a second."""
    window = facts(0, 200, load_kind="closed_loop", level=1.0, repetition=1, load_point="a__short__c1__r1")
    rows = [request(at / 2, 0.5, repetition=1, load_point="a__short__c1__r1") for at in range(400)]
    return write_run(tmp_path, rows, [window])


def raced(tokens_per_s, usd_per_hour=100.0):
    """The config of a race of `a` and `b`, and what `b` is to do next."""
    load = {"concurrency": [1], "race": {"first_look": 30, "max_requests": 400}}
    fast = {"name": "b", "target": "openai", "base_url": "http://localhost:1/v1", "served_model": "m"}
    config = make_config(
        ["a", {**fast, "best_output_tokens_per_s": tokens_per_s}],
        load=load,
        slo={"percentile": 90, "latency_s": 1, "error_rate": 0.1},
    )
    return config, [endpoint("a", 10.0), endpoint("b", usd_per_hour)]


def step(tokens_per_s, folder, usd_per_hour=100.0):
    config, endpoints = raced(tokens_per_s, usd_per_hour)
    return step_of(config.options[1], config, folder, endpoints)


def test_an_option_that_cannot_beat_the_leader_is_never_loaded(led):
    """`a` costs $10/h for 48 tokens/s; `b`, at $100/h, would have to serve 480."""
    found = step(400, led)
    assert isinstance(found, Leave) and found.outcome == "never loaded"
    assert [price.low for price in found.prices] == pytest.approx([100 / (400 / 24 * 3.6), 100 / (400 * 3600) * 1e6])


@pytest.mark.parametrize(("tokens_per_s", "usd_per_hour"), [(None, 100.0), (600, 100.0), (400, None)])
def test_an_option_that_may_beat_the_leader_is_measured(led, tokens_per_s, usd_per_hour):
    assert isinstance(step(tokens_per_s, led, usd_per_hour), Measure)


def test_without_a_leader_every_option_is_measured(tmp_path):
    assert isinstance(step(1, tmp_path), Measure)


def test_an_option_that_was_loaded_is_judged_by_what_was_measured(led):
    window = facts(0, 10, load_kind="closed_loop", level=1.0, repetition=1, load_point="b__short__c1__r1", option="b")
    rows = [
        request(at / 30, 0.03, repetition=1, load_point="b__short__c1__r1", option="b", output_tokens=100)
        for at in range(300)
    ]
    write_run(led, rows, [window])
    found = step(400, led)
    assert not isinstance(found, Leave) or found.outcome != "never loaded"


def test_an_option_of_one_dataset_has_the_share_of_that_dataset():
    half = {**deployed(), "best_output_tokens_per_s": 240, "datasets": ["short"]}
    config = make_config([half, deployed("b")], datasets=["short", "long"], load={"race": True})
    assert least_prices_of(config.options[0], config, endpoint("a", 3.6)) == pytest.approx((0.05, 25 / 12))
