"""The configs that come with the project, and what README and the pages in docs say of them, without a network."""

import ast
import json
import re
import shlex
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import get_args

import botocore.session
import jsonschema
import papermill
import pytest
import yaml
from aws_bodies import SNAPSHOT
from botocore import xform_name

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.containers import ModelContainer
from helpers.config.containers.accelerators import accelerators_on, known_instance
from helpers.config.containers.machine_images import machine_image_for
from helpers.config.file import config_schema, load_config
from helpers.config.load import closed_loop_prompts
from helpers.config.workload import FileSource, PythonReferenceSource, ShareGPTSource
from helpers.endpoints.targets.sagemaker_requests import machine_image_of
from helpers.endpoints.targets.sagemaker_resources import CREATED_BY, resource_tags
from helpers.errors import ConfigError
from helpers.metrics.sample_size import refuse_what_cannot_decide, requests_for_percentile, requests_to_show
from helpers.prompts.making import make_prompts
from helpers.prompts.templates import TEMPLATE_DIR
from helpers.report.plan_report import plan_table

CONFIGS = sorted((PROJECT_ROOT / "configs").glob("*.yml"))
SHARED = sorted((PROJECT_ROOT / "configs" / "shared").glob("*.yml"))
NAMES = [path.stem for path in CONFIGS]
GUIDES = ("README.md", "docs/aws.md", "docs/permissions.md", "docs/running.md", "docs/studio.md")
GUIDE = "".join((PROJECT_ROOT / name).read_text(encoding="utf-8") for name in GUIDES)
OWN_PROMPTS = PROJECT_ROOT / "docs" / "own_prompts.md"
PLACEHOLDER = "https://example.com/placeholder"
TARGETS = {
    "bedrock": ["bedrock"],
    "conversations": ["sagemaker"] * 2,
    "existing-endpoint": ["sagemaker"],
    "gpt-oss-20b": ["sagemaker"] * 3,
    "llama-3.1-8b": ["sagemaker"] * 7,
    "llama-3.3-70b": ["sagemaker"] * 4,
    "llama-3.3-70b-p5en-p6": ["sagemaker"] * 2,
    "llama2-13b-g5-inf2-p4d": ["sagemaker"] * 6,
    "matrix": ["sagemaker"] * 4,
    "mixed": ["sagemaker"] * 2,
    "openai-compatible": ["openai"],
    "own-prompts": ["sagemaker"] * 2,
    "quickstart": ["sagemaker"] * 3,
    "qwen3-30b-a3b-fp8": ["sagemaker"] * 3,
    "qwen3-32b": ["sagemaker"] * 4,
    "shared-prefix": ["sagemaker"] * 2,
    "trace": ["sagemaker"] * 2,
}
TODAY = ("gpt-oss-20b", "llama-3.1-8b", "llama-3.3-70b", "llama-3.3-70b-p5en-p6", "qwen3-30b-a3b-fp8", "qwen3-32b")
SECRET_LOOKS = re.compile(r"\b(hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|AKIA[A-Z0-9]{12,}|ghp_[A-Za-z0-9]{8,})")
WEIGHTS_GIB = {"llama-3.1-8b": 15.0, "llama-3.3-70b": 131.5, "qwen3-32b": 61.1}
WEIGHTS_GIB |= {"gpt-oss-20b": 12.8, "qwen3-30b-a3b-fp8": 29.0, "llama-3.3-70b-p5en-p6": 131.5}
"""Parameters of the model cards (8.03, 70.6 and 32.8 billion) x 2 bytes; of quantised ones, the size of the files."""
KV_KIB_PER_TOKEN = {"llama-3.1-8b": 2 * 32 * 8 * 128 * 2 / 1024, "llama-3.3-70b": 2 * 80 * 8 * 128 * 2 / 1024}
KV_KIB_PER_TOKEN |= {"qwen3-32b": 2 * 64 * 8 * 128 * 2 / 1024, "gpt-oss-20b": 2 * 24 * 8 * 64 * 2 / 1024}
KV_KIB_PER_TOKEN["qwen3-30b-a3b-fp8"] = 2 * 48 * 4 * 128 * 2 / 1024
KV_KIB_PER_TOKEN["llama-3.3-70b-p5en-p6"] = KV_KIB_PER_TOKEN["llama-3.3-70b"]
"""Keys and values x layers x KV heads x head size x 2 bytes, from the models' config.json."""
MEMORY_GIB = {
    "g5": 22.5,
    "g6": 22.5,
    "g6e": 45,
    "p4d": 40,
    "p5": 79.6,
    "inf2": 16,
    "p5en": 140,
    "p6-b200": 179,
    "g7e": 95,
}
"""Of one GPU, as nvidia-smi shows it (A10G and L4: 23,000 MiB), or NeuronCore. https://aws.amazon.com/ec2/instance-types/accelerated-computing/"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    """Every variable that a config names, no credentials, and addresses where nobody answers."""
    for path in CONFIGS + SHARED:
        for name in re.findall(r"\$\{(\w+)\}", path.read_text(encoding="utf-8")):
            monkeypatch.setenv(name, PLACEHOLDER)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def shipped(name):
    return load_config(PROJECT_ROOT / "configs" / f"{name}.yml")


def deployed(name):
    """(option, container) of a config's options whose image AWS builds."""
    options = [option for option in shipped(name).benchmark.options if getattr(option, "container", None)]
    return [(option, option.container) for option in options if isinstance(option.container, ModelContainer)]


