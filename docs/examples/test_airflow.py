"""The DAG of airflow_dag.py, run by Airflow itself."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def dag_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow reads its settings when it is imported: a database and a folder of DAGs for these tests alone."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(Path(__file__).with_name("airflow_dag.py"), home / "dags")
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    from airflow.utils.db import initdb

    initdb()
    return home / "dags" / "airflow_dag.py"


@pytest.fixture
def dag(shop, dag_file: Path):
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=dag_file)
    assert bag.import_errors == {}
    return bag.dags["braze"]


def test_tasks_of_the_dag_send_what_the_models_hold(shop, dag):
    run = dag.test(logical_date=datetime(2026, 11, 24, 8, tzinfo=UTC))
    assert states(run) == {"users_track": "success", "orders": "success", "page_views": "success"}
    assert [len(shop.records(array)) for array in ("attributes", "purchases", "events")] == [9, 7, 6]
    assert shop.runs("users_track") == [("success", "2026-11-24 08:00")]


def states(run) -> dict[str, str]:
    return {one.task_id: str(one.state) for one in run.get_task_instances()}


def test_task_fails_at_once_when_the_project_is_wrong_and_those_after_it_do_not_run(shop, dag):
    (shop.folder / "models" / "users_track.sql").write_text("select nothing from nowhere")
    run = dag.test(logical_date=datetime(2026, 11, 24, 9, tzinfo=UTC))
    assert states(run) == {"users_track": "failed", "orders": "upstream_failed", "page_views": "upstream_failed"}
    assert shop.sent() == []


def test_task_fails_when_rows_cannot_be_sent(shop, dag):
    (shop.folder / "models" / "users_track.sql").write_text("select '' as external_id, 'gold' as tier")
    dag.get_task("users_track").retries = 0  # dag.test() would wait for the next try
    run = dag.test(logical_date=datetime(2026, 11, 24, 10, tzinfo=UTC))
    assert states(run)["users_track"] == "failed"
    assert shop.sent() == []
