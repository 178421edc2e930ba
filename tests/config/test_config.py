"""Reading a config file: what is accepted, and the exact place and words of what is not."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from config_text import TEXT
from examples import config_data

from helpers.config.aws_regions import unknown_region_words
from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import config_schema, load_config
from helpers.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
SECRET = "s3cr3t-v4lue"


@pytest.fixture
def config_file(tmp_path):
    """Writes the config above with (old, new) replacements; old text must stand there exactly once."""

    def write(*replacements):
        text = TEXT
        for old, new in replacements:
            assert text.count(old) == 1, f"{old!r} is not in the config once"
            text = text.replace(old, new)
        path = tmp_path / "config.yml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def faults(config_file):
    """Line number -> messages of a config with these replacements."""

    def read(*replacements):
        path = config_file(*replacements)
        with pytest.raises(ConfigError) as refused:
            load_config(path)
        found = []
        for line in str(refused.value).splitlines():
            number, message = re.fullmatch(rf"{re.escape(str(path))}:(\d+): (.*)", line).groups()
            found.append((int(number), message))
        return found

    return read


def test_a_right_config_is_read_with_its_defaults(config_file):
    benchmark = load_config(config_file()).benchmark
    assert benchmark.seed == 42
    assert benchmark.slo.limits_s() == {"latency_s": 0.5}
    assert benchmark.traffic_mix() == {"short": 0.5, "long": 0.5}
    (endpoint,) = (option for option in benchmark.options if option.name == "endpoint")
    assert endpoint.container.environment == {"THREADS": "1"}


ONE_FAULT = {
    "unknown key at the top": (
        ("traffic:", "budget: 5\ntraffic:"),
        36,
        "budget: unknown key. Did you mean `budget_usd`? Expected one of: aws, ",
    ),
    "unknown key in a section": (
        ("latency_s: 0.5", "latency_s: 0.5\n  latency_ms: 500"),
        36,
        "slo.latency_ms: unknown key. Did you mean `latency_s`?",
    ),
    "unknown key two sections down": (
        ("kind: python_reference", "kind: python_reference\n    cutt: null"),
        6,
        "prompts.source.cutt: unknown key. Did you mean `cut`? Expected one of: cut, kind",
    ),
    "unknown key in a list item": (
        ("count: 200\n  - name: long", "cont: 200\n  - name: long"),
        9,
        "datasets[0].cont: unknown key. Did you mean `count`? Expected one of: bins, count, name, prompt_tokens",
    ),
    "unknown key of an openai option": (
        ("served_model: m", "served_model: m\n    base_uri: x"),
        20,
        "options[0].base_uri: unknown key. Did you mean `base_url`?",
    ),
    "unknown key of a sagemaker option": (
        ("api: openai_chat", "api: openai_chat\n    instance_cont: 2"),
        23,
        "options[1].instance_cont: unknown key. Did you mean `instance_count`?",
    ),
    "unknown key of an hourly price": (
        ("usd_per_hour: 0.5", "usd_per_hour: 0.5\n      sorce: list"),
        29,
        "options[1].price.sorce: unknown key. Did you mean `source`? Expected one of: as_of, source, usd_per_hour",
    ),
    "unknown key of a price per vCPU": (
        ("usd_per_hour: 0.5", "usd_per_vcpu_hour: 0.5\n      vcpus: all\n      sorce: list"),
        30,
        "options[1].price.sorce: unknown key. Did you mean `source`? Expected one of: as_of, source, "
        "usd_per_vcpu_hour, vcpus",
    ),
    "unknown key of a container": (
        ("image: engine", "image: engine\n      imag: x"),
        26,
        "options[1].container.imag: unknown key. Did you mean `image`?",
    ),
    "unknown kind of container": (
        ("image: engine", "kind: vlm"),
        25,
        "options[1].container.kind: bad value 'vlm'. Did you mean `vllm`? Expected one of: image, ",
    ),
    "a container that is a text": (
        ("container:\n      image: engine\n      environment: {THREADS: 1}", "container: engine"),
        24,
        "options[1].container: bad value 'engine'. Expected a section with keys",
    ),
    "missing key": (
        ("  max_output_tokens: 24", "  temperature: 0"),
        13,
        "generation.max_output_tokens: this key is required",
    ),
    "missing key in a list item": (("    served_model: m\n", ""), 16, "options[0].served_model: this key is required"),
    "missing key of a price per vCPU": (
        ("usd_per_hour: 0.5", "usd_per_vcpu_hour: 0.5"),
        27,
        "options[1].price.vcpus: this key is required",
    ),
    "missing bound": (("[1, 500]", "[1]"), 8, "datasets[0].prompt_tokens[1]: this key is required"),
    "text with a unit": (
        ("latency_s: 0.5", "latency_s: 500ms"),
        35,
        "slo.latency_s: bad value '500ms'. Expected a number (unit: seconds, a number such as 0.5)",
    ),
    "percentile as a fraction": (
        ("percentile: 95", "percentile: 0.95"),
        34,
        "slo.percentile: bad value 0.95. Expected greater than or equal to 50 (in percent, for example 95)",
    ),
    "headroom in percent": (
        ("headroom: 0.3", "headroom: 30"),
        38,
        "traffic.headroom: bad value 30. Expected less than 1 (a fraction, for example 0.3)",
    ),
    "endless latency": (
        ("latency_s: 0.5", "latency_s: .inf"),
        35,
        "slo.latency_s: bad value .inf. Expected a number",
    ),
    "negative price": (
        ("usd_per_hour: 0.5", "usd_per_hour: -1"),
        28,
        "options[1].price.usd_per_hour: bad value -1. Expected greater than or equal to 0",
    ),
    "no such day": (
        ("usd_per_hour: 0.5", "usd_per_hour: 0.5\n      as_of: 2024-13-01"),
        29,
        "options[1].price.as_of: bad value '2024-13-01'. Expected a valid date",
    ),
    "a section that is a number": (
        ("generation:\n  max_output_tokens: 24", "generation: 24"),
        13,
        "generation: bad value 24. Expected a section with keys",
    ),
    "unknown target": (
        ("target: openai", "target: opena1"),
        17,
        "options[0].target: bad value 'opena1'. Did you mean `openai`? Expected one of: sagemaker, bedrock, ",
    ),
    "missing target": (("    target: openai\n", ""), 16, "options[0]: the key 'target' is required"),
    "unknown source": (
        ("kind: python_reference", "kind: sharegtp"),
        5,
        "prompts.source.kind: bad value 'sharegtp'. Did you mean `sharegpt`? Expected one of: python_reference, file, "
        "jsonl, longbench, sharegpt",
    ),
    "two model sources": (
        ("instance_type: ml.c5.large", "instance_type: ml.c5.large\n    jumpstart: {model_id: x}"),
        20,
        "options[1]: give exactly one of `container` and `jumpstart` (model id)",
    ),
    "a prefix whose length is given twice": (
        ("  source:\n", "  prefix: {tokens: 100, hit_rate: 0.5}\n  source:\n"),
        4,
        "prompts.prefix: give either tokens (the length of the prefix) or hit_rate, from which the length follows",
    ),
    "more prefixes than prompts can share": (
        ("  source:\n", "  prefix: {hit_rate: 0.5, groups: 101}\n  source:\n"),
        4,
        "prompts.prefix.groups: 101 groups of the 200 prompts of dataset 'short' leave prompts that share",
    ),
    "given up within the limit": (
        ("  min_requests: 110\n", "  min_requests: 110\n  request_timeout_s: 0.4\n"),
        33,
        "load.request_timeout_s: 0.4 s are less than slo.latency_s, 0.5 s: an answer within that limit may be given up",
    ),
    "no latency limit": (("  latency_s: 0.5\n", ""), 33, "slo: give at least one of latency_s, ttft_s, ttfa_s, tpot_s"),
    "a bin that is empty": (("[1, 500]", "[500, 500]"), 7, "datasets[0]: prompt_tokens [500, 500] is empty"),
    "a concurrency twice": (("[1, 4]", "[4, 4]"), 31, "load.concurrency: [4, 4] names a concurrency twice"),
    "durations out of order": (
        ("min_requests: 110", "min_requests: 110\n  min_duration_s: 9\n  max_duration_s: 8"),
        29,
        "load: min_duration_s 9.0 exceeds max_duration_s 8.0",
    ),
    "unknown kind of load": (
        ("kind: closed_loop", "kind: open"),
        30,
        "load.kind: bad value 'open'. Did you mean `open_loop`? Expected one of: closed_loop, open_loop, trace, ramp, search",
    ),
    "a misspelt kind of load": (
        ("kind: closed_loop", "kind: open-loop"),
        30,
        "load.kind: bad value 'open-loop'. Did you mean `open_loop`?",
    ),
    "a concurrency in an open loop": (
        ("kind: closed_loop", "kind: open_loop\n  rate: [1]"),
        32,
        "load.concurrency: unknown key. ",
    ),
    "no rate": (("closed_loop\n  concurrency: [1, 4]", "open_loop"), 29, "load.rate: this key is required"),
    "a rate of nothing": (
        ("closed_loop\n  concurrency: [1, 4]", "open_loop\n  rate: [1, 0]"),
        31,
        "load.rate[1]: bad value 0. Expected greater than 0",
    ),
    "a rate twice": (
        ("closed_loop\n  concurrency: [1, 4]", "open_loop\n  rate: [2, 2.0]"),
        31,
        "load.rate: [2.0, 2.0] names a rate twice",
    ),
    "burstiness of Poisson arrivals": (
        ("closed_loop\n  concurrency: [1, 4]", "open_loop\n  rate: [2]\n  burstiness: 0.5"),
        29,
        "load: give `burstiness` with `arrivals: gamma`, and only with it",
    ),
    "gamma arrivals without burstiness": (
        ("closed_loop\n  concurrency: [1, 4]", "open_loop\n  rate: [2]\n  arrivals: gamma"),
        29,
        "load: give `burstiness` with `arrivals: gamma`, and only with it",
    ),
    "unknown arrivals": (
        ("closed_loop\n  concurrency: [1, 4]", "open_loop\n  rate: [2]\n  arrivals: even"),
        32,
        "load.arrivals: bad value 'even'. Expected 'constant', 'poisson' or 'gamma'",
    ),
    "a search downwards": (
        ("closed_loop\n  concurrency: [1, 4]", "search\n  over: rate\n  lowest: 8\n  highest: 4"),
        29,
        "load: highest 4 is below lowest 8",
    ),
    "a search for half a worker": (
        ("closed_loop\n  concurrency: [1, 4]", "search\n  over: concurrency\n  highest: 4.5"),
        29,
        "load: concurrency is a whole number: give whole `lowest` and `highest`",
    ),
    "a search without a bound": (
        ("closed_loop\n  concurrency: [1, 4]", "search\n  over: rate"),
        29,
        "load.highest: this key is required",
    ),
    "a tolerance in percent": (
        ("closed_loop\n  concurrency: [1, 4]", "search\n  over: rate\n  highest: 4\n  tolerance: 5"),
        33,
        "load.tolerance: bad value 5. Expected less than 1",
    ),
    "a search that is no race": (
        ("closed_loop\n  concurrency: [1, 4]", "search\n  over: rate\n  highest: 4\n  race: false"),
        29,
        "load: a search is a race: without one, a single unlucky probe would bound it. Leave out `race: false`",
    ),
    "a search that is repeated": (
        ("closed_loop\n  concurrency: [1, 4]", "search\n  over: rate\n  highest: 4\n  repetitions: 3"),
        29,
        "load: the race decides how often a load point is measured: leave out `repetitions`",
    ),
    "a search of too many levels": (
        ("closed_loop\n  concurrency: [1, 4]", "search\n  over: rate\n  highest: 400\n  tolerance: 0.001"),
        29,
        "load: there are more than 500 levels from 1 to 400 with tolerance 0.001: bring `lowest` and `highest` closer",
    ),
    "a search whose highest concurrency wants more prompts": (
        ("closed_loop\n  concurrency: [1, 4]", "search\n  over: concurrency\n  highest: 16"),
        9,
        "datasets[0].count: 200 prompts are too few: a load point sends up to 206 ",
    ),
    "a trace without a file": (
        ("closed_loop\n  concurrency: [1, 4]", "trace"),
        29,
        "load.path: this key is required",
    ),
    "a ramp without an end": (
        ("closed_loop\n  concurrency: [1, 4]", "ramp\n  from_rate: 0\n  duration_s: 60"),
        29,
        "load.to_rate: this key is required",
    ),
    "a ramp that would be cut off": (
        ("closed_loop\n  concurrency: [1, 4]", "ramp\n  from_rate: 0\n  to_rate: 1\n  duration_s: 900"),
        29,
        "load: duration_s 900 exceeds max_duration_s 600: the ramp would be cut off",
    ),
    "a dataset that no option uses": (
        ("  - name: endpoint", "    datasets: [short]\n  - name: endpoint\n    datasets: [short]"),
        10,
        "datasets[1].name: no option uses dataset 'long'. Next: delete it, or name it in an option's `datasets`",
    ),
    "an option that names no dataset": (
        ("served_model: m", "served_model: m\n    datasets: [long, shrt]"),
        20,
        "options[0].datasets[1]: option 'server' names a dataset that is not under `datasets`: 'shrt'. "
        "Did you mean `short`? "
        "Expected one of: short, long",
    ),
    "load processes beside a cluster": (
        ("min_requests: 110", "min_requests: 110\n  processes: 2\n  cluster: {nodes: 2}"),
        29,
        "load: `cluster.processes_per_node` says how many load processes there are: leave out `processes`",
    ),
    "endpoints loaded at once by a cluster": (
        ("110\nslo:", "110\n  cluster: {nodes: 2}\nendpoints: {max_parallel_loads: 2}\nslo:"),
        34,
        "endpoints.max_parallel_loads: 2 endpoints cannot be loaded at once with load.cluster, whose nodes all send to one.",
    ),
    "an address that Ray does not take": (
        ("min_requests: 110", "min_requests: 110\n  cluster: {nodes: 2, address: 'http://head:8265'}"),
        33,
        "load.cluster.address: bad value 'http://head:8265'. Expected auto, host:port, or ray://host:port",
    ),
    "a mix that names no dataset": (
        ("headroom: 0.3", "mix: {short: 0.5, lomg: 0.5}"),
        38,
        "traffic.mix.lomg: the traffic mix names a dataset that is not under `datasets`: 'lomg'. Did you mean `long`?",
    ),
    "a mix that does not sum to 1": (
        ("headroom: 0.3", "mix: {short: 0.5, long: 0.6}"),
        38,
        "traffic.mix: shares {'short': 0.5, 'long': 0.6} must be ",
    ),
    "a negative share": (("headroom: 0.3", "mix: {short: 1.5, long: -0.5}"), 38, "traffic.mix: shares "),
    "an empty mix": (("headroom: 0.3", "mix: {}"), 38, "traffic.mix: shares {} must be non-negative and sum to 1"),
    "datasets with one file name": (
        ("name: long", "name: Short"),
        10,
        "datasets[1].name: dataset names 'short' and 'Short' give the same file name 'short'",
    ),
    "options with one file name": (
        ("name: endpoint", "name: Server."),
        20,
        "options[1].name: option names 'server' and 'Server.' give the same file name",
    ),
    "too few prompts": (
        ("count: 200\ngeneration", "count: 133\ngeneration"),
        12,
        "datasets[1].count: 133 prompts are too few: a load point sends up to 134 ",
    ),
    "more tokens than fit": (
        ("[500, 1000]", "[4090, 4096]"),
        11,
        "datasets[1].prompt_tokens: prompts of 4090 tokens and 24 output tokens exceed model.context_tokens 4096",
    ),
    "duplicate key": (
        ("traffic:", "slo: {latency_s: 1}\ntraffic:"),
        36,
        "slo: duplicate key, first given on line 33. Next: delete one of the two",
    ),
    "nested duplicate key": (
        ("image: engine", "image: engine\n      image: other"),
        26,
        "options[1].container.image: duplicate key, first given on line 25",
    ),
    "YAML that is cut off": (("[1, 4]", "[1, 4"), 32, "not valid YAML: "),
    "a tab in the indentation": (("  headroom: 0.3", "\theadroom: 0.3"), 38, "not valid YAML: "),
    "an unset variable": (
        ("served_model: m", "served_model: ${NO_SUCH_VARIABLE}"),
        19,
        "options[0].served_model: environment variable NO_SUCH_VARIABLE is not set. Next: export NO_SUCH_VARIABLE=...",
    ),
}


@pytest.mark.parametrize(("replacement", "line", "message"), ONE_FAULT.values(), ids=ONE_FAULT)
def test_a_fault_is_reported_once_with_line_key_value_and_what_was_expected(faults, replacement, line, message):
    (found,) = faults(replacement)
    assert found[0] == line
    assert found[1].startswith(message)


def test_a_salt_before_the_prompts_contradicts_a_shared_prefix(faults):
    prefix = ("  source:\n", "  prefix: {groups: 2, hit_rate: 0.5}\n  source:\n")
    (found,) = faults(prefix, ("  concurrency: [1, 4]\n", "  concurrency: [1, 4]\n  prefix_cache_salt: true\n"))
    assert found[0] == 33
    assert found[1].startswith(
        "load.prefix_cache_salt: a salt before each prompt leaves nothing of prompts.prefix to share."
    )


def test_as_many_prompts_as_a_load_point_can_send_are_enough(config_file):
    # 4 x 4 to warm up, 110 to measure, 2 x 4 to drain
    assert (
        load_config(config_file(("count: 200\ngeneration", "count: 134\ngeneration"))).benchmark.datasets[1].count
        == 134
    )


NOT_A_NAME = {
    "a slash": (("name: server", "name: meta/llama"), "options[0].name: bad value 'meta/llama'", "'meta-llama'"),
    "a colon": (("name: server", "name: 'g5:12xlarge'"), "options[0].name: bad value 'g5:12xlarge'", "'g5-12xlarge'"),
    "an umlaut": (("name: short", "name: schön kurz"), "datasets[0].name: bad value 'schön kurz'", "'schon kurz'"),
    "no Latin letter": (("name: short", "name: 短い"), "datasets[0].name: bad value '短い'", "'name-1'"),
    "too long": (("name: short", f"name: {'x' * 90}"), "datasets[0].name: bad value 'xxx", f"'{'x' * 80}'"),
    "a benchmark": (("name: test", "name: My Test/ß"), "name: bad value 'My Test/ß'", "'my-test'"),
    "an instance of EC2": (
        ("ml.c5.large", "c5.large"),
        "options[1].instance_type: bad value 'c5.large'",
        "'ml.c5.large'",
    ),
    "a region": (
        ("traffic:", "aws: {region: US East 1}\ntraffic:"),
        "aws.region: bad value 'US East 1'",
        "'us-east-1'",
    ),
    "a zone": (
        ("traffic:", "aws: {region: eu-west-1a}\ntraffic:"),
        "aws.region: bad value 'eu-west-1a'",
        "'eu-west-1'",
    ),
    "a reservation": (
        ("    price:\n", "    capacity_reservation: cr-1\n    price:\n"),
        "options[1].capacity_reservation: bad value 'cr-1'",
        "'arn:aws:sagemaker:us-east-1:123456789012:training-plan/my-plan'",
    ),
    "a variable": (
        ("traffic:", "local_sagemaker: {engine_variables: [2-x y]}\ntraffic:"),
        "local_sagemaker.engine_variables[0]: bad value '2-x y'",
        "'_x_y'",
    ),
}


@pytest.mark.parametrize(("replacement", "begins", "suggestion"), NOT_A_NAME.values(), ids=NOT_A_NAME)
def test_a_name_that_is_not_allowed_is_refused_in_words_with_one_that_would_do(
    faults, config_file, replacement, begins, suggestion
):
    ((_, message),) = faults(replacement)
    assert message.startswith(begins)
    assert re.search(rf"\. Expected [^\\^\[\]]*\. Next: write for example {re.escape(suggestion)}$", message), message
    old, new = replacement
    if "xxx" not in new:  # what is suggested is taken
        bad = re.search("bad value '(.*)'\\. Expected", message)[1]
        load_config(config_file((old, new.replace(f"'{bad}'", bad).replace(bad, suggestion.strip("'")))))


def test_no_message_of_a_config_shows_a_pattern():
    """Patterns stay in the schema, for editors; pydantic's own check would put them into the message."""
    for path in (PROJECT_ROOT / "src" / "helpers").rglob("*.py"):
        assert not re.search(r"Field\([^)]*\bpattern=", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    "region", ["eusc-de-east-1", "us-gov-west-1", "cn-north-1", "us-isob-east-1", "mx-central-1", "xx-new-north-12"]
)
def test_regions_are_taken_that_are_newer_than_the_sdk(config_file, region):
    path = config_file(("traffic:", f"aws: {{region: {region}}}\ntraffic:"))
    assert load_config(path).benchmark.aws.region == region


