"""Which syncs a selector takes, as dbt reads it."""

import pytest
import yaml

from reverse_etl.errors import ProjectError
from reverse_etl.project.graph import Graph
from reverse_etl.project.reader import Surroundings, read_spec
from reverse_etl.project.selection import Compared, select
from tests.shop import Retl, Shop

FILES = {
    "raw": "models/staging/raw.sql",
    "customers": "models/staging/customers.sql",
    "vip": "models/crm/vip.sql",
    "profiles": "models/crm/profiles.sql",
    "orders": "models/orders.sql",
}
REFS = {"raw": ["people"], "customers": ["raw"], "vip": ["customers"], "profiles": ["customers"], "orders": []}


def one(name: str, model: str, record_type: str = "attributes", **keys: object) -> dict[str, object]:
    return {"name": name, "model": model, "mode": "users_track", "track_record_type": record_type, **keys}


SYNCS = [
    one("late", "orders", after=["orders", "best"]),
    one("users", "profiles", tags=["hourly", "crm"]),
    one("best", "vip", tags=["hourly"], after=["users"]),
    one("orders", "orders", "purchases", tags=["daily"]),
]
SPEC = {
    "version": 1,
    "targets": {
        "dev": {
            "warehouse": {"type": "duckdb", "path": "w.duckdb"},
            "destination": {"type": "braze", "endpoint": "sandbox"},
        }
    },
    "syncs": SYNCS,
}
GRAPH = Graph(
    read_spec(yaml.safe_dump(SPEC, sort_keys=False), list(FILES), Surroundings({})).syncs,
    FILES,
    REFS,
    ["people"],
    {"raw": ["crm.people", "crm.visits"], "orders": ["shop.orders"]},
)
RAN = {"late": "skipped", "users": "success", "best": "blocked", "orders": "incomplete", "gone": "failed"}
NOW = {"late": "1", "users": "2", "best": "3", "orders": "4"}


def selected(*wanted: str, without: str = "", then: dict[str, str] | None = None) -> str:
    found = select(GRAPH, wanted, [without] if without else [], Compared(then, NOW, RAN))
    return " ".join(sync.name for sync in found)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("users", "users"),
        ("*s", "orders users"),
        ("tag:hourly", "users best"),
        ("tag:hourly,tag:crm", "users"),
        ("tag:daily tag:crm", "orders users"),
        ("mode:purchases", "orders"),
        ("model:orders", "orders late"),
        ("path:models/crm", "users best"),
        ("path:models/crm/", "users best"),
        ("path:models/crm/vip.sql", "best"),
        ("path:models/*/pro*", "users"),
        ("path:models", "orders users best late"),
        ("+best", "users best"),
        ("+late", "orders users best late"),
        ("1+late", "orders best late"),
        ("2+late", "orders users best late"),
        ("users+", "users best late"),
        ("users+1", "users best"),
        ("+best+", "users best late"),
        ("1+best+0", "users best"),
        ("orders+", "orders late"),
        ("customers+", "users best"),
        ("customers+1", ""),
        ("customers+2", "users best"),
        ("raw+2", ""),
        ("raw+3", "users best"),
        ("model:customers+", "users best"),
        ("model:vip+", "best"),
        ("+model:vip", "users best"),
        ("path:models/staging+", "users best"),
        ("cust*+", "users best"),
        ("+customers+", "users best"),
        ("customers+,tag:crm", "users"),
        ("tag:crm+", "users best late"),
        ("source:shop", "orders late"),
        ("source:shop.orders", "orders late"),
        ("source:shop.*,mode:purchases", "orders"),
        ("source:crm+", "users best"),
        ("source:crm.visits+", "users best"),
        ("source:*+", "orders users best late"),
        ("config.tags:hourly", "users best"),
        ("config.tags:h*", "users best"),
        ("config.track_record_type:purchases", "orders"),
        ("config.after:users", "best"),
        ("config.skip_on_invalid_records:false,tag:daily", "orders"),
        ("config.guards.max_removed:10%", "orders users best late"),
        ("result:error", "orders best"),
        ("result:error+", "orders best late"),
        ("result:skipped", "late"),
        ("result:success result:blocked", "users best"),
    ],
)
def test_selector_takes(selector: str, expected: str):
    if not expected:
        with pytest.raises(ProjectError):
            selected(selector)
    else:
        assert selected(selector) == expected


def test_excluded_syncs_are_left_out_in_the_same_words():
    assert selected("path:models", without="users+") == "orders"
    assert selected("path:models", without="customers+ tag:daily") == "late"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("state:modified", "users best"),
        ("state:new", "best"),
        ("state:old", "orders users late"),
        ("state:unmodified", "orders late"),
        ("state:modified+", "users best late"),
        ("state:modified,tag:crm", "users"),
        ("1+state:new", "users best"),
    ],
)
def test_state_compares_with_another_time(selector: str, expected: str):
    assert selected(selector, then={"late": "1", "users": "old", "orders": "4", "gone": "9"}) == expected


