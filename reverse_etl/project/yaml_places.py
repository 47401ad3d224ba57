"""YAML with the location of every key and value in it, in bounded time and memory.

`yaml.safe_load` loses the locations, silently keeps the last of two equal keys, and follows aliases as far as they go.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import isinf
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

import yaml

from reverse_etl.errors import Location, Problem, ProjectError

YamlPath = tuple[str | int, ...]
MOST_CHARACTERS = 10_000_000
MOST_LEVELS = 100  # of values inside values
MOST_COPIES = 100_000  # of values, made by all aliases of a file together
_SURROGATE = re.compile("[\ud800-\udfff]")
_ALIAS = "while scanning an alias"  # how the parser reads a star; here it is an unquoted cron expression
_KINDS = {"int": "integer", "float": "number", "bool": "boolean", "timestamp": "date or time", "str": "string"}


class _Constructor(yaml.constructor.SafeConstructor):
    """Gives a location to what the constructors of scalars raise: 2026-99-99, 6,000 digits, half of a character."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int | str):
                str(value).encode()
            elif isinstance(value, float) and isinf(value) and "inf" not in node.value.lower():
                raise OverflowError
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            kind = node.tag.rsplit(":", 1)[-1]
            what = f"this is not a valid {_KINDS.get(kind, kind)}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error
        return value


class _Clear(_Constructor, yaml.SafeLoader):
    """Has clearer messages for what it refuses."""


