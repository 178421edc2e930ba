"""Errors from AWS and containers become a cause with a helpful next step."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from helpers.endpoints.failures import NEXT_STEP, cause_of_log, deploy_error
from helpers.run.aws_errors import Cause

TYPES = ", ".join(f"ml.x{i}.xlarge" for i in range(277))
REJECTED = (
    "1 validation error detected: Value 'ml.g9.xlarge' at 'productionVariants.1.member.instanceType' failed to satisfy "
    f"constraint: Member must satisfy enum value set: [{TYPES}]"
)


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12040).",
        "CUDA error: CUDA driver version is insufficient for CUDA runtime version",
        "forward compatibility was attempted on non supported HW",
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0",
    ],
)
def test_a_driver_that_is_too_old_leads_to_the_machine_image(line):
    assert cause_of_log(f"Traceback (most recent call last):\n{line}") == Cause.DRIVER
    assert NEXT_STEP[Cause.DRIVER].startswith("set inference_ami")


def test_a_rejected_instance_type_does_not_bring_all_types_into_the_message():
    error = ClientError({"Error": {"Code": "ValidationException", "Message": REJECTED}}, "CreateEndpointConfig")
    said = str(deploy_error("a", "ml.g9.xlarge in us-east-1", error))
    assert "Value 'ml.g9.xlarge'" in said and "enum value set: (left out)" in said and "Next: " in said
    assert "ml.x7.xlarge" not in said


def test_a_short_list_of_values_is_kept():
    words = "Member must satisfy enum value set: [a, b]"
    error = ClientError({"Error": {"Code": "ValidationException", "Message": words}}, "CreateEndpoint")
    assert words in str(deploy_error("a", "x", error))
