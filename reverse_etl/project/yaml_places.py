"""YAML with the location of every key and value in it.

`yaml.safe_load` loses the locations, and silently keeps the last of two equal keys.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import yaml

from reverse_etl.errors import Location, Problem, ProjectError

YamlPath = tuple[str | int, ...]
# libyaml needs a tenth of the time, where PyYAML has it. The other loader has clearer messages for what it refuses.
_QUICK = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ALIAS = "while scanning an alias"  # how the parser reads a star; here it is an unquoted cron expression


class Positions:
    """Line and column of each key and value of a YAML document, by path."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._keys: dict[YamlPath, yaml.Mark] = {}
        self._values: dict[YamlPath, yaml.Mark] = {}

    def of_key(self, path: YamlPath) -> Location:
        return self._closest(self._keys, path)

    def of_value(self, path: YamlPath) -> Location:
        return self._closest(self._values, path)

    def _closest(self, marks: Mapping[YamlPath, yaml.Mark], path: YamlPath) -> Location:
        """A default or a merged key has no location of its own: then it is that of the closest key around it.

        A single value where a list is allowed counts as item 0 of that list.
        """
        known: YamlPath = ()
        for part in path:
            if (*known, part) in marks:
                known = (*known, part)
            elif part != 0:
                break
        return _location(self.file, marks[known]) if known else Location(self.file)

    def _add(self, path: YamlPath, key: yaml.Node, value: yaml.Node) -> None:
        self._keys[path], self._values[path] = key.start_mark, value.start_mark

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
                    yield Problem(what, _location(self.file, key.start_mark), "remove one of them")
                    continue
                self._add(inner, key, value)
                yield from self._walk(value, inner)


def _location(file: str, mark: yaml.Mark) -> Location:
    return Location(file, mark.line + 1, mark.column + 1)


def _parse(loader: Any, file: str) -> tuple[Any, Positions, list[Problem]]:
    positions = Positions(file)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, positions, []
        problems = list(positions._walk(root, ()))
        return loader.construct_document(root), positions, problems
    finally:
        loader.dispose()


def parse_yaml(text: str, file: str) -> tuple[Any, Positions, list[Problem]]:
    """The document, the locations of everything in it, and its duplicate keys.

    Raises ProjectError at the line where the text is not valid YAML.
    """
    try:
        with suppress(yaml.YAMLError):
            return _parse(_QUICK(text), file)
        return _parse(yaml.SafeLoader(text), file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _location(file, mark) if mark else Location(file)
        hint = "quote a string that begins with *" if error.context == _ALIAS else None
        raise ProjectError(f"invalid YAML: {error.problem or error.context}", where, hint) from error
    except yaml.YAMLError as error:
        raise ProjectError(f"invalid YAML: {str(error).splitlines()[0]}", Location(file)) from error