# --- the configs --------------------------------------------------------------------------------------------------


def test_these_are_the_configs():
    assert sorted(TARGETS) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_loads_with_the_targets_it_is_for(name):
    config = shipped(name)
    assert [option.target for option in config.benchmark.options] == TARGETS[name]
    assert name.startswith(config.benchmark.name)


@pytest.mark.parametrize("path", CONFIGS + SHARED, ids=lambda path: path.stem)
def test_editors_find_the_schema_and_it_takes_the_file(path):
    text = path.read_text(encoding="utf-8")
    (schema,) = re.findall(r"\A# yaml-language-server: \$schema=(\S+)\n", text)
    assert (path.parent / schema).resolve() == PROJECT_ROOT / "configs" / "schema.json"
    jsonschema.validate(json.loads(json.dumps(yaml.safe_load(text), default=str)), json.loads(config_schema()))


@pytest.mark.parametrize("path", CONFIGS + SHARED, ids=lambda path: path.stem)
def test_no_config_holds_a_secret(path):
    assert not SECRET_LOOKS.search(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TODAY)
def test_what_comes_from_the_environment_is_not_in_the_whole_config(name):
    text = shipped(name).public_yaml()
    assert PLACEHOLDER not in text
    assert ("${HF_TOKEN}" in text) == name.startswith("llama")


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_of_a_config_needs_no_network(name):
    config = shipped(name).benchmark
    text = plan_table(config).plain()
    assert all(option.name in text for option in config.options)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_output_fit_into_the_context_of_every_option(name):
    config = shipped(name).benchmark
    output = 1 if config.load.may_bring_prompts else config.generation.max_output_tokens  # what is longer is left out
    longest = max(dataset.prompt_tokens[1] - 1 for dataset in config.datasets) + output
    assert (
        longest <= config.model.context_tokens or name == "llama2-13b-g5-inf2-p4d"
    )  # its bins are those of the reference
    assert all(container.max_model_tokens >= config.model.context_tokens for _, container in deployed(name))


@pytest.mark.parametrize("name", TODAY)
def test_a_config_for_todays_models_deploys_images_that_are_found_without_a_network(name):
    found = deployed(name)
    assert len(found) == len(TARGETS[name])
    for option, container in found:
        uri = container.image_uri(option.instance_type, region := shipped(name).benchmark.aws.region)
        assert re.fullmatch(rf"\d{{12}}\.dkr\.ecr\.{region}\.amazonaws\.com/[\w.\-/]+:[\w.\-]+", uri)


@pytest.mark.parametrize("name", TODAY)
def test_instance_types_are_known_and_suit_container_and_machine_image(name):
    service = botocore.session.get_session().get_service_model("sagemaker")
    known = service.shape_for("ProductionVariantInstanceType").enum
    images = service.shape_for("ProductionVariantInferenceAmiVersion").enum
    for option, container in deployed(name):
        assert option.instance_type in known
        container.check_instance_type(option.instance_type)
        uri = container.image_uri(option.instance_type, shipped(name).benchmark.aws.region)
        chosen = machine_image_for(uri, option.instance_type, option.inference_ami)
        if known_instance(option.instance_type).kind == "gpu":
            assert chosen == "al2023-ami-sagemaker-inference-gpu-4-1", "the images of 2026 hold CUDA 13"
        else:
            assert chosen == "al2-ami-sagemaker-inference-neuron-2"
            assert option.volume_gb >= 2 * WEIGHTS_GIB[name]
        assert chosen in images


