"""The base of every section of a config: unknown keys are refused by name, values cannot change after loading."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

PositiveInt = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ,.()_+=\-]*$")]
"""The name of an option or a dataset."""


class Strict(BaseModel):
    """A section of the config: unknown keys are refused, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _name_known_keys(cls, data: object, handler: ValidatorFunctionWrapHandler) -> Strict:
        """Tell each unknown key with the keys that are known; other faults stay beside it."""
        try:
            return handler(data)
        except ValidationError as error:
            faults = [_with_known_keys(fault, sorted(cls.model_fields)) for fault in error.errors()]
            raise ValidationError.from_exception_data(cls.__name__, faults, hide_input=True) from None


def _with_known_keys(fault: dict, known: list[str]) -> InitErrorDetails:
    kind, loc, context = fault["type"], fault["loc"], fault.get("ctx")
    if kind == "extra_forbidden" and len(loc) == 1:
        kind, loc, context = "unknown_key", (), {"key": str(loc[0]), "allowed": known}
    return InitErrorDetails(type=PydanticCustomError(kind, fault["msg"], context), loc=loc, input=None)
