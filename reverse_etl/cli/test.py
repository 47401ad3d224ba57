"""The command that tests a project: test."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverse_etl.cli.context import ProjectCommand, chosen, load, print_json, print_lines, say, say_of_models, screen
from reverse_etl.cli.options import (
    Exclude,
    MemoryLimit,
    Output,
    OutputFormat,
    ProjectFolder,
    Select,
    TargetName,
    Variables,
    Wait,
)
from reverse_etl.errors import ProjectError, nearest

if TYPE_CHECKING:
    from reverse_etl.project.project import LoadedProject
    from reverse_etl.project.spec import Sync
    from reverse_etl.project.spec_tests import UnitTest

app = typer.Typer()


@app.command(name="test", cls=ProjectCommand)
def run_tests(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or globs of unit tests, or of syncs.", show_default=False)
    ] = None,
    select: Select = None,
    exclude: Exclude = None,
    data: Annotated[bool, typer.Option("--data", help="Also run data tests, in the warehouse.")] = False,
    memory_limit: MemoryLimit = None,
    wait: Wait = 0,
    output: OutputFormat = Output.TEXT,
    project_dir: ProjectFolder = Path(),
    target: TargetName = None,
    variables: Variables = None,
) -> None:
    """Run unit tests: given rows in, expected records out. Needs no warehouse, network or API key; sends nothing."""
    from reverse_etl.report import testing
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.run import jobs_of
    from reverse_etl.testing.unit_tests import UnitTestResult, check_data, prepare, run_test

    project = load(project_dir, target, variables, needs_target=data)
    began_s = time.monotonic()
    syncs = chosen(project, None, select, exclude)
    tests, data_syncs = _named(project, syncs, names or [])
    with_data = [sync.name for sync in data_syncs] if data else []
    tested = {*(test.sync for test in tests), *with_data}
    say_of_models(project, (sync.model for sync in syncs if sync.name in tested))
    results, data_results = [], []
    for prepared in prepare(project, tests):
        results.append(prepared if isinstance(prepared, UnitTestResult) else run_test(project, prepared))
        if output is Output.TEXT:
            print_lines(testing.unit_test_lines(results[-1]), raw=True)  # rows that are in the project
    options = Options(memory_limit=memory_limit, wait_s=wait)
    for job in jobs_of(project, data_syncs if data else [], options, screen()):
        found, sync = check_data(job), job.sync
        data_results += [(sync, result) for result in found]
        if output is Output.TEXT:
            print_lines(testing.data_test_lines(sync, found))
    if output is Output.JSON:
        of_data = [testing.data_test_json(sync, result) for sync, result in data_results]
        print_json([*(testing.unit_test_json(result) for result in results), *of_data], raw=True)
    if results or data_results:
        say(testing.tests_summary(results, [r for _, r in data_results], time.monotonic() - began_s))
    else:
        say('nothing to test: add "unit_tests" to syncs.yml' + ("" if data else ", or run data tests with --data"))
    statuses = {result.status for result in results} | {result.status for _, result in data_results}
    raise typer.Exit(1 if statuses & {"fail", "error"} else 0)


def _named(project: "LoadedProject", syncs: "list[Sync]", names: list[str]) -> "tuple[list[UnitTest], list[Sync]]":
    """The unit tests of syncs, and the syncs with data tests; only those that match `names`, if there are any.

    A name matches a unit test or its sync.
    """
    from fnmatch import fnmatchcase

    of_syncs = {sync.name for sync in syncs}
    tests = [test for test in project.spec.unit_tests if test.sync in of_syncs]
    with_data = [sync for sync in syncs if sync.data_tests]
    if not names:
        return tests, with_data
    every = dict.fromkeys([*(test.name for test in tests), *of_syncs])
    for name in names:
        if not any(fnmatchcase(one, name) for one in every):
            raise ProjectError(f'unknown unit test or sync "{name}"', hint=nearest(name, every), code="P077")

    def is_named(*words: str) -> bool:
        return any(fnmatchcase(word, name) for word in words for name in names)

    return (
        [test for test in tests if is_named(test.name, test.sync)],
        [sync for sync in with_data if is_named(sync.name)],
    )
