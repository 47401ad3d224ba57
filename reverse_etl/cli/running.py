"""Commands that plan and send: sync, retry, plan, apply."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from reverse_etl.cli.shared import (
    AcceptSchemaChange,
    Exclude,
    FailFast,
    ForceGuard,
    FullRefresh,
    MaxChanges,
    MaxDataPoints,
    MaxRemoved,
    MaxRequests,
    MemoryLimit,
    Output,
    OutputFormat,
    PlanOutput,
    RateLimitShare,
    ScheduledTime,
    Select,
    ShowValues,
    SyncName,
    SyncNames,
    Threads,
    Wait,
    Yes,
    ask,
    chosen,
    cost_of_sending_all,
    in_project,
    print_json,
    print_lines,
    say,
    screen,
)
from reverse_etl.errors import ProjectError

if TYPE_CHECKING:
    from reverse_etl.interrupts import Interrupts
    from reverse_etl.project import Project
    from reverse_etl.run import Options, RunResult, Save
    from reverse_etl.spec import Sync

app = typer.Typer()


@app.command()
@in_project
def sync(
    project: "Project",
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    all_syncs: Annotated[bool, typer.Option("--all", help="Run every sync of syncs.yml.")] = False,
    full_refresh: FullRefresh = False,
    accept_schema_change: AcceptSchemaChange = False,
    max_changes: MaxChanges = None,
    max_removed: MaxRemoved = None,
    max_requests: MaxRequests = None,
    max_data_points: MaxDataPoints = None,
    force_guard: ForceGuard = None,
    fail_fast: FailFast = False,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    scheduled_time: ScheduledTime = None,
    yes: Yes = False,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Send what changed in the models of syncs since they last ran."""
    from reverse_etl.run import Options, run_syncs

    if not (names or select or all_syncs):
        raise ProjectError("no sync is named", hint=f"name some of {', '.join(project.sync_names)}, or pass --all")
    if scheduled_time is not None:
        project = project.scheduled_at(_moment(scheduled_time))
    bounds = {
        "max_changes": max_changes,
        "max_removed": max_removed,
        "max_requests": max_requests,
        "max_data_points": max_data_points,
    }
    syncs = _guarded(chosen(project, names, select, exclude), bounds)
    if full_refresh:
        ask(cost_of_sending_all(syncs), yes)
    options = Options(
        full_refresh=full_refresh,
        accept_schema_change=accept_schema_change,
        force_guards=_guard_names(force_guard or []),
        memory_limit=memory_limit,
        wait_s=wait,
        fail_fast=fail_fast,
        threads=threads,
    )
    run_and_exit(project, partial(run_syncs, project, syncs), options, rate_limit_share, output)


