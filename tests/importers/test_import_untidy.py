"""Result files as they are found: of each format, whole and damaged, what a reader is shown or refused with."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import result_files as files
from conftest import thorough
from rendered import Rendered, import_and_render

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import load_config
from helpers.errors import ConfigError, ResultFileError
from helpers.importers.importing import import_warnings, read_results, write_results
from helpers.run.folder import open_run
from helpers.verdict.analysis import read_measurements
from helpers.verdict.judging import judge

CASES = PROJECT_ROOT.parent / "shared" / "cases" / "results"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"the inputs are not in {CASES}")
SENT = [replace(one, failed=i % 25 == 7) for i, one in enumerate(files.closed_loop(4, 50))]
VOLLEYS = [files.volley([0.5 + 0.01 * i] * 3, 0.9, prompt=300 + i, failures=int(i % 9 == 4)) for i in range(60)]
REQUESTS = [files.fmbench_request(None if i == 5 else 0.4 + i / 999, prompt=200 + i) for i in range(240)]
ANY_LEVEL = {"kind": "search", "over": "concurrency", "highest": 64}


def without(values: dict, *keys: str) -> dict:
    return {key: value for key, value in values.items() if key not in keys}


def aiperf_details(sent: list[files.Sent]) -> dict:
    """The statistics of AIPerf 0.13 with its two counts of output tokens."""
    statistics = files.aiperf_statistics(sent)
    statistics["total_usage_completion_tokens"] = {"unit": "tokens", "avg": statistics["total_osl"]["avg"] / 2}
    return statistics


FORMATS: dict[str, tuple[str, list[dict]]] = {
    "vllm": ("vllm", [files.vllm(SENT)]),
    "vllm statistics": ("vllm", [files.vllm(SENT, detailed=False)]),
    "vllm without latency": (
        "vllm",
        [without(files.vllm(SENT, detailed=False), "mean_e2el_ms", "p95_e2el_ms", "p99_e2el_ms")],
    ),
    "vllm without a duration": ("vllm", [files.vllm(SENT, detailed=False, duration=0)]),
    "vllm in one wave": ("vllm", [files.vllm(files.closed_loop(40, 1), max_concurrency=40)]),
    "guidellm": (
        "guidellm",
        [files.guidellm_report(files.guidellm_benchmark(SENT, {"type_": "concurrent", "streams": 4}))],
    ),
    "guidellm sample": (
        "guidellm",
        [files.guidellm_report(files.guidellm_benchmark(SENT, {"type_": "concurrent", "streams": 4}, listed=10))],
    ),
    "aiperf": ("aiperf", [json.loads(line) for line in files.aiperf_records(SENT).splitlines()]),
    "aiperf statistics": ("aiperf", [aiperf_details(SENT)]),
    "fmbench_volleys": ("fmbench_volleys", VOLLEYS),
    "fmbench_requests": ("fmbench_requests", REQUESTS),
}
"""Name -> format, and the objects or rows of its file."""
FORMS = ("vllm", "guidellm", "aiperf statistics", "fmbench_volleys")
"""One of each tool."""


def in_turn(*of_the_kind: str) -> list:
    """All formats, of which `make test-thorough` takes these."""
    return [*(name for name in FORMATS if name not in of_the_kind), *thorough(*of_the_kind)]


def written(folder: Path, form: str, contents: list[dict]) -> dict:
    """The option that reads these objects or rows."""
    if form.startswith("fmbench"):
        name = "results.csv"
        files.write_csv(folder / name, contents)
    else:
        name = "results.jsonl" if "metadata" in contents[0] and "metrics" in contents[0] else "results.json"
        files.write_json(folder / name, *contents)
    entry = {"path": name, "level": 4} if name.endswith("l") else name
    return files.option("a", form, [entry], model="the model")


def config_of(folder: Path, *options: dict, **sections: object):
    return load_config(files.write_config(folder, *options, **{"load": ANY_LEVEL, **sections}))


# --- every format is judged and drawn -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Name of a format -> what its report shows."""
    known: dict[str, Rendered] = {}

    def of(name: str) -> Rendered:
        if name not in known:
            folder = tmp_path_factory.mktemp("format")
            known[name] = import_and_render(config_of(folder, written(folder, *FORMATS[name])))
        return known[name]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("name", in_turn("vllm statistics", "vllm without latency", "guidellm", "aiperf"))
