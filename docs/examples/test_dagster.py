"""The assets of dagster_assets.py, materialized by Dagster itself, in this process."""

import importlib
import os
import sys
from datetime import UTC, datetime

import pytest

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"


@pytest.fixture
def assets(shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    sys.modules.pop("dagster_assets", None)  # it reads the project when it is imported
    return importlib.import_module("dagster_assets")


def test_assets_send_what_the_models_hold(shop, assets):
    import dagster as dg

    result = dg.materialize([assets.braze])
    assert result.success
    made = {event.asset_key.path[-1]: event for event in result.asset_materializations_for_node("braze")}
    assert list(made) == assets.project.syncs()
    found = {name: value.value for name, value in made["users_track"].metadata.items()}
    assert found.pop("seconds") > 0
    assert found.pop("run").startswith("20")
    assert found == {
        "status": "success",
        **{"rows planned": 9, "rows accepted": 9, "rows rejected": 0, "rows invalid": 0},
        **{"requests": 1, "data points": 66},
    }
    assert [len(shop.records(array)) for array in ("attributes", "purchases", "events")] == [18, 7, 6]


def test_selected_assets_alone_are_sent_and_a_schedule_passes_its_time_on(shop, assets):
    import dagster as dg

    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance, datetime(2026, 11, 24, 8, tzinfo=UTC))
        request = assets.hourly(context)
        result = dg.materialize([assets.braze], selection=["orders"], tags=request.tags, instance=instance)
    assert result.success
    assert [path for path, _ in shop.sent()] == ["/users/track"]
    assert shop.runs("orders") == [("success", "2026-11-24 08:00")]


def test_sync_that_fails_fails_the_run_and_the_others_are_materialized(shop, assets):
    import dagster as dg

    (shop.folder / "models" / "orders.sql").write_text("select nothing from nowhere")
    result = dg.materialize([assets.braze], selection=["orders", "newsletter"], raise_on_error=False)
    assert not result.success
    assert [event.asset_key.path for event in result.asset_materializations_for_node("braze")] == [["newsletter"]]
    (seen,) = result.get_asset_observation_events()
    assert (seen.asset_observation_data.asset_observation.asset_key.path, seen.node_name) == (["orders"], "braze")
    assert seen.asset_observation_data.asset_observation.metadata["status"].value == "failed"


def test_definitions_load(assets):
    assert [schedule.name for schedule in assets.defs.schedules] == ["hourly"]
    assert assets.defs.resolve_job_def("__ASSET_JOB")
