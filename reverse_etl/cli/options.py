"""Options shared by several commands, with their help, and the parsing of some of them."""

import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.completion import selectors, sync_names, target_names
from reverse_etl.cli.here import project_here
from reverse_etl.errors import ProjectError
from reverse_etl.system.clock import Clock


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


class TableOutput(StrEnum):
    TEXT = "text"
    JSON = "json"
    CSV = "csv"


class PlanOutput(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether an option is on the command line; not if it is a default, or from the environment."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _folder(context: typer.Context, folder: Path) -> Path:
    source = context.get_parameter_source("project_dir")
    return project_here() if source is not None and source.name == "DEFAULT" else folder


SyncName = Annotated[str, typer.Argument(help="Name of a sync.", show_default=False, autocompletion=sync_names)]
SyncNames = Annotated[
    list[str] | None,
    typer.Argument(help="Names or globs of syncs.", show_default=False, autocompletion=sync_names),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        "-s",
        autocompletion=selectors,
        help="Select syncs by name, glob, tag:, mode:, model:, path:, source:, config.KEY:, result:, state: or graph "
        "operators (+x+).",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", autocompletion=selectors, help="Exclude syncs; same syntax as --select."),
]
StateFolder = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="RETL_STATE",
        help="Folder with the manifest.json that state: compares against, and the run_results.json of result:.",
    ),
]
OutputFormat = Annotated[Output, typer.Option("--output", help="Output format.")]
TableFormat = Annotated[TableOutput, typer.Option("--output", help="Output format.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show all columns, even if the terminal is narrower.")]
ShowValues = Annotated[
    bool, typer.Option("--show-values", help="Show values and whole keys, which may be personal data.")
]
FullRefresh = Annotated[
    bool, typer.Option("--full-refresh", help="Treat every row as new, whether sent before or not.")
]
AcceptSchemaChange = Annotated[
    bool, typer.Option("--accept-schema-change", help="Accept columns whose type has changed, and send them again.")
]
MaxChanges = Annotated[
    str | None,
    typer.Option(
        "--max-changes",
        help="Override guard max_changes: block the run if it would send more rows than this (500 or 10%).",
    ),
]
MaxRemoved = Annotated[
    str | None,
    typer.Option(
        "--max-removed",
        help="Override guard max_removed: block the run if on_removed would affect more rows than this (50 or 1%).",
    ),
]
MaxRequests = Annotated[
    int | None,
    typer.Option(
        "--max-requests", min=0, help="Override guard max_requests: block the run if it needs more requests than this."
    ),
]
MaxDataPoints = Annotated[
    int | None,
    typer.Option(
        "--max-data-points",
        min=0,
        help="Override guard max_data_points: block the run if it would use more data points than this.",
    ),
]
SkipGuard = Annotated[
    list[str] | None,
    typer.Option(
        "--skip-guard",
        metavar="NAME[=N]",
        help="Ignore this guard for this run, or let it pass at most N; data_tests is a guard too. Repeatable.",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write the plan to a file, for `retl apply`.", show_default=False)
]
Encrypt = Annotated[bool, typer.Option("--encrypt", help="Encrypt the file of --out for the age key in RETL_PLAN_KEY.")]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit", envvar="RETL_MEMORY_LIMIT", help="DuckDB memory limit: 512MB, 4GB.", show_default="2000MB"
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        envvar="RETL_WAIT",
        min=0,
        help="Maximum seconds to wait while another process has the sync or the warehouse locked.",
    ),
]
ScheduledTime = Annotated[
    str | None,
    typer.Option(
        "--scheduled-time",
        help="Scheduled time of the run, for scheduled_time in models: 2026-11-25T08:00:00Z.",
        show_default="now",
    ),
]
RateLimitShare = Annotated[
    float,
    typer.Option(
        "--rate-limit-share",
        envvar="RETL_RATE_LIMIT_SHARE",
        min=0.01,
        max=1,
        help="Fraction of each rate limit to use, of what keep_free leaves: 0.8 for 80 %.",
    ),
]
FinishByTime = Annotated[
    str | None,
    typer.Option(
        "--finish-by",
        metavar="TIME",
        help='Send nothing if it would take longer, and nothing from then on: 07:00 (UTC), "07:00 Asia/Seoul", or a '
        "timestamp.",
        show_default=False,
    ),
]
ReadFirst = Annotated[
    bool,
    typer.Option(
        "--read-first",
        envvar="RETL_READ_FIRST",
        help="Ask Braze who of the users that the run would opt in has opted out there; it stays so.",
    ),
]
CreateCatalog = Annotated[
    bool,
    typer.Option(
        "--create-catalog",
        help="Create the catalog that a sync writes to, or its fields, if Braze lacks them; types are the model's.",
    ),
]
Canary = Annotated[
    int | None,
    typer.Option(
        "--canary",
        metavar="N",
        min=1,
        max=1000,
        help="Send N rows first, with each kind of value, and read them back: send the rest if Braze has them as sent.",
        show_default=False,
    ),
]
CanaryValues = Annotated[
    bool, typer.Option("--show-values", help="With --canary: show keys and values that differ; may be personal data.")
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", "-x", envvar="RETL_FAIL_FAST", help="Start no more syncs after one fails.")
]
Threads = Annotated[
    int, typer.Option("--threads", envvar="RETL_THREADS", min=1, max=500, help="Maximum number of requests in flight.")
]
KeysFrom = Annotated[
    Path | None,
    typer.Option(
        "--keys-from",
        metavar="FILE",
        allow_dash=True,
        help="Only the rows with the keys in this text file, one per line, as shown by `retl rejects`; - reads stdin.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
ProjectFolder = Annotated[
    Path,
    typer.Option(
        "--project-dir",
        envvar="RETL_PROJECT_DIR",
        callback=_folder,
        help="Project folder (contains syncs.yml).",
        show_default="this folder, or the closest one around it",
    ),
]
TargetName = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        envvar="RETL_TARGET",
        autocompletion=target_names,
        help="Target in syncs.yml, if not the default.",
    ),
]
Variables = Annotated[str | None, typer.Option("--vars", help="Values for var(), as YAML: '{country: KR}'.")]


