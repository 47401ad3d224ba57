"""What is due, and what is next, as text for people. Imported every minute: needs no DuckDB."""

from datetime import datetime

from reverse_etl.project.spec import Sync
from reverse_etl.runs.due import Due
from reverse_etl.words import moment


def due_line(due: Due) -> str:
    """A sync that is due, in one line."""
    return f"{due.sync.name}: {due_words(due)}"


def due_words(due: Due) -> str:
    """Since when a sync is due, and until when it waits if it failed; unless it is running."""
    waits = f", retry {moment(due.next_try)}" if due.next_try else ""
    said = "overdue" if due.is_overdue else "due"
    return "running" if due.busy else f"{said} since {moment(due.since)}{waits}"


def coming_line(coming: tuple[datetime, Sync] | None) -> str:
    """What is due next, in one line."""
    return f"next: {coming[1].name} at {moment(coming[0])}" if coming else "no sync has a schedule"
