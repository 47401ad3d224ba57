"""Commands that plan and send: sync, retry, plan, apply."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
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
    ProjectFolder,
    RateLimitShare,
    ScheduledTime,
    Select,
    ShowValues,
    StateFolder,
    SyncNames,
    TargetName,
    Threads,
    Variables,
    Wait,
    Yes,
    ask,
    chosen,
    cost_of_sending_all,
    in_project,
    load,
    note_arguments,
    print_json,
    print_lines,
    say,
    screen,
)
from reverse_etl.errors import Mistake, ProjectError, RetlError
from reverse_etl.report import stderr

if TYPE_CHECKING:
    from reverse_etl.project.project import Project
    from reverse_etl.project.spec import Sync
    from reverse_etl.runs.interrupts import Interrupts
    from reverse_etl.runs.outcome import Options, RunResult
    from reverse_etl.runs.preview import Save

app = typer.Typer()


@app.command()
@in_project
def sync(
    project: "Project",
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    state: StateFolder = None,
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
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.sequence import run_syncs

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
    syncs = _guarded(chosen(project, names, select, exclude, state), bounds)
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
    run_and_exit(project, syncs, partial(run_syncs, project, syncs), options, rate_limit_share, output)


@app.command()
def retry(
    name: Annotated[
        str | None, typer.Argument(help="The name of a sync; else those of the last run.", show_default=False)
    ] = None,
    force_guard: ForceGuard = None,
    fail_fast: FailFast = False,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    yes: Yes = False,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Run again what did not succeed, and send what Braze rejected once more, changed or not.

    Without a name these are the syncs of the last run that did not succeed or were skipped, with its target, variables,
    --full-refresh and --accept-schema-change.
    """
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.sequence import run_syncs
    from reverse_etl.state.state import Intent

    again = _Again(target=target, variables=variables) if name else _last_run(project_dir, target, variables)
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
    syncs = chosen(project, [name] if name else again.syncs)
    if again.full_refresh:
        ask(cost_of_sending_all(syncs), yes)
    options = Options(
        intent=Intent.RETRY,
        full_refresh=again.full_refresh,
        accept_schema_change=again.accept_schema_change,
        force_guards=_guard_names(force_guard or []),
        memory_limit=memory_limit,
        wait_s=wait,
        fail_fast=fail_fast,
        threads=threads,
    )
    run_and_exit(project, syncs, partial(run_syncs, project, syncs), options, rate_limit_share, output)


@dataclass(frozen=True)
class _Again:
    """What is to be run again, and how it was run."""

    syncs: list[str] = field(default_factory=list)
    target: str | None = None
    variables: str | None = None
    full_refresh: bool = False
    accept_schema_change: bool = False


def _last_run(folder: Path, target: str | None, variables: str | None) -> _Again:
    """What of the last run did not succeed; `target` and `variables` of the command line win."""
    from reverse_etl.report.artifacts import last_run
    from reverse_etl.runs.outcome import DONE, RUNNING

    run, well = last_run(folder), ("success", DONE, RUNNING)  # what another process was at work on is left to it
    return _Again(
        [result.sync for result in run.results if result.status not in well],
        target or run.metadata.target,
        variables or run.args.get("vars"),
        bool(run.args.get("full_refresh")),
        bool(run.args.get("accept_schema_change")),
    )


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
    from reverse_etl.cli.keeping import keep_manifest
    from reverse_etl.runs.apply import apply_syncs, refuse_stale
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.saved_plan import KEY_VARIABLE, opened_plan

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
        keep_manifest(project)
        syncs = [project.sync(plan.sync) for plan in plans]
        run_and_exit(project, syncs, partial(apply_syncs, project, plans, age), options, rate_limit_share, output)


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


Run = Callable[..., "Iterator[RunResult]"]  # of a session, options, a listener, and whether a signal came


