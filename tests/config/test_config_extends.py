"""Configs that share: what a file takes from the one it extends, what options take from their defaults, and where a fault in
either is reported.
"""

import json
import os
import re
from itertools import pairwise

import jsonschema
import pytest
import yaml

from helpers.config.file import config_schema, load_config
from helpers.errors import ConfigError
from helpers.run.folder import new_run, open_run, run_root

SECRET = "s3cr3t-v4lue"
DEFAULTS = """\
model: {name: m, tokenizer: "synthetic:2m", context_tokens: 4096}
prompts: {source: {kind: python_reference}}
datasets:
  - {name: short, prompt_tokens: [1, 500]}
  - {name: long, prompt_tokens: [500, 1000]}
generation: {max_output_tokens: 24}
load:
  kind: closed_loop
  concurrency: [1, 4]
  request_timeout_s: 30
slo:
  percentile: 95
  latency_s: 0.5
traffic: {requests_per_minute: 60}
option_defaults:
  target: sagemaker
  api: openai_chat
  container:
    image: engine
    environment: {THREADS: 1, SEQS: 8}
  price: {source: a list, as_of: 2026-11-01}
"""
CONFIG = """\
extends: defaults.yml
name: test
slo:
  latency_s: 2
options:
  - name: small
    instance_type: ml.c5.large
    price: {usd_per_hour: 0.1}
  - name: large
    instance_type: ml.c5.xlarge
    container: {environment: {THREADS: 4}}
    price: {usd_per_hour: 0.2}
"""


@pytest.fixture
def write(tmp_path):
    """Writes files: name -> text, by default the two above; returns the path of the config."""

    def put(config=CONFIG, defaults=DEFAULTS, **others):
        for name, text in {"config": config, "defaults": defaults, **others}.items():
            (tmp_path / f"{name}.yml").write_text(text, encoding="utf-8")
        return tmp_path / "config.yml"

    return put


def told(path):
    """The lines of the error that a config meets, without the folder."""
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    return str(refused.value).replace(f"{path.parent}{os.sep}", "").splitlines()


def replaced(text, old, new):
    assert text.count(old) == 1, f"{old!r} is not there once"
    return text.replace(old, new)


# --- extends ------------------------------------------------------------------------------------------------------


def test_sections_are_merged_key_by_key_and_the_nearer_file_wins(write):
    benchmark = load_config(write()).benchmark
    assert benchmark.slo.percentile == 95
    assert benchmark.slo.latency_s == 2
    assert benchmark.load.concurrency == [1, 4]


def test_a_list_is_replaced_whole(write):
    config = CONFIG + "datasets: [{name: other, prompt_tokens: [1, 9]}]\nload: {concurrency: [2]}\n"
    benchmark = load_config(write(config)).benchmark
    assert [dataset.name for dataset in benchmark.datasets] == ["other"]
    assert benchmark.load.concurrency == [2]
    assert benchmark.load.request_timeout_s == 30


def test_a_section_of_another_kind_replaces_the_other_whole(write):
    load = load_config(write(CONFIG + "load: {kind: open_loop, rate: [1]}\n")).benchmark.load
    assert load.rate == [1]
    assert load.request_timeout_s == 60


def test_null_takes_a_value_back(write):
    benchmark = load_config(write(CONFIG + "budget_usd: null\n", DEFAULTS + "budget_usd: 5\n")).benchmark
    assert benchmark.budget_usd is None


