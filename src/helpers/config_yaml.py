"""A config as it stands in its files: YAML, with the file and line of every value, and what it takes from other files.

`extends: other.yml` lays a file over another one, which may itself extend a third. `option_defaults` lies under each option.
One rule merges both: of two sections the nearer wins key by key; lists and single values are replaced whole, and so is a
section of another `kind` or `target`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import yaml

from helpers.errors import ConfigError

KeyPath = tuple[str | int, ...]
EXTENDS, OPTIONS, OPTION_DEFAULTS = "extends", "options", "option_defaults"
DISCRIMINATORS = ("kind", "target")
"""Keys that say which other keys a section has."""


@dataclass(frozen=True)
class Place:
    """Where a value is written: file, line and the key path in that file."""

    path: Path
    line: int
    at: KeyPath

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {dotted(self.at)}"


@dataclass(frozen=True)
class Node:
    """A value and its place; the values in a section or a list are nodes again."""

    value: object
    place: Place

    def plain(self) -> object:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def at(self, steps: KeyPath) -> Node | None:
        """The node at a key path; null if there is none."""
        node = self
        for step in steps:
            if not isinstance(node.value, dict | list):
                return None
            try:
                node = node.value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return node

    def place_of(self, steps: KeyPath) -> Place:
        """The place of a key path; of one that is not there, the place of the nearest section, with its own keys."""
        there = next(length for length in range(len(steps), -1, -1) if self.at(steps[:length]))
        place = self.at(steps[:there]).place
        return replace(place, at=(*place.at, *steps[there:]))

    def leaves(self, at: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
        """(key path, value) of everything that is neither section nor list."""
        if isinstance(self.value, dict | list):
            for key, node in self.value.items() if isinstance(self.value, dict) else enumerate(self.value):
                yield from node.leaves((*at, key))
        else:
            yield at, self.value


def read_config(path: Path) -> Node:
    """A config file with what it extends and with the defaults of its options; neither key is left. Raises ConfigError."""
    root = _read_chain(path, [])
    if not isinstance(root.value, dict):
        return root
    sections = dict(root.value)
    defaults, options = sections.pop(OPTION_DEFAULTS, None), sections.get(OPTIONS)
    if defaults is not None:
        _require_section(defaults)
        if options is not None and isinstance(options.value, list):
            each = [merge(defaults, option) if isinstance(option.value, dict) else option for option in options.value]
            sections[OPTIONS] = replace(options, value=each)
    return replace(root, value=sections)


def merge(far: Node, near: Node) -> Node:
    """Two values, the nearer one winning; sections are merged key by key unless they are of different kinds."""
    if not isinstance(far.value, dict) or not isinstance(near.value, dict):
        return near
    for key in DISCRIMINATORS:
        if key in far.value and key in near.value and far.value[key].plain() != near.value[key].plain():
            return near
    both = {key: merge(far.value[key], node) if key in far.value else node for key, node in near.value.items()}
    return replace(near, value={**far.value, **both})


def dotted(at: KeyPath) -> str:
    """A key path as a person writes it, for example `options[0].price`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at)
    return text.removeprefix(".") or "(top level)"


def _read_chain(path: Path, nearer: list[Path]) -> Node:
    """A file, and under it the one that it extends, and so on."""
    root = _read_file(path)
    if nearer:
        _require_section(root)
    if not isinstance(root.value, dict) or EXTENDS not in root.value:
        return root
    extends = root.value[EXTENDS]
    if not isinstance(extends.value, str) or not extends.value:
        raise ConfigError(f"{extends.place}: bad value {extends.plain()!r}. Expected the path of one YAML file")
    other = path.parent / Path(extends.value).expanduser()
    if not other.is_file():
        raise ConfigError(
            f"{extends.place}: bad value {extends.value!r}. Expected a YAML file, but {other} is not there. "
            "Next: give its path relative to this file"
        )
    chain = [*nearer, path]
    if other.resolve() in [file.resolve() for file in chain]:
        circle = " -> ".join(str(file) for file in [*chain, other])
        raise ConfigError(f"{extends.place}: bad value {extends.value!r}: the files extend each other: {circle}")
    far = _read_chain(other, chain)
    near = replace(root, value={key: node for key, node in root.value.items() if key != EXTENDS})
    return merge(far, near)


def _require_section(node: Node) -> None:
    if not isinstance(node.value, dict):
        raise ConfigError(f"{node.place}: bad value {node.plain()!r}. Expected a section with keys")


# --- one file -----------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML whose dates stay text: the config checks them itself, and can say which key has a wrong one."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _read_file(path: Path) -> Node:
    """One YAML file. Duplicate keys are refused."""
    try:
        text = path.read_text(encoding="utf-8")
        lines: dict[KeyPath, int] = {}
        _walk(yaml.compose(text, Loader=_Loader), (), path, lines)
        return _with_places(yaml.load(text, Loader=_Loader), (), Place(path, 1, ()), lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}:1: not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}:1: not valid YAML: an alias (*name) stands within its own anchor (&name)") from None


def _walk(node: yaml.Node | None, at: KeyPath, path: Path, lines: dict[KeyPath, int]) -> None:
    """Note the line of every key path of a file."""
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
                    f"{path}:{line}: {dotted((*at, key))}: duplicate key, first given on line {first_seen[key]}. "
                    "Next: delete one of the two"
                )
            first_seen[key] = line
            if key == "<<":
                continue
            lines[(*at, key)] = line
            _walk(value, (*at, key), path, lines)


def _with_places(data: object, at: KeyPath, section: Place, lines: dict[KeyPath, int]) -> Node:
    """The data of a file as nodes; keys that came by `<<` take the line of the section that has it."""
    place = Place(section.path, lines.get(at, section.line), at)
    if isinstance(data, dict):
        return Node({key: _with_places(value, (*at, key), place, lines) for key, value in data.items()}, place)
    if isinstance(data, list):
        return Node([_with_places(value, (*at, i), place, lines) for i, value in enumerate(data)], place)
    return Node(data, place)
