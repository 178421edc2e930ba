"""Kinds of containers: what a config may say, and what is sent to SageMaker and the container."""

import json
import re
import subprocess
import sys
from importlib import resources

import pytest
import yaml
from examples import config_data
from pydantic import TypeAdapter

from helpers.config.containers import AnyContainer
from helpers.config.containers.accelerators import accelerators_on
from helpers.config.file import load_config
from helpers.errors import ConfigError, DeployError

TOKEN = "hf_0123456789abcdefghij"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads a config with one SageMaker option that has this container."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("GITHUB_TOKEN", "ghp-of-nobody")

    def load_container(container, **option):
        kind = (container or {}).get("kind", "")
        instance_type = "ml.trn1.32xlarge" if kind.endswith("neuron") else "ml.g5.12xlarge"
        default = {"name": "a", "target": "sagemaker", "instance_type": instance_type, "container": container}
        path = tmp_path / "config.yml"
        path.write_text(yaml.safe_dump(config_data([{**default, **option}]), sort_keys=False))
        return load_config(path)

    return load_container


@pytest.fixture
def container(load):
    """Reads a container as a config gives it; without a kind the format must be stated."""

    def read(**keys):
        api = {} if "kind" in keys else {"api": "tgi"}
        return load(keys, **api).benchmark.options[0].container

    return read