def test_a_region_that_the_sdk_does_not_know_is_reported_with_the_nearest():
    assert unknown_region_words("eu-central-1") is unknown_region_words("us-gov-west-1") is None
    assert "does not know the region us-est-1; it is used nevertheless. Next: if you meant us-" in unknown_region_words(
        "us-est-1"
    )


def test_all_unset_variables_are_reported_with_the_other_faults(faults, monkeypatch):
    for name in ("NO_URL", "NO_HEADROOM"):
        monkeypatch.delenv(name, raising=False)
    found = faults(
        ("headroom: 0.3", "headroom: ${NO_HEADROOM}"),
        ("percentile: 95", "percentil: 95"),
        ("base_url: http://localhost:8000/v1", "base_url: ${NO_URL}"),
    )
    messages = [message for _, message in found]
    assert [
        any(f"environment variable {name} is not set" in m for m in messages) for name in ("NO_URL", "NO_HEADROOM")
    ] == [True, True]
    assert len(found) == 3 and any("percentil" in m for m in messages)


def test_all_faults_are_reported_in_the_order_of_their_lines(faults):
    found = faults(
        ("headroom: 0.3", "headroom: 30"),
        ("kind: python_reference", "kind: pyton_reference"),
        ("traffic:", "sloo: 1\ntraffic:"),
        ("[1, 500]", "[1, many]"),
        ("target: openai", "target: opena1"),
        ("percentile: 95", "percentil: 95"),
        ("usd_per_hour: 0.5", "usd_per_hour: cheap"),
    )
    assert [line for line, _ in found] == [5, 8, 17, 28, 34, 36, 39]
    keys = [message.split(": ")[0] for _, message in found]
    assert keys == [
        "prompts.source.kind",
        "datasets[0].prompt_tokens[1]",
        "options[0].target",
        "options[1].price.usd_per_hour",
        "slo.percentil",
        "sloo",
        "traffic.headroom",
    ]


