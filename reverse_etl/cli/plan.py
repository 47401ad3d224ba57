"""Commands that plan, and that send a saved plan: plan, apply."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, chosen, load, print_json, print_lines, say, say_of_models, screen
from reverse_etl.cli.execute import done_by, guarded, guards_to_skip, run_and_exit
from reverse_etl.cli.options import (
    AcceptSchemaChange,
    Canary,
    CanaryValues,
    CreateCatalog,
    Encrypt,
    Exclude,
    FailFast,
    FinishByTime,
    FullRefresh,
    MaxChanges,
    MaxDataPoints,
    MaxRemoved,
    MaxRequests,
    MemoryLimit,
    Out,
    Output,
    OutputFormat,
    PlanOutput,
    ProjectFolder,
    RateLimitShare,
    ScheduledTime,
    Select,
    ShowValues,
    SkipGuard,
    StateFolder,
    SyncNames,
    TargetName,
    Threads,
    Variables,
    Wait,
    age_of,
)
from reverse_etl.errors import ProjectError
from reverse_etl.report import stderr, terminal

if TYPE_CHECKING:
    from reverse_etl.project.project import LoadedProject
    from reverse_etl.runs.preview import Save
from reverse_etl.cli.options import moment_of

app = typer.Typer()


@app.command(cls=ProjectCommand)
def apply(
    file: Annotated[Path, typer.Argument(help="The plan file written by `retl plan --out`.", show_default=False)],
    max_age: Annotated[str, typer.Option("--max-age", help="Refuse plans older than this: 30m, 24h, 7d.")] = "24h",
    digest: Annotated[
        str | None,
        typer.Option(
            "--digest",
            help="Send only the file with this SHA-256, as `retl plan` printed it; it may be of another machine.",
            show_default=False,
        ),
    ] = None,
    skip_guard: SkipGuard = None,
    canary: Canary = None,
    show_values: CanaryValues = False,
    create_catalog: CreateCatalog = False,
    fail_fast: FailFast = False,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    finish_by: FinishByTime = None,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Send a saved plan: exactly the records that were reviewed, without running models. Stale plans are refused."""
    from reverse_etl.runs.apply import jobs_to_apply, refuse_stale
    from reverse_etl.runs.interrupts import Interrupts
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.saved_plan import KEY_VARIABLE, opened_plan
    from reverse_etl.runs.seal import Trust, key_of

    project = load(project_dir, target, variables)
    options = Options(
        skip_guards=guards_to_skip(skip_guard),
        canary=canary or 0,
        canary_values=show_values,
        create_catalog=create_catalog,
        memory_limit=memory_limit,
        wait_s=wait,
        fail_fast=fail_fast,
        threads=threads,
        finish_by=done_by(finish_by),
    )
    age = age_of(max_age)
    interrupts = Interrupts()
    trust = Trust(key_of(project) if digest is None else None, digest)
    with opened_plan(file, project.environ.get(KEY_VARIABLE), trust) as plans:
        jobs = jobs_to_apply(project, plans, age, options, screen(interrupts))
        refuse_stale(jobs)
        run_and_exit(project, jobs, interrupts, rate_limit_share, output)


@app.command(cls=ProjectCommand)
def plan(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    state: StateFolder = None,
    show_values: ShowValues = False,
    full_refresh: FullRefresh = False,
    accept_schema_change: AcceptSchemaChange = False,
    max_changes: MaxChanges = None,
    max_removed: MaxRemoved = None,
    max_requests: MaxRequests = None,
    max_data_points: MaxDataPoints = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode",
            help="Exit with 0 if there is nothing to send, 2 if there are changes, 1 if there is an error.",
        ),
    ] = False,
    out: Out = None,
    encrypt: Encrypt = False,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    scheduled_time: ScheduledTime = None,
    rate_limit_share: RateLimitShare = 1.0,
    finish_by: FinishByTime = None,
    output: Annotated[PlanOutput, typer.Option("--output", help="Output format.")] = PlanOutput.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Show what syncs would send: rows, columns, old and new values, requests. Sends nothing, needs no API key."""
    from reverse_etl.cli.artifacts import keep_plan
    from reverse_etl.report import as_json, text
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.preview import preview_syncs
    from reverse_etl.runs.run import jobs_of
    from reverse_etl.runs.seal import digest_of

    project = load(project_dir, target, variables)
    if scheduled_time is not None:
        project = project.scheduled_at(moment_of(scheduled_time))
    options = Options(
        full_refresh=full_refresh,
        accept_schema_change=accept_schema_change,
        show_values=show_values,
        memory_limit=memory_limit,
        wait_s=wait,
        finish_by=done_by(finish_by),
    )
    bounds = {
        "max_changes": max_changes,
        "max_removed": max_removed,
        "max_requests": max_requests,
        "max_data_points": max_data_points,
    }
    syncs, previews = guarded(chosen(project, names, select, exclude, state), bounds), []
    say_of_models(project, (sync.model for sync in syncs))
    with saving(project, out, encrypt) as save:
        jobs = jobs_of(project, syncs, options, screen())
        for preview in preview_syncs(jobs, save, rate_limit_share):
            previews.append(preview)
            if output is PlanOutput.TEXT:
                print_lines(text.preview_lines(previews[-1], show_values, terminal.width(sys.stdout)))
    keep_plan(project, previews)
    if output is PlanOutput.JSON:
        print_json([as_json.preview_json(preview) for preview in previews])
    if output is PlanOutput.MARKDOWN:
        saved = [f"\nSaved plan: `{digest_of(out)}`"] if out else []
        print_lines(map(stderr.shown, chain(text.preview_markdown(previews), saved)), raw=True)
    blocked_by = [problem for preview in previews for problem in preview.blocked_by]
    for problem in blocked_by:
        stderr.say_error(problem)
    has_changes = any(preview.plan.to_send for preview in previews)
    raise typer.Exit(1 if blocked_by else 2 if detailed_exitcode and has_changes else 0)


@contextmanager
def saving(project: "LoadedProject", out: Path | None, encrypt: bool) -> "Iterator[Save | None]":
    """What saves plans to the file `out`; None if they are not to be saved."""
    from reverse_etl.runs.saved_plan import KEY_VARIABLE, Saving, plan_file
    from reverse_etl.runs.seal import digest_of

    if out is None:
        if encrypt:
            raise ProjectError("--encrypt requires --out", hint="run `retl plan --out FILE --encrypt`", code="P076")
        yield None
        return
    key = project.environ.get(KEY_VARIABLE) if encrypt else None
    if encrypt and not key:
        raise ProjectError(
            f"{KEY_VARIABLE} is not set", hint="set it to an age key; age-keygen generates one", code="P087"
        )
    with plan_file(project, out, key) as file:
        yield Saving(file)
    what = f"encrypted for {KEY_VARIABLE}" if encrypt else "readable by you only"
    say(f"wrote {out} (contains personal data; {what}); apply it within 24 hours: `retl apply {out}`")
    say(f"its digest: {digest_of(out)}")
