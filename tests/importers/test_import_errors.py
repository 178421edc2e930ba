"""What a config may say of imported results, and the words where a file is not what it says."""

from __future__ import annotations

import re

import pytest
import result_files as files
import yaml

from helpers.__main__ import main
from helpers.config.file import load_config
from helpers.errors import ConfigError, ResultFileError
from helpers.importers.importing import read_results

MEASURED = {"name": "server", "target": "openai", "base_url": "http://localhost:1/v1", "served_model": "m"}
TWO_DATASETS = [{"name": "short", "prompt_tokens": [1, 500]}, {"name": "long", "prompt_tokens": [400, 900]}]


def rewritten(path, change):
    """The config file with its data changed."""
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def fault_of(path) -> str:
    """The message of a config that is refused, without the name of the file; each fault names its line."""
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    message = str(refused.value)
    assert re.match(rf"{re.escape(str(path))}:\d+: ", message)
    return message.split(": ", 1)[1]


# --- the config ---------------------------------------------------------------------------------------------------


def test_prompts_and_generation_are_not_needed_where_all_is_imported(tmp_path):
    benchmark = load_config(files.write_config(tmp_path, files.option("a", "vllm", "x.json"))).benchmark
    assert benchmark.imported
    assert (benchmark.prompts, benchmark.generation) == (None, None)
    assert [file.path for file in benchmark.options[0].path] == ["x.json"]


@pytest.mark.parametrize("section", ["prompts", "generation"])
def test_prompts_and_generation_are_needed_where_requests_are_sent(tmp_path, section):
    sections = {"prompts": {"source": {"kind": "python_reference"}}, "generation": {"max_output_tokens": 8}}
    path = files.write_config(tmp_path, MEASURED, **{k: v for k, v in sections.items() if k != section})
    assert fault_of(path) == f"{section}: this key is required. Next: add it"


def test_imported_and_measured_options_do_not_mix(tmp_path):
    path = files.write_config(tmp_path, MEASURED, files.option("a", "vllm", "x.json"))
    assert fault_of(path).startswith(
        "options[1].target: imported and measured options cannot be in one config. Expected "
    )
    assert (
        path.read_text().splitlines()[int(re.search(r":(\d+):", str(_refused(path)))[1]) - 1].strip()
        == "target: imported"
    )


def _refused(path):
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    return refused.value


def test_few_prompts_do_not_matter_where_none_is_sent(tmp_path):
    load = {"kind": "closed_loop", "concurrency": [4096], "min_requests": 5000}
    load_config(files.write_config(tmp_path, files.option("a", "vllm", "x.json"), load=load))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": "guidelm"},
            "options[0].format: bad value 'guidelm'. Expected 'fmbench_volleys', 'fmbench_requests', ",
        ),
        ({"path": []}, "options[0].path: bad value []. Expected "),
        ({"path": {"a": 1}}, "options[0].path: bad value {'a': 1}. Expected a valid list"),
        ({"path": [{"file": "x"}]}, "options[0].path[0].file: unknown key. Expected one of: dataset, level, path"),
        ({"path": [{"path": "x", "level": 0}]}, "options[0].path[0].level: bad value 0. Expected greater than 0"),
        (
            {"path": [{"path": "x", "dataset": "shrt"}]},
            "options[0].path[0].dataset: option 'a' names a dataset that is not under `datasets`: 'shrt'. Did you mean `short`?",
        ),
        (
            {"dataset_names": {"payload_1": "shrt"}},
            "options[0].dataset_names.payload_1: option 'a' names a dataset that is not under `datasets`: 'shrt'.",
        ),
        ({"select": {"column": "x"}}, "options[0]: `select` chooses rows by columns; guidellm files have none."),
        ({"selct": {"column": "x"}}, "options[0].selct: unknown key. Did you mean `select`?"),
    ],
)
def test_a_fault_in_an_imported_option_is_reported_with_line_key_and_value(tmp_path, change, message):
    path = files.write_config(tmp_path, {**files.option("a", "guidellm", "x.json"), **change})
    assert message in fault_of(path)


