"""The page of a project whose models run in each of the warehouses, by what it is made of."""

import pyarrow

from reverse_etl.report.site.page import assets, page
from reverse_etl.runs.flaps import HowToLook
from reverse_etl.runs.site import collect
from tests.warehouses.conftest import Warehouse


def people(*tiers: str | None) -> pyarrow.Table:
    ids = [f"person{n}" for n in range(len(tiers))]
    return pyarrow.table({"external_id": ids, "tier": pyarrow.array(tiers, pyarrow.string()), "spent": [1, 2, 3]})


def test_page_has_columns_changes_and_lineage_wherever_models_run(warehouse: Warehouse):
    shop = warehouse.shop
    table = warehouse.put("people", people("gold", "gold", None))
    shop.sync("tiers", f"SELECT external_id, tier, spent FROM {table}", primary_key="external_id")
    assert shop.run("tiers").status == "success"
    warehouse.put("people", people("silver", "gold", None))
    assert shop.run("tiers").status == "success"
    site = collect(shop.project(), HowToLook(30, 1, shop.clock.utc()), "1.0")
    (sync,) = site.syncs
    rows_are_here = warehouse.kind != "sail-engine"
    assert (sync.status, sync.rows, list(sync.notes)) == ("success", 3, [])
    assert [(one.name, one.type, one.filled, one.changes) for one in sync.columns] == [
        ("tier", "string", 2 if rows_are_here else None, 1),
        ("spent", "number", 3 if rows_are_here else None, 0),
    ]
    assert [(run.accepted, run.changed) for run in sync.runs] == [(1, {"tier": 1}), (3, {})]
    (model,) = [node for node in site.nodes if node.id == "model.tiers"]
    assert [parent.endswith(("people", "people.parquet")) for parent in model.parents] == [True]
    assert "person0" not in page(site, assets())