_CLOCKS_DIFFER = timedelta(minutes=1)  # between this machine and the one that schedules its runs


def moment_of(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        what = "is not a valid time" if moment is None else "has no time zone"
        hint = "use a time with a time zone: 2026-11-25T08:00:00Z, or +09:00 instead of Z"
        raise ProjectError(f'--scheduled-time: "{text}" {what}', hint=hint, code="P073")
    if moment > Clock().utc() + _CLOCKS_DIFFER:
        hint = "use a time in the past: a future one has no data yet, and scheduled runs would wait until it has passed"
        raise ProjectError(f'--scheduled-time: "{text}" is in the future', hint=hint, code="P073")
    return moment.astimezone(UTC)


def keys_in(path: Path) -> list[str]:
    """The keys in a text file, or on stdin, without empty lines. Raises ProjectError if there is none: then nothing is
    meant, and not everything."""
    is_stdin = str(path) == "-"
    name = "stdin" if is_stdin else str(path)
    hint = "pass a UTF-8 text file with one key per line, as `retl rejects` shows them, or - for stdin"
    try:
        data = path.read_bytes() if not is_stdin else sys.stdin.buffer.read() if sys.stdin else b""
        keys = [line for line in data.decode("utf-8-sig").replace("\r\n", "\n").split("\n") if line]
    except OSError as error:
        raise ProjectError(f"--keys-from: cannot read {name}: {error.strerror}", hint=hint, code="P073") from error
    except UnicodeDecodeError as error:
        raise ProjectError(f"--keys-from: {name} is not UTF-8 text", hint=hint, code="P073") from error
    if not keys:
        raise ProjectError(f"--keys-from: {name} has no key", hint=hint, code="P073")
    return keys


_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def age_of(text: str) -> timedelta:
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.isdigit():
        raise ProjectError(
            f'--max-age: "{text}" is not a valid age', hint="use minutes, hours or days: 30m, 24h, 7d", code="P073"
        )
    return int(number) * unit
