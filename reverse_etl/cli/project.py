"""Commands that create and inspect a project: init, seed, schema, ls, compile, show, exposures."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.completion import model_names
from reverse_etl.cli.context import (
    ProjectCommand,
    ask,
    chosen,
    load,
    print_csv,
    print_data,
    print_json,
    print_lines,
    print_objects,
    print_table,
    say,
    say_of_models,
)
from reverse_etl.cli.options import (
    Exclude,
    ProjectFolder,
    Select,
    StateFolder,
    SyncNames,
    TableFormat,
    TableOutput,
    TargetName,
    Variables,
    Wide,
    Yes,
)
from reverse_etl.errors import ProjectError, nearest

if TYPE_CHECKING:
    from reverse_etl.project.models import Compiled
    from reverse_etl.project.project import LoadedProject
    from reverse_etl.project.spec import Sync

app = typer.Typer()


class CiSystem(StrEnum):
    GITHUB = "github"
    GITLAB = "gitlab"


_IMPORTED = ("treasure-data",)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="New or empty folder; with --ci, also an existing project.")] = Path(),
    ci: Annotated[
        CiSystem | None,
        typer.Option(
            "--ci", help="Write a CI workflow that plans pull requests and runs the syncs.", show_default=False
        ),
    ] = None,
    source: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            "--from",
            metavar="treasure-data DIR",
            help="Import workflows that export to Braze (*.dig and their queries), instead of the small project.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Create a small working project: syncs, models, seeds and a sandbox target. With --ci, write a CI workflow."""
    from reverse_etl.project.spec import SPEC_FILE
    from reverse_etl.starter import write_project, write_starter
    from reverse_etl.starter.ci import PACKAGE_KEY, installed_from, refuse_second, write_workflow
    from reverse_etl.starter.treasure_data.importer import import_treasure_data
    from reverse_etl.starter.treasure_data.report import REPORT_FILE, summary
    from reverse_etl.words import count

    is_new = ci is None or source is not None or not (folder / SPEC_FILE).exists()
    if source and source[0] not in _IMPORTED:
        hint = nearest(source[0], _IMPORTED)
        raise ProjectError(f'--from: nothing can be imported from "{source[0]}"', hint=hint, code="P073")
    if ci:
        refuse_second(ci, folder)
    if source:
        imported = import_treasure_data(source[1])
        for path in write_project(folder, imported.files):
            say(f"wrote {path}")
        say(f"{count(len(imported.syncs), 'sync')}: {', '.join(imported.syncs)}")
        say(summary(imported.entries))
        say(f"next: read {folder / REPORT_FILE}")
        is_new = False
    for path in write_starter(folder) if is_new else []:
        say(f"wrote {path}")
    if ci:
        say(f"wrote {write_workflow(ci, folder)}")
        if not installed_from():
            say(f"set {PACKAGE_KEY} in it to where pip installs retl from")
    if is_new:
        first = "" if folder.resolve() == Path.cwd() else f"`cd {shlex.quote(str(folder))}`, then "
        say(f"next: run {first}`retl seed`, then `retl plan`, then `retl sync --all`")