def test_each_format_is_judged_its_tables_written_and_its_figures_drawn(shown, name):
    seen = shown(name)
    assert seen.option.status in ("recommended", "unpriced", "undecided")
    assert seen.option.reason in seen.text.replace("\\", "")
    assert "Every load point." in seen.text and "Every option" in seen.text
    assert "Nothing was measured here" in seen.text
    drawn = {path.stem for path in seen.run.figures.glob("*.svg")}
    has_latency, has_rate = name != "vllm without latency", name not in ("vllm without a duration", "fmbench_requests")
    assert ("load_vs_latency" in drawn) == has_latency
    assert ("load_vs_throughput" in drawn) == has_rate
    assert ("price_performance" in drawn) == (has_latency and has_rate)


def test_without_throughput_there_is_a_verdict_without_price(shown):
    option = shown("fmbench_requests").option
    assert (option.status, option.reason) == (
        "unpriced",
        "meets the SLO, but its throughput, and so its price, are unknown",
    )
    assert (option.cost, option.capacity, option.points[0].requests_per_s) == (None, None, None)
    assert option.points[0].latency_s is not None
    assert "There is no figure of throughput against the load" in shown("fmbench_requests").text


def test_a_file_without_latency_says_so_and_which_option_of_the_tool_adds_it(shown):
    reason = shown("vllm without latency").option.reason
    assert "the file does not hold latency: `--percentile-metrics ttft,tpot,itl,e2el` or `--save-detailed`" in reason
    assert reason.endswith("of `vllm bench serve` adds it"), "more requests would tell no more of it"


def test_one_wave_is_one_group_and_a_volley(shown):
    seen = shown("vllm in one wave")
    assert (seen.option.status, seen.option.points[0].n) == ("recommended", 40)
    assert "not every stream answered twice" in seen.warnings("imported")
    assert "a: 1 volley at concurrency 40" in seen.warnings("volleys")


# --- damaged files ------------------------------------------------------------------------------------------------

MUTATIONS = 12
WRONG = (
    None,
    "x",
    [],
    {},
    [None],
    float("nan"),
    float("inf"),
    -1,
    -0.5,
    True,
    10**400,
    1e300,
    "1" * 400,
    [[]],
    "\ud800",
)


def damaged(contents: list[dict], draw: random.Random) -> tuple[list[dict], str]:
    """The objects with one value lost or replaced, at any depth."""
    contents = copy.deepcopy(contents)
    place: dict | list = contents[draw.randrange(len(contents))]
    steps = []
    while True:
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        steps.append(str(key))
        if isinstance(place[key], dict | list) and place[key] and draw.random() < 0.8:
            place = place[key]
            continue
        if isinstance(place, dict) and draw.random() < 0.2:
            del place[key]
            return contents, f"{'.'.join(steps)} is lost"
        place[key] = draw.choice(WRONG)
        return contents, f"{'.'.join(steps)} = {str(place[key])[:20]}"


def outcome(config) -> str:
    """The message of a refusal; else the status that the results are judged with, after all is drawn up."""
    try:
        results = read_results(config)
    except (ConfigError, ResultFileError) as error:
        return str(error)
    _, run = open_run(str(config.path), new=True)
    write_results(results, config.benchmark, run)
    measured = read_measurements(config.benchmark, run)
    return judge(measured.points, measured.endpoints, measured.warnings, config.benchmark, run.run_id).options[0].status


def assert_right(said: str, what: str) -> None:
    """A status, or one line with the place and the next step."""
    if said in ("recommended", "unpriced", "undecided", "infeasible", "failed", "incomplete"):
        return
    assert "\n" not in said, what
    assert re.match(r"\S*(results|imported)\S*:", said), (what, said)
    assert "Next: " in said and len(said) < 900, (what, said)


@pytest.mark.slow
@pytest.mark.parametrize("name", in_turn(*(name for name in FORMATS if name not in FORMS)))
def test_a_damaged_value_is_refused_in_one_line_or_judged(tmp_path, name):
    form, contents = FORMATS[name]
    draw = random.Random(name)
    for i in range(MUTATIONS):
        folder = tmp_path / str(i)
        folder.mkdir()
        broken, what = damaged(contents, draw)
        if form.startswith("fmbench"):
            columns = dict.fromkeys(key for row in contents for key in row)
            broken = [{key: row.get(key, "") for key in columns} for row in broken]
            broken = json.loads(json.dumps(broken).replace("\\ud800", ""))
        assert_right(outcome(config_of(folder, written(folder, form, broken))), what)


