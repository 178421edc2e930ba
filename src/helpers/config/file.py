"""Reads a config file: YAML with `${NAME}` from the environment, checked before anything starts.

Every fault becomes one line `file:line: key: what is wrong`, so that five faults can be fixed in one go.
Values from the environment are treated as secrets: they are used, but written back as `${NAME}`. Text that is only
shown, such as the source of a price, is not expanded; notebook parameters are expanded by the notebooks.
`config.yaml` merges what a config takes from other files.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from pydantic import ValidationError

from helpers.config.benchmark import PROJECT_ROOT, BenchmarkConfig
from helpers.config.matrix import MATRIX, SCHEMA, with_matrices
from helpers.config.secret_names import SECRET_NAME, looks_secret
from helpers.config.traffic_curve import BASE_DIR
from helpers.config.unquoted import Unquoted
from helpers.config.yaml import (
    EXTENDS,
    OPTION_DEFAULTS,
    OPTIONS,
    KeyPath,
    Node,
    as_yaml,
    dotted,
    expanded,
    read_config,
    why_no_text,
    why_unreadable,
)
from helpers.errors import MOST_CHARACTERS_OF_A_LINE, ConfigError, cut, shown
from helpers.number_text import plural

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_KEYS = ("api_key", "hf_token", "apikey", "api-key", "authorization", "password", "webhook")
_COMMANDS = {("local_sagemaker", "engines"): 4, ("notify", "command"): 3}
"""Sections with commands -> length of the key path of an argument."""
_NAMED_BY_USER = ("environment", "headers")
"""Sections with user-defined keys: there a name like HF_TOKEN marks a secret."""
_NO_SECRETS = ("", "none", "empty")
"""Placeholders for servers that need no key."""
MOST_CHARACTERS_OF_FAULTS = 10_000
CURVE: KeyPath = ("traffic", "curve")
_FRACTIONS = ("headroom", "error_rate", "confidence")
_UNITS = {
    "_s": "seconds, a number such as 0.5",
    "_usd": "dollars",
    "_tokens": "tokens",
    "_minute": "requests per minute",
}

_EXPECTED = {
    re.compile("a valid dictionary( or .*)?$"): "a section with keys",
    re.compile("a valid integer"): "a whole number",
    re.compile("a valid number"): "a number",
    re.compile("a valid boolean"): "true or false",
    re.compile("a valid string"): "text",
}
"""What pydantic expects -> its description."""
_NEXT = {
    "unknown_key": "correct or delete this key",
    "missing": "add it",
    "missing_dataset": "write the name of one",
    "union_tag_invalid": "write one of these",
    "union_tag_not_found": "add it",
}
"""Kind of fault -> the next step, where the message has none."""


@dataclass(frozen=True)
class LoadedConfig:
    """A valid config, its file, and which of its values came from the environment."""

    benchmark: BenchmarkConfig = field(repr=False)
    path: Path
    """The given file. Relative paths in the config, and in the files that it extends, are relative to it."""
    unexpanded: dict[KeyPath, str]
    """Key path -> the text with `${NAME}` in the file."""

    def public_data(self) -> dict:
        """The whole config with every default filled in, and `${NAME}` in place of what came from the environment."""
        data = self.benchmark.model_dump(mode="json")
        for path, text in self.unexpanded.items():
            _set_at(data, path, text)
        return data

    def public_yaml(self) -> str:
        """`public_data` as YAML."""
        return as_yaml(self.public_data())


def load_config(config_path: str | Path) -> LoadedConfig:
    """Read and check a config file with the files that it extends. Raises ConfigError with one line per fault."""
    path = expanded(str(config_path))
    if (reason := why_unreadable(path)) is not None:
        raise ConfigError(
            f"{cut(str(path))}: no config file: it {reason}. "
            f"Next: give the path of a YAML file, see {PROJECT_ROOT / 'configs'}"
        )
    root = with_matrices(read_config(path))
    unexpanded: dict[KeyPath, str] = {}
    not_expanded: list[tuple[KeyPath, str]] = []
    data = _expand(root, (), unexpanded, not_expanded)
    faults = not_expanded + _written_secrets(root) + _secret_arguments(root)
    try:
        benchmark = BenchmarkConfig.model_validate(data, context={BASE_DIR: path.resolve().parent})
    except ValidationError as error:
        as_written = root.plain()
        found = [_fault(fault, as_written, unexpanded) for fault in error.errors()]
        faults += [(at, message) for at, message in found if at not in dict(not_expanded)]
    if faults:
        raise ConfigError(_fault_lines(root, faults))
    _show_as_written(benchmark, unexpanded)
    unexpanded.pop(CURVE, None)  # a run keeps its numbers, and not the path that was given for them
    return LoadedConfig(benchmark, path.resolve(), unexpanded)


def config_schema() -> str:
    """The JSON schema of a config file, for editors. No key is required, because an extended file may have it."""
    schema = BenchmarkConfig.model_json_schema()
    properties = schema["properties"]
    for option in properties[OPTIONS]["items"]["discriminator"]["mapping"].values():
        schema["$defs"][option.rpartition("/")[2]]["properties"][MATRIX] = {"$ref": "#/$defs/Matrix"}
    schema["$defs"]["Matrix"] = SCHEMA
    properties[EXTENDS] = {"type": "string", "description": "YAML file that this one overrides, relative to it."}
    properties[OPTION_DEFAULTS] = {
        **properties[OPTIONS]["items"],
        "description": "Defaults of each option, or of those with its `target` if it has one.",
    }
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_of_parts(schema)}
    return json.dumps(whole, indent=1) + "\n"


def _of_parts(schema: object) -> object:
    """A JSON schema that also accepts partial sections, and `${NAME}` for text that must match a pattern."""
    if isinstance(schema, list):
        return [_of_parts(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "required" and isinstance(value, list))}
    if isinstance(kept.get("pattern"), str):
        kept["pattern"] = rf"({kept['pattern']})|\$\{{"
    return {"anyOf" if key == "oneOf" else key: _of_parts(value) for key, value in kept.items()}


# --- values from the environment ----------------------------------------------------------------------------------


def _expand(node: Node, at: KeyPath, unexpanded: dict[KeyPath, str], faults: list[tuple[KeyPath, str]]) -> object:
    """The data with each `${NAME}` replaced; records where, and where that fails."""
    data = node.value
    if isinstance(data, dict):
        return {key: _expand(value, (*at, key), unexpanded, faults) for key, value in data.items()}
    if isinstance(data, list):
        return [_expand(value, (*at, i), unexpanded, faults) for i, value in enumerate(data)]
    if not isinstance(data, str) or not VARIABLE.search(data) or _stays_as_written(at):
        return data
    missing = [name for name in VARIABLE.findall(data) if name not in os.environ]
    if missing:
        message = (
            f"environment variable {missing[0]} is not set. Next: export {missing[0]}=..., or write the value if it is "
            "not a secret"
        )
        faults.append((at, message))
        return data
    unexpanded[at] = data
    expanded_text = VARIABLE.sub(lambda match: os.environ[match.group(1)], data)
    if (reason := why_no_text(expanded_text)) is not None:
        faults.append((at, f"bad value from the environment: {reason}. Expected UTF-8. Next: export it again"))
    return expanded_text


def _stays_as_written(at: KeyPath) -> bool:
    """True for text that keeps its `${NAME}`, because only a report shows it or a notebook expands it."""
    names = [step for step in at if isinstance(step, str)]
    return (
        names == ["description"]
        or names[:1] == ["parameters"]
        or names[-2:]
        in (
            ["price", "source"],
            ["other_prices", "source"],
            ["other_prices", "name"],
        )
    )


def _show_as_written(benchmark: BenchmarkConfig, unexpanded: dict[KeyPath, str]) -> None:
    """Record in each container, whose settings the report shows, which of them came from the environment."""
    for at, text in unexpanded.items():
        if at[:1] == (OPTIONS,) and len(at) > 3 and at[2] in ("container", "jumpstart"):
            getattr(benchmark.options[at[1]], at[2]).note_as_written(str(at[-1]), text)


def _written_secrets(root: Node) -> list[tuple[KeyPath, str]]:
    """Secrets written into a file, each with what to do instead."""
    message = (
        "a secret is written into the file. Expected ${NAME}. "
        "Next: export it as an environment variable and name that here"
    )
    return [(at, message) for at, value in root.leaves() if _is_written_secret(at, value)]


def _is_written_secret(at: KeyPath, value: object) -> bool:
    return (_names_secret(at) and _is_secret(at, value)) or looks_secret(_without_variables(value))


def _without_variables(value: object) -> object:
    """Text of the file without `${NAME}`: what still looks like a secret was written there."""
    return VARIABLE.sub("", value) if isinstance(value, str) else value


def _secret_arguments(root: Node) -> list[tuple[KeyPath, str]]:
    """Secrets in commands, each with what to do instead."""
    message = (
        "a secret is an argument of a command, and every user of this machine can read those. Expected a command without "
        "secrets. Next: "
    )
    instead = {
        "local_sagemaker": "give it under container.environment, and name its variable in local_sagemaker.engine_variables",
        "notify": "let the command read it from its environment, which is that of make report",
    }
    words = {at: str(word) for at, word in root.leaves() if at[:2] in _COMMANDS and len(at) == _COMMANDS[at[:2]]}
    return [
        (at, message + instead[at[0]])
        for at, word in words.items()
        if _holds_secret(words.get((*at[:-1], at[-1] - 1), ""), word)
    ]


def _holds_secret(flag: str, word: str) -> bool:
    """True for `--api-key VALUE`, `--api-key=VALUE`, and for environment variables with the name of a secret."""
    if word.startswith("-"):
        flag, _, word = word.partition("=")
    after_flag = bool(word) and flag.startswith("-") and bool(SECRET_NAME.search(flag))
    return after_flag or any(SECRET_NAME.search(name) for name in VARIABLE.findall(word))


def _names_secret(at: KeyPath) -> bool:
    """True for keys whose values, or lists of values, are secrets."""
    names = [step for step in at if isinstance(step, str)]
    if not names or "secrets" in names[:-1]:  # which holds names of secrets
        return False
    named_by_user = any(name in _NAMED_BY_USER for name in names[:-1])
    return names[-1].lower() in _SECRET_KEYS or (named_by_user and bool(SECRET_NAME.search(names[-1])))


def _is_secret(at: KeyPath, value: object) -> bool:
    """True for values that are neither placeholders nor from the environment; numbers under user-defined names are settings."""
    if not isinstance(value, str) or VARIABLE.search(value) or value.lower() in _NO_SECRETS:
        return False
    is_number = isinstance(value, Unquoted) and any(map(str.isdigit, value))
    return not isinstance(value, Unquoted) or (is_number and str(at[-1]).lower() in _SECRET_KEYS)


# --- one line per fault -------------------------------------------------------------------------------------------


def _fault_lines(root: Node, faults: list[tuple[KeyPath, str]]) -> str:
    """One line per fault: its place, and what is wrong. A fault that several options share is reported once."""
    options_of: dict[tuple[bool, Path, int, str], list[str]] = {}
    for at, message in faults:
        place = root.place_of(at)
        options = options_of.setdefault(
            (place.path != root.place.path, place.path, place.line, f"{dotted(place.at)}: {message}"), []
        )
        if place.at[:1] == (OPTION_DEFAULTS,) and dotted(at[:2]) not in options:
            options.append(dotted(at[:2]))
    lines = []
    for (_, path, line, message), options in sorted(options_of.items()):
        lines.append(f"{path}:{line}: {message}" + (f" (in {', '.join(options)})" if options else ""))
    return "\n".join(_first_of(lines))


def _first_of(lines: list[str]) -> list[str]:
    """The first lines of a message, as many as a person may read, and the number of the others."""
    ends = accumulate(min(len(line), MOST_CHARACTERS_OF_A_LINE) for line in lines)
    kept = max(1, sum(end <= MOST_CHARACTERS_OF_FAULTS for end in ends))
    more = len(lines) - kept
    return [*lines[:kept], f"... and {plural(more, 'more fault')}. Next: correct these first"] if more else lines


def _fault(fault: dict, data: object, unexpanded: dict[KeyPath, str]) -> tuple[KeyPath, str]:
    """The key path, and a description of what pydantic found there. `data` is as written, with `${NAME}` unexpanded."""
    context, loc = fault.get("ctx") or {}, fault["loc"]
    message, kind = fault["msg"], fault["type"]
    at = tuple(context["path"]) if "path" in context else _data_path(loc, data)
    if kind == "unknown_key":
        at = _data_path((*loc, context["key"]), data)
        message = f"unknown key.{_choices(context['key'], context['allowed'])}"
    elif kind == "missing_dataset":
        message = f"{message}: {_shown(at, context['bad'], unexpanded)}.{_choices(context['bad'], context['allowed'])}"
    elif kind == "missing":
        at = (*_data_path(loc[:-1], data), loc[-1])
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
        message = next((words for pattern, words in _EXPECTED.items() if pattern.match(message)), message)
        if fault["msg"].startswith("Value error, expected "):
            if at in unexpanded:  # what is suggested is made from the value
                message = re.sub(r"Next: write for example .*", "Next: export another value", message, flags=re.DOTALL)
            message = f"bad value {_shown(at, _get_at(data, at), unexpanded)}. E{message[1:]}"
        elif not fault["msg"].startswith("Value error"):
            message = f"bad value {_shown(at, _get_at(data, at), unexpanded)}. Expected {message}{_unit_hint(at)}"
    return at, message if "Next: " in message else f"{message}. Next: {_NEXT.get(kind, 'correct this value')}"


def _data_path(loc: tuple, data: object) -> KeyPath:
    """pydantic's location without the names of union members, which are not in the file (unless it has a key of that name):
    the longest path through the data; among equally long ones, the one with the latest steps.
    """
    reached: dict[KeyPath, object] = {(): data}
    """Every path that some of the steps lead to: at most one per value in the data."""
    for step in loc:
        reached |= {(*at, step): section[step] for at, section in reached.items() if _has(section, step)}
    return max(reversed(reached), key=len)


def _has(section: object, step: str | int) -> bool:
    if isinstance(section, dict):
        return step in section
    return isinstance(section, list) and isinstance(step, int) and step < len(section)


def _shown(at: KeyPath, value: object, unexpanded: dict[KeyPath, str]) -> str:
    if at in unexpanded:
        return "(a value from the environment)"
    return "(a secret)" if _names_secret(at) or looks_secret(repr(value)) else shown(value)


def _choices(bad: str, allowed: list[str]) -> str:
    """The valid choices, the most similar first."""
    near = difflib.get_close_matches(cut(bad), allowed, n=1, cutoff=0.6)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return f"{hint} Expected one of: {', '.join(allowed)}"


def _unit_hint(at: KeyPath) -> str:
    key = str(at[-1]) if at else ""
    if key == "percentile":
        return " (in percent, for example 95)"
    if key in _FRACTIONS:
        return " (a fraction, for example 0.3)"
    return next((f" (unit: {unit})" for suffix, unit in _UNITS.items() if key.endswith(suffix)), "")


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
