"""The options that several commands take, each with its help; and what the texts of some of them mean."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.errors import ProjectError


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


class PlanOutput(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


SyncName = Annotated[str, typer.Argument(help="The name of a sync.", show_default=False)]
SyncNames = Annotated[list[str] | None, typer.Argument(help="Names or globs of syncs.", show_default=False)]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", "-s", help="Syncs to take: names, globs, tag:, mode:, model:, path:, state:, +x+."),
]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", help="Syncs to leave out, in the same words.")]
StateFolder = Annotated[
    Path | None,
    typer.Option(
        "--state", envvar="RETL_STATE", help="What state: compares with: a folder with another manifest.json."
    ),
]
OutputFormat = Annotated[Output, typer.Option("--output", help="How to print the result.")]
ShowValues = Annotated[bool, typer.Option("--show-values", help="Show values, which may be personal data.")]
FullRefresh = Annotated[bool, typer.Option("--full-refresh", help="Take every row as new, sent before or not.")]
AcceptSchemaChange = Annotated[
    bool, typer.Option("--accept-schema-change", help="Go on where a column's type has changed, and send it again.")
]
MaxChanges = Annotated[str | None, typer.Option("--max-changes", help="Stop if more rows would go out: 500, 10%.")]
MaxRemoved = Annotated[str | None, typer.Option("--max-removed", help="Stop if on_removed would act on more: 50, 1%.")]
MaxRequests = Annotated[int | None, typer.Option("--max-requests", min=0, help="Stop if more requests are needed.")]
MaxDataPoints = Annotated[
    int | None, typer.Option("--max-data-points", min=0, help="Stop if it would cost more data points.")
]
SkipGuard = Annotated[
    list[str] | None, typer.Option("--skip-guard", help="A guard to let pass this once, or data_tests.")
]
MemoryLimit = Annotated[
    str | None,
    typer.Option("--memory-limit", help="For DuckDB: 512MB, 4GB.", show_default="2000MB"),
]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait while another process holds the sync or the warehouse.")
]
ScheduledTime = Annotated[
    str | None,
    typer.Option(
        "--scheduled-time", help="The moment that the run stands for: 2026-11-25T08:00:00Z.", show_default="now"
    ),
]
RateLimitShare = Annotated[
    float, typer.Option("--rate-limit-share", min=0.01, max=1, help="Part of each rate limit to use: 0.8 for 80 %.")
]
FailFast = Annotated[bool, typer.Option("--fail-fast", "-x", help="Run no more syncs after one fails.")]
Threads = Annotated[int, typer.Option("--threads", min=1, max=500, help="Requests in flight at most.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ProjectFolder = Annotated[Path, typer.Option("--project-dir", help="The folder with syncs.yml.", show_default="here")]
TargetName = Annotated[str | None, typer.Option("--target", "-t", help="A target of syncs.yml, if not its default.")]
Variables = Annotated[str | None, typer.Option("--vars", help="Values for var(), as YAML: '{country: KR}'.")]


_CLOCKS_DIFFER = timedelta(minutes=1)  # between this machine and the one that starts runs on it


def moment_of(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        what = f'--scheduled-time: "{text}" is no time' if moment is None else f'--scheduled-time: "{text}" has no zone'
        raise ProjectError(what, hint="write 2026-11-25T08:00:00Z, or +09:00 for the Z")
    if moment > datetime.now(UTC) + _CLOCKS_DIFFER:
        hint = "models of that moment have no rows yet, and a schedule would wait until it is past"
        raise ProjectError(f'--scheduled-time: "{text}" is still to come', hint=hint)
    return moment.astimezone(UTC)


_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def age_of(text: str) -> timedelta:
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.isdigit():
        raise ProjectError(f'--max-age: "{text}" is no time', hint="write 30m, 24h or 7d")
    return int(number) * unit