def run_and_exit(
    project: "Project",
    syncs: "Sequence[Sync]",
    run: Run,
    options: "Options",
    rate_limit_share: float,
    output: Output,
) -> NoReturn:
    """Run syncs, say what comes of each, and end the command with what that means."""
    from reverse_etl.report import as_json, text
    from reverse_etl.runs.interrupts import Interrupted, Interrupts
    from reverse_etl.runs.outcome import exit_code

    interrupts = Interrupts()
    results: list[RunResult] = []
    began_s = time.monotonic()
    try:
        with interrupts.taken():
            for result in shown(project, syncs, run, options, rate_limit_share, output, interrupts):
                results.append(result)
    except Interrupted:
        say("interrupted while nothing was being sent", "interrupted", "warning")
    elapsed_s = time.monotonic() - began_s
    if len(results) > 1:
        statuses = dict(Counter(result.status for result in results))
        say(text.summary_line(results), "summary", counts=statuses, duration_s=round(elapsed_s, 3))
    if output is Output.JSON:
        print_json([as_json.result_json(result) for result in results])
    raise typer.Exit(interrupts.exit_code if interrupts.signal else exit_code(results))


def shown(
    project: "Project",
    syncs: "Sequence[Sync]",
    run: Run,
    options: "Options",
    rate_limit_share: float,
    output: Output,
    interrupts: "Interrupts",
) -> "Iterator[RunResult]":
    """Run syncs; each result is printed when it is there. A signal lets what is in flight come to an end.

    The results are left behind in target/, however the run ends.
    """
    from reverse_etl.cli.keeping import keep_results
    from reverse_etl.delivery.session import open_session

    results: list[RunResult] = []
    why: Sequence[Mistake] = ()
    began_s = time.monotonic()
    try:
        with open_session(project, rate_limit_share) as session:
            for result in run(session, options, screen(interrupts), lambda: bool(interrupts.signal)):
                results.append(result)
                _print_result(result, output)
                yield result
    except RetlError as error:
        why = error.mistakes
        raise
    finally:
        elapsed_s = time.monotonic() - began_s
        keep_results(project, syncs, results, elapsed_s, why, interrupted=bool(interrupts.signal))


def _print_result(result: "RunResult", output: Output) -> None:
    from reverse_etl.report import text

    if output is Output.TEXT:
        print(text.result_line(result), flush=True)
    about: dict[str, object] = {"sync": result.sync, "run_id": result.plan.run_id if result.plan else None}
    if stderr.invocation.is_json:
        counts = asdict(result.fates) if result.fates else None
        level, took_s = "error" if result.exit_code else "info", round(result.duration_s, 3)
        about |= {"status": result.status}
        say(text.result_line(result), "finished", level, **about, counts=counts, duration_s=took_s)
    for mistake in result.mistakes:
        stderr.say_mistake(mistake, **about)
    if stderr.invocation.is_json:
        for row in result.invalid:
            say(f"{result.sync}: {row.key}: {row.column} {row.reason}", "invalid_row", "error", **about, **asdict(row))
        return
    for line in text.invalid_lines(result.invalid, result.plan.invalid if result.plan else 0):
        say(line)


def _guarded(syncs: "list[Sync]", bounds: Mapping[str, object]) -> "list[Sync]":
    """The syncs, with bounds of the command line in place of those of syncs.yml."""
    from reverse_etl.plan.guards import bounded

    return bounded(syncs, bounds, lambda name: f"--{name.replace('_', '-')}")


def _guard_names(names: list[str]) -> list[str]:
    from reverse_etl.plan.guards import known

    return known(names, "--force-guard")


@app.command()
@in_project
def plan(
    project: "Project",
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
    from reverse_etl.cli.keeping import keep_plan
    from reverse_etl.report import as_json, text
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.preview import preview_sync

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
        for one in _guarded(chosen(project, names, select, exclude, state), bounds):
            previews.append(preview_sync(project, one, options, screen(), save))
            if output is PlanOutput.TEXT:
                print_lines(text.preview_lines(previews[-1], show_values))
    keep_plan(project, previews)
    if output is PlanOutput.JSON:
        print_json([as_json.preview_json(preview) for preview in previews])
    if output is PlanOutput.MARKDOWN:
        print_lines(text.preview_markdown(previews))
    stops = [stop for preview in previews for stop in preview.stops]
    for stop in stops:
        stderr.say_mistake(stop)
    has_changes = any(preview.plan.to_send for preview in previews)
    raise typer.Exit(1 if stops else 2 if detailed_exitcode and has_changes else 0)


@contextmanager
def _saving(project: "Project", out: Path | None, encrypt: bool) -> "Iterator[Save | None]":
    """What keeps a plan in the file `out`; None if none is asked for."""
    from reverse_etl.runs.saved_plan import KEY_VARIABLE, origin, plan_file

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
