"""Options with a matrix: which options it makes, and what is said of a faulty one."""

import json
import re

import jsonschema
import pytest
import yaml
from config_text import TEXT

from helpers.config.file import config_schema, load_config
from helpers.config.matrix import MOST_COMBINATIONS, MOST_OPTIONS
from helpers.errors import ConfigError
from helpers.report.plan_report import plan_table
from helpers.run.folder import open_run
from helpers.run.measured_config import refuse_other_measurement

OPTION = """\
  - name: Qwen
    target: sagemaker
    instance_type: ml.g6e.12xlarge
    container: {kind: vllm, model_id: Qwen/Qwen3-32B, tensor_parallel_degree: 4, max_model_tokens: 4096}
    price: {usd_per_hour: 10}
    matrix:
"""
AXES = "{container.max_batch: [8, 32], container.quantization: [null, fp8]}"


@pytest.fixture
def write(tmp_path):
    """Writes a config whose only option has this matrix, as flow YAML; returns its path."""

    def put(matrix, option=OPTION, extra=""):
        head, rest = TEXT.split("options:\n")
        tail = rest[rest.index("load:") :]
        path = tmp_path / "config.yml"
        path.write_text(f"{head}options:\n{option.rstrip()} {matrix}\n{tail}{extra}", encoding="utf-8")
        return path

    return put


def options(path):
    return load_config(path).benchmark.options


def told(path):
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    return str(refused.value).replace(f"{path}:", "").splitlines()


# --- what it makes ------------------------------------------------------------------------------------------------


def test_each_combination_is_an_option_with_its_values_and_a_name_made_of_them(write):
    made = options(write(AXES))
    assert [(o.name, o.container.max_batch, o.container.quantization) for o in made] == [
        ("Qwen, max_batch 8, default quantization", 8, None),
        ("Qwen, max_batch 8, fp8", 8, "fp8"),
        ("Qwen, max_batch 32, default quantization", 32, None),
        ("Qwen, max_batch 32, fp8", 32, "fp8"),
    ]
    assert {o.container.tensor_parallel_degree for o in made} == {4}
    assert made[1].from_matrix.option == "Qwen"
    assert made[1].from_matrix.settings == {"container.max_batch": "8", "container.quantization": "fp8"}


def test_excluded_combinations_are_left_out(write):
    made = options(write(AXES[:-1] + ", except: [{container.max_batch: 32, container.quantization: fp8}]}"))
    assert [o.name.removeprefix("Qwen, ") for o in made] == [
        "max_batch 8, default quantization",
        "max_batch 8, fp8",
        "max_batch 32, default quantization",
    ]
    made = options(write(AXES[:-1] + ", except: [{container.quantization: null}]}"))
    assert [o.name for o in made] == ["Qwen, max_batch 8, fp8", "Qwen, max_batch 32, fp8"]


def test_any_key_path_of_the_option_may_vary(write):
    axes = (
        "{instance_type: [ml.g6e.12xlarge, ml.g5.12xlarge], price.usd_per_hour: [1, 2.5], "
        "container.environment.X: [on, '1'], extra_body.top_k: [5]}"
    )
    made = options(write(axes))
    assert len(made) == 8
    last = made[-1]
    assert (last.instance_type, last.price.usd_per_hour, last.extra_body) == ("ml.g5.12xlarge", 2.5, {"top_k": 5})
    assert [o.container.environment["X"] for o in made[:2]] == ["on", "1"]
    assert last.name == "Qwen, ml.g5.12xlarge, usd_per_hour 2.5, X 1, top_k 5"


def test_a_section_that_the_option_lacks_is_made(write):
    option = OPTION.replace("price: {usd_per_hour: 10}", "price: null")
    assert [o.price.usd_per_hour for o in options(write("{price.usd_per_hour: [1, 2]}", option))] == [1, 2]


def test_text_that_two_settings_share_is_named_with_its_setting(write):
    made = options(write("{container.dtype: [auto, half], container.quantization: [auto, fp8]}"))
    assert [o.name.removeprefix("Qwen, ") for o in made] == [
        "dtype auto, quantization auto",
        "dtype auto, fp8",
        "half, quantization auto",
        "half, fp8",
    ]


