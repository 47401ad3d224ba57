"""The JSON Schema of syncs.yml, for editors: keys from `spec.py`, valid combinations from `braze/modes.py`. Pure.

What depends on other files (does the model exist?) or other syncs (`after`, duplicate names) is beyond a schema.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from reverse_etl.braze.modes import MODES, mode_names, not_supported
from reverse_etl.project.labels import KEYS, VALUES, pattern
from reverse_etl.project.spec import SPEC_FILE, Dbt, File, Source, Sync
from reverse_etl.project.spec_alerts import ALERTS, Heartbeat
from reverse_etl.project.spec_collect import Collect
from reverse_etl.project.spec_files import FREE, LISTS, Defaults
from reverse_etl.project.spec_targets import HOST, PORT, SANDBOX, WAREHOUSE_SECRETS, Target, Warehouse
from reverse_etl.project.spec_tests import UnitTest

Rule = dict[str, Any]
SCHEMA_FILE = "syncs.schema.json"  # beside syncs.yml, whose first line points editors to it

_PARTS: Mapping[str, type[BaseModel]] = {
    **{"targets": Target, "dbt": Dbt, "sources": Source, "syncs": Sync, "heartbeat": Heartbeat, "collect": Collect},
    "defaults": Defaults,
    **ALERTS,
}
_TEMPLATE = {"type": "string", "pattern": r"\{\{|\{%"}
_SECRET = {"type": "string", "pattern": r"\{.*env_var\s*\(\s*[\"'][^\"']+[\"']\s*[,)]"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of syncs.yml. A string with Jinja in it is allowed for any scalar."""
    schema = File.model_json_schema()
    parts = {name: part.model_json_schema(ref_template="#/$defs/{model}") for name, part in _PARTS.items()}
    for part in parts.values():
        schema.setdefault("$defs", {}).update(part.pop("$defs", {}))
    properties = schema["properties"]
    for key in ("targets", "sources"):
        properties[key]["additionalProperties"] = parts[key]
    properties["syncs"]["items"] = parts["syncs"]
    properties["defaults"] = parts["defaults"]
    properties["dbt"] = parts["dbt"]
    properties["heartbeat"] = parts["heartbeat"]
    properties["collect"] = parts["collect"]
    properties["alerts"]["items"] = {"anyOf": [parts[name] for name in ALERTS]}
    result: dict[str, Any] = _or_template(schema)
    tests = UnitTest.model_json_schema(ref_template="#/$defs/{model}")  # Jinja is not rendered in them
    result["$defs"].update(tests.pop("$defs"))
    result["properties"]["unit_tests"]["items"] = tests
    _accept_labels(result["properties"]["syncs"]["items"])
    result["properties"]["syncs"]["items"]["allOf"].extend(_sync_rules())
    for name in WAREHOUSE_SECRETS:
        for of in get_args(get_args(Warehouse)[0]):
            if name in of.model_fields:
                result["$defs"][of.__name__]["properties"][name]["anyOf"] = [_SECRET, {"type": "null"}]
    result["$defs"]["BrazeConfig"]["properties"]["api_key"]["anyOf"] = [_SECRET, {"type": "null"}]
    result["$defs"]["BrazeConfig"]["allOf"] = list(_destination_rules())
    result["patternProperties"] = {f"^{FREE}": {"description": "a place for anchors; it is not read"}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result, "title": SPEC_FILE}


def sync_files_schema() -> dict[str, Any]:
    """The JSON Schema of syncs/*.yml: the same lists, and nothing is required."""
    whole = json_schema()
    properties = {key: whole["properties"][key] for key in ("version", *LISTS)}
    return {**whole, "properties": properties, "required": [], "title": "syncs/*.yml"}