def test_the_config_of_a_run_can_be_read_back(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS", "folder")
    entries = ["${RESULTS}/a.json", {"path": "b.json", "level": 4}]
    config = load_config(files.write_config(tmp_path, files.option("a", "vllm", entries)))
    again = tmp_path / "again.yml"
    again.write_text(config.public_yaml())
    assert load_config(again).benchmark == config.benchmark


def test_import_wants_imported_options(tmp_path, capsys):
    path = files.write_config(
        tmp_path, MEASURED, prompts={"source": {"kind": "python_reference"}}, generation={"max_output_tokens": 8},
        load={"kind": "closed_loop", "concurrency": [1], "repeat_prompts": True},
    )  # fmt: skip
    assert main(["import", "--config", str(path)]) == 2
    assert (
        "none has `target: imported`. Expected results of another tool. Next: `make report" in capsys.readouterr().err
    )


def test_a_plan_of_imported_results_makes_nothing(tmp_path, capsys):
    path = files.write_config(tmp_path, files.option("a", "vllm", "x.json"))
    assert main(["plan", "--config", str(path)]) == 0
    assert "Nothing would be deployed" in capsys.readouterr().out


# --- the files ----------------------------------------------------------------------------------------------------


def refusal(tmp_path, *options: dict, **sections: object) -> str:
    """What is said of files that cannot be imported; nothing is written then."""
    config = load_config(files.write_config(tmp_path, *options, **sections))
    with pytest.raises((ConfigError, ResultFileError)) as refused:
        read_results(config)
    assert not (tmp_path / "runs").exists()
    return str(refused.value)


def assert_says(message: str, *parts: str) -> None:
    """Where, the bad value, what was expected, and what to do next."""
    for part in (*parts, " Expected ", " Next: "):
        assert part in message, f"{part!r} is not in {message!r}"
    assert message.index(" Expected ") < message.index(" Next: ")


def test_a_file_that_is_not_there(tmp_path):
    message = refusal(tmp_path, files.option("a", "vllm", ["no-*.json"]))
    assert_says(
        message, "imported.yml: options[0].path[0]: no file matches 'no-*.json' in ", "Expected the path of a vllm file"
    )


def test_text_that_is_no_json(tmp_path):
    (tmp_path / "x.json").write_text('{"duration": 1}\n{"duration": }')
    assert_says(refusal(tmp_path, files.option("a", "vllm", "x.json")), "x.json:2: not valid JSON: Expecting value")


@pytest.mark.parametrize("form", ["vllm", "guidellm", "aiperf"])
def test_an_empty_file_and_a_list(tmp_path, form):
    (tmp_path / "x.json").write_text(" \n")
    assert_says(refusal(tmp_path, files.option("a", form, "x.json")), "x.json: is empty.")
    (tmp_path / "x.json").write_text("\n[1]")
    assert_says(refusal(tmp_path, files.option("a", form, "x.json")), "x.json:2: holds a list.")


@pytest.mark.parametrize(
    ("form", "key"), [("vllm", "duration"), ("guidellm", "benchmarks"), ("aiperf", "request_count")]
)
def test_json_of_another_tool(tmp_path, form, key):
    files.write_json(tmp_path / "x.json", {"something": 1})
    assert_says(refusal(tmp_path, files.option("a", form, "x.json")), f"x.json:1: no key '{key}'")


@pytest.mark.parametrize("form", ["fmbench_volleys", "fmbench_requests"])
def test_a_table_of_another_tool(tmp_path, form):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    message = refusal(tmp_path, files.option("a", form, "x.csv"))
    assert_says(message, "x.csv:1: no column 'concurrency'.", "found: a, b.")


def test_a_table_without_rows(tmp_path):
    files.write_csv(tmp_path / "x.csv", [files.volley([1.0], 1.0)])
    (tmp_path / "x.csv").write_text((tmp_path / "x.csv").read_text().splitlines()[0])
    message = refusal(tmp_path, files.option("a", "fmbench_volleys", "x.csv"))
    assert message == "x.csv: holds a header and no rows. Next: correct `path` in the config"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concurrency": "four"}, "x.csv:3: concurrency: bad value 'four'."),
        ({"latency_mean": ""}, "x.csv:3: latency_mean: there is no value."),
        ({"successes": "x"}, "x.csv:3: successes: bad value 'x'."),
    ],
)
def test_a_bad_value_in_a_table_is_reported_with_its_line(tmp_path, change, message):
    files.write_csv(tmp_path / "x.csv", [files.volley([1.0], 1.0), files.volley([1.0], 1.0, **change)])
    assert_says(refusal(tmp_path, files.option("a", "fmbench_volleys", "x.csv")), message)


def test_lines_are_counted_where_cells_hold_several(tmp_path):
    files.write_csv(tmp_path / "x.csv", [files.fmbench_request(1.0), files.fmbench_request("x")])
    assert_says(refusal(tmp_path, files.option("a", "fmbench_requests", "x.csv")), "x.csv:4: latency: bad value 'x'.")


def test_several_experiments_in_one_table(tmp_path):
    rows = [files.volley([1.0], 1.0, experiment_name=name) for name in ("one", "two")]
    files.write_csv(tmp_path / "x.csv", rows)
    message = refusal(tmp_path, files.option("a", "fmbench_volleys", "x.csv"))
    assert_says(
        message,
        "x.csv: experiment_name: holds 2 experiments.",
        "`select: {experiment_name: ...}` with one of: one, two",
    )


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"experiment": "one"}, "select.experiment: no such column."),
        ({"experiment_name": "three"}, "select.experiment_name: no row holds 'three'. Expected one of: one, two."),
    ],
)
def test_a_selection_that_selects_nothing(tmp_path, select, message):
    rows = [files.volley([1.0], 1.0, experiment_name=name) for name in ("one", "two")]
    files.write_csv(tmp_path / "x.csv", rows)
    assert_says(refusal(tmp_path, files.option("a", "fmbench_volleys", "x.csv", select=select)), f"x.csv: {message}")