def test_option_defaults_give_each_option_a_matrix_and_an_extending_file_changes_it(write, tmp_path):
    (tmp_path / "near.yml").write_text(
        "extends: config.yml\noption_defaults: {matrix: {container.max_batch: [8, 16, 32]}}\n"
        "options:\n  - &one {name: one, target: sagemaker, instance_type: ml.g6e.12xlarge, price: {usd_per_hour: 1}, "
        "container: {kind: vllm, model_id: m, active_parameters_b: 1, weight_bits: 16}}\n  - {<<: *one, name: two}\n"
        "  - {<<: *one, name: alone, matrix: null}\n"
    )
    write(AXES)
    names = [o.name for o in options(tmp_path / "near.yml")]
    assert names == [f"{one}, max_batch {n}" for one in ("one", "two") for n in (8, 16, 32)] + ["alone"]


def test_a_variable_of_the_environment_may_be_a_value_and_only_its_name_is_shown(write, monkeypatch):
    monkeypatch.setenv("WHERE", "ml.g5.12xlarge")
    loaded = load_config(write("{instance_type: ['${WHERE}', ml.g6e.12xlarge]}"))
    assert [(o.name, o.instance_type) for o in loaded.benchmark.options] == [
        ("Qwen, WHERE", "ml.g5.12xlarge"),
        ("Qwen, ml.g6e.12xlarge", "ml.g6e.12xlarge"),
    ]
    assert "ml.g5.12xlarge" not in loaded.public_yaml()


def test_the_run_folder_has_the_options_that_were_made_and_reads_the_same(write):
    path = write(AXES, extra="run_root: runs\n")
    config, run = open_run(str(path), new=True)
    written = yaml.safe_load((run.path / "config.yml").read_text())
    assert [o["name"] for o in written["options"]] == [o.name for o in config.benchmark.options]
    assert all("matrix" not in o for o in written["options"])
    assert load_config(run.path / "config.yml").benchmark == config.benchmark
    refuse_other_measurement(config, run)
    # the same options, written out one by one, are the same measurement
    for each in written["options"]:
        del each["from_matrix"]
    path.write_text(yaml.safe_dump(written))
    refuse_other_measurement(load_config(path), run)