@pytest.mark.parametrize("name", ["vllm", "guidellm", "aiperf", "fmbench_volleys", "fmbench_requests"])
def test_a_file_cut_anywhere_is_refused_or_judged(tmp_path, name):
    form, contents = FORMATS[name]
    option = written(tmp_path, form, contents)
    (path,) = tmp_path.glob("results.*")
    whole, draw = path.read_bytes(), random.Random(name)
    for at in draw.sample(range(1, len(whole)), 15):
        path.write_bytes(whole[:at])
        assert_right(outcome(config_of(tmp_path, option)), f"cut at {at}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\xff\xfe{\x00}\x00",
            r"results.json:1: not UTF-8: byte 0xff. Expected text in UTF-8. .*iconv -f UTF-16 -t UTF-8",
        ),
        (b'{"a": 1,\n"model_id": "caf\xe9"}', r"results.json:2: not UTF-8: byte 0xe9.*iconv -f LATIN1"),
        (b'{"a": ' + b"[" * 100_000, r"results.json:1: not valid JSON: brackets are nested"),
        (b'{"completed": ' + b"1" * 5000 + b"}", r"results.json:1: not valid JSON: a number of more than 4,300 digits"),
        (b'{"duration": 1, "completed"', r"results.json:1: not valid JSON: .*, found the end of the text"),
        (b'{"duration": 1, "completed": oops}', r"results.json:1: not valid JSON: Expecting value, found 'oops}'"),
    ],
)
def test_text_that_is_not_what_it_should_be(tmp_path, content, message):
    (tmp_path / "results.json").write_bytes(content)
    said = outcome(config_of(tmp_path, files.option("a", "vllm", "results.json")))
    assert re.match(message, said), said
    assert_right(said, message)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / "results.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(files.vllm(SENT)).encode())
    assert outcome(config_of(tmp_path, files.option("a", "vllm", "results.json"))) == "recommended"


def test_a_row_that_was_cut_is_refused(tmp_path):
    option = written(tmp_path, "fmbench_volleys", VOLLEYS)
    path = tmp_path / "results.csv"
    path.write_text(path.read_text().rstrip().rpartition(",")[0])
    said = outcome(config_of(tmp_path, option))
    assert said.startswith(
        "results.csv:61: holds 18 cells, the header 19. Expected one per column. Next: the file was cut"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"completed": -3}, "completed: bad value -3. Expected a number from 0"),
        ({"completed": 7.5}, "completed: bad value 7.5. Expected a whole number"),
        ({"duration": float("nan")}, "duration: there is no value but nan. Expected a number"),
        ({"duration": True}, "duration: bad value True. Expected a number"),
        ({"p95_e2el_ms": 900.0, "p99_e2el_ms": 500.0}, "p99 of latency is 0.5 s, a lower one 0.9 s"),
        ({"failed": 10**12}, "1000000000000 of 1000000000192 requests failed"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_place(tmp_path, change, message):
    option = written(tmp_path, "vllm", [files.vllm(SENT, detailed=False, **change)])
    said = outcome(config_of(tmp_path, option))
    assert said.startswith(f"results.json:1: {message}"), said


def test_an_answer_that_ends_before_it_was_sent_is_refused(tmp_path):
    records = copy.deepcopy(FORMATS["aiperf"][1])
    records[3]["metadata"]["request_end_ns"] -= 10_000_000_000
    said = outcome(config_of(tmp_path, written(tmp_path, "aiperf", records)))
    assert re.match(
        r"results.jsonl: request 4: the end lies 10 s before the last token\. Expected values that agree", said
    )


@pytest.mark.parametrize(
    ("changes", "in_flight"),
    [
        ({"mean_e2el_ms": 0.48, "p95_e2el_ms": 0.6, "p99_e2el_ms": 0.6}, "0.003866"),
        ({"mean_e2el_ms": 480e3, "p95_e2el_ms": 600e3, "p99_e2el_ms": 600e3}, "3,866"),
        ({"duration": 25e3}, "0.003686"),
        ({"max_concurrency": 2}, "3.866"),
    ],
)
def test_a_latency_a_time_or_a_concurrency_in_another_unit_is_refused(tmp_path, changes, in_flight):
    """A latency of 0.48 s at a concurrency of 4, so that each file says something that cannot be."""
    result = files.vllm(
        SENT, detailed=False, **{"duration": 23.84, "mean_e2el_ms": 480.0, "p99_ttft_ms": 0.1} | changes
    )
    said = outcome(config_of(tmp_path, written(tmp_path, "vllm", [result])))
    level = changes.get("max_concurrency", 4)
    assert f"requests were in flight on average, at a concurrency of {level}: one of the three is wrong" in said
    assert f"its time {in_flight} requests" in said


def test_a_first_token_after_the_end_is_refused(tmp_path):
    result = files.vllm(SENT, detailed=False, p99_ttft_ms=12e3)
    assert "p99 of ttft is 12 s, of latency 0.6 s" in outcome(config_of(tmp_path, written(tmp_path, "vllm", [result])))


# --- the files that were found ------------------------------------------------------------------------------------


@needs_cases
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bom.json", "undecided"),
        ("g_bench_null.json", r"benchmarks\[0\]: bad value None. Expected an object"),
        ("latin1.json", "not UTF-8: byte 0xe9"),
        ("utf16.json", "not UTF-8: byte 0xff"),
        ("vllm_det_itl_str.json", r"itls\[0\]: bad value 'x'. Expected a list of numbers"),
        ("vllm_det_nan_start.json", r"start_times\[0\]: bad value nan. Expected a number"),
        ("vllm_det_nan_ttft.json", r"ttfts\[0\]: bad value nan"),
        ("vllm_det_negative_itl.json", r"itls\[0\]\[0\]: bad value -0.5. Expected a number from 0"),
        ("vllm_huge_int.json", r"completed: bad value 1000\d+\.\.\.\d+. Expected a number"),
        ("vllm_negative.json", "completed: bad value -3"),
        ("vllm_one_wave.json", "recommended"),
        ("vllm_zero_duration.json", "undecided"),
    ],
)
def test_files_that_were_found(tmp_path, name, said):
    form = "guidellm" if name.startswith("g_") else "vllm"
    result = outcome(config_of(tmp_path, files.option("a", form, str(CASES / name))))
    assert re.search(said, result), result
    assert_right(result.replace(str(CASES / name), "results.json"), name)