def test_numbers_are_selected_however_they_are_written(tmp_path):
    files.write_csv(tmp_path / "x.csv", [files.volley([1.0], 1.0), files.volley([1.0, 1.0], 1.0)])
    one = files.option("a", "fmbench_volleys", "x.csv", select={"concurrency": 1.0})
    (read,) = read_results(
        load_config(files.write_config(tmp_path, one, load={"kind": "closed_loop", "concurrency": [1]}))
    )
    assert [point.level.value for point, _ in read.points] == [1]


def test_another_instance_than_was_measured(tmp_path):
    files.write_csv(tmp_path / "x.csv", [files.volley([1.0], 1.0)])
    one = files.option("a", "fmbench_volleys", "x.csv", instance_type="ml.p4d.24xlarge")
    message = refusal(tmp_path, one)
    assert (
        "options[0].instance_type: bad value 'ml.p4d.24xlarge': x.csv was measured on ml.g5.12xlarge. Next: " in message
    )


def test_a_load_that_was_not_held(tmp_path):
    files.write_json(tmp_path / "x.json", files.vllm(files.closed_loop(4, 10), max_concurrency=None))
    message = refusal(tmp_path, files.option("a", "vllm", "x.json"))
    assert_says(
        message,
        "x.json:1: max_concurrency and request_rate: neither is limited",
        "Next: measure with --max-concurrency",
    )


def test_a_load_that_the_file_lacks(tmp_path):
    (tmp_path / "records.jsonl").write_text(files.aiperf_records(files.closed_loop(4, 10)))
    message = refusal(tmp_path, files.option("a", "aiperf", "records.jsonl"))
    assert_says(message, "options[0].path: records.jsonl does not state its load.", "{path: records.jsonl, level: ...}")


def test_a_dataset_that_the_file_lacks(tmp_path):
    files.write_json(tmp_path / "x.json", files.vllm(files.closed_loop(4, 10)))
    message = refusal(tmp_path, files.option("a", "vllm", "x.json"), datasets=TWO_DATASETS)
    assert_says(message, "x.json names no dataset, and the option has 2. Expected one of: short, long.", "dataset: ...")


def test_a_prompt_that_lies_in_two_bins(tmp_path):
    files.write_csv(tmp_path / "r.csv", [files.fmbench_request(1.0, prompt=450)])
    message = refusal(tmp_path, files.option("a", "fmbench_requests", "r.csv"), datasets=TWO_DATASETS)
    assert_says(message, "r.csv:2: prompt_tokens: a prompt of 450 tokens lies in the bins of short and long")


def test_nothing_that_the_config_asks_for(tmp_path):
    files.write_json(tmp_path / "x.json", files.vllm(files.closed_loop(4, 10), max_concurrency=8))
    message = refusal(tmp_path, files.option("a", "vllm", "x.json"))
    assert_says(
        message,
        "options: nothing in the result files fits the config. Expected concurrency 4 on short; found: x.json:1: concurrency 8",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"itls": [[0.1]]}, "x.json:1: itls: holds 1 items, start_times 40."),
        ({"latencies": "all"}, "x.json:1: latencies: bad value 'all'. Expected a list of numbers."),
        ({"start_times": ["x"] * 40}, "x.json:1: start_times[0]: bad value 'x'. Expected a number."),
    ],
)
def test_lists_of_a_detailed_result_that_do_not_fit(tmp_path, change, message):
    files.write_json(tmp_path / "x.json", files.vllm(files.closed_loop(4, 10), **change))
    assert_says(refusal(tmp_path, files.option("a", "vllm", "x.json")), message)


def test_a_unit_that_nobody_knows(tmp_path):
    statistics = files.aiperf_statistics(files.closed_loop(4, 10))
    statistics["request_latency"]["unit"] = "fortnights"
    files.write_json(tmp_path / "x.json", statistics)
    message = refusal(tmp_path, files.option("a", "aiperf", "x.json"))
    assert_says(message, "x.json:1: request_latency: unit: bad value 'fortnights'.")


def test_records_without_times(tmp_path):
    text = files.aiperf_records(files.closed_loop(4, 10)).replace("request_end_ns", "finished_ns")
    (tmp_path / "r.jsonl").write_text(text)
    message = refusal(tmp_path, files.option("a", "aiperf", [{"path": "r.jsonl", "level": 4}]))
    assert_says(message, "r.jsonl:1: metadata.request_end_ns: there is no value.")


def test_an_old_guidellm(tmp_path):
    benchmark = files.guidellm_benchmark(files.closed_loop(4, 10), {})
    files.write_json(tmp_path / "g.json", files.guidellm_report(benchmark))
    message = refusal(tmp_path, files.option("a", "guidellm", "g.json"))
    assert_says(message, "g.json: benchmarks[0]: no key 'config.strategy'.")