def test_without_a_matrix_nothing_is_written_about_one(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(TEXT)
    assert "matrix" not in load_config(path).public_yaml()


def test_the_plan_says_how_many_options_a_matrix_makes_and_what_they_cost(write):
    path = write(AXES)
    table = plan_table(load_config(path).benchmark)
    total = sum(table.rows["usd"])
    assert len(table.rows) == 4
    assert f"The matrix of 'Qwen' makes 4 options, ${total:,.2f} of it." in table.caption


def test_the_schema_knows_a_matrix_in_options_and_in_their_defaults(write):
    validator = jsonschema.Draft202012Validator(json.loads(config_schema()))
    data = yaml.safe_load(write(AXES).read_text())
    data["option_defaults"] = {"matrix": {"container.max_batch": [8], "max_options": 3}}
    assert not list(validator.iter_errors(data))
    for bad in ({"container.max_batch": 8}, {"a": []}, {"a": [[1]]}, {"a": [1], "max_options": "x"}):
        data["options"][0]["matrix"] = bad
        assert list(validator.iter_errors(data)), bad


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrix", "key", "words"),
    [
        ("[1]", "matrix", "bad value [1]. Expected settings with a list"),
        ("{max_options: 3}", "matrix", "Expected settings with a list"),
        ("{container.max_batch: 8}", "matrix.container.max_batch", "bad value 8. Expected a list"),
        ("{container.max_batch: []}", "matrix.container.max_batch", "bad value []. Expected a list"),
        ("{container.max_batch: [8, [9]]}", "matrix.container.max_batch[1]", "bad value [9]. Expected a single value"),
        ("{container.max_batch: [8, 8]}", "matrix.container.max_batch[1]", "bad value 8: it would be named like '8'"),
        ("{container.dtype: [A/B, A-B]}", "matrix.container.dtype[1]", "it would be named like 'A-B'"),
        ("{container.dtype: [half, '?']}", "matrix.container.dtype[1]", "bad value '?': it has no letter or digit"),
        ("{container.max_bach: [8, 9]}", "matrix.container.max_bach", "unknown key. Did you mean `max_batch`?"),
        ("{container.max_batch: [8, -1]}", "matrix.container.max_batch", "bad value -1. Expected"),
        ("{container..x: [8]}", "matrix.container..x", "bad key. Expected a setting"),
        ("{name: [a, b]}", "matrix.name", "bad key. Expected a setting"),
        ("{target.x: [a, b]}", "matrix.target.x", "`target` is not a section"),
        ("{container.hf_token: [a, b]}", "matrix.container.hf_token", "a secret cannot be one"),
        ("{container.environment.X: [hf_abcdefghijkl]}", "matrix.container.environment.X[0]", "a secret is written"),
        ("{container: [a], container.dtype: [half]}", "matrix.container", "`container.dtype` is a part of it"),
        ("{container.dtype: [half], max_options: 0}", "matrix.max_options", "bad value 0. Expected a whole number"),
        ("{container.dtype: [half], except: {}}", "matrix.except", "bad value {}. Expected a list of combinations"),
        ("{container.dtype: [half], except: [{}]}", "matrix.except", "Expected a list of combinations"),
        ("{container.dtype: [half], except: [{x: 1}]}", "matrix.except[0].x", "not a setting of this matrix"),
        (
            "{container.dtype: [half, auto], except: [{container.dtype: bf16}]}",
            "matrix.except[0].container.dtype",
            "bad value 'bf16': it excludes nothing. Expected one of: half, auto",
        ),
        ("{container.dtype: [half], except: [{container.dtype: half}]}", "matrix.except", "leaves none"),
        ("{container.dtype: [" + "a" * 90 + "]}", "name", "has 96 characters. Expected at most 80"),
    ],
)
def test_a_fault_is_named_with_its_place_and_the_next_step(write, matrix, key, words):
    lines = told(write(matrix))
    assert len(lines) == 1, lines
    line, at, said = re.fullmatch(r"(\d+): (\S+): (.*)", lines[0]).groups()
    assert at == f"options[0].{key}"
    assert words in said
    assert "Next: " in said
    text = write(matrix).read_text().splitlines()[int(line) - 1]
    assert ("matrix:" in text) if key != "name" else ("name: Qwen" in text)


def test_more_options_than_anybody_expects_are_refused_unless_asked_for(write):
    def of(count, more=""):
        return f"{{container.max_batch: [{', '.join(map(str, range(1, count + 1)))}]{more}}}"

    assert len(options(write(of(MOST_OPTIONS)))) == MOST_OPTIONS
    [line] = told(write(of(MOST_OPTIONS + 1)))
    assert "options[0].matrix: 25 options" in line
    assert "Expected at most 24 (max_options). Next: " in line
    assert len(options(write(of(MOST_OPTIONS + 1, ", max_options: 25")))) == 25
    fewer = of(MOST_OPTIONS + 1, ", except: [{container.max_batch: 1}]")
    assert len(options(write(fewer))) == MOST_OPTIONS
    many = ", ".join(f"extra_body.k{i}: [{', '.join(map(str, range(10)))}]" for i in range(4))
    [line] = told(write(f"{{{many}, max_options: 500}}"))
    assert (
        f"10,000 options, of which each is deployed, measured and paid. Expected at most {MOST_COMBINATIONS:,}" in line
    )


def test_every_faulty_matrix_is_named_and_once(write):
    option = OPTION.replace("matrix:\n", "matrix: {container.dtype: []}\n") + OPTION.replace("Qwen\n", "other\n")
    lines = told(write("{container.dtype: 1}", option))
    assert [line.split(": ")[1] for line in lines] == [f"options[{i}].matrix.container.dtype" for i in (0, 1)]


def test_names_that_other_options_have_are_refused(write):
    option = OPTION.replace("    matrix:\n", "").replace("Qwen\n", "Qwen, max_batch 8\n") + OPTION
    [line] = told(write("{container.max_batch: [8, 9]}", option))
    assert "option names 'Qwen, max_batch 8' and 'Qwen, max_batch 8' give the same file name" in line
    assert "options[1].name" in line