def test_nothing_modified_is_no_mistake():
    assert selected("state:modified", then=NOW) == ""
    assert selected("state:modified+", then=NOW) == ""


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("user", 'no sync matches "user"\n  hint: did you mean "users"?'),
        (
            "customers",
            'no sync matches "customers"\n  hint: to select the syncs built from this model: "customers+"',
        ),
        (
            "+customers",
            '"+customers" matches no sync\n  hint: to select what is built from it: "customers+"',
        ),
        ("tag:hurly", 'no sync has the tag "hurly" in syncs.yml\n  hint: did you mean "hourly"?'),
        ("path:models/crn", 'no sync has a model at "models/crn" in syncs.yml\n  hint: did you mean "models/crm"?'),
        ("model:vipp+", 'no sync has the model "vipp" in syncs.yml\n  hint: did you mean "vip"?'),
        ("++users", 'unknown selector "++users"\n  hint: graph selectors have the form +x, x+, 2+x or x+1'),
        ("state:modifed", 'unknown selector "state:modifed"\n  hint: did you mean "modified"?'),
        (
            "state:modified",
            '"state:modified" needs a manifest to compare against\n'
            "  hint: pass --state DIR: a folder with the manifest.json to compare against, such as main's target/",
        ),
        (
            "label:x",
            'unknown selector "label:x"\n  hint: use a name, a glob, or a method: '
            "tag:, mode:, model:, path:, source:, config.KEY:, state:, result:",
        ),
        ("tga:x", 'unknown selector "tga:x"\n  hint: did you mean "tag:x"?'),
        ("hourly", 'no sync matches "hourly"\n  hint: to select by this tag: "tag:hourly"'),
        ("source:shp", 'no sync has a model that reads the source "shp" in syncs.yml\n  hint: did you mean "shop"?'),
        (
            "source:crm",
            'no sync has a model that reads the source "crm" in syncs.yml\n'
            '  hint: to select what is built from it: "source:crm+"',
        ),
        ("config.tgas:x", 'unknown selector "config.tgas:"\n  hint: did you mean "config.tags:x"?'),
        ("config.mod:users_track", 'unknown selector "config.mod:"\n  hint: did you mean "config.mode:users_track"?'),
        ("config.tags:hurly", 'no sync has tags: hurly\n  hint: did you mean "hourly"?'),
        ("result:fialed", 'unknown selector "result:fialed"\n  hint: did you mean "failed"?'),
    ],
)
def test_selector_that_leads_nowhere_is_named_with_the_nearest(selector: str, message: str):
    with pytest.raises(ProjectError) as raised:
        selected(selector)
    assert str(raised.value) == message


def test_result_needs_a_run():
    with pytest.raises(ProjectError) as raised:
        select(GRAPH, ["result:error"])
    assert str(raised.value) == (
        '"result:error" needs the results of a run\n'
        "  hint: run `retl sync --all` first, or pass --state DIR: a folder with the run_results.json of a run"
    )


@pytest.mark.long
def test_result_is_that_of_the_last_run_or_of_a_folder(shop: Shop, retl: Retl):
    shop.sync("good", "select 'u' as external_id, 1 as n").sync("bad", "select 'u' as external_id, nope as n")
    refused = retl("ls", "--select", "result:error", folder=shop.folder)
    assert (refused.code, "[P072]" in refused.err or "needs the results of a run" in refused.err) == (2, True)
    assert retl("sync", "--all", folder=shop.folder).code == 1
    listed = retl("ls", "--select", "result:error", folder=shop.folder)
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == ["bad"]
    (shop.folder / "target").rename(shop.folder / "before")
    shop.sync("bad", "select 'u' as external_id, 2 as m")
    assert retl("sync", "-s", "result:error", "--state", "before", folder=shop.folder).code == 0
    nothing = retl("sync", "-s", "result:error", folder=shop.folder)
    assert (nothing.code, nothing.err) == (0, "nothing to do: no syncs selected\n")


def test_sources_of_models_are_in_the_graph_also_through_macros(shop: Shop, retl: Retl):
    (shop.folder / "macros").mkdir()
    (shop.folder / "macros" / "a.sql").write_text("{% macro events() %}{{ source('app', 'events') }}{% endmacro %}")
    shop.sync("it", "select * from {{ source('shop', 'orders') }}, {{ events() }}")
    assert shop.project().graph.parents["model.it"] == ["source.app.events", "source.shop.orders"]
    assert "it" in retl("ls", "-s", "source:app.events", folder=shop.folder).out