def test_a_chain_of_files_is_followed_each_relative_to_the_one_that_names_it(write, tmp_path):
    path = write(replaced(CONFIG, "extends: defaults.yml", "extends: shared/middle.yml"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "middle.yml").write_text("extends: ../defaults.yml\nslo: {percentile: 90, latency_s: 9}\n")
    benchmark = load_config(path).benchmark
    assert (benchmark.slo.percentile, benchmark.slo.latency_s) == (90, 2)
    assert benchmark.model.name == "m"


def test_the_whole_config_is_written_into_the_run_folder_and_reads_the_same(write, tmp_path):
    path = write(CONFIG + "run_root: runs\n")
    config, run = open_run(str(path), new=True)
    text = (run.path / "config.yml").read_text()
    assert "extends" not in yaml.safe_load(text)
    assert "option_defaults" not in yaml.safe_load(text)
    alone = tmp_path / "elsewhere.yml"
    alone.write_text(text)
    assert load_config(alone).benchmark == config.benchmark


def test_relative_paths_are_relative_to_the_file_that_is_given(write, tmp_path):
    path = write(replaced(CONFIG, "extends: defaults.yml", "extends: shared/defaults.yml"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "defaults.yml").rename(tmp_path / "shared" / "defaults.yml")
    with (tmp_path / "shared" / "defaults.yml").open("a") as file:
        file.write("run_root: runs\n")
    config = load_config(path)
    assert config.path == path.resolve()
    assert run_root(config) == (tmp_path / "runs").resolve()
    assert new_run(config).path.parent == (tmp_path / "runs").resolve()


def test_the_variables_of_both_files_are_expanded_and_never_shown(write, monkeypatch):
    monkeypatch.setenv("FAR", SECRET + "1")
    monkeypatch.setenv("NEAR", SECRET + "2")
    config = load_config(
        write(
            replaced(CONFIG, "THREADS: 4", "THREADS: 4, NEAR_TOKEN: '${NEAR}'"),
            replaced(DEFAULTS, "SEQS: 8", "FAR_TOKEN: '${FAR}'"),
        )
    )
    small, large = config.benchmark.options
    assert small.container.environment == {"THREADS": "1", "FAR_TOKEN": SECRET + "1"}
    assert large.container.environment == {"THREADS": "4", "FAR_TOKEN": SECRET + "1", "NEAR_TOKEN": SECRET + "2"}
    assert SECRET not in config.public_yaml()
    assert config.public_yaml().count("${FAR}") == 2
    assert SECRET not in repr(config)


def test_a_variable_in_a_value_that_the_nearer_file_replaces_need_not_be_set(write):
    defaults = replaced(DEFAULTS, "latency_s: 0.5", "latency_s: ${NO_SUCH_VARIABLE}")
    assert load_config(write(defaults=defaults)).benchmark.slo.latency_s == 2


def test_an_unset_variable_is_reported_with_its_place(write):
    defaults = replaced(DEFAULTS, "name: m,", "name: '${NO_SUCH_VARIABLE}',")
    assert told(write(defaults=defaults)) == [
        "defaults.yml:1: model.name: environment variable NO_SUCH_VARIABLE is not set. "
        "Next: export NO_SUCH_VARIABLE=..., or write the value if it is not a secret"
    ]


FAULTS_OF_THE_OTHER_FILE = {
    "bad value": (
        ("percentile: 95", "percentile: 0.95"),
        "defaults.yml:12: slo.percentile: bad value 0.95. Expected greater than or equal to 50",
    ),
    "unknown key": (
        ("request_timeout_s: 30", "request_timeout: 30"),
        "defaults.yml:10: load.request_timeout: unknown key. Did you mean `request_timeout_s`?",
    ),
    "unknown section": (
        ("traffic:", "trafic: 1\ntraffic:"),
        "defaults.yml:14: trafic: unknown key. Did you mean `traffic`",
    ),
    "duplicate key": (
        ("percentile: 95", "percentile: 95\n  percentile: 99"),
        "defaults.yml:13: slo.percentile: duplicate key, first given on line 12",
    ),
    "missing key": (
        ("generation: {max_output_tokens: 24}", "generation: {}"),
        "defaults.yml:6: generation.max_output_tokens: this key is required. Next: add it",
    ),
    "not valid YAML": (("[1, 4]", "[1, 4"), "defaults.yml:10: not valid YAML: "),
    "values that do not fit together": (
        ("[500, 1000]", "[4090, 4096]"),
        "defaults.yml:5: datasets[1].prompt_tokens: prompts of 4090 tokens and 24 output tokens exceed ",
    ),
}


@pytest.mark.parametrize(("replacement", "message"), FAULTS_OF_THE_OTHER_FILE.values(), ids=FAULTS_OF_THE_OTHER_FILE)
def test_a_fault_in_the_other_file_names_that_file_and_line(write, replacement, message):
    (line,) = told(write(defaults=replaced(DEFAULTS, *replacement)))
    assert line.startswith(message)


def test_faults_of_both_files_are_reported_together_those_of_the_given_file_first(write):
    lines = told(
        write(
            replaced(CONFIG, "latency_s: 2", "latency_s: soon"), replaced(DEFAULTS, "percentile: 95", "percentile: 5")
        )
    )
    assert [line.split(": ")[:2] for line in lines] == [
        ["config.yml:4", "slo.latency_s"],
        ["defaults.yml:12", "slo.percentile"],
    ]


def test_a_key_that_is_in_no_file_is_reported_at_the_given_file(write):
    assert told(write(defaults=replaced(DEFAULTS, "traffic: {requests_per_minute: 60}\n", ""))) == [
        "config.yml:1: traffic: this key is required. Next: add it"
    ]


def test_keys_that_the_other_file_takes_by_an_anchor_are_reported_there(write):
    defaults = DEFAULTS + "aws: &aws {tags: {a: [1]}}\nlocal_sagemaker: {engines: {<<: {one: two}}}\n"
    lines = told(write(CONFIG + "aws: {region: eu-west-1}\nlocal_sagemaker: {idle_timeout_s: 1}\n", defaults))
    assert [line.split(": ")[:2] for line in lines] == [
        ["defaults.yml:22", "aws.tags.a"],
        ["defaults.yml:23", "local_sagemaker.engines.one"],
    ]


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("5", "bad value 5. Expected the path of one YAML file"),
        ("[defaults.yml]", "bad value "),
        ("null", "bad value None. Expected the path of one YAML file"),
        ("none.yml", "bad value 'none.yml'. Expected a YAML file, but none.yml does not exist. Next: "),
        (".", "bad value '.'. Expected the path of one YAML file, *.yml or *.yaml. Next: "),
    ],
)
def test_an_extends_that_is_no_file_is_refused(write, extends, message):
    (line,) = told(write(replaced(CONFIG, "extends: defaults.yml", f"extends: {extends}")))
    assert line.startswith(f"config.yml:1: extends: {message}")
    assert "Node(" not in line


