"""`retl debug`: checks everything that a run needs."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing as closed_after
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from secrets import token_hex

from reverse_etl.braze.answers import Answer, NoAnswer, NotSent, errors_of, hint_for, json_object
from reverse_etl.braze.catalogs import lack_of
from reverse_etl.braze.client import Connection, Deadlines
from reverse_etl.braze.modes import Call, Extra
from reverse_etl.braze.subscriptions import Read
from reverse_etl.delivery.destination import destination_of
from reverse_etl.delivery.reading import HowToRead
from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.session import Session, open_session, windows
from reverse_etl.engines.warehouse import engine_of, row_tables
from reverse_etl.errors import Problem, RetlError, StateError
from reverse_etl.plan.workbench import connect
from reverse_etl.plan.writers import Writer, alike_in_words, overlap, spelled_alike, type_clashes, written_by_both
from reverse_etl.project.project import RETL_FOLDER, LoadedProject
from reverse_etl.project.spec_targets import WAREHOUSES, is_url
from reverse_etl.records.attributes import fields_of
from reverse_etl.records.layout import Layout, lay_out
from reverse_etl.runs.catalogs import problems_of, read_catalogs
from reverse_etl.runs.saved_plan import is_plan_file
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.state.look import NEVER, RUNNING, WRONG, another_workspace, statuses
from reverse_etl.state.orphans import in_words, orphans
from reverse_etl.system.clock import Clock
from reverse_etl.words import count

CHECK_TIMEOUT_S = 10
_FORBIDDEN = 403
_TRIED_LONG_AGO = timedelta(days=1)  # longer than a command takes, and than clocks of machines differ


@dataclass(frozen=True)
class Check:
    """A check and its result; a warning is a result that stops no run."""

    is_ok: bool
    what: str
    is_warning: bool = False


def checks(project: LoadedProject) -> Iterator[Check]:
    """The checks, one by one, as they are done. Only sends empty requests to Braze, which change nothing."""
    yield Check(True, f"project: {count(len(project.spec.syncs), 'sync')} for target {project.target_name}")
    yield from _dbt(project)
    layouts = dict[str, Layout]()
    yield from _models(project, layouts)
    yield from _destination(project, layouts)
    yield from _state_place(project)
    yield from _states(project)
    yield from _tracked_by_git(project)


def _dbt(project: LoadedProject) -> Iterator[Check]:
    if project.spec.dbt is None:
        return
    try:
        found = project.dbt
        relations = count(len(found.relations), "relation")
        yield Check(True, f"dbt: {found.file}: project {found.project_name}, dbt {found.dbt_version}, {relations}")
    except RetlError as error:
        yield Check(False, f"dbt: {error}")


def _models(project: LoadedProject, layouts: dict[str, Layout]) -> Iterator[Check]:
    """Fills in the layouts of the syncs whose models can be described."""
    with closed_after(connect()) as connection:
        try:
            engine = engine_of(project, connection)
            engine.open()
        except RetlError as error:
            yield Check(False, f"warehouse: {error}")
            return
        yield Check(True, f"warehouse: {_warehouse(project)}")
        if schema := project.spec.target.rows_in:
            yield _rows_in(project, schema)
        writers = list[Writer]()
        for sync in project.spec.syncs:
            try:
                model = project.compile(sync.model)
                layout = lay_out(sync, model.file, engine.describe(model))
                key = "the whole row" if layout.whole_row else ", ".join(layout.key)
                yield Check(True, f"model of {sync.name}: {count(len(layout.columns), 'column')}, primary key: {key}")
                writers.append(Writer(layout, model.file))
                layouts[sync.name] = layout
            except RetlError as error:
                yield Check(False, f"model of {sync.name}: {error}")
        yield from _writers(writers)


def _rows_in(project: LoadedProject, schema: str) -> Check:
    """Whether tables of acknowledged rows can be made in a schema of the warehouse, and dropped."""
    try:
        tables = row_tables(project, schema)
        tables.try_out()
        with suppress(RetlError):  # another's: it may not be ours to drop
            tables.drop_tried(Clock().utc() - _TRIED_LONG_AGO)
        tables.close()
    except RetlError as error:
        return Check(False, f"acknowledged rows: {error}")
    return Check(True, f"acknowledged rows: tables in the schema {schema}")


def _warehouse(project: LoadedProject) -> str:
    if project.spec.dialect != "duckdb":
        return WAREHOUSES[project.spec.dialect]
    return project.attached.address if project.attached else str(project.warehouse or "files, in DuckDB")


def _writers(writers: Sequence[Writer]) -> Iterator[Check]:
    """What syncs write beside each other, as far as that is known without running a model."""
    for one, other in combinations(writers, 2):
        for problem in type_clashes(one, other):
            yield Check(False, f"attributes: {problem}")
        both = overlap(one, other)
        if both:
            yield Check(True, f"attributes: {one.sync.name}: {written_by_both(both)}", is_warning=True)
    for names in spelled_alike(writers):
        yield Check(True, alike_in_words(names, writers), is_warning=True)


def _destination(project: LoadedProject, layouts: Mapping[str, Layout]) -> Iterator[Check]:
    try:
        with open_session(project) as session:
            workspace = replace(session.workspace(), timeout_s=CHECK_TIMEOUT_S)
            way = project.network.describe(workspace.url)
            yield Check(True, f"destination: {'the sandbox' if project.uses_sandbox else workspace.url}{way}")
            with closed_after(Deadlines()) as deadlines, closed_after(Connection(workspace, deadlines)) as connection:
                yield from _permissions(connection, project)
            yield from _catalogs(project, session, layouts)
    except RetlError as error:
        yield Check(False, f"destination: {error}")


def _state_place(project: LoadedProject) -> Iterator[Check]:
    """Writes an object to a shared state.path, and checks that the store honors conditional writes."""
    place = project.spec.target.state.path
    if place is None or not is_url(place):
        return
    try:
        ObjectStore(f"{place}/{project.target_name}", project.network).check(f"check-{token_hex(8)}")
        yield Check(True, f"state.path: {place}")
    except RetlError as error:
        yield Check(False, f"state.path: {error}")


def _states(project: LoadedProject) -> Iterator[Check]:
    destination = destination_of(project)
    for sync, found in zip(project.spec.syncs, statuses(project, project.spec.syncs), strict=True):
        problem = found.message if found.last_run in WRONG else None
        if found.last_run not in (*WRONG, RUNNING, NEVER):
            problem = another_workspace(project, sync, destination)
        rows = "" if found.rows is None else f"{count(found.rows, 'row')} in Braze, "
        yield Check(problem is None, f"state of {sync.name}: {problem or f'{rows}last run: {found.last_run}'}")
    for orphan in orphans(project):
        yield Check(True, in_words(project, orphan))


def _tracked_by_git(project: LoadedProject) -> Iterator[Check]:
    """A warning if git tracks states or saved plans. None if there is no git, or no repository."""
    try:
        command = ["git", "-c", "core.fsmonitor=false", "ls-files", "-z"]
        listed = subprocess.run(command, cwd=project.folder, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return
    tracked = [Path(os.fsdecode(name)) for name in listed.split(b"\0") if name]
    folders = [project.folder / RETL_FOLDER, project.states_folder]
    for path in tracked:
        if path.name == ".gitignore":
            continue
        is_state = any((project.folder / path).is_relative_to(folder) for folder in folders)
        if is_state or is_plan_file(project.folder / path):
            what = f"git tracks {path}, which is private: `git rm --cached {path}`, and keep it out of git"
            yield Check(True, what, is_warning=True)


def _permissions(connection: Connection, project: LoadedProject) -> Iterator[Check]:
    """Checks each endpoint, until one cannot be reached: they have the same address."""
    for call in dict.fromkeys(call for sync in project.spec.syncs for call in sync.calls):
        answer = connection.send(call.path, b"{}", call.method)
        limits = " and ".join(f"{one.requests:,} in {one.per_seconds:g} s" for one in windows(project, call.family))
        yield _permission(call, answer, f"at most {limits}")
        if isinstance(answer, NotSent):
            return
    if any(sync.mode.is_exported for sync in project.spec.syncs):
        answer = connection.send(Read.STATES.path, b"{}")
        if isinstance(answer, Answer) and answer.status == _FORBIDDEN:
            what = f"{Read.STATES.path}, permission {Read.STATES.permission}"
            why = hint_for(answer.status, Read.STATES.permission)
            yield Check(True, f"{what}: --canary, --read-first and `retl verify` need it: {why}", is_warning=True)


def _catalogs(project: LoadedProject, session: Session, layouts: Mapping[str, Layout]) -> Iterator[Check]:
    """Whether each catalog that is written to is there, with the fields that the model needs."""
    of_catalogs = {name: one for name, one in layouts.items() if one.mode.extra is Extra.CATALOG_FIELD}
    if not of_catalogs:
        return
    try:
        known = read_catalogs(session, HowToRead(1, Clock(), RetryPolicy(tries=1, throttled_give_up_after_s=0)))
    except StateError as error:
        yield Check(False, f"catalogs: {error}")
        return
    for layout in of_catalogs.values():
        lack = lack_of(str(layout.sync.catalog), fields_of(layout), known)
        problems = [str(replace(one, location=None)) for one in problems_of(project, layout.sync, lack)]
        has = count(len(lack.wanted) + len(lack.more) + 1, "field")
        yield from (Check(False, problem) for problem in problems)
        if not problems:
            yield Check(True, f"catalog of {layout.sync.name}: {lack.catalog}, {has}")


def _permission(call: Call, answer: Answer | NotSent | NoAnswer, limits: str) -> Check:
    """What comes back from an empty request: with a valid API key and permission 400, and nothing is changed."""
    what = f"{call.label}, permission {call.permission}"
    if isinstance(answer, NotSent):
        return Check(False, str(Problem(answer.why, hint=answer.hint, code="X004")))
    if isinstance(answer, NoAnswer):
        return Check(False, f"{what}: {answer.why}")
    names_catalog = answer.status == 404 and errors_of(json_object(answer.body) or {})  # see _catalogs
    if answer.status not in (200, 201, 202, 400) and not names_catalog:
        why = hint_for(answer.status, call.permission) or "try again later"
        return Check(False, f"{what}: Braze returned {answer.status}: {why}")
    if json_object(answer.body) is None:
        why = "check endpoint: this is not how Braze responds, so something else is there or in between"
        return Check(False, f"{what}: {answer.status} without a JSON object: {why}")
    return Check(True, f"{what}, {limits}")
