"""Options with a `matrix` of settings: one option for each combination of values.

    matrix:
      container.max_batch: [8, 32]
      container.quantization: [null, fp8]
      except: [{container.max_batch: 32, container.quantization: fp8}]

A setting is a key path of the option. Combinations are made before the config is checked, so each is an ordinary option, with its
name made from its values. Its key `from_matrix` keeps which settings it stands for.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from pydantic import Field

from helpers.config.secret_names import SECRET_NAME, looks_secret
from helpers.config.strict import MOST_CHARACTERS_OF_A_NAME, Strict, plain
from helpers.config.unquoted import Unquoted
from helpers.config.yaml import OPTIONS, Node
from helpers.errors import ConfigError, cut, shown

MATRIX, EXCEPT, MOST = "matrix", "except", "max_options"
MOST_OPTIONS, HIGHEST_MOST, MOST_COMBINATIONS = 24, 500, 2000
"""Options of a matrix without `max_options`, and at most with it; combinations with the excluded ones."""
NOT_SETTINGS = ("name", MATRIX, "from_matrix")
DEFAULT = "default"
"""In words: null, with which a setting has its default."""
SCHEMA = {
    "type": "object",
    "description": "Makes one option for each combination of values: key path -> list of single values.",
    "properties": {
        EXCEPT: {"type": "array", "items": {"type": "object"}, "description": "Combinations that are left out."},
        MOST: {"type": "integer", "minimum": 1, "maximum": HIGHEST_MOST, "default": MOST_OPTIONS},
    },
    "additionalProperties": {
        "type": "array",
        "minItems": 1,
        "items": {"type": ["string", "number", "boolean", "null"]},
    },
}


class FromMatrix(Strict):
    """Which combination of a matrix an option is. Written by the matrix."""

    option: str = Field(description="Name of the option with the matrix.")
    settings: dict[str, str] = Field(description="Setting -> value in words; `default` for null.")


Axes = dict[str, dict[str, Node]]
"""Setting -> value in words -> value."""


class _Fault(Exception):
    """What is wrong with a part of a matrix."""

    def __init__(self, node: Node, words: str, at: str = "") -> None:
        place = replace(node.place, at=(*node.place.at, at)) if at else node.place
        super().__init__(f"{place}: {words}")


@dataclass(frozen=True)
class _Matrix:
    axes: Axes
    excluded: list[dict[str, str]]

    def combinations(self) -> list[dict[str, str]]:
        each = [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]
        return [one for one in each if not any(some.items() <= one.items() for some in self.excluded)]

    def name(self, base: str, one: dict[str, str]) -> str:
        """The option's name with its values: `NAME, max_batch 8, fp8`."""
        shared = [words for axis in self.axes.values() for words in axis]
        parts = []
        for setting, words in one.items():
            value, label = self.axes[setting][words].value, setting.rpartition(".")[2]
            if value is None:
                parts.append(f"{words} {label}")
            else:
                is_clear = all(map(_is_text, self.axes[setting].values())) and shared.count(words) == 1
                parts.append(words if is_clear else f"{label} {words}")
        return f"{base}, {', '.join(parts)}"


def _is_text(node: Node) -> bool:
    return node.value is None or not isinstance(node.value, Unquoted)


def with_matrices(root: Node) -> Node:
    """A config with each matrix replaced by its options. Raises ConfigError with one line for each faulty matrix."""
    options = root.at((OPTIONS,))
    if options is None or not isinstance(options.value, list):
        return root
    made, faults = [], []
    for option in options.value:
        try:
            made += _options_of(option)
        except _Fault as fault:
            faults.append(str(fault))
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return replace(root, value={**root.value, OPTIONS: replace(options, value=made)})


def _options_of(option: Node) -> list[Node]:
    if not isinstance(option.value, dict) or MATRIX not in option.value:
        return [option]
    base = replace(option, value={key: node for key, node in option.value.items() if key != MATRIX})
    name, written = base.at(("name",)), option.value[MATRIX]
    if written.value is None or name is None or not isinstance(name.value, str):
        return [base]  # without a matrix, or without a name, which is then asked for
    matrix = _read(written, base)
    return [_option(base, name, written, matrix, one) for one in matrix.combinations()]


def _option(base: Node, name: Node, written: Node, matrix: _Matrix, one: dict[str, str]) -> Node:
    """One combination as an option."""
    full = matrix.name(name.value, one)
    if len(full) > MOST_CHARACTERS_OF_A_NAME:
        raise _Fault(
            name,
            f"bad value {shown(name.value)}: with the values of its matrix the name {shown(full)} has {len(full)} characters. "
            f"Expected at most {MOST_CHARACTERS_OF_A_NAME}. Next: shorten it, or the values",
        )
    for setting, words in one.items():
        base = _with(base, setting.split("."), matrix.axes[setting][words])
    settings = replace(written, value={setting: replace(written, value=words) for setting, words in one.items()})
    stands_for = replace(written, value={"option": name, "settings": settings})
    return replace(base, value={**base.value, "name": replace(name, value=full), "from_matrix": stands_for})


def _with(section: Node, steps: list[str], value: Node) -> Node:
    """A section with the value at a key path; sections that are missing are made."""
    step, *others = steps
    if others:
        inner = section.value.get(step)
        if inner is None or inner.value is None:
            inner = replace(value, value={})
        if not isinstance(inner.value, dict):
            raise _Fault(value, f"bad key: `{step}` is not a section of the option. Next: correct the key path")
        value = _with(inner, others, value)
    return replace(section, value={**section.value, step: value})