@pytest.mark.parametrize("content", ["", "just text", "- a\n- b", "name: \x00"])
def test_a_file_that_is_no_config_is_refused(tmp_path, content):
    path = tmp_path / "config.yml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(f"{path}:1: ")):
        load_config(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yml: no config file: it does not exist\. Next: "):
        load_config(tmp_path / "none.yml")


# --- values from the environment ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "read"),
    [
        ("served_model: m", "served_model: m\n    api_key: ${TOKEN}", lambda b: b.options[0].api_key),
        ("served_model: m", "served_model: ${TOKEN}", lambda b: b.options[0].served_model),
        (
            "served_model: m",
            "served_model: m\n    extra_body: {key: '${TOKEN}'}",
            lambda b: b.options[0].extra_body["key"],
        ),
        ("THREADS: 1", "THREADS: '${TOKEN}'", lambda b: b.options[1].container.environment["THREADS"]),
    ],
)
def test_a_variable_is_expanded_but_never_shown(config_file, monkeypatch, old, new, read):
    monkeypatch.setenv("TOKEN", SECRET)
    config = load_config(config_file((old, new)))
    assert read(config.benchmark) == SECRET
    assert SECRET not in repr(config)
    assert SECRET not in config.public_yaml()
    assert read(load_public(config)) == SECRET