@app.command()
@in_project
def retry(
    project: "Project",
    name: SyncName,
    force_guard: ForceGuard = None,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Run a sync, and send what Braze rejected before once more, changed or not."""
    from reverse_etl.run import Options, run_syncs
    from reverse_etl.state import Intent

    guards = _guard_names(force_guard or [])
    options = Options(intent=Intent.RETRY, force_guards=guards, memory_limit=memory_limit, wait_s=wait, threads=threads)
    run_and_exit(project, partial(run_syncs, project, [project.sync(name)]), options, rate_limit_share, output)


@app.command()
@in_project
def apply(
    project: "Project",
    file: Annotated[Path, typer.Argument(help="What `retl plan --out` wrote.", show_default=False)],
    max_age: Annotated[str, typer.Option("--max-age", help="Refuse an older plan: 30m, 24h, 7d.")] = "24h",
    force_guard: ForceGuard = None,
    fail_fast: FailFast = False,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Send a saved plan: exactly the records that were reviewed, without running a model. A stale plan is refused."""
    from reverse_etl.apply import apply_syncs, refuse_stale
    from reverse_etl.run import Options
    from reverse_etl.saved_plan import KEY_VARIABLE, opened_plan

    options = Options(
        force_guards=_guard_names(force_guard or []),
        memory_limit=memory_limit,
        wait_s=wait,
        fail_fast=fail_fast,
        threads=threads,
    )
    age = _age(max_age)
    with opened_plan(file, project.environ.get(KEY_VARIABLE)) as plans:
        refuse_stale(project, plans, age, options, screen())
        run_and_exit(project, partial(apply_syncs, project, plans, age), options, rate_limit_share, output)


def _moment(text: str) -> datetime:
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


_CLOCKS_DIFFER = timedelta(minutes=1)  # between this machine and the one that starts runs on it


def _age(text: str) -> timedelta:
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.isdigit():
        raise ProjectError(f'--max-age: "{text}" is no time', hint="write 30m, 24h or 7d")
    return int(number) * unit


_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


Run = Callable[..., "Iterator[RunResult]"]  # of a channel, options, a listener, and whether a signal came


def run_and_exit(project: "Project", run: Run, options: "Options", rate_limit_share: float, output: Output) -> NoReturn:
    """Run syncs, print what became of them, and end the command with what that means."""
    from reverse_etl import report
    from reverse_etl.interrupts import Interrupted, Interrupts
    from reverse_etl.run import exit_code

    interrupts = Interrupts()
    results = []
    try:
        with interrupts.taken():
            for result in shown(project, run, options, rate_limit_share, output, interrupts):
                results.append(result)
    except Interrupted:
        say("interrupted while nothing was being sent")
    if len(results) > 1:
        say(report.summary_line(results))
    if output is Output.JSON:
        print_json([report.result_json(result) for result in results])
    raise typer.Exit(interrupts.exit_code if interrupts.signal else exit_code(results))


def shown(
    project: "Project",
    run: Run,
    options: "Options",
    rate_limit_share: float,
    output: Output,
    interrupts: "Interrupts",
) -> "Iterator[RunResult]":
    """Run syncs; each result is printed when it is there. A signal lets what is in flight come to an end."""
    from reverse_etl.channel import open_channel

    with open_channel(project, rate_limit_share) as channel:
        for result in run(channel, options, screen(interrupts), lambda: bool(interrupts.signal)):
            _print_result(result, output)
            yield result


def _print_result(result: "RunResult", output: Output) -> None:
    from reverse_etl import report

    if output is Output.TEXT:
        print(report.result_line(result), flush=True)
    for mistake in result.mistakes:
        say(str(mistake))
    for line in report.invalid_lines(result.invalid, result.plan.invalid if result.plan else 0):
        say(line)


def _guarded(syncs: "list[Sync]", bounds: Mapping[str, object]) -> "list[Sync]":
    """The syncs, with bounds of the command line in place of those of syncs.yml."""
    from reverse_etl.guards import bounded

    return bounded(syncs, bounds, lambda name: f"--{name.replace('_', '-')}")


def _guard_names(names: list[str]) -> list[str]:
    from reverse_etl.guards import known

    return known(names, "--force-guard")


@app.command()
@in_project
def plan(
    project: "Project",
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    show_values: ShowValues = False,
    full_refresh: FullRefresh = False,
    accept_schema_change: AcceptSchemaChange = False,
    max_changes: MaxChanges = None,
    max_removed: MaxRemoved = None,
    max_requests: MaxRequests = None,
    max_data_points: MaxDataPoints = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 if there is something to send.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the plan to a file, for `retl apply`.", show_default=False)
    ] = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt that file for the age key in RETL_PLAN_KEY.")
    ] = False,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    scheduled_time: ScheduledTime = None,
    output: Annotated[PlanOutput, typer.Option("--output", help="How to print the result.")] = PlanOutput.TEXT,
) -> None:
    """Show what a sync would send: rows, columns, old and new values, requests. Sends nothing, needs no API key."""
    from reverse_etl import report
    from reverse_etl.run import Options, preview_sync

    if scheduled_time is not None:
        project = project.scheduled_at(_moment(scheduled_time))
    options = Options(
        full_refresh=full_refresh,
        accept_schema_change=accept_schema_change,
        memory_limit=memory_limit,
        wait_s=wait,
    )
    bounds = {
        "max_changes": max_changes,
        "max_removed": max_removed,
        "max_requests": max_requests,
        "max_data_points": max_data_points,
    }
    previews = []
    with _saving(project, out, encrypt) as save:
        for one in _guarded(chosen(project, names, select, exclude), bounds):
            previews.append(preview_sync(project, one, options, screen(), save))
            if output is PlanOutput.TEXT:
                print_lines(report.preview_lines(previews[-1], show_values))
    if output is PlanOutput.JSON:
        print_json([report.preview_json(preview) for preview in previews])
    if output is PlanOutput.MARKDOWN:
        print_lines(report.preview_markdown(previews))
    stops = [stop for preview in previews for stop in preview.stops]
    for stop in stops:
        say(str(stop))
    has_changes = any(preview.plan.to_send for preview in previews)
    raise typer.Exit(1 if stops else 2 if detailed_exitcode and has_changes else 0)


@contextmanager
def _saving(project: "Project", out: Path | None, encrypt: bool) -> "Iterator[Save | None]":
    """What keeps a plan in the file `out`; None if none is asked for."""
    from reverse_etl.saved_plan import KEY_VARIABLE, origin, plan_file

    if out is None:
        if encrypt:
            raise ProjectError("--encrypt goes with --out", hint="retl plan --out FILE --encrypt")
        yield None
        return
    key = project.environ.get(KEY_VARIABLE) if encrypt else None
    if encrypt and not key:
        raise ProjectError(f"{KEY_VARIABLE} is not set", hint="set it to an age key: age-keygen makes one")
    with plan_file(out, project.target_name, key) as file:
        yield lambda sync, state, plan: file.add(state, origin(project, sync, state), plan)
    what = f"encrypted for {KEY_VARIABLE}" if encrypt else "readable by you only"
    say(f"wrote {out}: it holds personal data, and is {what}; within 24 hours: retl apply {out}")
