"""Each key of syncs.yml has an example on the page of keys, and each example is what retl accepts."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from docs.generate import PARTS, ROOT
from docs.key_examples import BESIDE, EXAMPLES, USUAL
from reverse_etl.project.json_schema import json_schema
from reverse_etl.project.reader import Surroundings, read_spec
from reverse_etl.project.spec import Consent, Dbt, File, Guards, Incremental, Ledger, Predecessor, Source, Sync
from reverse_etl.project.spec_alerts import Email, Heartbeat, Slack, Webhook
from reverse_etl.project.spec_collect import Collect, CollectSource, CollectTable
from reverse_etl.project.spec_targets import BrazeConfig, DuckDB, Postgres, Spark, StatePlace, Target
from reverse_etl.project.spec_tests import (
    AcceptedValues,
    DataTest,
    Expect,
    ExpectedInvalid,
    Input,
    Macros,
    Overrides,
    UnitTest,
)

SANDBOX = {
    "warehouse": {"type": "duckdb", "path": "warehouse.duckdb"},
    "destination": {"type": "braze", "endpoint": "sandbox"},
}
OTHERS = [
    {"name": name, "model": name, "mode": "users_track", "track_record_type": "events"} for name in ("users", "aliases")
]
COLLECT = USUAL[Collect]
# Where in syncs.yml a part is.
PLACES: Mapping[type[BaseModel], tuple[str, ...]] = {
    File: (),
    Target: ("targets", "prod"),
    Source: ("sources", "app"),
    Sync: ("syncs",),
    Predecessor: ("syncs", "after"),
    Consent: ("syncs", "consent"),
    Ledger: ("syncs", "ledger"),
    Guards: ("syncs", "guards"),
    Incremental: ("syncs", "incremental"),
    DuckDB: ("targets", "prod", "warehouse"),
    Postgres: ("targets", "prod", "warehouse"),
    Spark: ("targets", "prod", "warehouse"),
    BrazeConfig: ("targets", "prod", "destination"),
    Dbt: ("dbt",),
    StatePlace: ("targets", "prod", "state"),
    Slack: ("alerts",),
    Webhook: ("alerts",),
    Email: ("alerts",),
    Heartbeat: ("heartbeat",),
    Collect: ("collect",),
    CollectSource: ("collect", "sources", "postback"),
    CollectTable: ("collect", "sources", "postback", "tables", "opt_outs"),
}
# Where in a unit test, or in a sync, a part is.
IN_TESTS: Mapping[type[BaseModel], Callable[[Any], dict[str, Any]]] = {
    UnitTest: lambda part: part,
    Input: lambda part: {"given": [part]},
    Overrides: lambda part: {"overrides": part},
    Macros: lambda part: {"overrides": {"macros": part}},
    Expect: lambda part: {"expect": part},
    ExpectedInvalid: lambda part: {"expect": {"invalid": [part]}},
}
IN_DATA_TESTS: Mapping[type[BaseModel], Callable[[Any], dict[str, Any]]] = {
    DataTest: lambda part: part,
    AcceptedValues: lambda part: {"accepted_values": part},
}
VARIABLES = ("SLACK_URL", "ALERT_URL", "ALERT_TOKEN", "SMTP_PASSWORD", "HEARTBEAT_URL", "BRAZE_API_KEY")
SECRETS = {name: f"https://example.com/{name}" for name in VARIABLES} | {
    "WAREHOUSE_URI": "postgresql://retl@localhost/shop",
    "WAREHOUSE_TOKEN": "a-token-of-spark",
    "POSTBACK_KEY": "a-key-of-postback",
    "NEXT_POSTBACK_KEY": "its-next-key",
}


def every_key() -> Iterator[Any]:
    for model, examples in EXAMPLES.items():
        for key in examples:
            yield pytest.param(model, key, id=f"{model.__name__}.{key}")


def names_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def of_sync(model: type[BaseModel], key: str) -> dict[str, Any]:
    """A sync that a part of it is an example for."""
    if model is Guards and key == "max_merges":
        return {"mode": "users_merge", "track_record_type": None, "allow_destructive": True}
    if model is Guards and key == "max_deletes":
        return {"mode": "users_delete", "track_record_type": None, "allow_destructive": True}
    return {"track_record_type": "events"} if key == "retention" else {}


def project(model: type[BaseModel], key: str) -> dict[str, Any]:
    """A whole syncs.yml with the example in it."""
    part = {**USUAL.get(model, {}), **BESIDE.get(model, {}).get(key, {}), **yaml.safe_load(EXAMPLES[model][key])}
    part = {name: value for name, value in part.items() if value is not None}
    sync = {**USUAL[Sync], **of_sync(model, key)}
    whole: dict[str, Any] = {"version": 1, "default_target": "prod", "targets": {"prod": dict(SANDBOX)}, "syncs": []}
    if model is File:
        whole = {**whole, "syncs": [sync], "targets": {"prod": SANDBOX, "sandbox": SANDBOX}, **part}
        return {**whole, "default_target": next(iter(whole["targets"]))} if key == "targets" else whole
    if model in IN_TESTS:
        return {**whole, "syncs": [sync], "unit_tests": [{**USUAL[UnitTest], **IN_TESTS[model](part)}]}
    if model in IN_DATA_TESTS:
        return {**whole, "syncs": [{**sync, "data_tests": [IN_DATA_TESTS[model](part)]}]}
    place = PLACES[model]
    if place[0] == "syncs":
        part = part if len(place) == 1 else {**sync, place[1]: [part] if model is Predecessor else part}
        others = [one for one in OTHERS if one["name"] != part["name"]]
        return {**whole, "syncs": [*others, {name: value for name, value in part.items() if value is not None}]}
    if place[0] == "alerts":
        return {**whole, "syncs": [sync], "alerts": [part]}
    if place[0] == "collect":
        whole["collect"] = {**COLLECT, "sources": {"postback": {**USUAL[CollectSource]}}}
    whole["syncs"] = [sync]
    inside = whole
    for name in place[:-1]:
        inside[name] = dict(inside.get(name, {}))
        inside = inside[name]
    inside[place[-1]] = part
    return whole


def read(whole: Mapping[str, Any]) -> Any:
    models = {sync["model"] for sync in whole["syncs"]}
    return read_spec(yaml.safe_dump(dict(whole), sort_keys=False), models, Surroundings(SECRETS))


@pytest.mark.parametrize("model", EXAMPLES, ids=lambda model: model.__name__)
def test_every_key_has_an_example(model: type[BaseModel]):
    assert sorted(EXAMPLES[model]) == sorted(names_of(model))


def test_every_part_of_syncs_yml_that_the_page_lists_has_examples():
    for page in ("docs/reference.md", "docs/tests.md"):
        tables = [name for name in PARTS[page] if name.endswith("keys")]
        text = (ROOT / page).read_text(encoding="utf-8")
        assert {text.split(f"<!-- {name} -->\n")[1].splitlines()[0].split(" | ")[-1] for name in tables} == {
            "| example |"
        }


@pytest.mark.parametrize(("model", "key"), list(every_key()))
@pytest.mark.sampled(4)
def test_example_of_a_key_is_loaded(model: type[BaseModel], key: str):
    whole = project(model, key)
    assert read(whole).syncs
    Draft202012Validator(json_schema()).validate(whole)


@pytest.mark.parametrize(("model", "key"), list(every_key()))
def test_example_of_a_key_says_something_else_than_the_default(model: type[BaseModel], key: str):
    name = next(name for name, field in model.model_fields.items() if key in (name, field.alias))
    default = model.model_fields[name].default
    assert yaml.safe_load(EXAMPLES[model][key])[key] != default
