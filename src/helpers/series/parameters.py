"""Notebook parameters: names are checked before the series starts, values are converted to their declared types.

papermill only warns about a parameter that a notebook does not have, and its command line reads `007` as 7, `1e5` as 100000.0
and `None` as None; SageMaker Studio's notebook jobs send every value as a string. This module corrects all of that. The notebook
itself reads `${NAME}` in a value from the environment, so papermill saves only `${NAME}`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from helpers.config.file import VARIABLE
from helpers.errors import ParameterError, cut, shown

BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
Scalar = bool | int | float | str | None


def check_parameters(notebook: Path, values: Mapping[str, Scalar], where: str) -> None:
    """Raise ParameterError for a value whose name or type the notebook's parameters cell does not declare."""
    import papermill

    declared = papermill.inspect_notebook(str(notebook))
    for name, value in values.items():
        if name not in declared:
            near = difflib.get_close_matches(cut(name), declared, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise ParameterError(
                f"{where}: notebook {notebook.stem} has no parameter {shown(name)}.{hint} "
                f"Expected one of: {', '.join(declared)}. Next: correct or delete it"
            )
        kind = declared[name]["inferred_type_name"]
        if kind in TYPES:
            coerce(name, value, TYPES[kind], where)


def coerce_parameters(namespace: MutableMapping[str, object]) -> None:
    """Convert the parameters of a notebook (its `globals()`) to the types that its parameters cell declares.

    Raises ParameterError for a value of another type, or for an environment variable that is not set.
    """
    for name, kind in namespace.get("__annotations__", {}).items():
        if kind in TYPES.values() and name in namespace:
            value = namespace[name]
            if kind is str and not isinstance(value, str | None):
                value = _as_given(name, value)
            namespace[name] = coerce(name, value, kind, "parameters cell")


def coerce(name: str, value: object, kind: type, where: str) -> Scalar:
    """A value as `kind` (str, int, float or bool); text is parsed, numbers are never truncated, and None becomes "".

    Raises ParameterError.
    """
    text = "" if value is None or (kind is str and value == "None") else _expanded(name, str(value), where)
    try:
        if kind is bool:
            return BOOLEANS[text.strip().lower()]
        if kind is int:
            return int(text)
        return float(text) if kind is float else text
    except (KeyError, ValueError):
        bad = "(a value from the environment)" if VARIABLE.search(str(value)) else shown(value)
        raise ParameterError(
            f"{where}: parameter {name!r}: bad value {bad}. Expected {kind.__name__}. Next: correct the value"
        ) from None


def _expanded(name: str, text: str, where: str) -> str:
    """Text with each `${NAME}` replaced from the environment."""
    for variable in VARIABLE.findall(text):
        if variable not in os.environ:
            raise ParameterError(
                f"{where}: parameter {name!r}: environment variable {variable} is not set. Next: export {variable}=..., or write "
                "the value if it is not a secret"
            )
    return VARIABLE.sub(lambda match: os.environ[match.group(1)], text)


def _as_given(name: str, value: object) -> str:
    """A value that is not text, as written on papermill's command line, which started this kernel; else as Python writes it."""
    import psutil

    try:
        words = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):  # no accessible parent
        return str(value)
    is_papermill = any(Path(word).name == "papermill" for word in words[:4])
    given = [words[i + 2] for i in range(len(words) - 2) if words[i] in ("-p", "--parameters") and words[i + 1] == name]
    return given[-1] if is_papermill and given else str(value)


TYPES = {"str": str, "int": int, "float": float, "bool": bool}
