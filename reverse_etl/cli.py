"""The command line: flags -> run -> print -> exit code. stdout is the result, stderr the talk.

What a command needs is imported inside it, so that `retl --help` answers at once.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from reverse_etl.errors import ProjectError, RetlError, nearest

if TYPE_CHECKING:
    from reverse_etl.progress import Screen
    from reverse_etl.project import Project
    from reverse_etl.run import Options, RunResult
    from reverse_etl.spec import Sync

app = typer.Typer(
    name="retl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # half the time of `retl --help` went into importing what draws boxes
)
state_app = typer.Typer(help="Look at what a sync remembers, or make it forget.", no_args_is_help=True)
app.add_typer(state_app, name="state")


def _print_version(asked: bool) -> None:
    from importlib.metadata import version

    if asked:
        print(f"retl {version('reverse-etl')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep Braze true to SQL models: the right rows, the right columns, once."""


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
    list[str] | None, typer.Option("--select", "-s", help="Syncs to take: names, globs, tag:, mode:, model:.")
]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", help="Syncs to leave out, in the same words.")]
OutputFormat = Annotated[Output, typer.Option("--output", help="How to print the result.")]
ShowValues = Annotated[bool, typer.Option("--show-values", help="Show values, which may be personal data.")]
FullRefresh = Annotated[bool, typer.Option("--full-refresh", help="Take every row as new, sent before or not.")]
AcceptSchemaChange = Annotated[
    bool, typer.Option("--accept-schema-change", help="Go on where a column's type has changed, and send it again.")
]
MaxChanges = Annotated[str | None, typer.Option("--max-changes", help="Stop if more rows would go out: 500, 10%.")]
MaxRemoved = Annotated[str | None, typer.Option("--max-removed", help="Stop if on_removed would act on more: 50, 1%.")]
MaxRequests = Annotated[int | None, typer.Option("--max-requests", min=0, help="Stop if more requests are needed.")]
ForceGuard = Annotated[list[str] | None, typer.Option("--force-guard", help="A guard to let pass this once.")]
MemoryLimit = Annotated[
    str | None,
    typer.Option("--memory-limit", help="For DuckDB: 512MB, 4GB.", show_default="2000MB"),
]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait while another process holds the sync or the warehouse.")
]
RateLimitShare = Annotated[
    float, typer.Option("--rate-limit-share", min=0.01, max=1, help="Part of each rate limit to use: 0.8 for 80 %.")
]
Threads = Annotated[int, typer.Option("--threads", min=1, max=500, help="Requests in flight at most.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

# The options of every command that works on a project.
_PROJECT_OPTIONS: dict[str, tuple[Any, Any]] = {
    "project_dir": (
        Annotated[Path, typer.Option("--project-dir", help="The folder with syncs.yml.", show_default="here")],
        Path(),
    ),
    "target": (
        Annotated[str | None, typer.Option("--target", "-t", help="A target of syncs.yml, if not its default.")],
        None,
    ),
    "variables": (
        Annotated[str | None, typer.Option("--vars", help="Values for var(), as YAML: '{country: KR}'.")],
        None,
    ),
}


def in_project(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the project as its first argument, and the options that say which one."""
    signature = inspect.signature(command)
    own = list(signature.parameters.values())[1:]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _PROJECT_OPTIONS.items()
    ]

    @functools.wraps(command)
    def with_project(project_dir: Path, target: str | None, variables: str | None, **arguments: Any) -> None:
        command(_load(project_dir, target, variables), **arguments)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    with_project.__signature__ = inspect.Signature([*keyword_only, *added])  # type: ignore[attr-defined]
    with_project.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
    return with_project


def _load(folder: Path, target: str | None, variables: str | None) -> "Project":
    import yaml

    from reverse_etl.project import load_project

    try:
        values: Any = yaml.safe_load(variables) if variables else {}
    except yaml.YAMLError as error:
        raise ProjectError("--vars is not YAML", hint="write --vars '{country: KR}'") from error
    if not isinstance(values, dict):
        raise ProjectError("--vars is not a mapping", hint="write --vars '{country: KR}'")
    return load_project(folder, target, values)


def main() -> NoReturn:
    """The command `retl`."""
    try:
        app(prog_name="retl")
    except RetlError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)  # who read our output left, as in `retl ls | head -1`
    sys.exit(0)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_json(value: object) -> None:
    from reverse_etl.report import as_json

    print(as_json(value))


def _print_table(table: Iterable[Iterable[object]]) -> None:
    from reverse_etl.report import table_lines

    _print(table_lines([list(row) for row in table]))


def _chosen(
    project: "Project", names: list[str] | None, select: list[str] | None = None, exclude: list[str] | None = None
) -> "list[Sync]":
    from reverse_etl.selection import select as select_syncs

    return select_syncs(project.spec.syncs, [*(names or []), *(select or [])] or ["*"], exclude or [])


def _ask(what: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ProjectError(what, hint="pass --yes if that is meant")
    typer.confirm(f"{what}. Go on?", abort=True, err=True)


# --- making a project ------------------------------------------------------------------------------------------------


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="An empty folder, or one to make.")] = Path()) -> None:
    """Write a small project that works into a folder: syncs, models, seeds, a sandbox."""
    from reverse_etl.starter import write_starter

    for path in write_starter(folder):
        _say(f"wrote {path}")
    _say("next: retl seed, then retl plan, then retl sync --all")


@app.command()
@in_project
def seed(project: "Project") -> None:
    """Load seeds/*.csv into the warehouse, one table for each file."""
    from reverse_etl.engines.duckdb import load_seeds
    from reverse_etl.report import count

    for name, rows in load_seeds(project.warehouse, project.seeds).items():
        print(f"{name}: {count(rows, 'row')}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of syncs.yml, for editors."""
    from reverse_etl.spec import json_schema

    _print_json(json_schema())


@app.command(name="ls")
@in_project
def list_syncs(
    project: "Project",
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List syncs in the order in which they run."""
    syncs = _chosen(project, names, select, exclude)
    if output is Output.JSON:
        keys = ("name", "description", "model", "mode", "track_record_type", "tags", "after")
        _print_json([{key: getattr(sync, key) for key in keys} for sync in syncs])
        return
    rows = [(sync.name, sync.spec.label, sync.model, " ".join(sync.tags), sync.description) for sync in syncs]
    _print_table([("name", "mode", "model", "tags", "description"), *rows])


@app.command(name="compile")
@in_project
def compile_models(
    project: "Project",
    names: Annotated[list[str] | None, typer.Argument(help="Models, or syncs of them.", show_default=False)] = None,
) -> None:
    """Write the SQL of models to target/compiled/, and print it if one is named."""
    models = [_model_name(project, name) for name in names or []] or list(project.models)
    for name in dict.fromkeys(models):
        compiled = project.compile(name)
        print(compiled.sql if len(models) == 1 else compiled.compiled_file)


def _model_name(project: "Project", name: str) -> str:
    """A model is named by itself or by a sync of it."""
    if name in project.models:
        return name
    return next((sync.model for sync in project.spec.syncs if sync.name == name), name)


@app.command()
@in_project
def show(
    project: "Project",
    name: Annotated[str, typer.Argument(help="A model, or a sync of it.", show_default=False)],
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many rows to print.")] = 10,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Run a model and print its rows. Nothing is sent."""
    from reverse_etl.engines.duckdb import preview

    model = project.compile(_model_name(project, name))
    columns, rows = preview(project.warehouse, project.spec.in_target("warehouse", "path"), model, limit)
    if output is Output.JSON:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        _print_table([columns, *rows])


# --- running ---------------------------------------------------------------------------------------------------------


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
    force_guard: ForceGuard = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", "-x", help="Run no more syncs after one fails.")] = False,
    threads: Threads = 160,
    rate_limit_share: RateLimitShare = 1.0,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    yes: Yes = False,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Send what changed in the models of syncs since they last ran."""
    from reverse_etl.run import Options

    if not (names or select or all_syncs):
        raise ProjectError("no sync is named", hint=f"name some of {', '.join(project.sync_names)}, or pass --all")
    chosen = _chosen(project, names, select, exclude)
    syncs = _guarded(chosen, max_changes=max_changes, max_removed=max_removed, max_requests=max_requests)
    if full_refresh:
        _ask(_cost_of_sending_all(syncs), yes)
    options = Options(
        full_refresh=full_refresh,
        accept_schema_change=accept_schema_change,
        force_guards=_guard_names(force_guard or []),
        memory_limit=memory_limit,
        wait_s=wait,
        fail_fast=fail_fast,
        threads=threads,
    )
    _run(project, syncs, options, rate_limit_share, output)


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
    from reverse_etl.run import Options
    from reverse_etl.state import Intent

    guards = _guard_names(force_guard or [])
    options = Options(intent=Intent.RETRY, force_guards=guards, memory_limit=memory_limit, wait_s=wait, threads=threads)
    _run(project, [project.sync(name)], options, rate_limit_share, output)


def _run(
    project: "Project", syncs: "list[Sync]", options: "Options", rate_limit_share: float, output: Output
) -> NoReturn:
    from rich.console import Console

    from reverse_etl import report
    from reverse_etl.channel import open_channel
    from reverse_etl.interrupts import Interrupted, Interrupts
    from reverse_etl.progress import Screen
    from reverse_etl.run import exit_code, run_syncs

    interrupts = Interrupts()
    screen = Screen(Console(stderr=True), interrupts)
    results = []
    try:
        with interrupts.taken(), open_channel(project, rate_limit_share) as channel:
            for result in run_syncs(project, syncs, channel, options, screen, lambda: bool(interrupts.signal)):
                results.append(result)
                _print_result(result, output)
    except Interrupted:
        _say("interrupted while nothing was being sent")
    if len(results) > 1:
        _say(report.summary_line(results))
    if output is Output.JSON:
        _print_json([report.result_json(result) for result in results])
    raise typer.Exit(interrupts.exit_code if interrupts.signal else exit_code(results))


def _screen() -> "Screen":
    from rich.console import Console

    from reverse_etl.interrupts import Interrupts
    from reverse_etl.progress import Screen

    return Screen(Console(stderr=True), Interrupts())


def _print_result(result: "RunResult", output: Output) -> None:
    from reverse_etl import report

    if output is Output.TEXT:
        print(report.result_line(result), flush=True)
    for mistake in result.mistakes:
        _say(str(mistake))
    for line in report.invalid_lines(result.invalid, result.plan.invalid if result.plan else 0):
        _say(line)


def _guarded(syncs: "list[Sync]", **bounds: object) -> "list[Sync]":
    """The syncs, with bounds of the command line in place of those of syncs.yml."""
    from pydantic import ValidationError

    from reverse_etl.spec import Guards

    given = {name: bound for name, bound in bounds.items() if bound is not None}
    try:
        return [
            sync.model_copy(update={"guards": Guards.model_validate({**sync.guards.model_dump(), **given})})
            if given
            else sync
            for sync in syncs
        ]
    except ValidationError as error:
        first = error.errors()[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise ProjectError(f"{option} {first['msg'].removeprefix('Value error, ')}") from error


def _guard_names(names: list[str]) -> list[str]:
    from reverse_etl.guards import GUARDS

    for name in names:
        if name not in GUARDS:
            raise ProjectError(f'--force-guard: there is no guard "{name}"', hint=nearest(name, GUARDS))
    return names


def _cost_of_sending_all(syncs: "list[Sync]") -> str:
    doubled = [sync.name for sync in syncs if not sync.spec.repeat_harmless]
    text = f"every row of {', '.join(sync.name for sync in syncs)} goes out again, changed or not"
    return f"{text}; Braze counts each event or purchase of {', '.join(doubled)} a second time" if doubled else text


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
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 if there is something to send.")
    ] = False,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    output: Annotated[PlanOutput, typer.Option("--output", help="How to print the result.")] = PlanOutput.TEXT,
) -> None:
    """Show what a sync would send: rows, columns, old and new values, requests. Sends nothing, needs no API key."""
    from reverse_etl import report
    from reverse_etl.run import Options, preview_sync

    options = Options(
        full_refresh=full_refresh,
        accept_schema_change=accept_schema_change,
        memory_limit=memory_limit,
        wait_s=wait,
    )
    previews = []
    chosen = _chosen(project, names, select, exclude)
    for one in _guarded(chosen, max_changes=max_changes, max_removed=max_removed, max_requests=max_requests):
        previews.append(preview_sync(project, one, options, _screen()))
        if output is PlanOutput.TEXT:
            _print(report.preview_lines(previews[-1], show_values))
    if output is PlanOutput.JSON:
        _print_json([report.preview_json(preview) for preview in previews])
    if output is PlanOutput.MARKDOWN:
        _print(report.preview_markdown(previews))
    stops = [stop for preview in previews for stop in preview.stops]
    for stop in stops:
        _say(str(stop))
    has_changes = any(preview.plan.to_send for preview in previews)
    raise typer.Exit(1 if stops else 2 if detailed_exitcode and has_changes else 0)


# --- looking ---------------------------------------------------------------------------------------------------------


@app.command()
@in_project
def debug(project: "Project") -> None:
    """Check the warehouse, the models, the API key and its permissions, and the states."""
    from reverse_etl.debug import checks

    failed = 0
    for check in checks(project):
        failed += not check.is_ok
        print(f"{'ok   ' if check.is_ok else 'FAIL '} {check.what}", flush=True)
    raise typer.Exit(1 if failed else 0)


@app.command()
@in_project
def status(project: "Project", names: SyncNames = None, output: OutputFormat = Output.TEXT) -> None:
    """Show how each sync stands: its last run, rows in Braze, rows rejected or in doubt."""
    from dataclasses import asdict

    from reverse_etl.memory import DAMAGED, standing

    found = [standing(project, sync) for sync in _chosen(project, names)]
    if output is Output.JSON:
        _print_json([asdict(one) for one in found])
    else:
        heading = ("sync", "last run", "finished", "in Braze", "rejected", "in doubt")
        _print_table([heading, *(one.cells() for one in found)])
        for one in found:
            if one.message:
                _say(f"{one.sync}: {one.message}")
    raise typer.Exit(1 if any(one.last_run == DAMAGED for one in found) else 0)


@app.command()
@in_project
def rejects(
    project: "Project", name: SyncName, show_values: ShowValues = False, output: OutputFormat = Output.TEXT
) -> None:
    """List the rows that are not in Braze: found invalid, rejected by Braze, or in doubt, with the reason."""
    from reverse_etl.memory import rows_not_in_braze

    rows = rows_not_in_braze(project, project.sync(name), show_values)
    if output is Output.JSON:
        _print_json(rows)
    elif rows:
        _print_table([rows[0].keys(), *(row.values() for row in rows)])
    else:
        _say(f"{name}: no row is rejected or in doubt")


@app.command()
@in_project
def resolve(
    project: "Project",
    name: SyncName,
    resend: Annotated[
        bool, typer.Option("--resend", help="They did not arrive: the next run sends them again.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="They did arrive: the next run takes them as sent.")
    ] = False,
    key: Annotated[list[str] | None, typer.Option("--key", help="Of this row only, as `retl rejects` has it.")] = None,
) -> None:
    """Say what becomes of rows in doubt: sent, no answer came, and sending them twice would do harm."""
    from reverse_etl.memory import resolve as resolve_doubts
    from reverse_etl.report import count

    if resend == discard:
        raise ProjectError("say one of --resend and --discard", hint=f"`retl rejects {name}` lists the rows in doubt")
    rows = resolve_doubts(project, project.sync(name), "resend" if resend else "discard", key or [])
    what = "go out again" if resend else "be taken as sent"
    print(f"{name}: {count(rows, 'row')} in doubt will {what} with the next run")


@state_app.command(name="show")
@in_project
def state_show(
    project: "Project",
    name: SyncName,
    key: Annotated[
        str | None, typer.Option("--key", help="Show the row of this key, as `retl rejects` has it.")
    ] = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show what Braze has acknowledged of a sync: how many rows, which columns; or one row."""
    from reverse_etl.memory import acknowledged_row, describe_state

    chosen = project.sync(name)
    found = describe_state(project, chosen) if key is None else acknowledged_row(project, chosen, key)
    if output is Output.JSON:
        _print_json(found)
    else:
        _print_table(found.items())


@state_app.command(name="seed")
@in_project
def state_seed(
    project: "Project",
    name: SyncName,
    accept_schema_change: AcceptSchemaChange = False,
    wait: Wait = 0,
    yes: Yes = False,
) -> None:
    """Take what the model returns now as already in Braze: only later changes go out. Sends nothing."""
    from reverse_etl.report import count
    from reverse_etl.run import Options, adopt

    chosen = project.sync(name)
    _ask(f"every valid row of {name} is taken as already in Braze, and is not sent until it changes", yes)
    plan = adopt(project, chosen, Options(accept_schema_change=accept_schema_change, wait_s=wait), _screen())
    invalid = f"; {count(plan.invalid, 'invalid row')} left out, see `retl rejects {name}`" if plan.invalid else ""
    print(f"{name}: {count(plan.adopted, 'row')} taken as in Braze, 0 requests{invalid}")


@state_app.command(name="forget")
@in_project
def state_forget(
    project: "Project",
    name: SyncName,
    key: Annotated[str, typer.Argument(help="A key, as `retl rejects` has it, or an identifier.", show_default=False)],
    yes: Yes = False,
) -> None:
    """Erase a person from all that a sync remembers: acknowledged rows, rejects, rows in doubt."""
    from reverse_etl.memory import forget
    from reverse_etl.report import count

    chosen = project.sync(name)
    _ask(f'{name} forgets "{key}"; if the model returns it, the next run sends it again', yes)
    gone = forget(project, chosen, key)
    rows = f"{count(gone.acknowledged, 'acknowledged row')}, {gone.rejected:,} rejected, {gone.in_doubt:,} in doubt"
    print(f"{name}: {rows} forgotten")
    for folder in gone.copies:
        _say(f"{folder} is an older state that was kept aside: delete it if it must go too")


@state_app.command(name="reset")
@in_project
def state_reset(project: "Project", name: SyncName, yes: Yes = False) -> None:
    """Forget what Braze has acknowledged: the next run sends every row again. The old state is kept aside."""
    from reverse_etl.memory import reset

    chosen = project.sync(name)
    _ask(_cost_of_sending_all([chosen]), yes)
    aside = reset(project, chosen)
    _say(f"{name}: the old state is kept in {aside}" if aside else f"{name}: there was no state")


# --- the stand-in ----------------------------------------------------------------------------------------------------


@app.command()
@in_project
def sandbox(
    project: "Project",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    file: Annotated[
        Path | None, typer.Option("--file", help="Where to keep what is sent, if not beside the state.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", help="What goes wrong: status:status=503,probability=0.01 (see docs/sandbox.md)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of chance in faults: the same seed, the same faults.")] = 0,
    last: Annotated[int, typer.Option("--last", min=0, help="Print the last requests it took instead.")] = 0,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="KEY:SCOPE,SCOPE of an API key; without any, sandbox may do all.")
    ] = None,
) -> None:
    """Serve a local stand-in of Braze until Ctrl-C, for tests and for other clients."""
    from reverse_etl.sandbox import Sandbox, parse_fault, serve

    try:
        faults = [parse_fault(text) for text in fault or []]
    except ValueError as error:
        raise ProjectError(
            f"--fault: {error}", hint="write KIND:NAME=VALUE,NAME=VALUE, as docs/sandbox.md has it"
        ) from error
    file = file or project.sandbox_file
    if last:
        with Sandbox(file) as braze:
            for request in braze.requests()[-last:]:
                print(f"{request.path}  {request.status}\n{request.body}")
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    parts = [text.partition(":") for text in key or []]
    keys = {name: set(scopes.split(",")) if scopes else {"*"} for name, _, scopes in parts} or {"sandbox": {"*"}}

    def ready(url: str) -> None:
        print(f"{url}  keys: {', '.join(keys)}  file: {file}", flush=True)

    serve(file, port=port, keys=keys, seed=seed, faults=faults, ready=ready)


if __name__ == "__main__":
    main()