def test_what_a_report_shows_of_a_variable_is_its_name(config_file, monkeypatch):
    for name in ("TOKEN", "MODEL"):
        monkeypatch.setenv(name, SECRET)
    vllm = "kind: vllm\n      version: 0.30.0\n      model_id: ${MODEL}"
    config = load_config(
        config_file(
            ("image: engine", vllm),
            ("ml.c5.large", "ml.g5.xlarge"),
            ("THREADS: 1", "THREADS: 'a ${TOKEN}'"),
            (
                "usd_per_hour: 0.5",
                "usd_per_hour: 0.5\n      source: ${TOKEN}\n    other_prices: [{name: '${TOKEN}', usd_per_hour: 1}]",
            ),
            ("traffic:", "description: ${TOKEN}\ntraffic:"),
        )
    )
    endpoint = config.benchmark.options[1]
    assert endpoint.container.full_environment()["THREADS"] == f"a {SECRET}"
    assert endpoint.container.model_id == SECRET
    shown = endpoint.container.shown_settings()
    assert (shown["THREADS"], shown["model_id"]) == ("a ${TOKEN}", "${MODEL}")
    assert (endpoint.price.source, endpoint.other_prices[0].name) == ("${TOKEN}", "${TOKEN}")
    assert config.benchmark.description == "${TOKEN}"
    assert SECRET not in config.public_yaml()
    load_public(config)


