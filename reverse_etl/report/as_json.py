"""Plans and results as JSON for programs. Rows are named by key, without values."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reverse_etl.errors import Location, Problem
from reverse_etl.runs.outcome import RunResult

if TYPE_CHECKING:
    from reverse_etl.runs.due import Due
    from reverse_etl.runs.finish_by import Load
    from reverse_etl.runs.preview import Preview
    from reverse_etl.runs.reverting import Reverted
    from reverse_etl.runs.verify import Verified


def preview_json(preview: "Preview") -> dict[str, Any]:
    """A plan for programs. Rows are named by key, without values."""
    return {
        "sync": preview.sync.name,
        "mode": preview.sync.mode.label,
        "target": preview.target,
        "depends_on": preview.depends_on,
        **asdict(preview.plan),
        "columns": dict(preview.columns),
        "new_columns": list(preview.new_columns),
        "is_incomplete": preview.not_whole > 0,
        "seconds_at_rate_limit": round(preview.seconds, 3),
        "rate_limits": [load_json(load) for load in preview.forecast.loads],
        **_times(preview),
        "invalid_rows": [asdict(row) for row in preview.invalid],
        "invalid_reasons": [asdict(reason) for reason in preview.reasons],
        "left_out_rows": [asdict(row) for row in preview.left_out],
        "left_out_reasons": [asdict(reason) for reason in preview.left_out_reasons],
        "withheld_rows": [asdict(row) for row in preview.withheld],
        "blocked_by": [problem_json(problem) for problem in preview.blocked_by],
    }


def revert_json(run: str, preview: "Preview", reverted: "Reverted") -> dict[str, Any]:
    """The plan of a revert for programs."""
    return {"run": run, "cells": reverted.cells, "not_reverted": list(reverted.left), **preview_json(preview)}


def verify_json(found: "Verified") -> dict[str, Any]:
    """A comparison with Braze for programs."""
    below, above = found.share
    confidence = {"share_below": round(below, 6), "share_above": round(above, 6)}
    return {**asdict(found), **confidence, "finds_one_percent": round(found.finds_one_percent, 6)}


def _times(preview: "Preview") -> dict[str, Any]:
    by, done = preview.finish_by, preview.forecast.done_at
    return {"finish_by": by.isoformat() if by else None, "estimated_end": done.isoformat() if by else None}


def load_json(load: "Load") -> dict[str, Any]:
    """What a run uses of a rate limit, and leaves to others; the numbers per second are None if it takes no time."""
    rates = {"requests_per_second": load.per_second, "left_per_second": load.left_per_second}
    rounded = {name: round(rate, 3) if load.seconds else None for name, rate in rates.items()}
    return {"rate_limit": load.rate_limit, "requests": load.requests, "seconds": round(load.seconds, 3), **rounded}


def result_json(result: RunResult) -> dict[str, Any]:
    """A result for programs. Rows are named by key, without values."""
    return {
        "sync": result.sync,
        "mode": result.mode,
        "target": result.target,
        "status": result.status,
        "scheduled_time": result.scheduled_time.isoformat() if result.scheduled_time else None,
        "started_at": result.started_at.isoformat() if result.started_at else None,
        "duration_s": round(result.duration_s, 3),
        "plan": asdict(result.plan) if result.plan else None,
        "delivery": asdict(result.delivery) if result.delivery else None,
        "invalid_rows": [asdict(row) for row in result.invalid],
        "invalid_reasons": [asdict(reason) for reason in result.reasons],
        "left_out_rows": [asdict(row) for row in result.left_out],
        "left_out_reasons": [asdict(reason) for reason in result.left_out_reasons],
        "withheld_rows": [asdict(row) for row in result.withheld],
        "silent_drops": [asdict(drop) for drop in result.silent_drops],
        "canary": asdict(result.canary) if result.canary else None,
        "errors": [problem_json(problem) for problem in result.errors],
    }


def due_json(due: "Due") -> dict[str, Any]:
    return {
        "sync": due.sync.name,
        "status": "running" if due.busy else "due",
        "scheduled_time": due.scheduled_time.isoformat(),
        **({"next_try": due.next_try.isoformat()} if due.next_try else {}),
    }


def problem_json(problem: Problem) -> dict[str, Any]:
    """An error for programs; in its location, line or column 0 means unknown."""
    return {
        "message": problem.message,
        "location": location_json(problem.location) if problem.location else None,
        "hint": problem.hint,
        "code": problem.code or None,
    }


def location_json(location: Location) -> dict[str, Any]:
    return {"file": location.file, "line": location.line, "column": location.column}