@pytest.mark.parametrize("names", [["config"], ["defaults", "config"], ["defaults", "third", "defaults"]])
def test_files_that_extend_each_other_are_refused(write, names):
    files = {one: f"extends: {other}.yml\n" for one, other in pairwise(names)}
    first = f"extends: {names[0]}.yml\n"
    (line,) = told(write(**{"config": first, **{name: text for name, text in files.items() if name != "config"}}))
    assert re.match(r"\w+\.yml:1: extends: bad value '\w+\.yml': the files extend each other: ", line)
    circle = " -> ".join(f"{name}.yml" for name in ["config", *names])
    assert line.endswith(f"{circle}. Next: delete one `extends`")


@pytest.mark.parametrize(
    ("content", "found"), [("", "nothing"), ("just text", "text"), ("- a\n- b", "a list"), ("5", "a single value")]
)
def test_an_extended_file_that_is_no_config_is_refused_and_what_it_holds_is_not_repeated(write, content, found):
    (line,) = told(write(defaults=content))
    assert line == f"defaults.yml:1: (top level): the file holds {found}. Expected a section with keys"


def test_an_alias_within_its_own_anchor_is_refused(write):
    (line,) = told(write(CONFIG + "description: &a [*a]\n"))
    assert line.startswith("config.yml:13: not valid YAML: ")
    assert "an alias within its own anchor (&name) has no end. Next: " in line


# --- option_defaults ----------------------------------------------------------------------------------------------


def test_defaults_lie_under_each_option_and_the_option_wins(write):
    small, large = load_config(write()).benchmark.options
    assert small.target == large.target == "sagemaker"
    assert small.container.environment == {"THREADS": "1", "SEQS": "8"}
    assert large.container.environment == {"THREADS": "4", "SEQS": "8"}
    assert (large.price.usd_per_hour, large.price.source) == (0.2, "a list")


def test_defaults_of_both_files_are_merged(write):
    config = CONFIG + "option_defaults: {container: {environment: {SEQS: 16}}}\n"
    small, large = load_config(write(config)).benchmark.options
    assert small.container.environment == {"THREADS": "1", "SEQS": "16"}
    assert large.container.image == "engine"


def test_an_option_of_another_target_takes_none_of_the_defaults(write):
    server = "  - {name: server, target: openai, base_url: 'http://localhost:1/v1', served_model: m}\n"
    *_, server = load_config(write(CONFIG + server)).benchmark.options
    assert server.target == "openai"
    assert server.price is None


def test_null_takes_a_default_back(write):
    config = replaced(
        CONFIG, "container: {environment: {THREADS: 4}}", "container: null\n    jumpstart: {model_id: some-model}"
    )
    *_, large = load_config(write(config)).benchmark.options
    assert large.container is None
    assert large.jumpstart.model_id == "some-model"


def test_a_fault_in_a_default_is_reported_once_with_the_options_that_take_it(write):
    (line,) = told(write(defaults=replaced(DEFAULTS, "api: openai_chat", "api: opena1_chat")))
    assert line.startswith("defaults.yml:17: option_defaults.api: bad value 'opena1_chat'. Expected ")
    assert line.endswith(" (in options[0], options[1])")


def test_a_fault_of_an_option_is_reported_at_the_option(write):
    assert [line.split(": ")[:2] for line in told(write(replaced(CONFIG, "THREADS: 4", "THREADS: [4]")))] == [
        ["config.yml:11", "options[1].container.environment.THREADS"]
    ]


def test_a_key_that_options_and_defaults_lack_is_reported_at_the_option(write):
    assert told(write(replaced(CONFIG, "name: large\n    instance_type", "instance_type"))) == [
        "config.yml:9: options[1].name: this key is required. Next: add it"
    ]