def load_public(config):
    """What the public text of a config loads as, where the variable is set."""
    path = config.path.with_name("public.yml")
    path.write_text(config.public_yaml(), encoding="utf-8")
    again = load_config(path)
    assert again.benchmark == config.benchmark
    return again.benchmark


def test_a_variable_may_stand_inside_a_text_and_for_a_number(config_file, monkeypatch):
    monkeypatch.setenv("HOST", "model.example")
    monkeypatch.setenv("PORT", "8025")
    monkeypatch.setenv("LIMIT", "0.25")
    config = load_config(config_file(("localhost:8000", "${HOST}:${PORT}"), ("latency_s: 0.5", "latency_s: ${LIMIT}")))
    assert config.benchmark.options[0].base_url == "http://model.example:8025/v1"
    assert config.benchmark.slo.latency_s == 0.25
    assert "http://${HOST}:${PORT}/v1" in config.public_yaml()


def test_a_variable_in_a_text_that_is_only_shown_is_not_looked_up(config_file, monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    price = "price: {usd_per_hour: 1, source: 'from ${TOKEN}'}\n    other_prices: [{name: '${TOKEN}', usd_per_hour: 1}]"
    config = load_config(config_file(("served_model: m", f"served_model: m\n    {price}")))
    option = config.benchmark.options[0]
    assert (option.price.source, option.other_prices[0].name) == ("from ${TOKEN}", "${TOKEN}")
    assert SECRET not in config.public_yaml()
    load_public(config)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("latency_s: 0.5", "latency_s: ${TOKEN}", "slo.latency_s"),
        ("environment: {THREADS: 1}", "environment: ['TOKEN=${TOKEN}']", "options[1].container.environment"),
        ("image: engine", "image: [{deep: '${TOKEN}'}]", "options[1].container.image"),
        ("target: openai", "target: ${TOKEN}", "options[0].target"),
        ("served_model: m", "served_model: m\n    datasets: ['${TOKEN}']", "options[0].datasets[0]"),
    ],
)
def test_a_fault_does_not_show_what_a_variable_holds(faults, monkeypatch, old, new, key):
    monkeypatch.setenv("TOKEN", SECRET)
    found = faults((old, new))
    assert {message.split(": ")[0] for _, message in found} == {key}
    assert SECRET not in str(found)