# --- what is written ----------------------------------------------------------------------------------------------


def _read(written: Node, base: Node) -> _Matrix:
    """The matrix, checked. Raises _Fault."""
    axes = (
        {key: node for key, node in written.value.items() if key not in (EXCEPT, MOST)}
        if isinstance(written.value, dict)
        else {}
    )
    if not axes:
        raise _Fault(
            written,
            f"bad value {shown(written.plain())}. Expected settings with a list of values each, such as "
            "container.max_batch: [8, 32]. Next: add one, or delete the matrix",
        )
    for setting, node in axes.items():
        _check_setting(setting, node, list(axes))
    read = {setting: _values(setting, node) for setting, node in axes.items()}
    for setting, values in read.items():
        _with(base, setting.split("."), next(iter(values.values())))  # is there a place for it?
    count, most = math.prod(map(len, read.values())), _most(written)
    if count > MOST_COMBINATIONS:
        raise _too_many(written, count, f"Expected at most {MOST_COMBINATIONS:,}, the excluded ones included")
    matrix = _Matrix(read, _excluded(written.value.get(EXCEPT), read))
    left = len(matrix.combinations())
    if left == 0:
        raise _Fault(written, f"`{EXCEPT}` leaves none of the {count} combinations. Next: exclude fewer", EXCEPT)
    if left > most:
        raise _too_many(written, left, f"Expected at most {most} ({MOST})")
    return matrix


def _too_many(written: Node, count: int, expected: str) -> _Fault:
    return _Fault(
        written,
        f"{count:,} options, of which each is deployed, measured and paid. {expected}. Next: give fewer values, exclude "
        f"combinations with `{EXCEPT}`, or set {MOST} (at most {HIGHEST_MOST}) if you want them all",
    )


def _check_setting(setting: str, node: Node, others: list[str]) -> None:
    steps = setting.split(".")
    if not all(steps) or steps[0] in NOT_SETTINGS:
        raise _Fault(
            node,
            "bad key. Expected a setting of the option, such as container.max_batch, container.environment.NAME or "
            "instance_type; names are made from the values. Next: correct the key path",
        )
    if SECRET_NAME.search(steps[-1]):
        raise _Fault(
            node,
            "bad key: names of options and the report show the values of a matrix, so a secret cannot be one. Next: write the "
            "options one by one",
        )
    if inside := next((other for other in others if other.startswith(f"{setting}.")), None):
        raise _Fault(node, f"bad key: `{inside}` is a part of it. Expected settings of their own. Next: delete one")


def _values(setting: str, node: Node) -> dict[str, Node]:
    """Value in words -> value."""
    values = node.value
    if not isinstance(values, list) or not values:
        raise _Fault(
            node, f"bad value {shown(node.plain())}. Expected a list of values, such as [8, 32]. Next: write one"
        )
    found: dict[str, Node] = {}
    names: dict[str, str] = {}
    for value in values:
        if isinstance(value.value, dict | list):
            raise _Fault(
                value,
                f"bad value {shown(value.plain())}. Expected a single value: text, a number, true, false or null. Next: write "
                "options of their own for whole sections and lists",
            )
        if looks_secret(value.value):
            raise _Fault(
                value, "a secret is written into the file. Expected a value that a report may show. Next: delete it"
            )
        words = _words(value.value)
        in_a_file = plain(words, "").lower()
        if not in_a_file or in_a_file in names:
            same = f"would be named like {shown(names[in_a_file])}" if in_a_file else "has no letter or digit"
            raise _Fault(
                value,
                f"bad value {shown(value.plain())}: it {same}. Expected values that name different options. Next: delete one",
            )
        names[in_a_file] = words
        found[words] = replace(value, place=replace(value.place, at=node.place.at))
    return found


def _words(value: object) -> str:
    """A value as a name shows it: with the characters that a name may have."""
    return DEFAULT if value is None else plain(str(value), r" .()_+=\-")


def _most(written: Node) -> int:
    node = written.value.get(MOST)
    if node is None:
        return MOST_OPTIONS
    if isinstance(node.value, Unquoted) and node.value.isdecimal() and 1 <= int(node.value) <= HIGHEST_MOST:
        return int(node.value)
    raise _Fault(
        node,
        f"bad value {shown(node.plain())}. Expected a whole number from 1 to {HIGHEST_MOST}. Next: correct this value",
    )


def _excluded(node: Node | None, axes: Axes) -> list[dict[str, str]]:
    """Setting -> value in words, of each entry of `except`."""
    if node is None:
        return []
    if not isinstance(node.value, list) or any(not isinstance(one.value, dict) or not one.value for one in node.value):
        raise _Fault(
            node,
            f"bad value {shown(node.plain())}. Expected a list of combinations, such as [{{{next(iter(axes))}: "
            f"{next(iter(axes[next(iter(axes))]))}}}]. Next: correct it",
        )
    return [
        {setting: _excluded_value(setting, value, axes) for setting, value in one.value.items()} for one in node.value
    ]


def _excluded_value(setting: str, node: Node, axes: Axes) -> str:
    if setting not in axes:
        raise _Fault(
            node, f"bad key: not a setting of this matrix. Expected one of: {', '.join(axes)}. Next: correct it"
        )
    words = None if isinstance(node.value, dict | list) else _words(node.value)
    if words not in axes[setting]:
        raise _Fault(
            node,
            f"bad value {shown(node.plain())}: it excludes nothing. Expected one of: {cut(', '.join(axes[setting]), 300)}. "
            "Next: write one of these values, or delete this entry",
        )
    return words