class _Quick(_Constructor, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml needs a tenth of the time, where PyYAML has it."""


def _with_fewer_types(loader: Any) -> Any:
    """A loader for which dates, 10:30:00, yes and no are texts, as digdag reads them."""
    found: Any = type(f"{loader.__name__}Digdag", (loader,), {"yaml_implicit_resolvers": {}})
    for kind, pattern, first in (
        ("bool", "true|false", "tf"),
        ("null", "~|null|", ["~", "n", ""]),
        ("int", "[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?", "-+0123456789"),
    ):
        found.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), list(first))
    return found


INCLUDE = "!include"
_MOST_INCLUDES = 200  # files in place of others, in one


@dataclass(frozen=True)
class _MarkInFile:
    """Where a node of an included file is."""

    file: str
    line: int
    column: int


@dataclass
class _Includes:
    """Puts files in the place of `!include : path`, as digdag does: their keys become keys of the mapping around it."""

    read: Callable[[str], str | None]
    files: list[str] = field(default_factory=list)

    def into(self, node: Any, file: str, around: tuple[str, ...], load: Any) -> None:
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self.into(item, file, around, load)
        if not isinstance(node, yaml.MappingNode):
            return
        pairs: list[tuple[Any, Any]] = []
        for key, value in node.value:
            if key.tag == INCLUDE:
                found = self._pairs(value, _location(file, key.start_mark), around, load)
            else:
                self.into(value, file, around, load)
                found = [(key, value)]
            for one in found:  # of a key that is included, the last one holds
                pairs = [pair for pair in pairs if pair[0].value != one[0].value or not _included(pair[0], one[0])]
                pairs.append(one)
        node.value = pairs

    def _pairs(self, value: Any, where: Location, around: tuple[str, ...], load: Any) -> list[tuple[Any, Any]]:
        path = str(value.value).strip() if isinstance(value, yaml.ScalarNode) else ""
        file = normpath(PurePosixPath(where.file).parent / path)
        text = self.read(file) if path and "${" not in path else None
        if text is None:
            hint = "put the text of that file in place of this line, and import again"
            raise ProjectError(f"{file} not found, which is included here", where, hint, code="P115")
        if file in around or len(self.files) >= _MOST_INCLUDES:
            raise ProjectError(f"{file} includes itself", where, "remove one of the two lines", code="P115")
        self.files.append(file)
        node = _node_of(text, file, load)
        if not isinstance(node, yaml.MappingNode | None):
            raise ProjectError(f"{file} is not a mapping", where, "put its text in place of this line", code="P115")
        _move(node, file)
        self.into(node, file, (*around, file), load)
        return list(node.value) if node else []


def _node_of(text: str, file: str, load: Any) -> Any:
    """The document of an included file. Errors have their place in that file."""
    loader = None
    try:
        _refuse_endless(text, file, load)
        loader = load(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        error.problem_mark = _MarkInFile(file, mark.line, mark.column) if mark else None  # type: ignore[assignment]
        raise
    finally:
        if loader:
            loader.dispose()


def _included(*nodes: Any) -> bool:
    return any(isinstance(node.start_mark, _MarkInFile) for node in nodes)


def _move(node: Any, file: str) -> None:
    """Say of all nodes that they are in another file."""
    if node is None or isinstance(node.start_mark, _MarkInFile):
        return
    node.start_mark = _MarkInFile(file, node.start_mark.line, node.start_mark.column)
    for inner in node.value if not isinstance(node, yaml.ScalarNode) else ():
        for one in inner if isinstance(inner, tuple) else (inner,):
            _move(one, file)


_LOADERS = (_Quick, _Clear)
_DIGDAG_LOADERS = tuple(map(_with_fewer_types, _LOADERS))


class Positions:
    """Line and column of each key and value of a YAML document, by path."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._keys: dict[YamlPath, yaml.Mark] = {}
        self._values: dict[YamlPath, yaml.Mark] = {}
        self._misread: dict[YamlPath, tuple[str, str]] = {}
        self._texts: dict[YamlPath, str] = {}
        self._spelled: dict[YamlPath, str] = {}
        self.included: tuple[str, ...] = ()  # files in the place of `!include`
        self._files: dict[YamlPath, str] = {}  # of items of lists that are in another file
        self._borrowed: dict[YamlPath, YamlPath] = {}  # where what is not written at a path comes from

    def text_of(self, path: YamlPath) -> str | None:
        """A value as it is written, where YAML reads it as something else than a string: `on` is a boolean."""
        return self._texts.get(path)

    def key_as_written(self, path: YamlPath) -> YamlPath:
        """The path of a key that YAML reads as something else than a string, with the key as it is written."""
        return (*path[:-1], self._spelled.get(path, path[-1]))

    def keys_at(self, path: YamlPath) -> list[str]:
        """The keys that are written in the mapping at `path`."""
        return [str(key[-1]) for key in self._keys if key[:-1] == path]

    def adopt(self, other: "Positions", key: str, after: int) -> None:
        """The items of a list of another document are behind the first `after` of the list of this one."""
        mine, theirs = self._everything, other._everything
        if (key,) not in self._keys:
            self._keys[key,], self._values[key,], self._files[key,] = other._keys[key,], other._values[key,], other.file
        for own, found in zip(mine, theirs, strict=True):
            for path, value in found.items():
                if len(path) > 1 and path[0] == key and isinstance(path[1], int):
                    at: YamlPath = (key, path[1] + after)
                    own[(*at, *path[2:])] = value
                    self._files[at] = other.file

    def borrow(self, path: YamlPath, source: YamlPath) -> None:
        """What is at `path` is not written there: it comes from `source`."""
        self._borrowed[path] = source

    @property
    def _everything(self) -> tuple[dict[YamlPath, Any], ...]:
        return self._keys, self._values, self._misread, self._texts, self._spelled

    def rename(self, path: YamlPath, name: str) -> None:
        """Find a key, and all that is in its value, under another name from now on."""
        for found in self._everything:
            for old in [old for old in found if old[: len(path)] == path]:
                found[(*path[:-1], name, *old[len(path) :])] = found.pop(old)

    def of_key(self, path: YamlPath) -> Location:
        return self._closest(self._keys, path)

    def of_value(self, path: YamlPath) -> Location:
        return self._closest(self._values, path)

    def misread(self) -> Iterator[tuple[YamlPath, str, str]]:
        """Values without quotes that YAML takes for something else than they look like: path, as written, as read."""
        for path, (written, read) in self._misread.items():
            yield path, written, read

    def _closest(self, marks: Mapping[YamlPath, yaml.Mark], path: YamlPath) -> Location:
        """A default or a merged key has no location of its own: then it is that of the closest key around it.

        A single value where a list is allowed counts as item 0 of that list.
        """
        known: YamlPath = ()
        for part in path:
            inner = self._borrowed.get((*known, part), (*known, part))
            if inner in marks:
                known = inner
            elif part != 0:
                break
        file = self._files.get(known[:2], self.file)
        return _location(file, marks[known]) if known else Location(self.file)

    def _add(self, path: YamlPath, key: yaml.Node, value: yaml.Node) -> None:
        self._keys[path], self._values[path] = key.start_mark, value.start_mark
        read = _read_otherwise(value)
        if read is not None:
            self._misread[path] = (value.value, read)
        if isinstance(value, yaml.ScalarNode) and not value.tag.endswith(":str"):
            self._texts[path] = value.value
        if key is not value and isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":str"):
            with suppress(yaml.YAMLError, ValueError):
                read = _Clear("").construct_object(key)
                self._spelled[*path[:-1], int(read) if isinstance(read, int) else str(read)] = key.value

    def _walk(self, node: yaml.Node, path: YamlPath) -> Iterator[Problem]:
        """Record the location of everything; yield an error for each duplicate key."""
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._add((*path, index), item, item)
                yield from self._walk(item, (*path, index))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                    continue
                inner = (*path, key.value)
                if inner in self._keys:
                    what = f'duplicate key "{key.value}", first defined on line {self._keys[inner].line + 1}'
                    yield Problem(what, _location(self.file, key.start_mark), "remove one of them", code="P005")
                    continue
                self._add(inner, key, value)
                yield from self._walk(value, inner)


def _location(file: str, mark: Any) -> Location:
    return Location(getattr(mark, "file", file), mark.line + 1, mark.column + 1)


def _read_otherwise(node: yaml.Node) -> str | None:
    """What YAML 1.1 makes of NO, 01234, 12:30 and 1_000 without quotes; None for what reads as it is written."""
    if not isinstance(node, yaml.ScalarNode) or node.style:
        return None
    kind, text = node.tag.rsplit(":", 1)[-1], str(node.value)
    if kind == "bool" and text.lower() not in ("true", "false"):
        return "true" if text.lower() in ("yes", "on") else "false"
    has_base = text.lstrip("+-").startswith("0") and text.lstrip("+-0").isdigit()
    if kind in ("int", "float") and ("_" in text or ":" in text or (kind == "int" and has_base)):
        with suppress(yaml.YAMLError):
            return str(yaml.load(text, _Clear))
    return None