COMMON = {"model_id": "org/model", "tensor_parallel_degree": 2, "max_batch": 8, "max_model_tokens": 4096}
GPU = {
    **COMMON,
    "revision": "abc",
    "max_prefill_tokens": 2048,
    "gpu_memory_share": 0.9,
    "prefix_caching": True,
}
KINDS = {
    "vllm": (
        {
            **GPU,
            "dtype": "bfloat16",
            "quantization": "fp8",
            "speculation": {"method": "ngram", "num_speculative_tokens": 3},
        },
        {
            "SM_VLLM_MODEL": "org/model",
            "SM_VLLM_TENSOR_PARALLEL_SIZE": "2",
            "SM_VLLM_MAX_NUM_SEQS": "8",
            "SM_VLLM_MAX_MODEL_LEN": "4096",
            "SM_VLLM_REVISION": "abc",
            "SM_VLLM_MAX_NUM_BATCHED_TOKENS": "2048",
            "SM_VLLM_GPU_MEMORY_UTILIZATION": "0.9",
            "SM_VLLM_DTYPE": "bfloat16",
            "SM_VLLM_QUANTIZATION": "fp8",
            "SM_VLLM_ENABLE_PREFIX_CACHING": "true",
            "SM_VLLM_SPECULATIVE_CONFIG": '{"method": "ngram", "num_speculative_tokens": 3}',
        },
    ),
    "sglang": (
        {**GPU, "dtype": "bfloat16", "quantization": "fp8"},
        {
            "SM_SGLANG_MODEL_PATH": "org/model",
            "SM_SGLANG_TENSOR_PARALLEL_SIZE": "2",
            "SM_SGLANG_MAX_RUNNING_REQUESTS": "8",
            "SM_SGLANG_CONTEXT_LENGTH": "4096",
            "SM_SGLANG_REVISION": "abc",
            "SM_SGLANG_MAX_PREFILL_TOKENS": "2048",
            "SM_SGLANG_MEM_FRACTION_STATIC": "0.9",
            "SM_SGLANG_DTYPE": "bfloat16",
            "SM_SGLANG_QUANTIZATION": "fp8",
        },
    ),
    "tgi": (
        {**GPU, "quantization": "awq", "max_input_tokens": 3000, "speculative_tokens": 2},
        {
            "HF_MODEL_ID": "org/model",
            "SM_NUM_GPUS": "2",
            "MAX_BATCH_SIZE": "8",
            "MAX_TOTAL_TOKENS": "4096",
            "HF_MODEL_REVISION": "abc",
            "MAX_BATCH_PREFILL_TOKENS": "2048",
            "CUDA_MEMORY_FRACTION": "0.9",
            "HF_MODEL_QUANTIZE": "awq",
            "PREFIX_CACHING": "1",
            "MAX_INPUT_TOKENS": "3000",
            "SPECULATE": "2",
        },
    ),
    "djl_lmi": (
        {**GPU, "dtype": "bf16", "quantization": "fp8", "model_loading_timeout_s": 1200},
        {
            "HF_MODEL_ID": "org/model",
            "SERVING_FAIL_FAST": "true",
            "OPTION_ASYNC_MODE": "true",
            "OPTION_ROLLING_BATCH": "disable",
            "OPTION_ENTRYPOINT": "djl_python.lmi_vllm.vllm_async_service",
            "OPTION_TENSOR_PARALLEL_DEGREE": "2",
            "OPTION_MAX_ROLLING_BATCH_SIZE": "8",
            "OPTION_MAX_MODEL_LEN": "4096",
            "OPTION_REVISION": "abc",
            "OPTION_MAX_ROLLING_BATCH_PREFILL_TOKENS": "2048",
            "OPTION_GPU_MEMORY_UTILIZATION": "0.9",
            "OPTION_DTYPE": "bf16",
            "OPTION_QUANTIZE": "fp8",
            "OPTION_ENABLE_PREFIX_CACHING": "true",
            "OPTION_MODEL_LOADING_TIMEOUT": "1200",
        },
    ),
    "djl_neuron": (
        {
            **COMMON,
            "revision": "abc",
            "dtype": "fp16",
            "quantization": "static_int8",
            "optimization_level": 3,
            "model_loading_timeout_s": 1600,
        },
        {
            "HF_MODEL_ID": "org/model",
            "SERVING_FAIL_FAST": "true",
            "OPTION_ENTRYPOINT": "djl_python.transformers_neuronx",
            "OPTION_ROLLING_BATCH": "auto",
            "OPTION_OUTPUT_FORMATTER": "jsonlines",
            "OPTION_TENSOR_PARALLEL_DEGREE": "2",
            "OPTION_MAX_ROLLING_BATCH_SIZE": "8",
            "OPTION_N_POSITIONS": "4096",
            "OPTION_REVISION": "abc",
            "OPTION_DTYPE": "fp16",
            "OPTION_QUANTIZE": "static_int8",
            "OPTION_NEURON_OPTIMIZE_LEVEL": "3",
            "OPTION_MODEL_LOADING_TIMEOUT": "1600",
        },
    ),
    "optimum_neuron": (
        {**COMMON, "revision": "abc", "max_input_tokens": 3000, "max_prefill_tokens": 24000, "dtype": "bf16"},
        {
            "HF_MODEL_ID": "org/model",
            "HF_NUM_CORES": "2",
            "MAX_BATCH_SIZE": "8",
            "HF_BATCH_SIZE": "8",
            "MAX_TOTAL_TOKENS": "4096",
            "HF_SEQUENCE_LENGTH": "4096",
            "HF_MODEL_REVISION": "abc",
            "MAX_INPUT_TOKENS": "3000",
            "MAX_BATCH_PREFILL_TOKENS": "24000",
            "HF_AUTO_CAST_TYPE": "bf16",
        },
    ),
    "vllm_neuron": (
        {**COMMON, "compile_uncached": True},
        {
            "SM_ON_MODEL": "org/model",
            "SM_ON_TENSOR_PARALLEL_SIZE": "2",
            "SM_ON_BATCH_SIZE": "8",
            "SM_ON_SEQUENCE_LENGTH": "4096",
            "SM_ON_ALLOW_NON_CACHED_MODEL": "",
        },
    ),
}
HUB_CACHE = {"HF_HOME": "/tmp", "HUGGINGFACE_HUB_CACHE": "/tmp"}
"""On the large disk: else 141 GB of a 70B model go to the small root volume."""
LEAST = {kind: {"kind": kind, "model_id": "org/model"} for kind in KINDS}
LEAST["djl_neuron"]["max_model_tokens"] = 4096


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_reaches_the_container_by_the_name_that_it_knows(load, kind):
    settings, environment = KINDS[kind]
    config = load({"kind": kind, **settings})
    always = HUB_CACHE | ({"PROCESS_AUTO_RECOVERY": "false"} if kind == "vllm" else {})
    assert config.benchmark.options[0].container.full_environment() == always | environment


