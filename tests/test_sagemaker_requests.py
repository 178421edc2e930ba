"""What is sent to AWS for each shipped config: whole, as botocore takes it, and shown here."""

from __future__ import annotations

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator
from pydantic import TypeAdapter, ValidationError

from helpers.config.benchmark import PROJECT_ROOT
from helpers.config.file import load_config
from helpers.config.options import SageMakerOption
from helpers.endpoints.plan import plan_table
from helpers.endpoints.targets.execution_role import find_execution_role
from helpers.endpoints.targets.model_source import ModelSource
from helpers.endpoints.targets.sagemaker_requests import EndpointRequests, endpoint_requests
from helpers.errors import DeployError

SERVICE = get_session().get_service_model("sagemaker")
ROLE = "arn:aws:iam::123456789012:role/endpoints"
NEW, NEURON = "al2023-ami-sagemaker-inference-gpu-4-1", "al2-ami-sagemaker-inference-neuron-2"
CONFIGS = ("llama-3.1-8b", "llama-3.3-70b", "qwen3-32b")
SNAPSHOT = {
    "llama-3.1-8b": {
        "g5.2xlarge, vLLM": ("vllm:0.30.0-gpu-py312-cu130-ubuntu24.04-sagemaker", NEW, None),
        "g6e.2xlarge, LMI": ("djl-inference:0.38.0-lmi29.0.0-cu130", NEW, None),
        "inf2.8xlarge, vLLM": (
            "huggingface-vllm-inference-neuronx:0.11.0-optimum0.4.4-neuronx-py310-sdk2.26.1-ubuntu22.04",
            NEURON,
            256,
        ),
    },
    "llama-3.3-70b": {"p5.48xlarge, vLLM": ("vllm:0.30.0-gpu-py312-cu130-ubuntu24.04-sagemaker", NEW, None)},
    "qwen3-32b": {"g6e.12xlarge, SGLang": ("sglang:0.5.20-gpu-py312-cu130-ubuntu24.04-sagemaker", NEW, None)},
}
"""Config -> option -> container image, machine image, EBS volume."""


def bodies(option: SageMakerOption, config) -> EndpointRequests:
    """The bodies of an option, without a call to AWS."""
    container = option.container
    source = ModelSource(
        container.image_uri(option.instance_type, config.aws.region),
        container.full_environment(),
        container.model_data_url,
    )
    return endpoint_requests(option, config.aws, source, name="run-1-a", role=ROLE, subnets=[], tags={"run-id": "1"})


def faults(sent: EndpointRequests) -> str:
    """What botocore has against the bodies."""
    operations = ("CreateModel", "CreateEndpointConfig", "CreateEndpoint")
    reports = [
        ParamValidator().validate(body, SERVICE.operation_model(operation).input_shape)
        for operation, body in zip(operations, sent, strict=True)
    ]
    return "".join(report.generate_report() for report in reports)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_bodies_of_a_shipped_config(name, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    config = load_config(PROJECT_ROOT / "configs" / f"{name}.yml").benchmark
    seen = {}
    for option in config.options:
        sent = bodies(option, config)
        assert faults(sent) == ""
        (variant,) = sent.endpoint_config["ProductionVariants"]
        assert variant["ModelName"] == sent.model["ModelName"] == sent.endpoint["EndpointConfigName"]
        assert sent.model["PrimaryContainer"]["Environment"]["HF_HOME"] == "/tmp"
        tag = sent.model["PrimaryContainer"]["Image"].rpartition("/")[2]
        seen[option.name] = (tag, variant.get("InferenceAmiVersion"), variant.get("VolumeSizeInGB"))
    assert seen.items() >= SNAPSHOT[name].items()


ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/mine"


def test_a_capacity_reservation_reaches_the_variant(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    config = load_config(PROJECT_ROOT / "configs" / "llama-3.3-70b.yml").benchmark
    option = config.options[1].model_copy(update={"capacity_reservation": ARN})
    sent = bodies(option, config)
    assert faults(sent) == ""
    asked = sent.endpoint_config["ProductionVariants"][0]["CapacityReservationConfig"]
    assert asked == {"CapacityReservationPreference": "capacity-reservations-only", "MlReservationArn": ARN}


def test_a_reservation_is_named_by_its_arn():
    option = {"name": "a", "target": "sagemaker", "instance_type": "ml.p5.48xlarge", "api": "tgi"}
    with pytest.raises(ValidationError, match="capacity_reservation"):
        TypeAdapter(SageMakerOption).validate_python(
            {**option, "container": {"image": "x"}, "capacity_reservation": "my-plan"}
        )


def test_outside_sagemaker_the_callers_role_is_not_taken_for_that_of_the_endpoints(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    config = load_config(PROJECT_ROOT / "configs" / "llama-3.3-70b.yml").benchmark
    with pytest.raises(DeployError, match=r"no execution role: .*not a notebook or job of SageMaker.*Next: make one"):
        find_execution_role(config, session=None)


@pytest.mark.parametrize(("name", "is_said"), [("llama-3.3-70b", True), ("qwen3-32b", False)])
def test_the_plan_says_who_can_read_a_secret(monkeypatch, name, is_said):
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    monkeypatch.setattr("helpers.endpoints.plan.price_of", lambda *_: None)
    config = load_config(PROJECT_ROOT / "configs" / f"{name}.yml").benchmark
    assert ("sagemaker:DescribeModel" in plan_table(config).caption) == is_said