@dataclass
class _Open:
    """A list or mapping whose end has not been read: how many values it has so far, and in how many levels."""

    anchor: str | None
    values: int = 1
    levels: int = 1

    def add(self, inner: "_Open") -> None:
        self.values += inner.values
        self.levels = max(self.levels, inner.levels + 1)


def _refuse_endless(text: str, file: str, loader: Any) -> None:
    """Raises ProjectError for nesting that is too deep, and for aliases that lead to themselves or to too much."""
    around, named, copies = [_Open(None)], dict[str | None, _Open](), 0
    parser = loader(text)
    try:
        while parser.check_event():
            event = parser.get_event()
            inner = None
            if isinstance(event, yaml.CollectionStartEvent):
                around.append(_Open(event.anchor))
            elif isinstance(event, yaml.CollectionEndEvent):
                inner = around.pop()
            elif isinstance(event, yaml.ScalarEvent):
                inner = _Open(event.anchor)
            elif isinstance(event, yaml.AliasEvent):
                inner = named.get(event.anchor) or _Open(None)
                copies += inner.values
                if any(outer.anchor == event.anchor for outer in around):
                    what = f'the alias "*{event.anchor}" is inside of what it refers to'
                    raise ProjectError(what, _location(file, event.start_mark), "write out what is meant", code="P092")
            if inner:
                around[-1].add(inner)
                if not isinstance(event, yaml.AliasEvent) and inner.anchor:
                    named[inner.anchor] = inner
            if len(around) - 1 + (inner.levels - 1 if inner else 0) > MOST_LEVELS:
                what = f"values are nested more than {MOST_LEVELS} levels deep"
                raise ProjectError(what, _location(file, event.start_mark), "write flatter values", code="P092")
            if copies > MOST_COPIES:
                what = f"the aliases of this file make more than {MOST_COPIES:,} copies of values"
                raise ProjectError(
                    what, _location(file, event.start_mark), "write out what is meant, or generate it", code="P092"
                )
    finally:
        parser.dispose()


def _parse(
    load: Any, text: str, file: str, read: Callable[[str], str | None] | None
) -> tuple[Any, Positions, list[Problem]]:
    _refuse_endless(text, file, load)
    positions, loader = Positions(file), load(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, positions, []
        if read:
            includes = _Includes(read)
            includes.into(root, file, (file,), load)
            positions.included = tuple(includes.files)
        problems = list(positions._walk(root, ()))
        return loader.construct_document(root), positions, problems
    finally:
        loader.dispose()


def _is_indented_with_tab(text: str, line: int) -> bool:
    """Whether a line, counted from 0, has a tab before anything else."""
    lines = text.split("\n")
    of_line = lines[line] if line < len(lines) else ""
    return "\t" in of_line[: len(of_line) - len(of_line.lstrip())]


def parse_yaml(
    text: str, file: str, digdag: Callable[[str], str | None] | None = None
) -> tuple[Any, Positions, list[Problem]]:
    """The document, the locations of everything in it, and its duplicate keys.

    `digdag` reads the files that are included: then digdag's rules hold for what is a text.

    Raises ProjectError at the line where the text is not valid YAML, or would take too much time or memory.
    """
    if len(text) > MOST_CHARACTERS:
        raise ProjectError(
            f"the file has more than {MOST_CHARACTERS:,} characters", Location(file), "split it", code="P092"
        )
    if _SURROGATE.search(text):  # of the command line: how Python keeps bytes that are not UTF-8
        raise ProjectError("this is not UTF-8 text", Location(file), "write it in UTF-8", code="P002")
    quick, clear = _DIGDAG_LOADERS if digdag else _LOADERS
    try:
        with suppress(yaml.YAMLError):
            return _parse(quick, text, file, digdag)
        return _parse(clear, text, file, digdag)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _location(file, mark) if mark else Location(file)
        is_alias = error.context == _ALIAS or "undefined alias" in (error.problem or "")
        hint = "quote a string that begins with *" if is_alias else None
        if (error.problem or "").startswith("this is not a valid"):
            hint = "quote it, if it is meant as a string"
        opened = error.context_mark if "expected ',' or" in (error.problem or "") else None
        if opened:
            closed = "]" if "or ']'" in (error.problem or "") else "}"
            hint = f"write `{closed}` where the list or mapping ends that begins on line {opened.line + 1}"
        if mark and _is_indented_with_tab(text, mark.line):
            hint = "write spaces in the place of the tab that this line begins with: YAML is indented with spaces only"
        raise ProjectError(f"invalid YAML: {error.problem or error.context}", where, hint, code="P003") from error
    except yaml.YAMLError as error:
        raise ProjectError(f"invalid YAML: {str(error).splitlines()[0]}", Location(file), code="P003") from error