@needs_cases
@pytest.mark.parametrize(
    ("name", "echoed"), [("f_echo_with_failures.csv", True), ("f_one_prompt_with_failures.csv", False)]
)
def test_volleys_with_failures_that_were_found(tmp_path, name, echoed):
    """3 or 4 of 4 prompts of 3,478 tokens answered with 28 tokens each, in volleys of 8 s at $37.688 an hour."""
    option = files.option(
        "a", "fmbench_volleys", str(CASES / name), instance_type="ml.p4d.24xlarge", price={"usd_per_hour": 37.688}
    )
    config = config_of(
        tmp_path,
        option,
        generation={"max_output_tokens": 100},
        datasets=[{"name": "en_3000-4000", "prompt_tokens": [1, 4000]}],
    )
    seen = import_and_render(config)
    (row,) = pd.read_csv(seen.run.metrics / "load_points.csv").to_dict("records")
    assert (row["prompt_tokens_mean"], row["output_tokens_mean"]) == (3478, 28)
    answered = row["n"] - row["failures"]
    assert row["usd_per_1m_input_tokens"] == pytest.approx(37.688 * row["window_s"] / 3600 / (answered * 3478) * 1e6)
    assert bool(seen.warnings("echoed_prompt")) == echoed
    assert "All prompts of a dataset have the same length" in seen.warnings("one_prompt")


# --- whose model is it? -------------------------------------------------------------------------------------------


def warnings_of(config) -> dict[str, list[str]]:
    results = read_results(config)
    _, run = open_run(str(config.path), new=True)
    write_results(results, config.benchmark, run)
    found = read_measurements(config.benchmark, run).warnings
    assert import_warnings(run)[0] in found
    return {warning.kind: warning.rows for warning in found}


def volleys_of(folder: Path, **columns: str) -> list[dict]:
    """Two options of one table; each keyword is a column with the value of each, separated by a blank."""
    names = {"b": 1, "a": 0}
    rows = [{**row, "experiment_name": name, **{key: value.split()[i] for key, value in columns.items()}}
            for name, i in names.items() for row in VOLLEYS]  # fmt: skip
    files.write_csv(folder / "m.csv", rows)
    return [files.option(name, "fmbench_volleys", "m.csv", select={"experiment_name": name}) for name in names]


def test_the_name_of_a_deployment_shows_neither_the_same_model_nor_different_ones(tmp_path):
    same = warnings_of(config_of(tmp_path, *volleys_of(tmp_path, ModelName="tgi-inference tgi-inference")))
    assert "different_models" not in same
    assert same["unknown_model"] == [f"{name}: the deployment is called tgi-inference" for name in ("b", "a")]
    other = warnings_of(config_of(tmp_path, *volleys_of(tmp_path, ModelName="one-name another-name")))
    assert "different_models" not in other


