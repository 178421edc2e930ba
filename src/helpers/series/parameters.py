"""Notebook parameters: names are checked before the series starts, values are brought to their declared types.

papermill only warns about a parameter that a notebook does not have, and SageMaker Studio's notebook jobs send every
value as a string. Both are put right here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from helpers.errors import ParameterError, cut, shown

BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
Scalar = bool | int | float | str


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
    """Bring the parameters of a notebook (its `globals()`) to the types that its parameters cell declares."""
    for name, kind in namespace.get("__annotations__", {}).items():
        if kind in TYPES.values() and name in namespace:
            namespace[name] = coerce(name, namespace[name], kind, "parameters cell")


def coerce(name: str, value: object, kind: type, where: str) -> Scalar:
    """A value as `kind` (str, int, float or bool); text is read, nothing is cut off. Raises ParameterError."""
    text = str(value).strip()
    try:
        if kind is bool:
            return BOOLEANS[text.lower()]
        if kind is int:
            return int(text)
        return kind(text) if kind is float else str(value)
    except (KeyError, ValueError):
        raise ParameterError(
            f"{where}: parameter {name!r}: bad value {shown(value)}. Expected {kind.__name__}. Next: correct the value"
        ) from None


TYPES = {"str": str, "int": int, "float": float, "bool": bool}
