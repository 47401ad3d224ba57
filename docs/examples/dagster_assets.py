"""Braze, once an hour: an asset for each sync. Dagster 1.13."""

import os
from collections.abc import Iterator
from datetime import datetime

import dagster as dg

from reverse_etl import Project, SyncResult

project = Project(os.environ.get("RETL_PROJECT", "/opt/shop"), target=os.environ.get("RETL_TARGET", "prod"))


@dg.multi_asset(specs=[dg.AssetSpec(name, group_name="braze") for name in project.syncs()], can_subset=True)
def braze(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
    names = [key.path[-1] for key in context.selected_asset_keys]
    due = context.run.tags.get("scheduled_time")
    results = project.sync_all(*names, scheduled_time=datetime.fromisoformat(due) if due else None, wait_s=600)
    for result in results:
        if result.is_success:
            yield dg.MaterializeResult(asset_key=result.sync, metadata=metadata(result))
        else:  # what it came to is on the asset's page, too
            context.log_event(dg.AssetObservation(result.sync, metadata=metadata(result)))
    results.raise_for_status()


def metadata(result: SyncResult) -> dict[str, int | float | str]:
    """Dagster draws the numbers over time."""
    plan = result.plan
    return {
        "status": result.status,
        "rows planned": plan.to_send if plan else 0,
        "rows accepted": result.accepted,
        "rows rejected": result.rejected,
        "rows invalid": result.invalid,
        "requests": result.requests,
        "data points": plan.data_points if plan else 0,
        "seconds": round(result.duration_s, 3),
        "run": result.run_id or "",  # for `retl history`, `retl why KEY --run RUN` and `retl revert RUN`
    }


@dg.schedule(cron_schedule="0 * * * *", target=dg.AssetSelection.groups("braze"))
def hourly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(tags={"scheduled_time": context.scheduled_execution_time.isoformat()})


defs = dg.Definitions(assets=[braze], schedules=[hourly])