# --- YAML ---------------------------------------------------------------------------------------------------------


def test_anchors_and_merge_keys_are_read_and_may_be_overridden(config_file):
    merged = "  - {<<: *base, name: third, instance_type: ml.c5.xlarge}\nload:"
    config = load_config(config_file(("  - name: endpoint", "  - &base\n    name: endpoint"), ("load:", merged)))
    base, third = (option for option in config.benchmark.options if option.target == "sagemaker")
    assert third.instance_type == "ml.c5.xlarge"
    assert third.container == base.container
    assert third.price == base.price


def test_a_fault_in_merged_keys_is_reported_where_they_are_used(faults):
    found = faults(
        ("load:", "  - {<<: *base, name: third}\nload:"),
        ("  - name: endpoint", "  - &base\n    name: endpoint"),
        ("usd_per_hour: 0.5", "usd_per_hour: x"),
    )
    assert [(line, message.split(": ")[0]) for line, message in found] == [
        (29, "options[1].price.usd_per_hour"),
        (30, "options[2].price.usd_per_hour"),
    ]


# --- the files that come with the project -------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yml")), ids=lambda path: path.stem)
def test_every_config_of_the_project_loads(path, monkeypatch):
    for file in CONFIGS.glob("*.yml"):  # a config may extend another
        for name in re.findall(r"\$\{(\w+)\}", file.read_text(encoding="utf-8")):
            monkeypatch.setenv(name, "http://localhost:8000")
    config = load_config(path)
    assert yaml.safe_load(config.public_yaml())["name"] == config.benchmark.name


