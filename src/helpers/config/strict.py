"""The base of every section of a config: unknown keys are refused by name, values cannot change after loading."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

PositiveInt = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]


def in_words(pattern: str, expected: str, suggest: Callable[[str], str]) -> tuple[AfterValidator, FieldInfo]:
    """For `Annotated[str, *in_words(...)]`: text that matches a pattern; messages describe it and suggest a valid value."""
    whole = re.compile(pattern)

    def check(value: str) -> str:
        if whole.fullmatch(value):
            return value
        raise ValueError(f"expected {expected}. Next: write for example {suggest(value)!r}")

    return AfterValidator(check), Field(json_schema_extra={"pattern": f"^({pattern})$"})


def plain(text: str, others: str, instead: str = "-") -> str:
    """Text in ASCII letters, digits and `others` (as in a character class), beginning with a letter or digit."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(rf"[^A-Za-z0-9{others}]+", instead, ascii_text).strip(" ,.()_+=-")


MOST_CHARACTERS_OF_A_NAME = 80
_NAME = rf"[A-Za-z0-9][A-Za-z0-9 ,.()_+=\-]{{0,{MOST_CHARACTERS_OF_A_NAME - 1}}}"
Name = Annotated[
    str,
    *in_words(
        _NAME,
        "1 to 80 of the letters A to Z and a to z, digits, spaces and , . ( ) _ + = -, the first of them a letter or digit",
        lambda text: plain(text, r" ,.()_+=\-")[:80].strip() or "name-1",
    ),
]
"""The name of an option or a dataset."""


class Strict(BaseModel):
    """A section of the config: unknown keys are refused, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _name_known_keys(cls, data: object, handler: ValidatorFunctionWrapHandler) -> Strict:
        """Report each unknown key with the known keys, along with other faults."""
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


def slug(name: str) -> str:
    """A name as used in file and endpoint names: lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
