"""What a SageMaker option says reaches AWS as it was said; endpoints that were there before are measured and left alone."""

from __future__ import annotations

import json

import boto3
import pytest
from conftest import thorough
from fault_lab import fault_config, load_points, records_of, statuses, wait_for

from helpers.config.file import load_config
from helpers.endpoints.preflight import first_answers
from helpers.errors import ConfigError
from helpers.verdict.analysis import read_measurements
from helpers.verdict.judging import judge

pytest_plugins = ["fault_fixtures", "moto_server"]

TOKEN = "hf_thisIsASecretThatNobodyMaySee"
ROLE = "arn:aws:iam::123456789012:role/endpoints"
VLLM = {
    "kind": "vllm",
    "version": "0.30.0",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "tensor_parallel_degree": 1,
    "max_batch": 4,
    "max_model_tokens": 2048,
    "environment": {"VLLM_LOGGING_LEVEL": "DEBUG"},
    "secrets": {"HF_TOKEN": "huggingface#token"},
}


@pytest.fixture
def secret(moto_server) -> str:
    """A secret in Secrets Manager, as JSON."""
    client = boto3.client("secretsmanager")
    client.create_secret(Name="huggingface", SecretString=json.dumps({"token": TOKEN, "user": "x"}))
    return TOKEN


def test_all_settings_of_an_option_reach_aws(lab, secret):
    aws = {
        "region": "us-east-1",
        "execution_role": ROLE,
        "tags": {"team": "search"},
        "vpc": {"subnets": ["subnet-1", "subnet-2"], "security_group_ids": ["sg-1"]},
        "kms_key_id": "alias/volumes",
    }
    option = {
        "container": VLLM,
        "api": None,
        "startup_timeout_s": 900,
        "inference_ami": "al2023-ami-sagemaker-inference-gpu-4-1",
    }
    config = fault_config(lab.folder, ("a",), option=option, aws=aws, endpoints={"keep": True, "max_parallel_loads": 1})
    run = lab.begin(config)
    lab.start()
    said = lab.finish(config, run)
    assert len(load_points(run)) == 2, said
    record, client = records_of(run)["a"], lab.client()
    model = client.describe_model(ModelName=record.endpoint_name)
    container = model["PrimaryContainer"]
    assert "/vllm:0.30.0" in container["Image"] and ".us-east-1." in container["Image"]
    assert record.image == container["Image"]
    assert container["Environment"] == {
        "HF_HOME": "/tmp",
        "HUGGINGFACE_HUB_CACHE": "/tmp",
        "PROCESS_AUTO_RECOVERY": "false",
        "SM_VLLM_MODEL": VLLM["model_id"],
        "SM_VLLM_TENSOR_PARALLEL_SIZE": "1",
        "SM_VLLM_MAX_NUM_SEQS": "4",
        "SM_VLLM_MAX_MODEL_LEN": "2048",
        "HF_TOKEN": TOKEN,
        "VLLM_LOGGING_LEVEL": "DEBUG",
    }
    assert model["ExecutionRoleArn"] == ROLE
    assert model["VpcConfig"] == {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
    endpoint_config = client.describe_endpoint_config(EndpointConfigName=record.endpoint_name)
    assert endpoint_config["KmsKeyId"] == "alias/volumes"
    (variant,) = endpoint_config["ProductionVariants"]
    assert variant["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] == 900
    for arn in (model["ModelArn"], endpoint_config["EndpointConfigArn"]):
        tags = {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=arn)["Tags"]}
        assert tags.pop("expires-at") > record.create_called_at
        assert tags == {"team": "search", "created-by": "llm-serving-verdict", "run-id": run.run_id}
    assert record.serving["tensor_parallel_degree"] == "1"
    assert TOKEN not in run.ledger_file.read_text()
    lab.helpers("cleanup", str(run.path))
    assert lab.left() == set()


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("absent#token", "secret 'absent#token' of AWS Secrets Manager"),
        ("huggingface#tokens", "is no JSON object with the key 'tokens'"),
    ],
)
def test_a_secret_that_cannot_be_read_is_reported(lab, secret, reference, words):
    option = {"container": {**VLLM, "secrets": {"HF_TOKEN": reference}}, "api": None}
    config = fault_config(lab.folder, ("a",), option=option)
    run = lab.begin(config)
    lab.start()
    said = lab.finish(config, run)
    assert words in said and "Next:" in said
    assert TOKEN not in said
    assert lab.left() == set()


