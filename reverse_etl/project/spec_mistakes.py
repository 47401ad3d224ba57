"""What pydantic finds wrong with a value of syncs.yml, in the words of the file, with its place and a way out. Pure."""

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from reverse_etl.errors import Problem, closest, nearest
from reverse_etl.project.spec_targets import WAREHOUSES
from reverse_etl.project.yaml_places import Positions, YamlPath

_WAREHOUSE = "warehouse: {type: duckdb, path: warehouse.duckdb}"
_DESTINATION = "destination: {type: braze, endpoint: sandbox}"
# What to write for a key that is missing, where it is the same for everybody to begin with.
_EXAMPLES: Mapping[str, str] = {
    "version": "add version: 1",
    "targets": f"add targets: {{dev: {{{_WAREHOUSE}, {_DESTINATION}}}}}",
    "syncs": "add syncs: []",
    "warehouse": f"add {_WAREHOUSE}",
    "destination": f"add {_DESTINATION}",
    "endpoint": "add endpoint: https://rest.iad-01.braze.com, or that of your instance; or endpoint: sandbox",
}
_PLAIN_WORDS: Mapping[str, str] = {
    "Value error, ": "",
    "Input should be": "must be",
    "Dictionary should have at least 1 item after validation, not 0": "must not be empty",
    "Tuple should have at least 1 item after validation, not 0": "must not be empty",
    "String should have at least 1 character": "must not be empty",
    "a valid tuple": "a string or a list of strings",
    "a valid string": "a string",
    "a valid boolean": "true or false",
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid dictionary": "a mapping",
    "a valid list": "a list",
    "String should match pattern '^[A-Za-z0-9_][A-Za-z0-9_-]*$'": "may contain letters, digits, _ and - only",
}


def problem_of(
    model: type[BaseModel], detail: ErrorDetails, at: YamlPath, inside: str, positions: Positions
) -> Problem:
    """One error of pydantic about a `model`, whose value is `at` a path; `inside` says in words where that is."""
    path, place = (*at, *_written(detail["loc"])), positions.of_value
    kind, key = detail["type"], next((part for part in reversed(path) if isinstance(part, str)), "")
    if not path:
        what = "must be a mapping with version, targets and syncs"
        return Problem(what, place(path), "`retl init my_project` writes an example", code="P004")
    if kind in ("extra_forbidden", "invalid_key"):
        written = positions.key_as_written(path)
        there = [name for name in positions.keys_at(path[:-1]) if name != written[-1]]
        hint = _instead_of(str(written[-1]), _keys_at(model, detail["loc"]), there)
        return Problem(f'unknown key "{written[-1]}"{inside}', positions.of_key(written), hint, code="P006")
    if path[-1] == "[key]" and kind != "literal_error":
        written = positions.key_as_written(path[:-1])
        what, hint = f'key "{written[-1]}"{inside} must be a string', f'put it in quotes: "{written[-1]}"'
        return Problem(what, positions.of_key(written), hint, code="P007")
    if path[-1] == "[key]":
        what = f'unknown key "{path[-2]}" in "{path[-3]}"{inside}'
        return Problem(what, positions.of_key(path[:-1]), nearest(str(path[-2]), _expected(detail)), code="P006")
    if kind == "missing":
        example = _EXAMPLES.get(str(path[-1])) or _only_value(model, detail["loc"])
        return Problem(f'"{path[-1]}" is missing{inside}', place(path), example, code="P008")
    if kind == "literal_error":
        valid, given = _expected(detail), positions.text_of(path) or str(detail["input"])
        unquoted = f"write {given} without quotes" if given in valid else None
        what = f'"{given}" is not a valid value for "{key}"{inside}'
        return Problem(what, place(path), unquoted or nearest(given, valid), code="P009")
    if kind == "union_tag_not_found":
        return Problem(f'"type" is missing{inside}', place(path), nearest("", WAREHOUSES), code="P008")
    if kind == "union_tag_invalid":
        given = str(detail["ctx"]["tag"])
        what = f'"{given}" is not a valid value for "type"{inside}'
        return Problem(what, place((*path, "type")), nearest(given, WAREHOUSES), code="P009")
    if kind == "value_error" and detail["loc"][-1:] in ((), ("destination",)):
        return Problem(str(detail["ctx"]["error"]), place(path), code="P010")
    return Problem(f'"{key}"{inside} {_plain(detail)}', place(path), _quoted(kind, path, positions), code="P010")


def _expected(detail: ErrorDetails) -> list[str]:
    """The values that are valid, of an error about a choice."""
    return str(detail["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")


def _quoted(kind: str, path: YamlPath, positions: Positions) -> str | None:
    """The hint for a value that must be a string, and that YAML reads as something else without quotes."""
    if kind in ("bool_parsing", "bool_type"):
        return f"write {path[-1]}: true, or {path[-1]}: false"
    written = positions.text_of(path) if kind in ("string_type", "tuple_type") else None
    if written is None:
        return None
    return f'put it in quotes: "{written}"' if written not in ("", "~", "null") else "give it a value"


def _only_value(model: type[BaseModel], loc: tuple[int | str, ...]) -> str | None:
    """The hint for a missing key that has one valid value, such as type."""
    field = next((f for name, f in _model_at(model, loc).model_fields.items() if (f.alias or name) == loc[-1]), None)
    values = get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
    return f"add {loc[-1]}: {values[0]}" if len(values) == 1 else None


def _instead_of(word: str, valid: Collection[str], written: Collection[str]) -> str:
    """The hint for an unknown key: the key that is meant by it, unless that is written already, too."""
    meant = closest(word, (key for key in valid if key not in written))
    if meant:
        return f'did you mean "{meant}"?'
    there = closest(word, (key for key in written if key in valid))
    if there:
        return f'remove it: "{there}" is there, too'
    return nearest(word, valid) or "remove it, or use another one: `retl schema` describes all keys"


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping around `loc` accepts."""
    return [field.alias or name for name, field in _model_at(model, loc).model_fields.items()]


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the mapping around `loc`, in which a model of several is named by its type."""
    for part, following in pairwise(loc):
        if part in model.model_fields:
            found = list(_models_in(model.model_fields[str(part)].annotation))
            of_type = [one for one in found if "type" in one.model_fields and following in _values_of(one, "type")]
            model = (of_type or found or [model])[0]
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside the type of a list, a mapping or a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _values_of(model: type[BaseModel], key: str) -> tuple[Any, ...]:
    return get_args(model.model_fields[key].annotation)


def _written(loc: YamlPath) -> YamlPath:
    """A path in the file: without the type of the warehouse, by which pydantic tells which keys it has."""
    types = [n for n, part in enumerate(loc) if n and loc[n - 1] == "warehouse" and part in WAREHOUSES]
    return tuple(part for n, part in enumerate(loc) if n not in types)


def _plain(detail: ErrorDetails) -> str:
    message = detail["msg"].split(", unable to ")[0]
    if detail["type"] in ("model_type", "model_attributes_type"):
        return "must be a mapping"
    for pydantic_words, ours in _PLAIN_WORDS.items():
        message = message.replace(pydantic_words, ours)
    return message
