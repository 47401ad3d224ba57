"""syncs.yml and syncs/*.yml as one document, and what `defaults` say of syncs. Pure.

syncs.yml         targets, vars, defaults, ... and syncs
syncs/crm.yml     syncs and unit_tests of one team, or one subject; they follow those of syncs.yml, by file name
"""

from collections.abc import Mapping
from typing import Any

from pydantic import create_model

from reverse_etl.braze.modes import MODES, not_supported
from reverse_etl.errors import Location, Problem
from reverse_etl.project.fields import Strict
from reverse_etl.project.spec import SPEC_FILE, File, Sync
from reverse_etl.project.yaml_places import Positions, YamlPath, parse_yaml

FREE = "x-"  # how keys begin that hold anchors, and are not read
LISTS = ("syncs", "unit_tests")  # what a file of syncs/ may have, besides its version
# What all syncs may have in common. A sync says by itself what it is, which rows are the same, and what it deletes.
DEFAULT_KEYS = (
    *("exclude_columns", "skip_on_invalid_records", "strict", "send", "nulls", "on_removed", "on_in_doubt", "consent"),
    *("schedule", "timezone", "delay", "tags", "guards", "ledger"),
)
Defaults = create_model(
    "Defaults",
    __base__=Strict,
    __doc__="Keys of syncs that do not have them.",
    **{name: (Sync.model_fields[name].annotation, Sync.model_fields[name]) for name in DEFAULT_KEYS},  # type: ignore[call-overload]
)
Parsed = tuple[Any, Positions, list[Problem]]


def parse_files(text: str, others: Mapping[str, str]) -> Parsed:
    """syncs.yml with the lists of the other files, by name, in it; locations lead to the file that a part is in."""
    data, positions, problems = parse_yaml(text, SPEC_FILE)
    if not isinstance(data, dict):
        return data, positions, problems
    data = {key: value for key, value in data.items() if not is_free(key)}
    for file, other in others.items():
        found, places, errors = parse_yaml(other, file)
        problems += errors
        if found is not None and not isinstance(found, dict):
            what = f"must be a mapping with {' or '.join(LISTS)}"
            problems.append(Problem(what, Location(file), "begin with syncs: and a list", code="P004"))
            continue
        lists = {key: value for key, value in (found or {}).items() if not is_free(key)}
        if lists.pop("version", 1) != 1:
            problems.append(Problem('"version" must be 1', places.of_value(("version",)), "version: 1", code="P009"))
        for key, value in lists.items():
            if key not in LISTS:
                problems.append(_elsewhere(str(key), places.of_key((key,))))
            elif not isinstance(value, list):
                what = f'"{key}" must be a list'
                problems.append(Problem(what, places.of_value((key,)), "begin each item with a dash", code="P010"))
            elif isinstance(data.setdefault(key, []), list):
                positions.adopt(places, key, len(data[key]))
                data[key] = [*data[key], *value]
    if others:
        data.setdefault("syncs", [])
    return data, positions, problems


def _elsewhere(key: str, where: Location) -> Problem:
    if key in File.model_fields:
        return Problem(f'"{key}" is read from {SPEC_FILE} only', where, f"move it to {SPEC_FILE}", code="P140")
    hint = f"remove it: files in syncs/ have {', '.join(LISTS)}, and {FREE}... for anchors"
    return Problem(f'unknown key "{key}"', where, hint, code="P140")


def is_free(key: object) -> bool:
    """Whether a key of the top level is a place for anchors."""
    return isinstance(key, str) and key.startswith(FREE)


def applied(defaults: Mapping[str, Any], sync: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that apply to a sync: those that its mode supports, and that need no other key."""
    mode = MODES.get((str(sync.get("mode")), _text(sync.get("track_record_type"))))
    not_taken = set(not_supported(mode)) if mode else set[str]()
    if mode and not mode.clears and defaults.get("on_removed") == "clear":
        not_taken |= {"on_removed"}
    if sync.get("schedule", defaults.get("schedule")) is None:
        not_taken |= {"schedule", "timezone", "delay"}
    if sync.get("incremental") is not None:
        not_taken |= {"on_removed"}
    return {key: value for key, value in defaults.items() if key not in not_taken}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def completed(sync: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A sync with defaults for the keys that it does not have. Its tags are added to those, its guards one by one."""
    found = {**defaults, **sync}
    if "tags" in sync and "tags" in defaults:
        found["tags"] = list(dict.fromkeys([*_words(defaults["tags"]), *_words(sync["tags"])]))
    if isinstance(sync.get("guards"), dict) and isinstance(defaults.get("guards"), dict):
        found["guards"] = {**defaults["guards"], **sync["guards"]}
    return found


def _words(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [word for part in value.split(",") if (word := part.strip())]
    return list(value) if isinstance(value, list | tuple) else [value]


def borrow(positions: Positions, path: YamlPath, sync: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Let errors of what a sync has from `defaults` lead there."""
    for key in defaults.keys() - sync.keys():
        positions.borrow((*path, key), ("defaults", key))
    if isinstance(sync.get("guards"), dict) and isinstance(defaults.get("guards"), dict):
        for guard in defaults["guards"].keys() - sync["guards"].keys():
            positions.borrow((*path, "guards", guard), ("defaults", "guards", guard))
