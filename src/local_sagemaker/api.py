"""The APIs of SageMaker and CloudWatch Logs as botocore describes them: valid parameters, and errors for the rest."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator

ACCOUNT = "123456789012"

Record = dict[str, Any]


class ApiError(Exception):
    """An error of the API: its code, its HTTP status and a message for the caller."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@cache
def service_model(service: str) -> ServiceModel:
    """botocore's description of a service, `sagemaker` or `logs`; up to 0.2 s to load, once."""
    return botocore.session.get_session().get_service_model(service)


def check_parameters(service: str, operation: str, parameters: Record) -> None:
    """Raises `ApiError` for parameters that AWS would refuse: wrong type, missing, not in the enum, too long."""
    shape = service_model(service).operation_model(operation).input_shape
    code = "ValidationException" if service == "sagemaker" else "InvalidParameterException"
    report = ParamValidator().validate(parameters, shape)
    if report.has_errors():
        raise ApiError(code, report.generate_report())
    violations = list(_violations(shape, parameters, ""))
    if violations:
        noun = "error" if len(violations) == 1 else "errors"
        raise ApiError(code, f"{len(violations)} validation {noun} detected: {'; '.join(violations)}")


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Violated constraints that botocore leaves to the service: enums, patterns and maximum lengths."""
    if isinstance(shape, StructureShape):
        for key, member in value.items():
            if key in shape.members and member is not None:
                yield from _violations(shape.members[key], member, f"{path}.{key}" if path else key)
    elif isinstance(shape, ListShape):
        for position, member in enumerate(value, start=1):
            yield from _violations(shape.member, member, f"{path}.{position}.member")
    elif isinstance(shape, MapShape):
        for key, member in value.items():
            yield from _violations(shape.key, key, f"{path}.key")
            yield from _violations(shape.value, member, f"{path}.value")
    elif isinstance(shape, StringShape):
        yield from _string_violations(shape, value, path)


def _string_violations(shape: StringShape, value: str, path: str) -> Iterator[str]:
    # Values of an environment may be secrets, and an error message ends up in logs.
    shown = "***" if path.endswith("Environment.value") else value
    at = f"Value '{shown}' at '{path}' failed to satisfy constraint: Member must"
    if shape.enum and value not in shape.enum:
        yield f"{at} satisfy enum value set: [{', '.join(shape.enum)}]"
    if len(value) > shape.metadata.get("max", len(value)):
        yield f"{at} have length less than or equal to {shape.metadata['max']}"
    pattern = shape.metadata.get("pattern")
    # Java's \p{...} classes are unknown to Python's regular expressions; only tags use them.
    if pattern and r"\p" not in pattern and not re.fullmatch(pattern, value):
        yield f"{at} satisfy regular expression pattern: {pattern}"
