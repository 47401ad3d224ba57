"""Commands that plan and send: sync, retry."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from reverse_etl.cli.context import (
    ProjectCommand,
    ask,
    chosen,
    cost_of_sending_all,
    load,
    note_arguments,
    say,
    say_of_models,
    screen,
)
from reverse_etl.cli.execute import done_by, guarded, guards_to_skip, run_and_exit, start_workbench
from reverse_etl.cli.options import (
    AcceptSchemaChange,
    Canary,
    CanaryValues,
    CreateCatalog,
    Exclude,
    FailFast,
    FinishByTime,
    FullRefresh,
    MaxChanges,
    MaxDataPoints,
    MaxRemoved,
    MaxRequests,
    MemoryLimit,
    Output,
    OutputFormat,
    ProjectFolder,
    RateLimitShare,
    ReadFirst,
    ScheduledTime,
    Select,
    SkipGuard,
    StateFolder,
    SyncNames,
    TargetName,
    Threads,
    Variables,
    Wait,
    Yes,
    is_typed,
    moment_of,
)
from reverse_etl.errors import ProjectError

app = typer.Typer()


@app.command(cls=ProjectCommand)
def sync(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    state: StateFolder = None,
    all_syncs: Annotated[bool, typer.Option("--all", help="Run every sync in syncs.yml.")] = False,
    full_refresh: FullRefresh = False,
    accept_schema_change: AcceptSchemaChange = False,
    max_changes: MaxChanges = None,
    max_removed: MaxRemoved = None,
    max_requests: MaxRequests = None,
    max_data_points: MaxDataPoints = None,
    skip_guard: SkipGuard = None,
    read_first: ReadFirst = False,
    canary: Canary = None,
    show_values: CanaryValues = False,
    create_catalog: CreateCatalog = False,
    fail_fast: FailFast = False,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    finish_by: FinishByTime = None,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    scheduled_time: ScheduledTime = None,
    yes: Yes = False,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Run syncs: send what differs between their models and what Braze has acknowledged."""
    start_workbench()
    from reverse_etl.runs.interrupts import Interrupts
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.run import jobs_of

    project = load(project_dir, target, variables)
    if all_syncs and (names or select):
        which = "names" if names else "--select"
        hint = f"remove --all to run only these, or {which} to run every sync"
        raise ProjectError(f"--all and {which} exclude each other", hint=hint, code="P076")
    if not (names or select or all_syncs):
        raise ProjectError(
            "no syncs specified",
            hint=f"name one or more of {', '.join(project.sync_names)}, or pass --all",
            code="P070",
        )
    if scheduled_time is not None:
        project = project.scheduled_at(moment_of(scheduled_time))
    bounds = {
        "max_changes": max_changes,
        "max_removed": max_removed,
        "max_requests": max_requests,
        "max_data_points": max_data_points,
    }
    syncs = guarded(chosen(project, names, select, exclude, state, keeps_manifest=False), bounds)
    if full_refresh:
        ask(cost_of_sending_all(syncs), yes)
    options = Options(
        full_refresh=full_refresh,
        read_first=read_first,
        canary=canary or 0,
        canary_values=show_values,
        create_catalog=create_catalog,
        accept_schema_change=accept_schema_change,
        skip_guards=guards_to_skip(skip_guard),
        memory_limit=memory_limit,
        wait_s=wait,
        fail_fast=fail_fast,
        threads=threads,
        finish_by=done_by(finish_by),
    )
    say_of_models(project, (sync.model for sync in syncs))
    interrupts = Interrupts()
    jobs = jobs_of(project, syncs, options, screen(interrupts))
    run_and_exit(project, jobs, interrupts, rate_limit_share, output)


@app.command()
def retry(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="The sync to retry. Default: the syncs of the last run that did not succeed.", show_default=False
        ),
    ] = None,
    skip_guard: SkipGuard = None,
    create_catalog: CreateCatalog = False,
    fail_fast: FailFast = False,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    finish_by: FinishByTime = None,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    yes: Yes = False,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Rerun what did not succeed, and resend the rows that Braze rejected, changed or not.

    Without a name: the syncs of the last run that did not succeed or were skipped, with that run's target, variables,
    --full-refresh and --accept-schema-change.
    """
    start_workbench()
    from reverse_etl.plan.actions import Intent
    from reverse_etl.runs.interrupts import Interrupts
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.run import jobs_of

    asked_for = target if is_typed(context, "target") else None  # the target of the last run is closer than RETL_TARGET
    again = _Again(target=target, variables=variables) if name else _last_run(project_dir, asked_for, variables)
    project = load(project_dir, again.target, again.variables)
    note_arguments(
        {
            "project_dir": project_dir,
            "name": name,
            "vars": again.variables,
            "full_refresh": again.full_refresh,
            "accept_schema_change": again.accept_schema_change,
        }
    )
    if not name and not again.syncs:
        say("every sync of the last run succeeded: nothing to retry")
        return
    syncs = chosen(project, [name] if name else again.syncs, keeps_manifest=False)
    if again.full_refresh:
        ask(cost_of_sending_all(syncs), yes)
    options = Options(
        intent=Intent.RETRY,
        full_refresh=again.full_refresh,
        accept_schema_change=again.accept_schema_change,
        skip_guards=guards_to_skip(skip_guard),
        create_catalog=create_catalog,
        memory_limit=memory_limit,
        wait_s=wait,
        fail_fast=fail_fast,
        threads=threads,
        finish_by=done_by(finish_by),
    )
    say_of_models(project, (sync.model for sync in syncs))
    interrupts = Interrupts()
    jobs = jobs_of(project, syncs, options, screen(interrupts))
    run_and_exit(project, jobs, interrupts, rate_limit_share, output)


@dataclass(frozen=True)
class _Again:
    """Which syncs to rerun, and how they were run."""

    syncs: list[str] = field(default_factory=list)
    target: str | None = None
    variables: str | None = None
    full_refresh: bool = False
    accept_schema_change: bool = False


def _last_run(folder: Path, target: str | None, variables: str | None) -> _Again:
    """The syncs of the last run that did not succeed; `target` and `variables` of the command line take precedence."""
    from reverse_etl.report.artifacts import last_run
    from reverse_etl.runs.outcome import ALREADY_RUN, RUNNING

    run, well = last_run(folder), ("success", ALREADY_RUN, RUNNING)  # those of another process are left to it
    return _Again(
        [result.sync for result in run.results if result.status not in well],
        target or run.metadata.target,
        variables or run.args.get("vars"),
        bool(run.args.get("full_refresh")),
        bool(run.args.get("accept_schema_change")),
    )