@pytest.mark.parametrize("version", [None, "0.38.0"])
def test_new_versions_of_lmi_are_handed_what_is_false(container, version):
    read = container(**LEAST["djl_lmi"], prefix_caching=False, version=version)
    assert read.full_environment()["OPTION_ENABLE_PREFIX_CACHING"] == "false"


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_settings_is_complete(container, kind):
    settings, _ = KINDS[kind]
    known = set(type(container(**LEAST[kind])).model_fields)
    elsewhere = {"kind", "version", "image", "hf_token", "environment", "secrets"}  # in tests of their own
    elsewhere |= {"active_parameters_b", "weight_bits"}  # no settings: see tests/load/test_price_bound.py
    excluded = {"tgi": {"dtype"}, "djl_lmi": {"rolling_batch"}}.get(kind, set())
    assert known - elsewhere - excluded == set(settings)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_set_is_left_to_the_container(container, kind):
    least = set(container(**LEAST[kind]).full_environment())
    fixed = {
        *HUB_CACHE,
        "PROCESS_AUTO_RECOVERY",
        "SERVING_FAIL_FAST",
        "OPTION_ASYNC_MODE",
        "OPTION_ROLLING_BATCH",
        "OPTION_ENTRYPOINT",
        "OPTION_OUTPUT_FORMATTER",
    }
    stated = {"HF_MODEL_ID", "SM_VLLM_MODEL", "SM_SGLANG_MODEL_PATH", "SM_ON_MODEL", "OPTION_N_POSITIONS"}
    assert least <= fixed | stated


@pytest.mark.parametrize(
    ("kind", "off"),
    [
        ("vllm", {"SM_VLLM_NO_ENABLE_PREFIX_CACHING": "true"}),
        ("sglang", {"SM_SGLANG_DISABLE_RADIX_CACHE": "true"}),
        ("tgi", {"PREFIX_CACHING": "0"}),
    ],
)
def test_prefix_caching_can_be_switched_off(container, kind, off):
    least = container(**LEAST[kind]).full_environment()
    assert container(**LEAST[kind], prefix_caching=False).full_environment() == {**least, **off}


@pytest.mark.parametrize("kind", KINDS)
def test_the_environment_wins_over_settings_and_token(container, kind):
    keys = {**LEAST[kind], "max_batch": 8, "hf_token": "${HF_TOKEN}"}
    variable = KINDS[kind][1].keys() & {
        "SM_VLLM_MAX_NUM_SEQS",
        "SM_SGLANG_MAX_RUNNING_REQUESTS",
        "MAX_BATCH_SIZE",
        "OPTION_MAX_ROLLING_BATCH_SIZE",
        "SM_ON_BATCH_SIZE",
    }
    read = container(**keys, environment={**dict.fromkeys(variable, 16), "HF_TOKEN": "${GITHUB_TOKEN}", "NEW": True})
    environment = read.full_environment()
    assert [environment[name] for name in variable] == ["16"]
    assert (environment["HF_TOKEN"], environment["NEW"]) == ("ghp-of-nobody", "true")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_on_s3_is_fetched_by_sagemaker_and_found_in_its_folder(container, kind):
    for uri in ("s3://bucket/models/mine", "s3://bucket/models/mine/"):
        read = container(**{**LEAST[kind], "model_id": uri})
        assert read.model_data_url == "s3://bucket/models/mine/"
        places = {value for name, value in read.full_environment().items() if "MODEL" in name}
        assert places == (set() if kind.startswith("djl") else {"/opt/ml/model"})
        assert "s3://bucket" not in str(read.full_environment())
    assert container(**LEAST[kind]).model_data_url is None


def test_old_versions_of_lmi_serve_rolling_batches_in_their_own_format(container):
    read = container(**LEAST["djl_lmi"], version="0.29.0", rolling_batch="lmi-dist")
    environment = read.full_environment()
    assert environment["OPTION_ROLLING_BATCH"] == "lmi-dist"
    assert not {"OPTION_ASYNC_MODE", "OPTION_ENTRYPOINT"} & set(environment)
    assert read.default_api == "djl"
    assert container(**LEAST["djl_lmi"], version="0.33.0").default_api == "openai_chat"


