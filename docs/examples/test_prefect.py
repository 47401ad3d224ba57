"""The flow of prefect_flow.py, run by Prefect itself, in this process."""

import os
from datetime import UTC, datetime

import pytest

os.environ |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


@pytest.fixture(scope="module", autouse=True)
def server():
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    import prefect_flow

    return prefect_flow


def test_flow_sends_what_the_models_hold(shop, example):
    results = example.braze()
    assert [result["sync"] for result in results] == [
        "users_track",
        "preferences",
        "page_views",
        "orders",
        "newsletter",
    ]
    assert {result["status"] for result in results} == {"success"}
    assert [len(shop.records(array)) for array in ("attributes", "purchases", "events")] == [18, 7, 6]


def test_scheduled_time_of_the_flow_is_that_of_the_sync(shop, example):
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import Scheduled

    due = Scheduled(scheduled_time=datetime(2026, 11, 24, 8, tzinfo=UTC))
    with get_client(sync_client=True) as client:
        made = client.create_flow_run(example.braze, parameters={"select": "orders"}, state=due)
    run_flow(example.braze, flow_run=made, parameters={"select": "orders"})
    assert shop.runs("orders") == [("success", "2026-11-24 08:00")]


def test_sync_that_fails_fails_the_flow(shop, example):
    from reverse_etl import SyncError

    (shop.folder / "models" / "orders.sql").write_text("select nothing from nowhere")
    failing = example.sync.with_options(retries=0)
    with pytest.raises(SyncError, match="nowhere"):
        example.flow(lambda: failing("orders", datetime(2026, 11, 24, 8, tzinfo=UTC)))()
    assert shop.sent() == []