def full_sequences_of(name, family, degree, tokens):
    """0.9: vLLM's share of a GPU; buffers: activations and CUDA graphs, between GPUs also NCCL's."""
    buffers_gib = 1.3 if degree == 1 else 1.6
    free_gib = degree * (MEMORY_GIB[family] * 0.9 - buffers_gib) - WEIGHTS_GIB[name]
    return free_gib * 2**20 / (tokens * KV_KIB_PER_TOKEN[name])


@pytest.mark.parametrize(
    ("name", "family", "degree", "said"),
    [
        ("llama-3.1-8b", "g5", 1, 8),
        ("llama-3.1-8b", "g6e", 1, 48),
        ("qwen3-32b", "g5", 4, 13),
        ("gpt-oss-20b", "g5", 1, 32),
        ("qwen3-30b-a3b-fp8", "g6e", 1, 27),
    ],
)
def test_a_config_says_how_many_full_sequences_a_gpu_holds(name, family, degree, said):
    comments = " ".join(re.findall(r"# (.*)", (PROJECT_ROOT / "configs" / f"{name}.yml").read_text(encoding="utf-8")))
    assert abs(full_sequences_of(name, family, degree, 4096) - said) < 1
    assert f"{said} full sequences" in comments


@pytest.mark.parametrize("name", TODAY)
def test_weights_fit_and_leave_room_for_several_full_sequences(name):
    for option, container in deployed(name):
        family = option.instance_type.split(".")[1]
        degree = container.tensor_parallel_degree or 1
        assert degree <= accelerators_on(option.instance_type)
        full_sequences = full_sequences_of(name, family, degree, container.max_model_tokens)
        static = container.kind == "vllm_neuron"  # the cache of the whole batch is set aside
        assert round(full_sequences) >= (container.max_batch if static else 8), option.name


def sums_of(name):
    """Rows of the table of docs/aws.md: what an option's accelerators hold, and what weights leave of it."""
    for option, container in deployed(name):
        family, degree = option.instance_type.split(".")[1], container.tensor_parallel_degree or 1
        instance, volume = known_instance(option.instance_type), option.volume_gb
        sequences = min(round(full_sequences_of(name, family, degree, container.max_model_tokens)), container.max_batch)
        if container.kind == "vllm_neuron":
            sequences = container.max_batch
        kv_gib = sequences * container.max_model_tokens * KV_KIB_PER_TOKEN[name] / 2**20
        image = machine_image_of(option, container.image_uri(option.instance_type, "us-east-1"))
        cells = (
            f"`{name}`: {option.name}",
            f"{degree} x {MEMORY_GIB[family]:g}",
            f"{WEIGHTS_GIB[name]:g}",
            f"{kv_gib:.1f}: {sequences} of {container.max_batch}",
            f"EBS, {volume} GB" if volume else f"{instance.local_disk_gb:g} GB",
            image.removeprefix("al2023-").removeprefix("al2-").removeprefix("ami-sagemaker-inference-"),
        )
        yield f"| {' | '.join(cells)} |"


def test_the_guide_has_the_memory_and_disk_of_every_option():
    rows = [row for name in TODAY for row in sums_of(name)]
    guide = (PROJECT_ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
    missing = [row for row in rows if row not in guide]
    assert not missing, "put these rows into the table of docs/aws.md:\n" + "\n".join(rows)


@pytest.mark.parametrize("name", TODAY)
def test_what_makes_endpoints_has_a_budget(name):
    assert shipped(name).benchmark.budget_usd


def test_bedrock_is_offered_no_length_that_it_cannot_keep_and_no_defaults_of_endpoints():
    config = shipped("bedrock").benchmark
    assert not config.generation.fixed_output_length
    assert config.options[0].stream
    assert config.options[0].price is None


def test_the_sample_prompts_are_what_their_recipe_makes(tmp_path, monkeypatch):
    (recipe,) = re.findall(r"```python\n(.*?)```", OWN_PROMPTS.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})
    sample = Path("data/example_prompts.jsonl").read_bytes()
    assert sample == (PROJECT_ROOT / "data" / "example_prompts.jsonl").read_bytes()
    assert len(sample) < 200_000
    assert len(set(sample.splitlines())) == len(sample.splitlines()) >= 500