@pytest.mark.parametrize(("ids", "differ"), [("meta/13b meta/70b", True), ("meta/13b meta/13b", False)])
def test_a_models_id_in_the_containers_environment_counts(tmp_path, ids, differ):
    found = warnings_of(config_of(tmp_path, *volleys_of(tmp_path, ModelName="tgi tgi", HF_MODEL_ID=ids)))
    assert ("different_models" in found) == differ
    assert "unknown_model" not in found


def test_a_folder_of_the_container_is_no_models_id(tmp_path):
    found = warnings_of(
        config_of(tmp_path, *volleys_of(tmp_path, ModelName="a b", HF_MODEL_ID="/opt/ml/model /opt/ml/model"))
    )
    assert len(found["unknown_model"]) == 2


@pytest.mark.parametrize("form", ["vllm", "guidellm", "aiperf", "fmbench_volleys", "two files"])
def test_two_models_in_one_option_are_refused_unless_the_config_says_that_they_are_one(tmp_path, form):
    names, path = ("org/one", "org/two"), "results.json"
    if form == "vllm":
        files.write_json(tmp_path / path, *(files.vllm(SENT, model_id=name) for name in names))
    elif form == "guidellm":
        parts = [files.guidellm_benchmark(SENT, {"type_": "concurrent", "streams": 4}) for _ in names]
        for part, name in zip(parts, names, strict=True):
            part["config"]["backend"]["model"] = name
        files.write_json(tmp_path / path, files.guidellm_report(*parts))
    elif form == "aiperf":
        models = {"models": {"items": [{"name": name} for name in names]}}
        files.write_json(
            tmp_path / path, files.aiperf_statistics(SENT) | {"input_config": {**models, "loadgen": {"concurrency": 4}}}
        )
    elif form == "two files":
        path = "v*.json"
        for name in names:
            files.write_json(tmp_path / f"v{name[-3:]}.json", files.vllm(SENT, model_id=name))
    else:
        path = "m.csv"
        files.write_csv(tmp_path / path, [{**row, "HF_MODEL_ID": names[i % 2]} for i, row in enumerate(VOLLEYS)])
    option = files.option("a", "vllm" if form == "two files" else form, path)
    said = outcome(config_of(tmp_path, option))
    assert "model: holds 2 models: 'org/one', 'org/two'. Expected one per option. Next: make an option of each" in said
    assert outcome(config_of(tmp_path, {**option, "model": "one model"})) in ("recommended", "undecided", "infeasible")


def test_the_model_is_read_where_aiperf_writes_it_since_0_10(tmp_path):
    statistics = files.aiperf_statistics(SENT)
    statistics["input_config"] = {
        "models": {"items": [{"name": "org/one"}]},
        "phases": [{"name": "profiling", "concurrency": 4}],
    }
    files.write_json(tmp_path / "results.json", statistics)
    (read,) = read_results(config_of(tmp_path, files.option("a", "aiperf", "results.json")))
    assert read.served.model == "org/one"


# --- AIPerf's plans and counts ------------------------------------------------------------------------------------


def cancelled(records: list[dict], every: int) -> list[dict]:
    """AIPerf's records of a run that was to cancel requests 0.05 s after they were sent."""
    records = copy.deepcopy(records)
    for record in records[::every]:
        record["metadata"] |= {
            "was_cancelled": True,
            "request_end_ns": record["metadata"]["request_start_ns"] + 50_000_000,
        }
        message = "Request cancelled 0.050s after being sent"
        record |= {"metrics": {}, "error": {"code": 499, "type": "RequestCancellationError", "message": message}}
    return records


def test_a_cancellation_by_plan_is_neither_the_end_nor_a_failure(tmp_path):
    sent = files.closed_loop(4, 50)
    records = cancelled([json.loads(line) for line in files.aiperf_records(sent).splitlines()], 8)
    seen = import_and_render(config_of(tmp_path, written(tmp_path, "aiperf", records)))
    assert (seen.option.status, seen.option.points[0].n > 150) == ("recommended", True)
    assert "25 requests that AIPerf cancelled by plan, which were neither answered nor failed" in seen.warnings(
        "imported"
    )
    assert seen.warnings("errors") == ""