@pytest.mark.parametrize(
    ("kind", "api"),
    [
        ("vllm", "openai_chat"),
        ("sglang", "openai_chat"),
        ("tgi", "tgi"),
        ("djl_lmi", "openai_chat"),
        ("djl_neuron", "djl"),
        ("optimum_neuron", "tgi"),
        ("vllm_neuron", "openai_chat"),
    ],
)
def test_a_kind_implies_the_format_that_an_option_may_state_otherwise(load, kind, api):
    assert load(LEAST[kind]).benchmark.options[0].request_api == api
    assert load(LEAST[kind], api="openai_completions").benchmark.options[0].request_api == "openai_completions"


# --- what is shown ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_reaches_the_container_and_nothing_else(load, kind):
    config = load({**LEAST[kind], "hf_token": "${HF_TOKEN}"})
    read = config.benchmark.options[0].container
    environment = read.full_environment()
    assert environment["HF_TOKEN"] == TOKEN
    assert [name for name, value in environment.items() if value == TOKEN] == list(read.token_variables)
    for shown in (repr(read), str(read.shown_settings()), config.public_yaml(), repr(config)):
        assert TOKEN not in shown
    assert "hf_token: ${HF_TOKEN}" in config.public_yaml()


def test_settings_are_shown_in_the_words_of_the_config_and_secrets_are_hidden(container):
    read = container(
        kind="vllm",
        model_id="org/model",
        version="0.30.0",
        hf_token="${HF_TOKEN}",
        prefix_caching=False,
        max_batch=8,
        speculation={"method": "ngram"},
        environment={"VLLM_USE_V1": 1, "MY_API_KEY": "${GITHUB_TOKEN}"},
        secrets={"WANDB_THING": "arn:of:secret"},
    )
    assert list(read.shown_settings().items()) == [
        ("kind", "vllm"),
        ("model_id", "org/model"),
        ("version", "0.30.0"),
        ("max_batch", "8"),
        ("prefix_caching", "false"),
        ("speculation", '{"method": "ngram"}'),
        ("VLLM_USE_V1", "1"),
        ("MY_API_KEY", "(hidden)"),
        ("WANDB_THING", "(hidden)"),
    ]


def test_settings_of_images_and_of_jumpstart_are_their_environment(container, load):
    image = container(image="engine", environment={"THREADS": 1, "DB_PASSWORD": "${GITHUB_TOKEN}"})
    assert image.shown_settings() == {"THREADS": "1", "DB_PASSWORD": "(hidden)"}
    model = {
        "model_id": "some-model",
        "version": "1.0.0",
        "environment": {"OPTION_DTYPE": "fp16", "A_SECRET": "x${HF_TOKEN}"},
    }
    jumpstart = load(None, jumpstart=model, api="djl").benchmark.options[0].jumpstart
    assert jumpstart.shown_settings() == {
        "model_id": "some-model",
        "version": "1.0.0",
        "OPTION_DTYPE": "fp16",
        "A_SECRET": "(hidden)",
    }


# --- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("vllm", r"\.us-east-1\.amazonaws\.com/vllm:\d.*-gpu-.*-sagemaker$"),
        ("sglang", r"/sglang:\d.*-gpu-.*-sagemaker$"),
        ("tgi", r"/huggingface-pytorch-tgi-inference:.*tgi\d.*-gpu-"),
        ("djl_lmi", r"/djl-inference:.*-lmi\d.*-cu"),
        ("djl_neuron", r"/djl-inference:.*-neuronx-sdk"),
        ("optimum_neuron", r"/huggingface-pytorch-tgi-inference:.*optimum.*-inf2-"),
        ("vllm_neuron", r"/huggingface-vllm-inference-neuronx:.*-neuronx-"),
    ],
)
def test_the_newest_image_of_each_kind_is_found_offline_for_every_instance_that_it_runs_on(container, kind, image):
    from packaging.version import Version
    from sagemaker.core import image_uris

    read = container(**LEAST[kind])
    for instance_type in ("ml.trn1.32xlarge", "ml.inf2.xlarge") if kind.endswith("neuron") else ("ml.g5.12xlarge",):
        found = read.image_uri(instance_type, "us-east-1")
        assert re.search(image, found)
        newest = max((v for v in image_uris.list_versions(read.framework) if v[0].isdigit()), key=Version)
        assert found == container(**LEAST[kind], version=newest, **_backend(kind)).image_uri(instance_type, "us-east-1")


