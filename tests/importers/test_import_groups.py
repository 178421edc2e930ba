"""What sums and means of groups can show, and what they cannot: bounds, SLO states and warnings."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import result_files as files

from helpers.config.file import load_config
from helpers.importers.importing import read_results, write_results
from helpers.metrics.group_bounds import misses
from helpers.metrics.groups import read_groups, summarise_groups
from helpers.run.folder import open_run
from helpers.run.group_records import Group
from helpers.run.ledger import Ledger
from helpers.verdict.group_checks import group_warnings


def group(**changes) -> pd.Series:
    """A group as `read_groups` gives it."""
    known = {"requests": 4, "failures": 0, "wall_s": math.nan, "latency_mean_s": math.nan} | changes
    return pd.Series(vars(Group(prompt_tokens=None, output_tokens=None, source="x", **known)))


def volley(latencies: list[float], overhead: float = 0.0, **changes) -> pd.Series:
    return group(
        requests=len(latencies),
        wall_s=max(latencies) + overhead,
        latency_mean_s=sum(latencies) / len(latencies),
        sent_together=True,
        **changes,
    )


# --- how many can have missed a limit? ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "bounds"),
    [
        (volley([5, 6, 7, 8]), (0, 0)),  # the slowest had ended after 8 s
        (volley([5, 6, 7, 25]), (0, 2)),  # mean 10.75: three misses would sum to more than 4 x 10.75
        (volley([1, 1, 1, 25]), (0, 1)),
        (
            volley([19, 25, 25, 25]),
            (3, 4),
        ),  # 94 s in all and none beyond 25 s: at least (94 - 80) / 5 of them beyond 20 s
        (volley([30, 30, 30, 30]), (4, 4)),
        (
            volley([19, 19, 19, 19], overhead=5),
            (0, 3),
        ),  # wall time beyond the limit proves nothing: the client has a part
        (group(latency_mean_s=21.0), (1, 4)),
        (group(latency_mean_s=19.0), (0, 3)),
        (group(latency_mean_s=4.0), (0, 0)),  # 4 x 4 s in all
        (group(), (0, 4)),
        (group(latency_s=[5, 25, 30, 1]), (2, 2)),
        (group(failures=1, latency_s=[5, 25, 1]), (2, 2)),
        (group(failures=3, wall_s=9.0, latency_mean_s=9.0, sent_together=True), (3, 3)),
        (group(requests=200, reported={"latency_s_max": 19.9}), (0, 0)),
        (group(requests=200, reported={"latency_s_p95": 19.9}), (0, 10)),  # rank 190 of 200 is within
        (group(requests=200, reported={"latency_s_p95": 20.1}), (10, 200)),
        (group(requests=200, reported={"latency_s_p95": 19.9, "latency_s_p99": 30}), (2, 10)),
        (group(requests=101, reported={"latency_s_p50": 20.0}), (0, 50)),
        (group(requests=200, reported={"ttft_s_p99": 0.1}), (0, 200)),
        (group(wall_s=9.0, sent_together=False), (0, 4)),  # the wall time of what was not sent together bounds nothing
    ],
)
def test_bounds_worked_out_by_hand(one, bounds):
    assert misses(one, "latency_s", 20) == bounds


def test_other_latencies_are_bounded_by_the_wall_time_of_a_volley_or_by_what_was_printed():
    assert misses(volley([0.5, 0.6]), "ttft_s", 1.0) == (0, 0)
    assert misses(volley([0.5, 1.6]), "ttft_s", 1.0) == (0, 2)
    assert misses(volley([0.5, 0.6]), "tpot_s", 1.0) == (0, 2), "a time per token may be anything"
    assert misses(group(requests=200, reported={"tpot_s_p95": 1.2}), "tpot_s", 1.0) == (1, 200)


@pytest.mark.parametrize("seed", range(5))
def test_the_true_number_always_lies_within_the_bounds(seed):
    rng = np.random.default_rng(seed)
    for _ in range(300):
        n = int(rng.integers(1, 40))
        latencies = rng.lognormal(0, 1, n)
        limit = float(rng.choice([*latencies, rng.lognormal(0, 1)]))
        printed = {f"latency_s_p{p}": float(np.percentile(latencies, p, method=method)) for p, method in
                   ((50, "linear"), (90, "linear"), (95, "inverted_cdf"), (99, "higher"))}  # fmt: skip
        one = {
            "requests": n,
            "latency_mean_s": float(latencies.mean()) if rng.random() < 0.7 else math.nan,
            "reported": {name: value for name, value in printed.items() if rng.random() < 0.3},
        }
        if rng.random() < 0.5:
            one |= {"wall_s": float(latencies.max() * rng.choice([1, 1.2])), "sent_together": True}
        fewest, most = misses(group(**one), "latency_s", limit)
        assert fewest <= (latencies > limit).sum() <= most, (one, limit)


# --- from a table to states and warnings --------------------------------------------------------------------------


@pytest.fixture
def summarise(tmp_path):
    """Rows of all_metrics.csv -> (points, groups, warnings)."""

    def run_it(rows: list[dict], **sections) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
        files.write_csv(tmp_path / "m.csv", rows)
        names = sorted({row["experiment_name"] for row in rows})
        levels = sorted({row["concurrency"] for row in rows})
        options = [files.option(n, "fmbench_volleys", "m.csv", select={"experiment_name": n}) for n in names]
        datasets = [{"name": "short", "prompt_tokens": [1, 500]}, {"name": "long", "prompt_tokens": [500, 900]}]
        held = {row["payload_file"] for row in rows}
        sections = {
            "datasets": [d for d in datasets if f"payload_{d['name']}.jsonl" in held],
            "load": {"kind": "closed_loop", "concurrency": levels},
            "slo": {"percentile": 95, "latency_s": 2, "error_rate": 0.1, "confidence": 0.95},
            **sections,
        }
        config = load_config(files.write_config(tmp_path, *options, **sections))
        _, run = open_run(str(config.path), new=True)
        write_results(read_results(config), config.benchmark, run)
        points = summarise_groups(run, Ledger(run.ledger_file, run.run_id).records(), config.benchmark)
        groups = read_groups(run)
        warnings = group_warnings(groups, points, config.benchmark)
        assert len({w.kind for w in warnings}) == len(warnings)
        return points, groups, {warning.kind: warning for warning in warnings}

    return run_it


def state(points: pd.DataFrame, column: str = "slo") -> str:
    (found,) = points[column]
    return found


def test_enough_volleys_that_all_ended_in_time_meet_the_slo(summarise):
    points, _, _ = summarise([files.volley([1.0, 1.1], 1.2)] * 60)
    assert state(points) == "met"


def test_too_few_requests_to_show_a_percentile_show_no_slo_to_be_met(summarise):
    slo = {"percentile": 95, "latency_s": 2, "error_rate": 0.1, "confidence": 0.5}
    points, _, _ = summarise([files.volley([1.0], 1.0)] * 19, slo=slo)
    assert state(points, "slo_latency_s") == "undecided"
    points, _, _ = summarise([files.volley([1.0], 1.0)] * 60)
    assert state(points) == "met"


def test_one_slow_volley_leaves_it_undecided_though_the_mean_is_far_below(summarise):
    rows = [files.volley([1.0] * 4, 1.1)] * 29 + [files.volley([1.0, 1.0, 1.0, 9.0], 9.1)]
    points, _, warnings = summarise(rows)
    assert state(points) == "undecided"
    assert warnings["mean_hides_tail"].rows == [
        "llama-g5, short, concurrency 4: mean latency 1.07 s, but 1 of 30 volleys took longer, up to 9.1 s; 1 to 4 requests were "
        "beyond the limit"
    ]


def test_volleys_whose_means_are_beyond_the_limit_miss_it(summarise):
    points, _, _ = summarise([files.volley([3.0, 3.2], 3.3)] * 30)
    assert state(points) == "missed"
    assert not points["estimates_within_slo"].iloc[0]


def test_requests_of_one_volley_are_not_taken_for_independent(summarise):
    alone, _, _ = summarise([files.volley([1.0], 1.01)] * 200 + [files.volley([3.0], 3.01)] * 4)
    together, _, _ = summarise([files.volley([1.0] * 4, 1.01)] * 50 + [files.volley([3.0] * 4, 3.01)])
    assert state(alone, "slo_latency_s") == "met"
    assert state(together, "slo_latency_s") == "undecided", (
        "204 requests in 51 volleys tell less than 204 by themselves"
    )


def test_failures_count_as_missed_and_as_errors(summarise):
    points, _, _ = summarise([files.volley([1.0] * 3, 1.1, failures=1)] * 50)
    (row,) = points.to_dict("records")
    assert (row["n"], row["failures"], row["error_rate"]) == (200, 50, 0.25)
    assert row["slo_latency_s"] == row["slo_error_rate"] == row["slo"] == "missed"
    assert row["requests_per_s"] == pytest.approx(150 / 55)


def test_a_volley_of_failures_alone_has_no_latency(summarise):
    points, groups, _ = summarise([files.volley([1.0] * 2, 1.1)] * 5 + [files.volley([], 1.0, failures=2)])
    assert groups["latency_mean_s"].isna().tolist() == [False] * 5 + [True]
    assert points["latency_s_mean_ok"].iloc[0] == pytest.approx(1.0)
    assert points["window_s"].tolist() == pytest.approx([5 * 1.1 + 1.0]), "the prompts of failures were sent too"
    assert points["requests_per_s"].tolist() == pytest.approx([10 / 6.5])


def test_prompt_tokens_of_failures_are_not_those_of_answers(summarise):
    """FMBench adds up the prompts of all requests of a volley, and the answers of those that succeeded."""
    points, groups, warnings = summarise([files.volley([1.0] * 3, 1.1, prompt=3478, failures=1)] * 5)
    assert groups["prompt_tokens"].tolist() == [3 * 3478] * 5
    (row,) = points.to_dict("records")
    assert row["prompt_tokens_mean"] == 3478
    assert row["prompt_tokens_per_s"] == pytest.approx(3 * 3478 / 1.1)
    assert "3478 tokens in all 5 groups" in warnings["one_prompt"].rows[0]


def test_failures_do_not_hide_an_echoed_prompt(summarise):
    rows = [files.volley([1.0] * 3, 1.1, prompt=3478, output=3478 + 28, failures=1)] * 5
    _, groups, warnings = summarise(rows, generation={"max_output_tokens": 100})
    assert groups["output_tokens"].tolist() == [3 * 28] * 5
    assert "28.0 output tokens per request, and 3,478 of the prompt" in warnings["echoed_prompt"].rows[0]


def test_a_volley_that_failed_as_a_whole_does_not_hide_that_all_prompts_have_one_length(summarise):
    _, _, warnings = summarise([files.volley([1.0] * 2, 1.1)] * 5 + [files.volley([], 1.0, failures=2)])
    assert "short: 300 tokens in all 5 groups" in warnings["one_prompt"].rows[0]


def test_goodput_is_known_where_it_is_certain(summarise):
    points, _, _ = summarise([files.volley([1.0, 1.1], 1.2)] * 20)
    assert points["goodput_per_s"].iloc[0] == pytest.approx(2 / 1.2)
    points, _, _ = summarise([files.volley([1.0, 1.1], 1.2)] * 20 + [files.volley([1.0, 2.5], 2.6)])
    assert points["goodput_per_s"].isna().all()


def test_statistics_of_an_open_loop_never_show_that_the_slo_is_met(tmp_path):
    sent = files.open_loop(10, 400)
    files.write_json(tmp_path / "v.json", files.vllm(sent, detailed=False, request_rate=10.0, max_concurrency=None))
    load = {"kind": "open_loop", "rate": [10], "arrivals": "constant"}
    config = load_config(files.write_config(tmp_path, files.option("a", "vllm", "v.json"), load=load))
    _, run = open_run(str(config.path), new=True)
    write_results(read_results(config), config.benchmark, run)
    (row,) = summarise_groups(run, [], config.benchmark).to_dict("records")
    assert row["slo_latency_s"] == row["slo_error_rate"] == "met"
    assert row["slo"] == "undecided", "a queue may have grown all the while"


# --- warnings -----------------------------------------------------------------------------------------------------


def test_good_groups_give_cause_for_one_warning_alone(summarise):
    rows = [files.volley([1.0, 1.1], 1.2, prompt=300 + i) for i in range(30)]
    rows += [files.volley([1.5, 1.6], 1.7, prompt=700 + i, payload_file="payload_long.jsonl") for i in range(30)]
    _, _, warnings = summarise(rows)
    assert list(warnings) == ["volleys"]
    assert warnings["volleys"].rows == ["llama-g5: 60 volleys at concurrency 2"]


def test_an_echoed_prompt_and_answers_beyond_the_cap(summarise):
    rows = [files.volley([1.0], 1.1, prompt=300 + i, output=350 + i, experiment_name="echoes") for i in range(4)]
    rows += [files.volley([1.0], 1.1, prompt=300 + i, output=102 + i, experiment_name="rambles") for i in range(4)]
    _, _, warnings = summarise(rows, generation={"max_output_tokens": 100})
    assert warnings["echoed_prompt"].rows == ["echoes, short: 50.0 output tokens per request, and 302 of the prompt"]
    assert warnings["output_length"].rows == ["rambles: up to 105.0 tokens per request, in 4 of 4 groups"]


def test_prompts_that_all_have_the_same_length(summarise):
    rows = [files.volley([1.0 + i / 100], 1.1) for i in range(5)]
    rows += [files.volley([2.0], 2.1, prompt=700 + i, payload_file="payload_long.jsonl") for i in range(5)]
    _, _, warnings = summarise(rows)
    assert warnings["one_prompt"].rows == ["short: 300 tokens in all 5 groups, 5 requests per option"]
    assert "they were made that way, or they are the same prompt" in warnings["one_prompt"].message


def test_a_warm_up_that_was_measured(summarise):
    rows = [files.volley([7.8], 7.9, prompt=300 + i) for i in range(3)]
    rows += [files.volley([2.3], 2.4, prompt=700 + i, payload_file="payload_long.jsonl") for i in range(3)]
    _, _, warnings = summarise(rows)
    assert warnings["warm_up"].rows == [
        "llama-g5, concurrency 1: short took 7.80 s for 20 output tokens, long 2.30 s for 20"
    ]
    longer_answers = [{**row, "all_completions_token_count": 90} for row in rows[:3]] + rows[3:]
    _, _, warnings = summarise(longer_answers)
    assert "warm_up" not in warnings, "longer answers explain it"


def test_a_mean_of_rates_that_overstates(summarise):
    rows = [files.volley([1.0, 1.0], 1.0, prompt=300 + i) for i in range(9)] + [files.volley([9.0, 9.0], 9.0)]
    _, _, warnings = summarise(rows)
    mean, pooled = (9 * 2 * 60 + int(round(2 / 9, 2) * 60)) / 10, 20 / 18 * 60
    assert warnings["mean_of_rates"].rows == [
        f"llama-g5, short, concurrency 2: {mean:.1f} a minute for {pooled:.1f}, {mean / pooled:.2f} times"
    ]
    assert f"by up to {mean / pooled:.2f} times" in warnings["mean_of_rates"].message


def test_a_volley_that_lasted_longer_than_its_latencies_together(summarise):
    rows = [files.volley([1.0, 1.0], 1.1, prompt=300 + i) for i in range(5)] + [files.volley([1.0, 1.0], 3.0)]
    _, _, warnings = summarise(rows)
    assert warnings["client_gap"].rows == ["llama-g5, short, concurrency 2: 3.0 s for 2.0 s"]


def test_a_run_without_groups_has_no_warnings(tmp_path):
    files.write_json(tmp_path / "v.json", files.vllm(files.closed_loop(4, 30)))
    config = load_config(files.write_config(tmp_path, files.option("a", "vllm", "v.json")))
    _, run = open_run(str(config.path), new=True)
    write_results(read_results(config), config.benchmark, run)
    assert group_warnings(read_groups(run), summarise_groups(run, [], config.benchmark), config.benchmark) == []
