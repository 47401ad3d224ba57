"""Commands that run what is due: run-due, scheduler."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.artifacts import keep_manifest
from reverse_etl.cli.context import ProjectCommand, chosen, load, print_json, print_lines, say, screen
from reverse_etl.cli.execute import beat, done_by, run_and_exit, shown, tell_all
from reverse_etl.cli.options import (
    Exclude,
    FailFast,
    FinishByTime,
    MemoryLimit,
    Output,
    OutputFormat,
    ProjectFolder,
    RateLimitShare,
    Select,
    StateFolder,
    SyncNames,
    TargetName,
    Threads,
    Variables,
)
from reverse_etl.errors import RetlError
from reverse_etl.report.stderr import say_error, say_warning

if TYPE_CHECKING:
    from reverse_etl.project.project import LoadedProject
    from reverse_etl.project.spec import Sync
    from reverse_etl.runs.due import Due
    from reverse_etl.runs.interrupts import Interrupts
    from reverse_etl.runs.outcome import Options

app = typer.Typer()
WaitForWarehouse = Annotated[
    float,
    typer.Option(
        "--wait",
        envvar="RETL_WAIT",
        min=0,
        help="Maximum seconds to wait while another process has the warehouse locked.",
    ),
]


@app.command(name="run-due", cls=ProjectCommand)
def run_due(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    state: StateFolder = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which syncs are due, without running them.")] = False,
    fail_fast: FailFast = False,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    finish_by: FinishByTime = None,
    memory_limit: MemoryLimit = None,
    wait: WaitForWarehouse = 0,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Run the syncs that are due on their schedule. Safe to call every minute."""
    from reverse_etl.runs.due import find_due, is_new, next_due, set_back, to_run

    project = load(project_dir, target, variables)
    syncs = chosen(project, names, select, exclude, state, keeps_manifest=False)
    ahead = dict[str, datetime]()
    dues = find_due(project, syncs, project.started_at, ahead)
    of_clock = set_back(ahead, project.started_at)
    if of_clock and (dry_run or is_new(project, syncs, ahead)):
        say_warning(of_clock)
    if dues and (dry_run or not to_run(dues)):
        keep_manifest(project)
    if to_run(dues) and not dry_run:
        from reverse_etl.runs.interrupts import Interrupts
        from reverse_etl.runs.outcome import Options
        from reverse_etl.runs.scheduler import due_jobs

        options = Options(
            fail_fast=fail_fast, threads=threads, memory_limit=memory_limit, wait_s=wait, finish_by=done_by(finish_by)
        )
        interrupts = Interrupts()
        jobs = due_jobs(project, to_run(dues), options, screen(interrupts))
        try:
            run_and_exit(project, jobs, interrupts, rate_limit_share, output)
        except typer.Exit:
            if not interrupts.signal:
                beat(project)
            raise
    if not dry_run:
        tell_all(project, [])
        beat(project)
    _print_due(dues if dry_run else [], next_due(project, syncs, project.started_at), output)


def _print_due(dues: "Sequence[Due]", coming: "tuple[datetime, Sync] | None", output: Output) -> None:
    if output is Output.JSON:
        from reverse_etl.report.as_json import due_json

        print_json([due_json(due) for due in dues])
        return
    from reverse_etl.report.schedules import coming_line, due_line

    if dues:
        print_lines(due_line(due) for due in dues)
    else:
        print_lines([f"nothing is due; {coming_line(coming)}"])


@app.command(cls=ProjectCommand)
def scheduler(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    state: StateFolder = None,
    fail_fast: FailFast = False,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    finish_by: FinishByTime = None,
    memory_limit: MemoryLimit = None,
    wait: WaitForWarehouse = 0,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Keep running, and do what `retl run-due` does every minute, until a signal arrives. Picks up project changes."""
    import time

    from reverse_etl.report.schedules import coming_line
    from reverse_etl.runs.due import find_due, next_due, set_back, to_run
    from reverse_etl.runs.interrupts import Interrupted, Interrupts
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.scheduler import passes

    def read_syncs() -> "tuple[LoadedProject, list[Sync]]":
        project = load(project_dir, target, variables)
        return project, chosen(project, names, select, exclude, state, keeps_manifest=False)

    read_syncs()  # a project that is invalid from the start ends the command
    options = Options(
        fail_fast=fail_fast, threads=threads, memory_limit=memory_limit, wait_s=wait, finish_by=done_by(finish_by)
    )
    interrupts, clock, is_idle, told, warned = Interrupts(), options.clock, True, "", set[str]()
    try:
        with interrupts.taken():
            for project, syncs in passes(read_syncs, clock.utc, time.sleep, say):
                ahead = dict[str, datetime]()
                dues = to_run(find_due(project, syncs, project.started_at, ahead))
                if ahead.keys() - warned and (of_clock := set_back(ahead, project.started_at)):
                    say_warning(of_clock)
                warned = set(ahead)
                is_idle = not dues
                if dues:
                    _run_once(project, dues, options, rate_limit_share, interrupts)
                else:
                    tell_all(project, [])
                if interrupts.signal:
                    break
                beat(project)
                is_idle = True
                coming = coming_line(next_due(project, syncs, clock.utc()))
                if coming != told:
                    say(coming)
                told = coming
    except Interrupted:
        say("stopped" if is_idle else "interrupted while no requests were being sent")
    raise typer.Exit(0 if is_idle else interrupts.exit_code)


def _run_once(
    project: "LoadedProject",
    dues: "Sequence[Due]",
    options: "Options",
    rate_limit_share: float,
    interrupts: "Interrupts",
) -> None:
    """Run what is due; errors are reported, and do not stop the scheduler."""
    from reverse_etl.runs.scheduler import due_jobs

    jobs = due_jobs(project, dues, options, screen(interrupts))
    try:
        for _ in shown(project, jobs, interrupts, rate_limit_share, Output.TEXT):
            pass
    except RetlError as error:
        for problem in error.problems:
            say_error(problem)