def test_defaults_that_are_no_section_are_refused(write):
    (line,) = told(write(defaults=DEFAULTS[: DEFAULTS.index("option_defaults")] + "option_defaults: sagemaker\n"))
    assert line == "defaults.yml:15: option_defaults: bad value 'sagemaker'. Expected a section with keys"


def test_a_secret_that_is_written_into_defaults_is_refused_once(write):
    (line,) = told(write(defaults=replaced(DEFAULTS, "SEQS: 8", f"HF_TOKEN: {SECRET}")))
    assert line.startswith("defaults.yml:20: option_defaults.container.environment.HF_TOKEN: a secret is written into ")
    assert SECRET not in line


# --- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "db_password"])
@pytest.mark.parametrize("source", ["container: {image: x", "container: null, jumpstart: {model_id: x"])
def test_a_secret_in_an_environment_is_refused_without_repeating_it(write, name, source):
    made_of = f"{source}, environment: {{{name}: {SECRET}}}}}"
    option = f"  - {{name: third, instance_type: ml.g5.xlarge, price: {{usd_per_hour: 1}}, {made_of}}}\n"
    (line,) = told(write(CONFIG + option))
    kind = "jumpstart" if "jumpstart" in source else "container"
    assert line.startswith(f"config.yml:13: options[2].{kind}.environment.{name}: a secret is written into the file.")
    assert SECRET not in line


def test_a_hugging_face_token_of_a_container_is_refused(write):
    container = f"container: {{kind: vllm, model_id: x, image: null, environment: {{}}, hf_token: {SECRET}}}"
    option = f"  - {{name: third, instance_type: ml.g5.xlarge, price: {{usd_per_hour: 1}}, {container}}}\n"
    (line,) = told(write(CONFIG + option))
    assert line.startswith("config.yml:13: options[2].container.hf_token: a secret is written into the file.")
    assert SECRET not in line


def test_a_secret_in_the_settings_of_an_own_target_is_refused(write):
    option = f"  - {{name: third, target: python, file: f.py, api: tgi, settings: {{deep: {{api_key: {SECRET}}}}}}}\n"
    (line,) = told(write(CONFIG + option))
    assert line.startswith("config.yml:13: options[2].settings.deep.api_key: a secret is written into the file.")


def test_a_secret_is_reported_with_other_faults_and_not_shown_where_it_is_the_fault(write):
    option = f"  - {{name: third, target: openai, base_url: 'http://x', served_model: m, api_key: [{SECRET}]}}\n"
    lines = told(write(CONFIG + option, replaced(DEFAULTS, "SEQS: 8", f"HF_TOKEN: {SECRET}")))
    assert [line.split(": ")[1] for line in lines] == [
        "options[2].api_key",
        "options[2].api_key[0]",
        "option_defaults.container.environment.HF_TOKEN",
    ]
    assert SECRET not in str(lines)


@pytest.mark.parametrize(
    "environment",
    [
        "ENGINE_MAX_TOKENS: many",
        "HF_TOKEN: ''",
        "HF_TOKEN: none",
        "OPTION_STOP_TOKEN: 2",
        "TOKENIZER_MODE: auto",
        "HF_TOKEN: '${TOKEN}'",
    ],
)
def test_what_is_no_secret_or_comes_from_the_environment_may_stand_there(write, monkeypatch, environment):
    monkeypatch.setenv("TOKEN", SECRET)
    config = load_config(write(defaults=replaced(DEFAULTS, "SEQS: 8", environment)))
    assert environment.split(":")[0] in config.benchmark.options[0].container.environment


def test_the_name_of_a_secret_in_secrets_manager_may_stand_in_the_file(write):
    defaults = replaced(DEFAULTS, "image: engine", "image: engine\n    secrets: {HF_TOKEN: team/hugging-face#token}")
    assert load_config(write(defaults=defaults)).benchmark.options[1].container.secrets


# --- the schema for editors ---------------------------------------------------------------------------------------


def test_the_schema_takes_both_files_and_refuses_unknown_keys_in_them():
    schema = json.loads(config_schema())
    for text in (CONFIG, DEFAULTS):
        jsonschema.validate(json.loads(json.dumps(yaml.safe_load(text), default=str)), schema)
    config, defaults = yaml.safe_load(CONFIG), json.loads(json.dumps(yaml.safe_load(DEFAULTS), default=str))
    broken = [{**config, "extend": "x"}, {**config, "extends": 5}, {**config, "options": [{"nam": "x"}]}]
    broken += [{**defaults, "option_defaults": {"target": "sagemaker", "instance_typ": "x"}}]
    for data in broken:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data, schema)


def test_the_schema_describes_the_keys_that_join_files():
    properties = json.loads(config_schema())["properties"]
    assert all("description" in properties[key] for key in ("extends", "option_defaults"))