def test_model_data_on_s3_becomes_a_data_source(lab, moto_server):
    container = {**VLLM, "model_id": "s3://models/llama", "secrets": {}}
    config = fault_config(lab.folder, ("a",), option={"container": container, "api": None}, endpoints={"keep": True})
    run = lab.begin(config)
    lab.start()
    lab.finish(config, run)
    described = lab.model(records_of(run)["a"].endpoint_name)["PrimaryContainer"]
    source = described["ModelDataSource"]["S3DataSource"]
    assert source == {"S3Uri": "s3://models/llama/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    lab.helpers("cleanup", str(run.path))


def test_without_an_execution_role_it_says_how_to_make_one(lab, moto_server):
    config = fault_config(lab.folder, ("a",), aws={"region": "us-east-1"})
    run = lab.begin(config)
    lab.start()
    said = lab.finish(config, run)
    assert "no execution role" in said and "docs/aws.md" in said
    assert lab.left() == set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"container": None}, "give exactly one of `container` and `jumpstart`"),
        ({"endpoint_name": "mine"}, "set `deploy: false` too"),
        ({"deploy": False, "container": None}, "give `endpoint_name`"),
        ({"deploy": False, "endpoint_name": "mine"}, "delete `container` and `jumpstart`"),
        ({"volume_gb": 100}, "ml.g5.xlarge has local disks"),
        ({"api": None}, "give `api`"),
        ({"instance_type": "ml.c5.large", "container": VLLM}, "runs on GPUs"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        load_config(fault_config(tmp_path, ("a",), option=changes))


# --- endpoints that exist -----------------------------------------------------------------------------------------


def existing(lab, **config: object) -> None:
    """Somebody else's endpoint, called theirs."""
    client = lab.client()
    variant = {"VariantName": "v", "ModelName": "theirs", "InstanceType": "ml.g5.2xlarge", "InitialInstanceCount": 1}
    client.create_model(
        ModelName="theirs",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "small-server"},
    )
    client.create_endpoint_config(EndpointConfigName="theirs", **{"ProductionVariants": [variant], **config})
    client.create_endpoint(EndpointName="theirs", EndpointConfigName="theirs")
    client.get_waiter("endpoint_in_service").wait(EndpointName="theirs", WaiterConfig={"Delay": 1})


EXISTING = {"deploy": False, "endpoint_name": "theirs", "container": None, "instance_type": None, "price": None}


def existing_config(lab):
    return fault_config(lab.folder, ("a",), option=EXISTING)


def test_an_existing_endpoint_is_measured_and_left_alone(lab, prepared):
    config = existing_config(lab)
    run = lab.begin(config)
    lab.start()
    existing(lab)
    lab.finish(config, run)
    record = records_of(run)["a"]
    assert (record.state, record.instance_type, record.instance_count) == ("external", "ml.g5.2xlarge", 1)
    assert record.image == "small-server"
    assert record.price is not None, "the price of what was found"
    assert len(load_points(run)) == 2
    loaded = load_config(config).benchmark
    measured = read_measurements(loaded, run)
    verdict = judge(measured.points, measured.endpoints, measured.warnings, loaded, run.run_id)
    assert verdict.options[0].instance_type == "ml.g5.2xlarge"
    lab.helpers("cleanup", str(run.path))
    assert lab.left() == {"theirs"}


