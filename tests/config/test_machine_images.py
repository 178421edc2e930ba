"""The machine image follows the container's CUDA; what cannot run is refused before anything is made."""

from __future__ import annotations

import csv
import re

import pytest
from botocore.session import get_session
from pydantic import ValidationError

from helpers.config.containers.machine_images import MACHINE_IMAGES, machine_image_for
from helpers.config.options import SageMakerOption

CUDA_13, CUDA_12, CUDA_12_OLD, NEURON = (
    "al2023-ami-sagemaker-inference-gpu-4-1",
    "al2-ami-sagemaker-inference-gpu-3-1",
    "al2-ami-sagemaker-inference-gpu-2",
    "al2-ami-sagemaker-inference-neuron-2",
)
REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
VLLM = f"{REGISTRY}/vllm:0.30.0-gpu-py312-cu130-ubuntu24.04-sagemaker"
LMI = f"{REGISTRY}/djl-inference:0.38.0-lmi29.0.0-cu130"
LMI_OLD = f"{REGISTRY}/djl-inference:0.35.0-lmi17.0.0-cu128"
TGI = f"{REGISTRY}/huggingface-pytorch-tgi-inference:2.7.0-tgi3.3.6-gpu-py311-cu124-ubuntu22.04"
OLD_TGI = f"{REGISTRY}/huggingface-pytorch-tgi-inference:2.0.1-tgi1.1.0-gpu-py39-cu118-ubuntu20.04"
NEURON_TGI = f"{REGISTRY}/huggingface-pytorch-tgi-inference:2.1.2-optimum0.0.28-inf2-py310-ubuntu22.04"
MINE = "1.dkr.ecr.us-east-1.amazonaws.com/cu130-things:latest"


@pytest.mark.parametrize(
    ("image", "instance_type", "expected"),
    [
        (VLLM, "ml.g5.2xlarge", CUDA_13),
        (LMI, "ml.p4d.24xlarge", CUDA_13),
        (VLLM, "ml.g7e.2xlarge", CUDA_13),
        (LMI_OLD, "ml.p6-b200.48xlarge", CUDA_13),
        (LMI_OLD, "ml.g6e.2xlarge", CUDA_12),
        (TGI, "ml.p5.48xlarge", CUDA_12),
        (OLD_TGI, "ml.g5.12xlarge", CUDA_12),
        (NEURON_TGI, "ml.inf2.xlarge", NEURON),
        (NEURON_TGI, "ml.trn1.32xlarge", NEURON),
        (MINE, "ml.g5.2xlarge", None),
        (MINE, "ml.g7.2xlarge", CUDA_13),
        (MINE, "ml.c5.large", None),
        (MINE, "ml.inf1.xlarge", None),
        (TGI, "ml.p3.2xlarge", None),
        ("small-server", "ml.g5.xlarge", None),
    ],
)
def test_the_machine_image_follows_the_container(image, instance_type, expected):
    assert machine_image_for(image, instance_type) == expected


@pytest.mark.parametrize(
    ("image", "instance_type", "stated", "words"),
    [
        (
            VLLM,
            "ml.g5.2xlarge",
            CUDA_12,
            rf"'{CUDA_12}' does not run a container with cu130 .*Expected {CUDA_13}\. Next: ",
        ),
        (LMI_OLD, "ml.g5.2xlarge", CUDA_13, rf"with cu128 on ml.g5.2xlarge. Expected {CUDA_12} or "),
        (VLLM, "ml.p6-b300.48xlarge", CUDA_12, "does not run"),
        (MINE, "ml.g7e.2xlarge", CUDA_12, f"does not run this container on ml.g7e.2xlarge. Expected {CUDA_13}"),
        (NEURON_TGI, "ml.inf2.xlarge", CUDA_13, f"Expected {NEURON}"),
        (VLLM, "ml.g5.2xlarge", NEURON, "does not run"),
        (MINE, "ml.g5.2xlarge", "al2-ami-of-tomorrow", "'al2-ami-of-tomorrow' does not run this container"),
        (
            TGI,
            "ml.g7e.2xlarge",
            None,
            "no machine image .* runs a container with cu124 on ml.g7e.2xlarge. Next: choose",
        ),
        (VLLM, "ml.p3.2xlarge", None, "no machine image .* cu130 on ml.p3.2xlarge"),
    ],
)
def test_what_cannot_run_is_refused(image, instance_type, stated, words):
    with pytest.raises(ValueError, match=words):
        machine_image_for(image, instance_type, stated)


@pytest.mark.parametrize(("image", "stated"), [(TGI, CUDA_12_OLD), (VLLM, CUDA_13), (MINE, CUDA_12), (MINE, CUDA_13)])
def test_what_the_config_states_wins_where_it_can_run(image, stated):
    assert machine_image_for(image, "ml.g5.2xlarge", stated) == stated


def test_a_config_with_a_mismatch_is_refused_when_it_is_read():
    option = {
        "name": "a",
        "target": "sagemaker",
        "api": "tgi",
        "instance_type": "ml.g5.2xlarge",
        "inference_ami": CUDA_13,
    }
    with pytest.raises(ValidationError, match=r"does not run a container with cu124.*Next: delete inference_ami"):
        SageMakerOption.model_validate({**option, "container": {"image": TGI}})


def test_the_table_has_every_machine_image_of_botocore_with_day_and_source():
    service = get_session().get_service_model("sagemaker")
    rows = list(csv.DictReader(MACHINE_IMAGES.open(encoding="utf-8", newline="")))
    assert {row["inference_ami"] for row in rows} == set(service.shape_for("ProductionVariantInferenceAmiVersion").enum)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", row["as_of"]) and row["source"] for row in rows)
