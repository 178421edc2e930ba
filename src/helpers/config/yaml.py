"""Reads a config's YAML files with the file and line of every value, and merges files that it extends.

`extends: other.yml` makes a file override another one, which may itself extend a third. `option_defaults` applies to each
option. One rule merges both: sections are merged key by key, and the nearer one wins; lists and single values are replaced
whole, as are sections of another `kind` or `target`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import yaml

from helpers.config.secret_names import SECRET_NAME
from helpers.config.unquoted import Unquoted
from helpers.errors import ConfigError, cut, shown

KeyPath = tuple[str | int, ...]
EXTENDS, OPTIONS, OPTION_DEFAULTS = "extends", "options", "option_defaults"
DISCRIMINATORS = ("kind", "target")
"""Keys that determine which other keys a section has."""
ENDINGS = (".yml", ".yaml")
MOST_BYTES = 1 << 18
MOST_NODES, MOST_LEVELS = 20_000, 40
"""Maximum values in a file, with aliases expanded."""
MOST_DIGITS = 100


@dataclass(frozen=True)
class Place:
    """Where a value is written: file, line and key path in that file."""

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
        """The plain value, without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def at(self, steps: KeyPath) -> Node | None:
        """The node at a key path; None if there is none."""
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
        """The place of a key path; for a missing one, the nearest section's place plus the remaining keys."""
        there = next(length for length in range(len(steps), -1, -1) if self.at(steps[:length]))
        place = self.at(steps[:there]).place
        return replace(place, at=(*place.at, *steps[there:]))

    def leaves(self, at: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
        """(key path, value) of every value that is neither section nor list."""
        if isinstance(self.value, dict | list):
            for key, node in self.value.items() if isinstance(self.value, dict) else enumerate(self.value):
                yield from node.leaves((*at, key))
        else:
            yield at, self.value


def read_config(path: Path) -> Node:
    """A config file merged with what it extends and with its option defaults; both keys are removed. Raises ConfigError."""
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
    """Merges two values, and the nearer one wins; sections are merged key by key unless they are of different kinds."""
    if not isinstance(far.value, dict) or not isinstance(near.value, dict):
        return near
    for key in DISCRIMINATORS:
        if key in far.value and key in near.value and far.value[key].plain() != near.value[key].plain():
            return near
    both = {key: merge(far.value[key], node) if key in far.value else node for key, node in near.value.items()}
    return replace(near, value={**far.value, **both})


def dotted(at: KeyPath) -> str:
    """A key path as a person writes it, for example `options[0].price`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{_as_word(step)}" for step in at)
    return cut(text.removeprefix("."), 300) or "(top level)"


def _as_word(key: str) -> str:
    """A key in a message: on one line, limited in length, and visible even if it consists of spaces."""
    word = key if key.isprintable() else repr(key)[1:-1]
    return cut(word if word.strip() else repr(key), 100)


def _read_chain(path: Path, nearer: list[Path]) -> Node:
    """A file merged with the one that it extends, and so on."""
    root = _read_file(path)
    if nearer:
        _require_section(root)
    if not isinstance(root.value, dict) or EXTENDS not in root.value:
        return root
    extends = root.value[EXTENDS]
    bad_value = f"{extends.place}: bad value {shown(extends.plain())}"
    if not isinstance(extends.value, str) or not extends.value.endswith(ENDINGS):
        raise ConfigError(f"{bad_value}. Expected the path of one YAML file, *.yml or *.yaml. Next: give its path")
    other = path.parent / expanded(extends.value)
    if (reason := why_unreadable(other)) is not None:
        raise ConfigError(
            f"{bad_value}. Expected a YAML file, but {cut(str(other))} {reason}. Next: give its path relative to this file"
        )
    chain = [*nearer, path]
    if other.resolve() in [file.resolve() for file in chain]:
        circle = " -> ".join(str(file) for file in [*chain, other])
        raise ConfigError(f"{bad_value}: the files extend each other: {circle}. Next: delete one `extends`")
    far = _read_chain(other, chain)
    near = replace(root, value={key: node for key, node in root.value.items() if key != EXTENDS})
    return merge(far, near)


def _require_section(node: Node) -> None:
    if not isinstance(node.value, dict):
        is_whole_file = not node.place.at  # its content is not repeated, because it may be any file
        found = f"the file holds {_kind(node.value)}" if is_whole_file else f"bad value {shown(node.plain())}"
        raise ConfigError(f"{node.place}: {found}. Expected a section with keys")


def expanded(path: str) -> Path:
    """A path with `~` expanded if possible."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user
        return Path(path)


def why_unreadable(path: Path) -> str | None:
    """Why a path cannot be read as a config, as a phrase that follows its name; None if it can.

    Only regular files are opened, because a pipe or a device would block.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    return None if stat.S_ISREG(mode) else "is not a regular file"


def why_no_text(text: str) -> str | None:
    """Why text cannot be written to a file or name one; None if it can."""
    if "\0" in text:
        return "it holds a NUL character"
    return None if text.isascii() or text.encode("utf-8", "ignore").decode() == text else "it holds half a character"


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "text", dict: "a section", type(None): "nothing"}
    return kinds.get(type(value), "a single value")


# --- one file -----------------------------------------------------------------------------------------------------


MAP, SEQ, MERGE, STR = (f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "merge", "str"))
INT, FLOAT, BOOL, NULL = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))
SINGLE_VALUES = (STR, INT, FLOAT, BOOL, NULL)
NUMBERS_OF_YAML_1_2 = {
    INT: re.compile("0o[0-7]+$"),
    FLOAT: re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
}
"""Numbers that YAML 1.1 reads as text."""
TEXT_TO_CONFIGS = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")


class _Loader(yaml.SafeLoader):
    """YAML in which dates stay text: the config checks them itself, and can name the key of a bad one.

    Refuses files larger than a config may be.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in TEXT_TO_CONFIGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    nodes = levels = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        self.nodes, self.levels = self.nodes + 1, self.levels + 1
        if self.nodes > MOST_NODES or self.levels > MOST_LEVELS:
            raise _too_large(self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes each text that the loader would read as a number or boolean."""


for tag, pattern in NUMBERS_OF_YAML_1_2.items():
    for reader_or_writer in (_Loader, _Dumper):
        reader_or_writer.add_implicit_resolver(tag, pattern, list("-+.0123456789"))


def as_yaml(data: dict) -> str:
    """Plain data as YAML that reads back the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _read_file(path: Path) -> Node:
    """One YAML file. Duplicate keys, unknown tags and files that are too large are refused."""
    content = _content(path)
    try:
        loader = _Loader(content)
        root = loader.get_single_node()
        return Node(None, Place(path, 1, ())) if root is None else _Builder(path, loader).node(root, (), 1)
    except yaml.reader.ReaderError as error:
        line = content[: error.position].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {cut(error.reason)}. Next: save it as UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(
            f"{path}:{line}: not valid YAML: {cut(str(error.problem), 300)}. Next: correct this line"
        ) from None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}. Next: give a YAML file that you may read"
        ) from None
    if len(content) > MOST_BYTES:
        raise ConfigError(
            f"{path}: larger than {MOST_BYTES // 1024} KiB. Expected a config file. Next: compare it with configs/quickstart.yml"
        )
    return content