UNFIT = {
    "asynchronous": {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/out"}}},
    "serverless": {
        "ProductionVariants": [
            {
                "VariantName": "v",
                "ModelName": "theirs",
                "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1},
            }
        ]
    },
    "inference components": {
        "ExecutionRoleArn": ROLE,
        "ProductionVariants": [{"VariantName": "v", "InstanceType": "ml.g5.2xlarge", "InitialInstanceCount": 1}],
    },
}


@pytest.mark.parametrize("kind", UNFIT)
def test_an_endpoint_without_a_price_per_instance_is_refused(lab, kind):
    config = existing_config(lab)
    run = lab.begin(config)
    lab.start()
    existing(lab, **UNFIT[kind])
    said = lab.finish(config, run)
    assert f"endpoint theirs {'holds' if kind == 'inference components' else 'is'} {kind}" in said
    step = "set inference_component" if kind == "inference components" else "deploy the model to"
    assert f"Next: {step}" in said
    assert lab.left() == {"theirs"}


def component(lab, name: str = "theirs-a") -> None:
    """An inference component of the endpoint theirs, which holds no model of its own."""
    existing(lab, **UNFIT["inference components"])
    needs = {"MinMemoryRequiredInMb": 1024}
    client = lab.client()
    client.create_inference_component(
        InferenceComponentName=name,
        EndpointName="theirs",
        VariantName="v",
        Specification={"ModelName": "theirs", "ComputeResourceRequirements": needs},
        RuntimeConfig={"CopyCount": 1},
    )
    wait_for(
        lambda: (
            client.describe_inference_component(InferenceComponentName=name)["InferenceComponentStatus"] == "InService"
        ),
        "the component is in service",
    )


@pytest.mark.parametrize("route", ["invocations", *thorough("openai")])
def test_an_inference_component_is_measured_by_each_route_and_left_alone(lab, route):
    config = fault_config(lab.folder, ("a",), option={**EXISTING, "inference_component": "theirs-a", "route": route})
    run = lab.begin(config)
    lab.start()
    component(lab)
    lab.finish(config, run)
    record = records_of(run)["a"]
    assert (record.state, record.instance_type, record.image) == ("external", "ml.g5.2xlarge", "small-server")
    assert record.serving == {"inference_component": "theirs-a", "copies": "1"}
    assert record.price.source.endswith("of the whole endpoint, whose instances its inference components share")
    assert len(load_points(run)) == 2
    assert set(statuses(run, "a")) == {"ok"}
    (answer,) = first_answers(run)
    way = "/inference-components/theirs-a/openai/v1/chat/completions" if route == "openai" else "response-stream"
    kind = "an AWS bearer token" if route == "openai" else "an AWS signature"
    assert way in answer.sent and kind in answer.sent
    written = b"".join(path.read_bytes() for path in run.path.rglob("*") if path.is_file())
    assert b"sagemaker-api-key" not in written
    described = lab.client().describe_inference_component(InferenceComponentName="theirs-a")
    assert described["InferenceComponentStatus"] == "InService"


def test_a_missing_or_unneeded_component_is_reported(lab):
    config = fault_config(lab.folder, ("a",), option={**EXISTING, "inference_component": "theirs-b"})
    run = lab.begin(config)
    lab.start()
    existing(lab)
    said = lab.finish(config, run)
    assert "endpoint theirs has its own model, expected the inference component theirs-b" in said
    assert "Next: delete inference_component" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inference_component": "c"}, "needs an existing endpoint: set `deploy: false`"),
        ({**EXISTING, "inference_component": "a b"}, "inference_component"),
        ({"headers": {"authorization": "Bearer x"}}, "target sagemaker are signed.*Next: delete it from headers"),
        ({"route": "openai", "api": "tgi"}, "`route: openai` takes only chat .* and api is tgi. Next: set `api"),
    ],
)
def test_routes_and_components_that_do_not_fit_are_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        load_config(fault_config(tmp_path, ("a",), option=changes))


def test_a_missing_endpoint_is_reported(lab):
    config = existing_config(lab)
    run = lab.begin(config)
    lab.start()
    said = lab.finish(config, run)
    assert "endpoint theirs does not exist" in said and "check endpoint_name and aws.region" in said