def test_the_prompts_of_a_file_of_ones_own_can_be_drawn_as_they_are(tmp_path):
    config = shipped("own-prompts")
    prompts = make_prompts(config.benchmark, config.path.parent, tmp_path)
    written = (PROJECT_ROOT / "data" / "example_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    (table,) = prompts.tables.values()
    assert sorted(table["text"].to_pylist()) == sorted(json.loads(line)["text"] for line in written)
    assert not prompts.warnings
    refuse_what_cannot_decide(config.benchmark)


def test_the_page_on_own_prompts_names_every_source_field_template_and_the_requests_that_an_slo_takes():
    page = OWN_PROMPTS.read_text(encoding="utf-8")
    for source in (PythonReferenceSource, FileSource, ShareGPTSource):
        for kind in get_args(source.model_fields["kind"].annotation):
            assert f"| `{kind}` |" in page
        assert all(f"`{name}`" in page for name in source.model_fields)
    assert all(f"| `{path.stem}`" in page for path in TEMPLATE_DIR.glob("*.txt"))
    p90, p95, p99, three_percent = (requests_to_show(share, 0.95) for share in (0.1, 0.05, 0.01, 0.03))
    takes = (
        f"{p90} for p90 at 95% confidence, {p95} for p95, {p99} for p99, {p99} for an error rate of 1%, "
        f"{three_percent} for 3%."
    )
    assert takes in " ".join(page.split())
    assert f"takes {shipped('own-prompts').benchmark.load.fewest_prompts()};" in page


# --- the guide --------------------------------------------------------------------------------------------------


def test_the_examples_in_the_guide_load(tmp_path):
    examples = re.findall(r"```yaml\n(\s*# configs/my\.yml\n.*?)```", GUIDE, flags=re.DOTALL)
    assert len(examples) == 2
    for text in examples:
        path = tmp_path / "my.yml"
        path.write_text(text.replace("extends: ", f"extends: {PROJECT_ROOT}/configs/"), encoding="utf-8")
        config = load_config(path)
        assert len(config.benchmark.options) == 7
        takes_it_from_secrets_manager = "secrets:" in text
        assert all((o.container.hf_token is None) == takes_it_from_secrets_manager for o in config.benchmark.options)
        assert ("${HF_TOKEN}" in config.public_yaml()) != takes_it_from_secrets_manager


def test_a_token_from_secrets_manager_needs_no_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError, match="HF_TOKEN is not set"):
        shipped("llama-3.1-8b")
    texts = re.findall(r"```yaml\n(\s*# configs/my\.yml\n.*?)```", GUIDE, flags=re.DOTALL)
    (text,) = [text for text in texts if "secrets:" in text]
    path = tmp_path / "my.yml"
    path.write_text(text.replace("extends: ", f"extends: {PROJECT_ROOT}/configs/"), encoding="utf-8")
    assert load_config(path).benchmark.options[0].container.secrets == {"HF_TOKEN": "llm-serving-verdict/hugging-face"}


def test_the_papermill_commands_in_the_guide_name_notebooks_and_parameters_that_exist():
    commands = [shlex.split(line) for line in GUIDE.splitlines() if re.match(r"papermill \d", line)]
    assert [words[1] for words in commands] == [
        path.name for path in sorted((PROJECT_ROOT / "notebooks").glob("0*.ipynb"))
    ]
    for words in commands:
        declared = papermill.inspect_notebook(str(PROJECT_ROOT / "notebooks" / words[1]))
        given = [words[i + 1] for i, word in enumerate(words) if word == "-p"]
        assert set(given) <= set(declared)
        assert {"config_path", "run_dir"} <= set(given)