def _too_large(mark: yaml.Mark) -> yaml.MarkedYAMLError:
    problem = (
        f"more than {MOST_NODES:,} values, or more than {MOST_LEVELS} levels of them, with each alias (*name) counted as what "
        "it stands for; an alias within its own anchor (&name) has no end"
    )
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _Builder:
    """Makes nodes with places from one file's YAML. Values merged by `<<` have the line of the section with `<<`."""

    def __init__(self, path: Path, loader: _Loader) -> None:
        self._path, self._loader = path, loader
        self._built = 0

    def node(self, found: yaml.Node, at: KeyPath, line: int, taken: bool = False, level: int = 0) -> Node:
        """A value with nested values; `taken`: merged by `<<`, so all of it has this line."""
        self._built += 1
        if self._built > MOST_NODES or level > MOST_LEVELS:
            raise _too_large(found.start_mark)
        if isinstance(found, yaml.MappingNode) and found.tag == MAP:
            value = self._section(found, at, line, taken, level)
        elif isinstance(found, yaml.SequenceNode) and found.tag == SEQ:
            lines = [line if taken else item.start_mark.line + 1 for item in found.value]
            items = enumerate(zip(found.value, lines, strict=True))
            value = [self.node(item, (*at, i), of_item, taken, level + 1) for i, (item, of_item) in items]
        else:
            value = self._single_value(found, at, line)
        return Node(value, Place(self._path, line, at))

    def _section(self, found: yaml.MappingNode, at: KeyPath, line: int, taken: bool, level: int) -> dict[str, Node]:
        """The section's own keys, then those merged by `<<`; the first of equal keys wins."""
        own: dict[str, Node] = {}
        merged: list[dict[str, Node]] = []
        for key_node, value in found.value:
            of_key = key_node.start_mark.line + 1
            if key_node.tag == MERGE:
                merged += self._taken(value, at, line, level)
                continue
            key = self._key(key_node, at)
            if key in own:
                first = next(k.start_mark.line + 1 for k, _ in found.value if k.value == key)
                raise ConfigError(
                    f"{Place(self._path, of_key, (*at, key))}: duplicate key, first given on line {first}. "
                    "Next: delete one of the two"
                )
            own[key] = self.node(value, (*at, key), line if taken else of_key, taken, level + 1)
        for section in merged:
            own = {**own, **{key: node for key, node in section.items() if key not in own}}
        return own

    def _taken(self, found: yaml.Node, at: KeyPath, line: int, level: int) -> list[dict[str, Node]]:
        """The sections that `<<` names."""
        sections = found.value if isinstance(found, yaml.SequenceNode) else [found]
        nodes = [self.node(section, at, line, True, level + 1) for section in sections]
        if any(not isinstance(node.value, dict) for node in nodes):
            place = Place(self._path, found.start_mark.line + 1, at)
            raise ConfigError(f"{place}: bad value of `<<`. Expected a section. Next: give the alias (*name) of one")
        return [node.value for node in nodes]

    def _key(self, found: yaml.Node, at: KeyPath) -> str:
        """A key as written: all keys are names, even `no` and `1.10`."""
        if not isinstance(found, yaml.ScalarNode):
            place = Place(self._path, found.start_mark.line + 1, at)
            raise ConfigError(f"{place}: a key that is a section or a list. Expected a name. Next: write one")
        self._require_text(found, (*at, found.value), found.start_mark.line + 1)
        return found.value

    def _require_text(self, found: yaml.ScalarNode, at: KeyPath, line: int) -> None:
        """Raise ConfigError for text that no file, path or request can contain."""
        if (reason := why_no_text(found.value)) is not None:
            raise ConfigError(f"{Place(self._path, line, at)}: bad value: {reason}. Expected text. Next: delete it")

    def _single_value(self, found: yaml.Node, at: KeyPath, line: int) -> object:
        """Text, None, or an unquoted number or boolean. Raises ConfigError with place and value for anything else."""
        bad_value = f"{Place(self._path, line, at)}: bad value"
        if found.tag not in SINGLE_VALUES or not isinstance(found, yaml.ScalarNode):
            raise ConfigError(
                f"{bad_value}: {cut(found.tag, 60)!r} is not a tag that a config accepts. Next: delete the tag"
            )
        self._require_text(found, at, line)
        if found.tag in (INT, FLOAT) and len(found.value) > MOST_DIGITS:
            raise ConfigError(
                f"{bad_value} {shown(found.value)}. Expected at most {MOST_DIGITS} digits. Next: quote it if it is text"
            )
        is_unquoted = found.style is None and found.tag == self._loader.resolve(
            yaml.ScalarNode, found.value, (True, False)
        )
        if is_unquoted and found.tag in (INT, FLOAT, BOOL):
            return Unquoted(found.value)
        try:
            return self._loader.construct_object(found)
        except (ValueError, LookupError, ArithmeticError):
            is_secret = any(SECRET_NAME.search(step) for step in at if isinstance(step, str))
            value = "(a secret)" if is_secret else shown(found.value)
            kind = found.tag.rpartition(":")[2]
            raise ConfigError(
                f"{bad_value} {value}. Expected what its tag !!{kind} says. Next: delete the tag"
            ) from None