def _accept_labels(sync: Rule) -> None:
    """Let Treasure Data's names pass, marked as deprecated: what an editor offers are the words of retl."""
    keys = sync["properties"]
    for key, words in VALUES.items():
        keys[key]["anyOf"].extend({"pattern": pattern(word, one), "deprecated": True} for word, one in words.items())
    sync["patternProperties"] = {
        pattern(key, one): {**keys[key], "description": f"the same as {key}", "deprecated": True}
        for key, one in KEYS.items()
    }
    sync["allOf"] = [_has(key) for key in sync["required"] if key in KEYS]
    sync["required"] = [key for key in sync["required"] if key not in KEYS]


def _has(key: str) -> Rule:
    """The key is there, by its name or one of its labels."""
    return {"anyOf": [{"required": [key]}, {"not": {"propertyNames": {"not": {"pattern": pattern(key, KEYS[key])}}}}]}


def _or_template(node: Any) -> Any:
    if isinstance(node, list):
        return [_or_template(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "discriminator" in node:  # whatever is a template, any of them may be meant
        return {"anyOf": _or_template(node["oneOf"]), "description": node["description"]}
    if node.get("type") in ("integer", "number", "boolean") or "enum" in node or "const" in node:
        about = {key: node[key] for key in ("description", "default", "title") if key in node}
        return {"anyOf": [{k: v for k, v in node.items() if k not in about}, _TEMPLATE], **about}
    return {key: _or_template(value) for key, value in node.items()}


def _sync_rules() -> Iterator[Rule]:
    """Rules between the keys of a sync; none apply where the mode is Jinja."""
    yield {"dependentRequired": {"timezone": ["schedule"], "delay": ["schedule"]}}
    for name in mode_names():
        record_types = [record_type for mode, record_type in MODES if mode == name and record_type]
        if record_types:
            yield _rule({"mode": name}, _has("track_record_type"))
    for (name, record_type), mode in MODES.items():
        taken: Rule = {"properties": dict.fromkeys(sorted(not_supported(mode)), False)}
        if mode.keys:
            taken["required"] = list(mode.keys)
        given = {"mode": name, **({"track_record_type": record_type} if record_type else {})}
        yield _rule(given, taken)
        if "on_removed" in mode.options and not mode.clears:
            yield _rule(given, {"properties": {"on_removed": {"not": {"const": "clear"}}}})
        if mode.is_idempotent:
            yield _rule(given, {"properties": {"incremental": {"properties": {"retention": False}}}})
    leave = {
        "required": ["allow_destructive"],
        "properties": {"allow_destructive": {"anyOf": [{"const": True}, _TEMPLATE]}},
    }
    for mode in MODES.values():
        if mode.ends:
            yield _rule({"mode": mode.name}, leave)
    yield _rule({"on_removed": "delete"}, leave)
    yield {
        "if": {"required": ["incremental"], "properties": {"incremental": {"type": "object"}}},
        "then": {"properties": {"on_removed": {"anyOf": [{"const": "ignore"}, _TEMPLATE]}, "keep_removed": False}},
    }
    for removed in ("clear", "delete"):
        yield _rule({"on_removed": removed}, {"properties": {"keep_removed": False}})


def _destination_rules() -> Iterator[Rule]:
    yield _rule({"endpoint": SANDBOX}, {"properties": {"api_key": {"type": "null"}}})
    yield {
        "if": {"required": ["endpoint"], "properties": {"endpoint": {"type": "string", "pattern": "^https?://"}}},
        "then": {"required": ["api_key"], "properties": {"api_key": _TEMPLATE}},
    }
    loopback = rf"http://(localhost|127\.0\.0\.1|\[::1\]){PORT}"
    pattern = rf"^({loopback}|https://(?!sdk\.|dashboard[.-]){HOST})/?$"
    endpoint = {"anyOf": [{"const": SANDBOX}, {"pattern": pattern}, _TEMPLATE]}
    yield {"properties": {"endpoint": endpoint}}


def _rule(given: Mapping[str, str], then: Rule) -> Rule:
    """Where keys have these values, `then` holds."""
    properties = {key: {"const": value} for key, value in given.items()}
    return {"if": {"required": list(given), "properties": properties}, "then": then}