@cache
def policy(name):
    """Actions that a policy of the guide allows."""
    text = (PROJECT_ROOT / f"docs/policies/{name}.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert document["Version"] == "2012-10-17"
    actions = []
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        named = statement["Action"]
        actions += [named] if isinstance(named, str) else named
    return actions


def test_jumpstart_is_looked_up_with_the_callers_credentials_in_its_bucket():
    text = (PROJECT_ROOT / "docs/policies/caller.json").read_text(encoding="utf-8")
    (mine,) = [each for each in json.loads(text)["Statement"] if each["Sid"] == "JumpStartModels"]
    assert mine["Action"] == "s3:GetObject" and mine["Resource"] == "arn:aws:s3:::jumpstart-cache-prod-*/*"


def test_only_what_a_run_made_may_be_deleted():
    text = (PROJECT_ROOT / "docs/policies/caller.json").read_text(encoding="utf-8")
    deleting = [each for each in json.loads(text)["Statement"] if "Delete" in str(each["Action"])]
    assert [each["Condition"] for each in deleting] == [{"StringEquals": {"aws:ResourceTag/created-by": CREATED_BY}}]
    tags = resource_tags("run", datetime.now(UTC), {"created-by": "somebody else"})
    assert tags["created-by"] == CREATED_BY, "a tag of the config does not replace it"
    sent = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert all(body["Tags"] for options in sent.values() for made in options.values() for body in made.values())


SERVICES = {
    "sagemaker": "sagemaker",
    "logs": "logs",
    "cloudwatch": "cloudwatch",
    "pricing": "pricing",
    "service-quotas": "servicequotas",
    "secretsmanager": "secretsmanager",
    "s3": "s3",
}
"""Service as boto3 names it -> as IAM does."""
OTHER_ACTION = {
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "servicequotas:ListAWSDefaultServiceQuotas": "servicequotas:ListAWSDefaultServiceQuotas",
}
"""Operations that IAM knows by another name. https://docs.aws.amazon.com/service-authorization/latest/reference/"""
CALLED_BY_OTHER_NAMES = {
    "upload_file": ["s3:PutObject", "s3:AbortMultipartUpload"],  # boto3's transfer of S3
    "download_file": ["s3:GetObject"],
    "download_fileobj": ["s3:GetObject"],
    "ExecutionRoleArn": ["iam:PassRole"],
    "Tags": ["sagemaker:AddTags"],
    # Requests of the load generator. API pages name the first for streams too, the list of IAM's actions the second.
    "invocations-response-stream": ["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"],
    "Subject": ["sns:Publish"],
    "get_topic_attributes": ["sns:GetTopicAttributes"],
    "CallWithBearerToken": ["sagemaker:CallWithBearerToken"],
    "converse": ["bedrock:InvokeModel"],
    "converse-stream": ["bedrock:InvokeModelWithResponseStream"],
    "get_execution_role": [
        "sagemaker:DescribeNotebookInstance",
        "sagemaker:DescribeUserProfile",
        "sagemaker:DescribeDomain",
        "iam:GetRole",
    ],
}
"""Word in the code -> what it comes to."""


@cache
def words_in_the_code():
    """Names and texts (the last part of a path) in what runs against AWS."""
    words = set()
    for path in (PROJECT_ROOT / "src" / "helpers").rglob("*.py"):
        if "local_sagemaker" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.Name):
                words.add(node.id)
            elif isinstance(node, ast.keyword) and node.arg:
                words.add(node.arg)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                words.add(node.value.rpartition("/")[2])
    return words


def test_the_policy_of_the_caller_allows_what_the_code_calls_and_no_more():
    words = words_in_the_code()
    needed = set()
    session = botocore.session.get_session()
    for service, prefix in SERVICES.items():
        for operation in session.get_service_model(service).operation_names:
            if "_" in xform_name(operation) and xform_name(operation) in words:  # `search` is also a method of texts
                action = f"{prefix}:{operation}"
                needed.add(OTHER_ACTION.get(action, action))
    for word, actions in CALLED_BY_OTHER_NAMES.items():
        assert word in words, f"nothing in the code is called {word!r} any more"
        needed.update(actions)
    assert set(policy("caller")) == needed


def test_the_policy_of_the_caller_covers_what_a_bedrock_model_id_may_name():
    text = (PROJECT_ROOT / "docs/policies/caller.json").read_text(encoding="utf-8")
    (bedrock,) = [each for each in json.loads(text)["Statement"] if each["Sid"] == "Bedrock"]
    assert {arn.split(":")[5].split("/")[0] for arn in bedrock["Resource"]} == {
        "foundation-model",
        "inference-profile",
        "application-inference-profile",
        "provisioned-model",
        "custom-model-deployment",
        "imported-model",
    }


def test_the_roles_of_the_guide_are_of_sagemaker():
    assert policy("trust") == ["sts:AssumeRole"]
    assert {action.split(":")[0] for action in policy("endpoint")} == {"ecr", "logs", "cloudwatch", "s3", "ec2"}


def test_the_files_that_the_guide_names_are_there():
    for name in re.findall(r"`((?:configs|data|notebooks|docs)/[\w./\-]+)`", GUIDE):
        assert (PROJECT_ROOT / name).exists() or name == "configs/my.yml"
    for name in re.findall(r"`([\w.\-]+\.yml)`", GUIDE):
        assert (PROJECT_ROOT / "configs" / name).exists()


def test_the_quickstart_sends_no_prompt_twice():
    """Of c requests that wait in one queue one is independent: so many does a window hold, with warm-up and drain. Load
    points begin at even distances among the prompts, and one and a half times as many are there for each.
    """
    config = load_config(PROJECT_ROOT / "configs" / "quickstart.yml").benchmark
    load, highest = config.load, max(config.load.concurrency)
    window = max(load.min_requests, requests_for_percentile(config.slo) * highest)
    sent = closed_loop_prompts(load.model_copy(update={"min_requests": window}), highest)
    assert not load.repeat_prompts
    assert all(dataset.count / len(load.levels()) >= 1.5 * sent for dataset in config.datasets), sent
