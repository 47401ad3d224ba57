"""Braze, once an hour: a task for each sync. Airflow 3."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

PROJECT = os.environ.get("RETL_PROJECT", "/opt/shop")  # the folder with syncs.yml
TARGET = os.environ.get("RETL_TARGET", "prod")


@task(retries=2, retry_delay=timedelta(minutes=5))
def sync(name: str, data_interval_end: datetime | None = None) -> dict[str, Any]:
    from reverse_etl import Project  # here, so that parsing the DAG stays cheap

    result = Project(PROJECT, target=TARGET).sync(name, scheduled_time=data_interval_end, wait_s=600)
    if result.exit_code == 2:  # the project is invalid: retrying does not help
        raise AirflowFailException("\n".join(map(str, result.errors)))
    return result.raise_for_status().as_dict()


@dag(schedule="@hourly", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
def braze() -> None:
    sync.override(task_id="users_track")("users_track") >> [
        sync.override(task_id="orders")("orders"),
        sync.override(task_id="page_views")("page_views"),
    ]


dag_of_braze = braze()