def test_cancellations_by_plan_are_no_errors_of_the_statistics(tmp_path):
    statistics = files.aiperf_statistics(files.closed_loop(4, 50))
    statistics["error_request_count"] = {"unit": "requests", "avg": 17.0}
    details = {"code": 499, "type": "RequestCancellationError", "message": "Request cancelled 0.050s after being sent"}
    other = {"code": 503, "type": "Service Unavailable", "message": "no"}
    statistics["error_summary"] = [{"error_details": details, "count": 15}, {"error_details": other, "count": 2}]
    seen = import_and_render(config_of(tmp_path, written(tmp_path, "aiperf", [statistics])))
    assert "15 requests that AIPerf cancelled by plan" in seen.warnings("imported")
    assert "2 of 202" in seen.warnings("errors")


def test_two_counts_of_the_same_tokens_are_compared(tmp_path, shown):
    words = "a: 3,840 by the tool's tokenizer, 1,920 by the server; by the server's count the price per output token is 2.00"
    assert words in shown("aiperf statistics").warnings("token_counts")
    records = [json.loads(line) for line in files.aiperf_records(files.closed_loop(4, 50)).splitlines()]
    for record in records:
        record["metrics"]["usage_completion_tokens"] = {"value": 10, "unit": "tokens"}
    seen = import_and_render(config_of(tmp_path, written(tmp_path, "aiperf", records)))
    assert "4,000 by the tool's tokenizer, 2,000 by the server" in seen.warnings("token_counts")
    assert "who counted the tokens" not in seen.warnings("imported")


# --- what many failures and many load points do -------------------------------------------------------------------


def test_failed_load_points_stretch_no_axis_and_are_marked(tmp_path):
    levels = {2: 0.0, 4: 0.0, 8: 0.9, 16: 0.95, 32: 0.95}
    for level, share in levels.items():
        sent = files.closed_loop(level, 40)
        failed = [replace(one, failed=i % 100 < 100 * share) for i, one in enumerate(sent)]
        files.write_json(tmp_path / f"v{level:02}.json", files.vllm(failed, max_concurrency=level))
    seen = import_and_render(config_of(tmp_path, files.option("a", "vllm", "v*.json")))
    assert "With a plus: more requests failed than the limit allows" in seen.text
    assert 'id="sign +' in seen.figure("load_vs_throughput")
    assert "Errors are the cause, not latency: more than 0.1 of the requests failed" in seen.warnings(
        "errors_hide_tail"
    )


def test_long_lists_of_rows_are_counted_with_the_worst_first(tmp_path):
    for level in range(2, 10):
        sent = [replace(one, failed=i % 30 < level) for i, one in enumerate(files.closed_loop(level, 30))]
        files.write_json(tmp_path / f"v{level:02}.json", files.vllm(sent, max_concurrency=level))
    seen = import_and_render(config_of(tmp_path, files.option("opt a", "vllm", "v*.json")))
    rows = seen.warnings("errors").splitlines()[1:]
    assert len(rows) == 8 and rows[0].startswith("opt a, short, concurrency 9: ")
    shown = seen.text.split("Requests failed; they count as infinitely slow.")[1].split("**")[1]
    assert all(row in shown for row in rows[:3]) and rows[3] not in shown
    assert "and 5 more: 5 of opt a (all: verdict.json, warnings)" in shown


def test_the_status_within_guidellms_words_counts(tmp_path):
    report = copy.deepcopy(FORMATS["guidellm"][1][0])
    words = "HTTPStatusError(\"Server error '503 Service Unavailable' for url 'http://h/v1/chat/completions'\")"
    for one in report["benchmarks"][0]["requests"]["errored"]:
        one["info"]["error"] = words
    (read,) = read_results(config_of(tmp_path, written(tmp_path, "guidellm", [report])))
    failed = [request for request in read.points[0][1].requests if request.error_type]
    assert {request.http_status for request in failed} == {503} and len(failed) == 8


# --- are the docs' commands those of the tools? -------------------------------------------------------------------


@pytest.mark.parametrize("command", ["vllm bench serve"])
def test_the_commands_of_the_docs_have_the_options_of_the_tool(command):
    """Asks the tool where one is installed. Those that install in seconds are run in test_tools.py."""
    docs = (PROJECT_ROOT / "docs" / "import.md").read_text(encoding="utf-8")
    (text,) = re.findall(rf"^    ({command} (?:.*\\\n)*.*)", docs, re.MULTILINE)
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command.split()[0]} is not installed here")
    helped = subprocess.run([*command.split(), "--help"], capture_output=True, text=True, timeout=120).stdout
    options = re.findall(r"--[a-z-]+", text)
    assert options
    assert [option for option in options if option not in helped] == []