@app.command(cls=ProjectCommand)
def seed(
    yes: Yes = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Load seeds/*.csv into the warehouse, one table per file. Replaces no table that it did not create."""
    from reverse_etl.engines.duckdb.seeds import load_seeds
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    warehouse = project.seeded
    project.refuse_seeds_of_dbt()
    if not project.seeds:
        say("nothing to load: there is no seeds/*.csv")
        return
    if not project.spec.is_default_target:
        what = f"{count(len(project.seeds), 'seed')} will be loaded into {warehouse}"
        ask(f'{what}, the warehouse of target "{project.target_name}"', yes)
    for name, rows in load_seeds(warehouse, project.seeds, project.folder).items():
        print(f"{name}: {count(rows, 'row')}")


class Schema(StrEnum):
    SYNCS = "syncs"
    SYNC_FILES = "sync-files"
    MANIFEST = "manifest"
    RUN_RESULTS = "run-results"
    PLAN = "plan"


@app.command()
def schema(
    name: Annotated[
        Schema, typer.Argument(help="The schema of syncs.yml, of syncs/*.yml, or of an artifact in target/.")
    ] = Schema.SYNCS,
) -> None:
    """Print the JSON Schema of syncs.yml, for editors, or of an artifact in target/."""
    from reverse_etl.project.json_schema import json_schema, sync_files_schema
    from reverse_etl.report.artifacts import artifact_schema

    of_files = {Schema.SYNCS: json_schema, Schema.SYNC_FILES: sync_files_schema}
    print_json(of_files[name]() if name in of_files else artifact_schema(name.value))


def _schedule(sync: "Sync") -> str:
    late = f" + {sync.delay}" if sync.delay_time else ""
    return f"{sync.schedule} {sync.timezone}{late}" if sync.schedule else ""


@app.command(name="ls", cls=ProjectCommand)
def list_syncs(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    state: StateFolder = None,
    wide: Wide = False,
    output: TableFormat = TableOutput.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """List syncs in the order in which they run, and which of them are due."""
    from reverse_etl.report.as_json import due_json
    from reverse_etl.report.schedules import due_words
    from reverse_etl.runs.due import find_due
    from reverse_etl.words import moment

    project = load(project_dir, target, variables)
    syncs = chosen(project, names, select, exclude, state)
    scheduled = [sync for sync in syncs if sync.cron]
    dues = {due.sync.name: due for due in find_due(project, scheduled, project.started_at)} if scheduled else {}
    coming = [sync.cron.following(project.started_at) if sync.cron else None for sync in syncs]
    if output is not TableOutput.TEXT:
        keys = (
            "name",
            "description",
            "model",
            "mode",
            "track_record_type",
            "tags",
            "after",
            "schedule",
            "timezone",
            "delay",
        )
        written = [{**sync.model_dump(by_alias=True), "after": sync.predecessors} for sync in syncs]
        rows = [
            {
                **{key: values[key] for key in keys},
                "next_due": at.isoformat() if at else None,
                "due": due_json(dues[values["name"]]) if values["name"] in dues else None,
            }
            for values, at in zip(written, coming, strict=True)
        ]
        print_data(output, rows, [*keys, "next_due", "due"], raw=True)
        return
    columns: dict[str, list[str]] = {
        "name": [sync.name for sync in syncs],
        "mode": [sync.mode.label for sync in syncs],
        "model": [sync.model for sync in syncs],
        "tags": [" ".join(sync.tags) for sync in syncs],
        "schedule": [_schedule(sync) for sync in syncs],
        "next due": [
            due_words(dues[sync.name]) if sync.name in dues else moment(at) if at else ""
            for sync, at in zip(syncs, coming, strict=True)
        ],
        "description": [sync.description for sync in syncs],
    }
    shown = [name for name in columns if any(coming) or name not in ("schedule", "next due")]
    table = [shown, *zip(*(columns[name] for name in shown), strict=True)]
    print_table(table, raw=True, wide=wide, spare=("tags", "model", "schedule"))


@app.command(name="compile", cls=ProjectCommand)
def compile_models(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models, or syncs whose models to compile.", show_default=False, autocompletion=model_names
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Print the text of each model, and what its translation from another dialect has rewritten.",
            show_default=False,
        ),
    ] = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Compile models to target/compiled/ and print the paths; for a single model, print its SQL."""
    from reverse_etl.cli.artifacts import keep_manifest
    from reverse_etl.runs.volatile import notes_of_model

    project = load(project_dir, target, variables)
    keep_manifest(project)
    models = [_model_name(project, name) for name in names or []] or list(project.models)
    say_of_models(project, models)
    for name in dict.fromkeys(models):
        compiled = project.compile(name)
        if explain:
            _explain(project.models[name].text, compiled)
        else:
            print(compiled.sql if len(models) == 1 else compiled.compiled_file)
        for note in notes_of_model(project, compiled):
            say(f"note: {note}", "notice")


def _explain(text: str, compiled: "Compiled") -> None:
    print(f"-- {compiled.file}\n{text.rstrip()}\n")
    if not compiled.rewrites:
        print("nothing was rewritten\n")
        return
    rows = [[str(one.where), one.row, _on_one_line(one.before), _on_one_line(one.after)] for one in compiled.rewrites]
    print_table([["place", "row", "in the model", "in DuckDB"], *rows], raw=True)
    print()


def _on_one_line(sql: str) -> str:
    return " ".join(sql.split())


def _model_name(project: "LoadedProject", name: str) -> str:
    """The model with this name, or that of the sync with this name."""
    if name in project.models:
        return name
    return next((sync.model for sync in project.spec.syncs if sync.name == name), name)


@app.command(cls=ProjectCommand)
def show(
    name: Annotated[
        str, typer.Argument(help="A model, or a sync that uses it.", show_default=False, autocompletion=model_names)
    ],
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of rows to print.")] = 10,
    wide: Wide = False,
    output: TableFormat = TableOutput.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Run a model and print its rows. Sends nothing."""
    from reverse_etl.engines.duckdb.as_json import as_json, as_text
    from reverse_etl.engines.warehouse import first_rows

    project = load(project_dir, target, variables)
    model = project.compile(_model_name(project, name))
    columns, rows = first_rows(project, model, limit, as_json if output is TableOutput.JSON else as_text)
    if output is TableOutput.JSON:
        print_objects(columns, rows)
    elif output is TableOutput.CSV:
        print_csv([dict(zip(columns, row, strict=True)) for row in rows], columns, raw=True)
    else:
        print_table([columns, *rows], raw=True, wide=wide, spare=columns[:0:-1])


@app.command(name="exposures", cls=ProjectCommand)
def write_exposures(
    names: SyncNames = None,
    select: Select = None,
    exclude: Exclude = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the exposures to this file in the dbt project.", show_default=False),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing: exit with 1, and print the difference, if --out is out of date."),
    ] = False,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Generate a dbt exposure for each sync that reads from the dbt project, as YAML for dbt."""
    from reverse_etl.project.dbt_exposures import as_yaml, exposures
    from reverse_etl.words import count

    project = load(project_dir, target, variables)
    found = exposures(project, chosen(project, names, select, exclude))
    if not found:
        say("no sync reads from the dbt project")
    if project.spec.dbt and not project.spec.dbt.owner:
        say('dbt.owner is not set: exposures are owned by "retl"')
    if check and out is None:
        raise ProjectError("--check compares a file: --out is missing", hint="pass --out FILE, too", code="P076")
    if out is None:
        print(as_yaml(found), end="")
        return
    if check:
        _compare(out, as_yaml(found))
        return
    try:
        out.write_text(as_yaml(found), encoding="utf-8")
    except OSError as error:
        from reverse_etl.system.disk import remedy

        hint = remedy(error, "pass --out a file that can be written")
        raise ProjectError(f"cannot write {out}: {error.strerror}", hint=hint, code="P079") from error
    say(f"wrote {out}: {count(len(found), 'exposure')}")


def _compare(file: Path, text: str) -> None:
    """Print how a file differs from what it should be; ends the command with 1 if it does."""
    from difflib import unified_diff

    from reverse_etl.project.files import text_of

    there = text_of(file, "") if file.exists() else ""
    if there == text:
        say(f"{file} is up to date")
        return
    lines = unified_diff(there.splitlines(), text.splitlines(), str(file), "retl exposures", lineterm="")
    print_lines(lines, raw=True)
    say(f"{file} is out of date: run this again without --check")
    raise typer.Exit(1)