def _backend(kind):
    return {"rolling_batch": "vllm"} if kind == "djl_lmi" else {}


def test_a_version_chooses_the_image_and_an_image_is_taken_as_it_is(container):
    assert "/vllm:0.28.0-" in container(**LEAST["vllm"], version="0.28").image_uri("ml.g5.xlarge", "us-west-2")
    mine = "1.dkr.ecr.us-east-1.amazonaws.com/mine:1"
    assert container(**LEAST["vllm"], image=mine).image_uri("ml.g5.xlarge", "us-east-1") == mine


def test_a_version_that_the_sdk_does_not_know_is_reported_with_those_that_it_knows(container):
    with pytest.raises(
        DeployError, match=r"container.version '0.1'.* kind vllm .*eu-west-1.*Expected one of: .*0\.30\.0.*Next: "
    ):
        container(**LEAST["vllm"], version="0.1").image_uri("ml.g5.xlarge", "eu-west-1")


def test_a_region_without_the_image_is_reported(container):
    with pytest.raises(
        DeployError, match=r"kind djl_neuron: no image for region me-south-1: .*us-east-1.*Next: change aws.region"
    ):
        container(**LEAST["djl_neuron"]).image_uri("ml.inf2.xlarge", "me-south-1")


# --- instances ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "instance_type", "degree", "why"),
    [
        ("vllm", "ml.g5.12xlarge", 4, None),
        ("vllm", "ml.p6-b200.48xlarge", 8, None),
        ("vllm", "ml.g7e.2xlarge", 1, None),
        ("vllm", "ml.g7e.12xlarge", 64, "more than the 2 GPUs"),
        ("vllm", "ml.g9.12xlarge", 1, "data/instances.csv does not know the accelerators of 'ml.g9.12xlarge'.*Next: "),
        ("vllm", "ml.g5.nano", 1, "does not know the accelerators of 'ml.g5.nano'"),
        ("vllm", "ml.dl1.24xlarge", 1, "runs on GPUs; ml.dl1.24xlarge has Habana Gaudi"),
        (
            "vllm",
            "ml.g5.12xlarge",
            8,
            r"container\.tensor_parallel_degree 8 is more than the 4 GPUs of ml\.g5\.12xlarge",
        ),
        ("sglang", "ml.g6e.16xlarge", 2, "more than the 1 GPUs"),
        ("tgi", "ml.inf2.xlarge", 1, "kind tgi runs on GPUs; ml.inf2.xlarge has NeuronCores"),
        ("djl_lmi", "ml.trn1.32xlarge", 1, "runs on GPUs; ml.trn1.32xlarge has NeuronCores"),
        ("vllm", "ml.c5.large", 1, "runs on GPUs; ml.c5.large has CPUs only"),
        ("djl_neuron", "ml.inf2.48xlarge", 24, None),
        ("djl_neuron", "ml.inf2.24xlarge", 24, "more than the 12 NeuronCores"),
        ("optimum_neuron", "ml.inf2.8xlarge", 4, "more than the 2 NeuronCores"),
        ("optimum_neuron", "ml.trn1.32xlarge", 32, None),
        ("optimum_neuron", "ml.g5.12xlarge", 1, "runs on NeuronCores; ml.g5.12xlarge has GPUs"),
        ("djl_neuron", "ml.inf1.xlarge", 1, "runs on the families inf2, trn1, trn1n; ml.inf1.xlarge is in another"),
        ("optimum_neuron", "ml.trn2.48xlarge", 1, "is in another"),
        ("vllm_neuron", "ml.trn2.48xlarge", 64, "is in another"),  # optimum-neuron 0.4.5: "not supported yet"
        ("vllm_neuron", "ml.trn1.32xlarge", 32, None),
    ],
)
def test_an_instance_that_cannot_run_the_container_is_refused_with_the_reason(kind, instance_type, degree, why):
    read = TypeAdapter(AnyContainer).validate_python({**LEAST[kind], "tensor_parallel_degree": degree})
    if why is None:
        read.check_instance_type(instance_type)
    else:
        with pytest.raises(ValueError, match=why):
            read.check_instance_type(instance_type)


