"""The secrets that syncs.yml names: each comes from an environment variable, which models cannot read. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from reverse_etl.project.jinja import VariablesRead, variables_read
from reverse_etl.project.spec import File
from reverse_etl.project.spec_alerts import SECRETS
from reverse_etl.project.spec_collect import COLLECT_KEYS
from reverse_etl.project.spec_targets import WAREHOUSE_SECRETS
from reverse_etl.project.yaml_places import YamlPath


def names_of_secrets(top: File) -> frozenset[str]:
    """The environment variables of the secrets of all targets, of collect and of alerts."""
    keys = [raw["destination"].get("api_key") for raw in top.targets.values() if is_target(raw)]
    told = [value for raw in (*top.alerts, top.heartbeat) if isinstance(raw, dict) for _, value in secrets_in(raw)]
    keys += [warehouse_of(raw).get(key) for raw in top.targets.values() for key in WAREHOUSE_SECRETS]
    collected = [key for _, key in collect_keys(top.collect)]
    return frozenset(
        name for key in (*keys, *told, *collected) if isinstance(key, str) for name in variables_read(key).names
    )


def fault_of_secret(value: Any, hint: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a secret that is written down, with a hint; or that is read in a way that does not tell which
    variables models must not read."""
    read = variables_read(value) if isinstance(value, str) else VariablesRead(frozenset())
    if read.computes_names:
        way_out = "write the name itself, as in {{ env_var('NAME') }}: models cannot read what is named so"
        yield "must not compute the name of an environment variable", way_out
    elif not read.names:
        yield "must come from the environment", hint


def secrets_in(raw: Mapping[str, Any]) -> Iterator[tuple[YamlPath, Any]]:
    """The values of an alert or a heartbeat that must come from the environment, with their paths in it."""
    for key in SECRETS:
        value = raw.get(key)
        if isinstance(value, dict):
            yield from (((key, name), one) for name, one in value.items())
        elif value is not None:
            yield (key,), value


def collect_keys(raw: Any) -> Iterator[tuple[YamlPath, Any]]:
    """The keys that requests to the collector may have, with their paths in the file."""
    sources = raw.get("sources") if isinstance(raw, dict) else None
    for name, source in sources.items() if isinstance(sources, dict) else ():
        keys = source.get(COLLECT_KEYS) if isinstance(source, dict) else None
        for index, key in enumerate(keys if isinstance(keys, list) else [] if keys is None else [keys]):
            yield ("collect", "sources", name, COLLECT_KEYS, index), key


def warehouse_of(raw: Any) -> Mapping[str, Any]:
    """The warehouse of a target, as it is written."""
    found = raw.get("warehouse") if isinstance(raw, dict) else None
    return found if isinstance(found, dict) else {}


def is_target(raw: Any) -> bool:
    return isinstance(raw, dict) and isinstance(raw.get("destination"), dict)