@pytest.mark.parametrize("kind", ["open_loop", "search"])
def test_the_loads_that_a_comment_offers_are_right(tmp_path, monkeypatch, kind):
    text = (CONFIGS / "openai-compatible.yml").read_text(encoding="utf-8")
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, "http://localhost:8000")
    (offered,) = re.findall(rf"^# (load: \{{kind: {kind}, .*\}})$", text, flags=re.MULTILINE)
    text = re.sub(r"^load:\n(  .*\n)+", f"{offered}\n", text, flags=re.MULTILINE)
    (tmp_path / "c.yml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "c.yml").benchmark.load.kind == kind


def test_the_schema_in_the_repository_is_the_one_of_the_code():
    assert (CONFIGS / "schema.json").read_text(encoding="utf-8") == config_schema()


def test_the_schema_takes_the_quickstart_and_refuses_an_unknown_key():
    schema = json.loads(config_schema())
    text = (CONFIGS / "quickstart.yml").read_text(encoding="utf-8")
    data = json.loads(json.dumps(yaml.safe_load(text), default=str))  # dates as text
    jsonschema.validate(data, schema)
    for broken in ({**data, "budget": 5}, {**data, "slo": {**data["slo"], "latency": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_a_key_that_is_written_into_the_file_is_refused_without_repeating_it(tmp_path):
    path = PROJECT_ROOT / "configs" / "openai-compatible.yml"
    text = path.read_text().replace("${SERVER_API_KEY}", "sk-1234567890")
    text = text.replace("${SERVER_URL}", "http://localhost:1/v1").replace("${SERVER_MODEL}", "m")
    (tmp_path / "c.yml").write_text(text)
    with pytest.raises(ConfigError, match=r"options\[0\]\.api_key: a secret is written into the file") as refused:
        load_config(tmp_path / "c.yml")
    assert "sk-1234567890" not in str(refused.value)


@pytest.mark.parametrize(
    "command", ['["serve", "--api-key", "${MY_KEY}"]', "[serve, --hf-token=abc]", '["serve", "${A_TOKEN}"]']
)
def test_a_secret_among_the_arguments_of_an_engine_is_refused(faults, monkeypatch, command):
    """Every user of the machine can read the arguments of a process."""
    for name in ("MY_KEY", "A_TOKEN"):
        monkeypatch.setenv(name, "x")
    (fault,) = faults(("traffic:", f"local_sagemaker: {{engines: {{mine: {command}}}}}\ntraffic:"))
    assert fault[1].startswith("local_sagemaker.engines.mine[")
    assert "container.environment, and name its variable in local_sagemaker.engine_variables" in fault[1]


def test_other_arguments_of_an_engine_are_taken(config_file, monkeypatch):
    monkeypatch.setenv("FOLDER", "/models")
    engine = '["${FOLDER}/serve", "--tokenizer", "${FOLDER}/x", "--max-tokens", "9"]'
    local = f"local_sagemaker: {{engines: {{mine: {engine}}}, engine_variables: [HF_TOKEN]}}"
    benchmark = load_config(config_file(("traffic:", f"{local}\ntraffic:"))).benchmark
    assert benchmark.local_sagemaker.engines["mine"][2:] == ["/models/x", "--max-tokens", "9"]


# --- numbers, switches and dates as they stand -------------------------------------------------------------------------

AS_THEY_STAND = [
    "012345670123", "00123", "22:22", "1:30", "190:20:30", "1.10", "1e5", "1.5e3", "1_000", "0o17", "0x1F", "0b11", ".5",
    "+1", "-0", "5.", "2026-11-28", "2026-11-28 10:00:00", "no", "on", "Yes", "OFF", "y", "True", "NULLS", ".inf", ".NaN", "=",
]  # fmt: skip


@pytest.mark.parametrize("written", AS_THEY_STAND)
def test_a_text_is_what_stands_in_the_file(config_file, tmp_path, written):
    """And it is the same in the copy of the config that a run keeps."""
    settings = f"{{THREADS: {written}, no: 'quoted', on: {written}}}"
    path = config_file(("served_model: m", f"served_model: {written}"), ("{THREADS: 1}", settings))
    for _ in range(2):
        config = load_config(path)
        server, endpoint = config.benchmark.options
        assert server.served_model == written
        assert endpoint.container.full_environment() == {"THREADS": written, "no": "quoted", "on": written}
        path = tmp_path / "copy.yml"
        path.write_text(config.public_yaml(), encoding="utf-8")


@pytest.mark.parametrize(
    ("written", "number"), [("1.50", 1.5), (".5", 0.5), ("+1", 1), ("5.", 5), ("1e1", 10), ("1_0", 10), ("010", 10)]
)
def test_a_number_is_read_where_a_number_belongs(config_file, written, number):
    config = load_config(config_file(("latency_s: 0.5", f"latency_s: {written}")))
    assert config.benchmark.slo.latency_s == number


@pytest.mark.parametrize("written", ["1:30", "0x1F", "0o17", "2026-11-28", "yes"])
def test_what_is_no_number_is_refused_where_a_number_belongs(faults, written):
    ((line, message),) = faults(("latency_s: 0.5", f"latency_s: {written}"))
    assert line == 35
    assert re.match(rf"slo.latency_s: bad value '?{re.escape(written)}'?. Expected a number \(unit: seconds", message)


@pytest.mark.parametrize(("written", "value"), [("no", False), ("On", True), ("TRUE", True), ("off", False)])
def test_a_switch_is_read_where_a_switch_belongs(config_file, written, value):
    config = load_config(config_file(("  min_requests: 110", f"  min_requests: 110\n  repeat_prompts: {written}")))
    assert config.benchmark.load.repeat_prompts is value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *[("0.70", 0.7), ("60", 60), ("-2", -2), ("1e-3", 0.001), ("1e5", 1e5), (".5", 0.5), ("+1", 1)],
        *[("True", True), ("false", False), ("'007'", "007"), ("'no'", "no"), ("'1e5'", "1e5"), ("'0o17'", "0o17")],
        ("2026-11-28", "2026-11-28"),
        ("[{a: 1.50}, '1.50', null]", [{"a": 1.5}, "1.50", None]),
    ],
)
def test_what_is_handed_on_as_json_is_read_as_all_versions_of_yaml_read_it(config_file, tmp_path, written, value):
    path = config_file(("served_model: m", f"served_model: m\n    extra_body: {{x: {written}}}"))
    for _ in range(2):
        config = load_config(path)
        found = config.benchmark.options[0].extra_body["x"]
        assert (found, type(found)) == (value, type(value))
        path = tmp_path / "copy.yml"
        path.write_text(config.public_yaml(), encoding="utf-8")


@pytest.mark.parametrize(
    "written", ["007", "-012", "1_000", "22:22", "0x1F", "0o17", "0b11", "no", "on", "Yes", "[off]"]
)
def test_what_versions_of_yaml_read_differently_is_not_handed_on(faults, written):
    ((line, message),) = faults(("served_model: m", f"served_model: m\n    extra_body: {{x: {written}}}"))
    assert line == 20
    word = written.strip("[]")
    assert message == (
        f"options[0].extra_body.x: {word} is not the same in all versions of YAML. Expected text in quotes, a number such as "
        "60 or 1.5, true or false. Next: quote it if it is text"
    )


def test_a_password_of_digits_is_a_secret(faults):
    ((_, message),) = faults(("served_model: m", "served_model: m\n    api_key: 12345678"))
    assert "a secret is written into the file" in message
    assert "12345678" not in message


@pytest.mark.parametrize(
    ("written", "is_raced"), [("true", True), ("false", False), ("{first_look: 60}", True), ("{enabled: false}", False)]
)
def test_a_race_is_switched_on_and_off_in_a_word(tmp_path, written, is_raced):
    text = yaml.safe_dump(config_data()).replace("load:\n", f"load:\n  race: {written}\n")
    (tmp_path / "raced.yml").write_text(text)
    assert load_config(tmp_path / "raced.yml").benchmark.load.race.enabled is is_raced


def test_a_race_that_is_neither_is_refused(tmp_path):
    (tmp_path / "raced.yml").write_text(yaml.safe_dump(config_data()).replace("load:\n", "load:\n  race: maybe\n"))
    with pytest.raises(ConfigError, match=r"load\.race: bad value 'maybe'.*Next: "):
        load_config(tmp_path / "raced.yml")
