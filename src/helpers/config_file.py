"""Reads a config file: YAML with `${NAME}` from the environment, checked before anything starts.

Every fault becomes one line `file:line: key: what is wrong`, so that a config with five faults is mended in one go.
Values that came from the environment are treated as secrets: they are used, but written back as `${NAME}`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import yaml
from pydantic import ValidationError

from helpers.config import PROJECT_ROOT, BenchmarkConfig
from helpers.errors import ConfigError

KeyPath = tuple[str | int, ...]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FRACTIONS = ("headroom", "error_rate", "confidence")
_UNITS = {
    "_s": "seconds, a number such as 0.5",
    "_usd": "dollars",
    "_tokens": "tokens",
    "_minute": "requests per minute",
}


@dataclass(frozen=True)
class LoadedConfig:
    """A checked config, where it was read, and where its values came from the environment."""

    benchmark: BenchmarkConfig = field(repr=False)
    path: Path
    unexpanded: dict[KeyPath, str]
    """Key path -> the text with `${NAME}` that stood there."""

    def public_data(self) -> dict:
        """The whole config with every default filled in, and `${NAME}` in place of what came from the environment."""
        data = self.benchmark.model_dump(mode="json")
        for path, text in self.unexpanded.items():
            _set_at(data, path, text)
        return data

    def public_yaml(self) -> str:
        """`public_data` as YAML."""
        return yaml.safe_dump(self.public_data(), sort_keys=False, allow_unicode=True, width=120)


def load_config(config_path: str | Path) -> LoadedConfig:
    """Read and check a config file. Raises ConfigError with one line per fault."""
    path = Path(config_path).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such config file. Next: give the path of a YAML file, see {PROJECT_ROOT / 'configs'}"
        )
    as_written, lines = _parse_yaml(path)
    unexpanded: dict[KeyPath, str] = {}
    data = _expand(as_written, (), path, lines, unexpanded)
    try:
        benchmark = BenchmarkConfig.model_validate(data)
    except ValidationError as error:
        faults = {_fault(fault, as_written, lines, unexpanded) for fault in error.errors()}
        raise ConfigError("\n".join(f"{path}:{line}: {message}" for line, message in sorted(faults))) from None
    for i, option in enumerate(benchmark.options):
        at = ("options", i, "api_key")
        if getattr(option, "api_key", None) and at not in unexpanded:
            raise ConfigError(
                f"{path}:{_line(lines, at)}: {_dotted(at)}: a secret is written into the file. Expected ${{NAME}}. "
                "Next: export it as an environment variable and name that here"
            )
    return LoadedConfig(benchmark, path.resolve(), unexpanded)


def config_schema() -> str:
    """The JSON schema of a config file, for editors."""
    schema = BenchmarkConfig.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


# --- YAML with line numbers ---------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML whose dates stay text: the config checks them itself, and can say which key has a wrong one."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _parse_yaml(path: Path) -> tuple[object, dict[KeyPath, int]]:
    """The data of a YAML file and the line of every key path. Duplicate keys are refused."""
    text = path.read_text(encoding="utf-8")
    try:
        root = yaml.compose(text, Loader=_Loader)
        lines: dict[KeyPath, int] = {}
        _walk(root, (), path, lines)
        return yaml.load(text, Loader=_Loader), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}:1: not valid YAML: {error}") from None


def _walk(node: yaml.Node | None, at: KeyPath, path: Path, lines: dict[KeyPath, int]) -> None:
    if node is None:
        return
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _walk(item, (*at, i), path, lines)
    elif isinstance(node, yaml.MappingNode):
        first_seen: dict[str, int] = {}
        for key_node, value in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in first_seen:
                raise ConfigError(
                    f"{path}:{line}: {_dotted((*at, key))}: duplicate key, first given on line {first_seen[key]}. "
                    "Next: delete one of the two"
                )
            first_seen[key] = line
            if key == "<<":
                continue
            lines[(*at, key)] = line
            _walk(value, (*at, key), path, lines)


def _expand(data: object, at: KeyPath, path: Path, lines: dict[KeyPath, int], unexpanded: dict[KeyPath, str]) -> object:
    """Replace `${NAME}` in every string, noting where."""
    if isinstance(data, dict):
        return {key: _expand(value, (*at, key), path, lines, unexpanded) for key, value in data.items()}
    if isinstance(data, list):
        return [_expand(value, (*at, i), path, lines, unexpanded) for i, value in enumerate(data)]
    if not isinstance(data, str) or not _VARIABLE.search(data):
        return data
    missing = [name for name in _VARIABLE.findall(data) if name not in os.environ]
    if missing:
        raise ConfigError(
            f"{path}:{_line(lines, at)}: {_dotted(at)}: environment variable {missing[0]} is not set. "
            f"Next: export {missing[0]}=..., or write the value"
        )
    unexpanded[at] = data
    return _VARIABLE.sub(lambda match: os.environ[match.group(1)], data)


# --- one line per fault -------------------------------------------------------------------------------------------


def _fault(fault: dict, data: object, lines: dict[KeyPath, int], unexpanded: dict[KeyPath, str]) -> tuple[int, str]:
    """The line of the file, and what pydantic found there in words. `data` is as written, with `${NAME}` unexpanded."""
    context = fault.get("ctx") or {}
    at = _data_path(fault["loc"], data, missing_key=fault["type"] == "missing")
    if "path" in context:
        at = tuple(context["path"])
    message, kind = fault["msg"], fault["type"]
    if kind == "unknown_key":
        at = (*at, context["key"])
        message = f"unknown key.{_choices(context['key'], context['allowed'])}"
    elif kind == "missing_dataset":
        message = f"{message}: {_shown(at, context['bad'], unexpanded)}.{_choices(context['bad'], context['allowed'])}"
    elif kind == "missing":
        message = "this key is required"
    elif kind == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        key = context["discriminator"].strip("'")
        at = (*at, key)
        message = f"bad value {_shown(at, context['tag'], unexpanded)}.{_choices(context['tag'], tags)}"
    elif kind == "union_tag_not_found":
        message = f"the key {context['discriminator']} is required: it says what kind of entry this is"
    elif kind != "inconsistent":
        message = re.sub("^(Value error, |Input should be |String should |List should )", "", message)
        message = re.sub("^a valid dictionary( or instance of .*)?$", "a section with keys", message)
        if not fault["msg"].startswith("Value error"):
            message = f"bad value {_shown(at, _get_at(data, at), unexpanded)}. Expected {message}{_unit_hint(at)}"
    return _line(lines, at), f"{_dotted(at)}: {message}"


def _data_path(loc: tuple, data: object, missing_key: bool) -> KeyPath:
    """pydantic's location without the names of union members, which are not in the file."""
    at: list[str | int] = []
    here = data
    for step in loc:
        if (isinstance(here, dict) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and step < len(here)
        ):
            here = here[step]
            at.append(step)
    return (*at, loc[-1]) if missing_key else tuple(at)


def _shown(at: KeyPath, value: object, unexpanded: dict[KeyPath, str]) -> str:
    return "(a value from the environment)" if at in unexpanded else repr(value)


def _choices(bad: str, allowed: list[str]) -> str:
    """What may stand there, the nearest first."""
    near = difflib.get_close_matches(bad, allowed, n=1, cutoff=0.6)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return f"{hint} Expected one of: {', '.join(allowed)}"


def _unit_hint(at: KeyPath) -> str:
    key = str(at[-1]) if at else ""
    if key == "percentile":
        return " (in percent, for example 95)"
    if key in _FRACTIONS:
        return " (a fraction, for example 0.3)"
    return next((f" (unit: {unit})" for suffix, unit in _UNITS.items() if key.endswith(suffix)), "")


def _line(lines: dict[KeyPath, int], at: KeyPath) -> int:
    """The line of a key path, or of the nearest section that stands in the file."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


def _dotted(at: KeyPath) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at)
    return text.removeprefix(".") or "(top level)"


def _get_at(data: object, at: KeyPath) -> object:
    for step in at:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _set_at(data: object, at: KeyPath, value: str) -> None:
    for step in at[:-1]:
        data = data[step]
    data[at[-1]] = value
