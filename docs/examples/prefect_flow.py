"""Braze, once an hour: a task for each sync. Prefect 3."""

import os
from datetime import datetime
from typing import Any

from prefect import flow, task
from prefect.runtime import flow_run

from reverse_etl import Project


def project() -> Project:
    return Project(os.environ.get("RETL_PROJECT", "/opt/shop"), target=os.environ.get("RETL_TARGET", "prod"))


@task(task_run_name="{name}", retries=2, retry_delay_seconds=300)
def sync(name: str, scheduled_time: datetime) -> dict[str, Any]:
    return project().sync(name, scheduled_time=scheduled_time, wait_s=600).raise_for_status().as_dict()


@flow
def braze(select: str = "tag:hourly") -> list[dict[str, Any]]:
    return [sync(name, flow_run.scheduled_start_time) for name in project().syncs(select)]


if __name__ == "__main__":
    braze.serve(cron="0 * * * *", limit=1)