def test_an_image_may_run_anywhere(container):
    container(image="engine").check_instance_type("ml.c5.large")


def test_gpus_are_counted_as_the_sdk_counts_them():
    from botocore.session import get_session

    sagemaker = get_session().get_service_model("sagemaker")
    real = sagemaker.shape_for("ProductionVariantInstanceType").enum
    file = resources.files("sagemaker.core") / "image_uri_config" / "instance_gpu_info.json"
    counted = {name: each["Count"] for name, each in json.loads(file.read_text())["us-east-1"].items() if name in real}
    assert len(counted) > 15
    assert {name: accelerators_on(name) for name in counted} == counted


# --- faults of a config -------------------------------------------------------------------------------------------


FAULTS = [
    ({"kind": "vlm", "model_id": "m"}, r"\.kind: bad value 'vlm'. Did you mean `vllm`\? Expected one of: image, vllm"),
    ({"model_id": "m"}, r"\.image: this key is required"),
    ({"image": "x", "max_batch": 2}, r"\.max_batch: unknown key. .*Expected one of: environment, image, kind"),
    ({**LEAST["sglang"], "speculation": {}}, r"\.speculation: unknown key. .*tensor_parallel_degree"),
    ({**LEAST["djl_neuron"], "prefix_caching": True}, r"\.prefix_caching: unknown key. .*optimization_level"),
    ({**LEAST["vllm_neuron"], "dtype": "bf16"}, r"\.dtype: unknown key. "),
    ({"kind": "djl_neuron", "model_id": "m"}, r"\.max_model_tokens: this key is required"),
    ({"kind": "tgi"}, r"\.model_id: this key is required"),
    ({**LEAST["vllm"], "gpu_memory_share": 90}, r"\.gpu_memory_share: bad value 90. Expected less than or equal to 1"),
    ({**LEAST["vllm"], "tensor_parallel_degree": 0}, r"\.tensor_parallel_degree: bad value 0. Expected greater than 0"),
    ({**LEAST["tgi"], "dtype": "fp16"}, r"\.dtype: bad value 'fp16'. Expected 'float16' or 'bfloat16'"),
    ({**LEAST["tgi"], "dtype": "float16", "quantization": "awq"}, ": TGI takes `dtype` or `quantization`, not both"),
    ({**LEAST["tgi"], "max_input_tokens": 9, "max_model_tokens": 9}, ": max_input_tokens 9 leaves no room for output"),
    ({**LEAST["optimum_neuron"], "max_input_tokens": 9, "max_model_tokens": 8}, ": max_input_tokens 9 leaves no room"),
    ({**LEAST["vllm"], "model_id": "s3://b/m.tar.gz"}, r"\.model_id: an archive on S3. Expected .*Next: unpack it"),
    ({**LEAST["djl_lmi"], "version": "0.32.0"}, ": LMI 0.32.0 has no asynchronous vLLM: give `rolling_batch`"),
    (
        {**LEAST["djl_lmi"], "version": "0.36.0", "prefix_caching": False},
        ": prefix_caching: false does not reach vLLM in LMI 0.36.0. Expected 0.38",
    ),
]


@pytest.mark.parametrize(("keys", "message"), FAULTS)
def test_a_fault_is_reported_where_it_is(load, keys, message):
    with pytest.raises(ConfigError, match=rf"config.yml:\d+: options\[0\]\.container{message}"):
        load(keys, api="tgi")


def test_a_token_in_the_file_is_refused_without_repeating_it(load):
    with pytest.raises(ConfigError, match=r"container.hf_token: a secret is written into the file") as told:
        load({**LEAST["vllm"], "hf_token": TOKEN})
    assert TOKEN not in str(told.value)


def test_reading_containers_loads_no_aws_library():
    code = "import sys, helpers.config.containers as _; print({'boto3', 'botocore', 'sagemaker'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
