"""What the tests answer in place of the Price List and Service Quotas has the shapes of botocore's models."""

from __future__ import annotations

import pytest
from aws_stub import AwsStub, product
from botocore.session import get_session
from botocore.validate import ParamValidator

STUB = AwsStub(
    products=[product(f"ml.g5.{size}xlarge", "1.5") for size in (2, 4, 8)],
    quotas={f"ml.g5.{size}xlarge for endpoint usage": 1.0 for size in (2, 4, 8)},
    default_quotas={"ml.g5.2xlarge for endpoint usage": 0.0},
)
FILTER = {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "us-east-1"}
ASKED = {
    "GetProducts": ("pricing", {"ServiceCode": "AmazonSageMaker", "Filters": [FILTER]}),
    "ListServiceQuotas": ("service-quotas", {"ServiceCode": "sagemaker"}),
    "ListAWSDefaultServiceQuotas": ("service-quotas", {"ServiceCode": "sagemaker"}),
}


@pytest.mark.parametrize("operation", ASKED)
def test_questions_and_answers_are_of_the_shapes_that_botocore_has(operation):
    service, parameters = ASKED[operation]
    model = get_session().get_service_model(service).operation_model(operation)
    answer = STUB.answer(operation, parameters)
    for body, shape in ((parameters, model.input_shape), (answer, model.output_shape)):
        assert not ParamValidator().validate(body, shape).has_errors()
        assert body.keys() <= shape.members.keys()
    for item in answer.get("Quotas", []):
        assert item.keys() <= model.output_shape.members["Quotas"].member.members.keys()
