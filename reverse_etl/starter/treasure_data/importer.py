"""From workflows of Treasure Data to a project of retl, and what became of each key and file."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

import yaml

from reverse_etl.errors import Location, Problem, ProjectError
from reverse_etl.project.cron import ScheduleProblem, check_zone
from reverse_etl.project.dialects.zones import zone as zone_of_java
from reverse_etl.project.json_schema import SCHEMA_FILE
from reverse_etl.project.labels import KEYS, spelled
from reverse_etl.project.spec import SPEC_FILE
from reverse_etl.project.spec_targets import SANDBOX
from reverse_etl.starter.treasure_data.dig import (
    CONDITIONAL,
    Read,
    Task,
    Workflow,
    called_files,
    included_files,
    read_workflow,
)
from reverse_etl.starter.treasure_data.report import REPORT_FILE, Entry, Outcome, as_markdown
from reverse_etl.starter.treasure_data.settings import (
    BRAZE,
    SECRETS,
    TYPE,
    SettingProblem,
    is_of_braze,
    schedule_keys,
    setting,
    slot_of,
    sync_keys,
)
from reverse_etl.starter.treasure_data.variables import Scope, UnknownVariable, is_constant, to_jinja, why_unknown
from reverse_etl.words import count

MOST_BYTES = 5_000_000  # of a file
MOST_FILES = 5000
_DIALECTS = {"presto": "trino", "trino": "trino", "hive": "hive"}
_SOURCES = ("td>", "td_result_export>")
# Why tasks of other operators are not taken.
_OTHERS: Mapping[str, str] = {
    **dict.fromkeys(CONDITIONAL, "a loop or condition: write the sync that is meant"),
    **dict.fromkeys(
        ("td_ddl>", "td_load>", "td_table_export>", "td_wait>", "td_wait_table>", "td_partial_delete>"),
        "it prepares tables: do this before, in what fills the warehouse",
    ),
    "td_run>": "a saved query: its text is not in these files. Put it into models/, and add a sync",
    "require>": "another workflow: if its syncs have to run before, list them in `after`",
    "call>": "the workflow that it calls is not known when it is imported: import that one, too",
    "mail>": "`alerts:` tell by mail, Slack or webhook",
}
# Keys at the top of a workflow, and of its tasks.
_TOP_KEYS: Mapping[str, tuple[Outcome, str]] = {
    "timezone": (Outcome.TAKEN, "`timezone` of its syncs"),
    "_export": (Outcome.TAKEN, "constants are filled in where queries use them"),
    "sla": (Outcome.NOT_TAKEN, "`alerts:` and `heartbeat:` say that a sync fails, or does not run"),
    "_error": (Outcome.NOT_TAKEN, "`alerts:` say that a sync fails"),
    "_retry": (Outcome.DIFFERENT, "requests are retried by themselves, and schedules try a failed sync again"),
    "_parallel": (Outcome.TAKEN, "its syncs do not run `after` one another"),
}
_TASK_KEYS: Mapping[str, tuple[Outcome, str]] = {
    "engine": (Outcome.TAKEN, "`config(dialect=...)` of the model"),
    "result_connection": (Outcome.TAKEN, "a target, with its key and endpoint from the environment"),
    "result_settings": (Outcome.TAKEN, "keys of the sync"),
    "result_url": (Outcome.TAKEN, "keys of the sync; key and endpoint are from the environment"),
    "job_id": (Outcome.TAKEN, "the query before it"),
    "query": (Outcome.TAKEN, "the model"),
    "data": (Outcome.TAKEN, "the model"),
    "database": (Outcome.DIFFERENT, "tables are looked for in the warehouse under the names that the query has"),
    "_export": (Outcome.TAKEN, "constants are filled in where queries use them"),
    **dict.fromkeys(
        ("_retry", "job_retry"),
        (Outcome.DIFFERENT, "requests are retried by themselves, and schedules try a failed sync again"),
    ),
    "_background": (Outcome.DIFFERENT, "syncs of a project run one after the other"),
}
_SCHEDULE_KEYS_LEFT = ("start", "end", "skip_on_overtime", "skip_delayed_by")
_WORD = re.compile(r"[^A-Za-z0-9_]+")
_LONGEST = 45  # characters of a name of a task; a sync may have twice as many


@dataclass(frozen=True)
class Imported:
    """The files of a project, by path, and what became of what they were made from."""

    files: Mapping[str, str]
    entries: Sequence[Entry]
    syncs: Sequence[str]


@dataclass
class _Import:
    read: Read
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)  # name -> text
    syncs: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> keys
    connections: dict[str, str] = field(default_factory=dict)  # as written -> target
    tables: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)  # files

    def note(self, where: Location, what: str, outcome: Outcome, why: str) -> None:
        self.entries.append(Entry(where, what, outcome, why))


def import_treasure_data(folder: Path) -> Imported:
    """A project from the workflows in a folder. Raises ProjectError for files that are not what they should be, and if
    none of the workflows exports to Braze."""
    names = _files(folder)
    found = _Import(lambda name: _text(folder, name) if name in names else None)
    workflows = list(_workflows(found, sorted(name for name in names if name.endswith(".dig"))))
    included, called = included_files(workflows), called_files(workflows)
    found.problems = [one for one in found.problems if not (one.location and one.location.file in included)]
    for name in sorted(included):
        found.used.add(name)
        found.note(Location(name), PurePosixPath(name).name, Outcome.TAKEN, "its keys are where workflows include it")
    for workflow in workflows:
        if workflow.file not in called:
            _take(found, workflow)
    if problems := found.problems:
        raise ProjectError(problems)
    if not workflows:
        raise ProjectError(f"{folder} has no *.dig", hint="name the folder with the workflows", code="P115")
    if not found.syncs:
        left = "\n".join(f"{entry.where}: {entry.what}: {entry.why}" for entry in found.entries[:20])
        what = f"no export to Braze can be imported from {folder}:\n{left}"
        raise ProjectError(what, hint="an export is a task td> with result_connection and result_settings", code="P115")
    for name in sorted(names - found.used - {workflow.file for workflow in workflows}):
        found.note(Location(name), PurePosixPath(name).name, Outcome.NOT_TAKEN, "no export to Braze uses it")
    return Imported(_project(found), found.entries, list(found.syncs))


def _files(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise ProjectError(f"{folder} is not a folder", hint="name the folder with the *.dig files", code="P115")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    if len(names) > MOST_FILES:
        what = f"{folder} has {count(len(names), 'file')}, more than {MOST_FILES:,}"
        raise ProjectError(what, hint="name the folder with the *.dig files", code="P115")
    return set(names)


def _text(folder: Path, name: str) -> str:
    try:
        data = (folder / name).read_bytes()
        if len(data) > MOST_BYTES:
            raise ProjectError(f"the file has more than {MOST_BYTES:,} bytes", Location(name), code="P115")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProjectError("this is not UTF-8 text", Location(name), "write it in UTF-8", code="P115") from error
    except OSError as error:
        raise ProjectError(f"cannot read it: {error.strerror}", Location(name), code="P115") from error


def _workflows(found: _Import, names: Sequence[str]) -> Iterator[Workflow]:
    for name in names:
        try:
            yield read_workflow(name, found.read)
        except ProjectError as error:
            found.problems.extend(error.problems)


# --- one workflow ----------------------------------------------------------------------------------------------------


def _take(found: _Import, workflow: Workflow) -> None:
    said = str(workflow.keys.get("timezone", "UTC"))
    known = zone_of_java(said)
    zone = known.name if known else said
    try:
        check_zone(zone)
    except ScheduleProblem as problem:
        where = workflow.positions.of_value(("timezone",))
        found.problems.append(Problem(str(problem), where, problem.hint, code="P115"))
        return
    when = _schedule(found, workflow, zone)
    for key in workflow.keys:
        if key != "schedule":
            outcome, why = _TOP_KEYS.get(key, (Outcome.NOT_TAKEN, "it has no counterpart"))
            if key == "timezone" and zone != said:
                outcome, why = Outcome.DIFFERENT, f"`timezone: {zone}`, the same zone by its name"
            found.note(workflow.positions.of_key((key,)), key, outcome, why)
    of_task: dict[str, str | None] = {}  # a task's sync, or None
    by_name = {task.name: task for task in workflow.tasks}
    query: Task | None = None
    for task in workflow.tasks:
        query = task if task.operator == "td>" else query
        export = _Export(task, query, zone, slot_of(workflow.keys.get("schedule")))
        name = _export(found, export, workflow) if _is_export(found, task) else None
        of_task[task.name] = name
        if name:
            before = sorted(set(_syncs_before(task, by_name, of_task)))
            found.syncs[name] |= {**({"after": before} if before else {}), **when}


def _schedule(found: _Import, workflow: Workflow, zone: str) -> dict[str, str]:
    schedule = workflow.keys.get("schedule")
    if schedule is None:
        return {}
    where = workflow.positions.of_key(("schedule",))
    if not isinstance(schedule, dict):
        found.problems.append(Problem("schedule is not a mapping", where, code="P115"))
        return {}
    try:
        keys = schedule_keys(schedule)
    except SettingProblem as problem:
        found.note(where, "schedule", Outcome.NOT_TAKEN, f"{problem}: set `schedule`")
        return {}
    text = " ".join(f"{key} {value}" for key, value in keys.items())
    found.note(where, "schedule", Outcome.TAKEN, f"`{text}`")
    for key in _SCHEDULE_KEYS_LEFT:
        if key in schedule:
            at = workflow.positions.of_key(("schedule", key))
            found.note(at, key, Outcome.NOT_TAKEN, "it has no counterpart")
    return {**keys, **({"timezone": zone} if zone != "UTC" else {})}


def _syncs_before(task: Task, by_name: Mapping[str, Task], of_task: Mapping[str, str | None]) -> Iterator[str]:
    """The syncs that a task waits for: those of the tasks before it, or else of the tasks before these."""
    for name in task.before:
        sync = of_task.get(name)
        if sync:
            yield sync
        elif name in by_name:
            yield from _syncs_before(by_name[name], by_name, of_task)


# --- one task --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Export:
    """A task that exports the result of a query, which is its own or that of an earlier task."""

    task: Task
    query: Task | None
    zone: str
    every: tuple[str, int] | None

    @property
    def name(self) -> str:
        return _word(self.task.name.rpartition("+")[2]) or "export"


def _is_export(found: _Import, task: Task) -> bool:
    """Whether a task exports to somewhere; says of others why they are not taken."""
    what = f"{task.operator} {task.name}"
    if task.operator not in _SOURCES:
        why = _OTHERS.get(task.operator, "retl runs syncs and nothing else")
        found.note(task.at, what, Outcome.NOT_TAKEN, why)
        return False
    if task.within:
        found.note(task.at, what, Outcome.NOT_TAKEN, f"it stands in {task.within}: write the sync that is meant")
        return False
    if task.operator == "td_result_export>" or {"result_connection", "result_url"} & task.keys.keys():
        return True
    table = task.keys.get("create_table") or task.keys.get("insert_into")
    if isinstance(task.command, str):
        found.used.add(_path(task, task.command))
    why = (
        f"it makes the table {table}: make it before, in what fills the warehouse"
        if table
        else "its result goes nowhere"
    )
    found.note(task.at, what, Outcome.NOT_TAKEN, why)
    return False


def _export(found: _Import, export: _Export, workflow: Workflow) -> str | None:
    """Add the sync of an export; its name, or None if it is not taken."""
    task, what = export.task, f"{export.task.operator} {export.task.name}"
    try:
        connection, settings = _settings(found, task)
        keys = sync_keys(settings)
        text, dialect = _query(found, export)
    except _NotTakenError as reason:
        found.note(reason.where or task.at, what, Outcome.NOT_TAKEN, str(reason))
        return None
    except SettingProblem as problem:
        found.problems.append(Problem(f"{what}: {problem}", task.key_at("result_settings"), code="P115"))
        return None
    name = _unused(export.name, workflow.name, found.syncs)
    model = next((known for known, there in found.models.items() if there == text), name)
    found.models[model] = text
    target = found.connections.setdefault(connection, _unused(_word(connection) or BRAZE, BRAZE, _targets(found)))
    found.tables |= _tables(text, dialect)
    found.syncs[name] = {"model": model, **keys, "tags": [target]}
    found.note(task.at, what, Outcome.TAKEN, f"sync `{name}`, model `models/{model}.sql`")
    for key in task.keys:
        outcome, why = _TASK_KEYS.get(key, (Outcome.NOT_TAKEN, "it has no counterpart"))
        found.note(task.key_at(key), key, outcome, why)
    if "allow_destructive" in keys:
        why = "`allow_destructive`; the guard `max_deletes` stops a run that would delete many users"
        found.note(task.at, "mode", Outcome.DIFFERENT, why)
    return name


class _NotTakenError(Exception):
    def __init__(self, why: str, where: Location | None = None) -> None:
        super().__init__(why)
        self.where = where


def _word(text: str) -> str:
    return _WORD.sub("_", text).strip("_")[:_LONGEST]


def _targets(found: _Import) -> set[str]:
    return {SANDBOX, *found.connections.values()}


def _unused(name: str, workflow: str, used: Iterable[str]) -> str:
    """A name that no other one has, whatever its capitals: files may be the same by them."""
    there = {one.casefold() for one in used}
    others = (
        name,
        f"{_word(workflow)}_{name}"[: 2 * _LONGEST],
        *(f"{name}_{number}" for number in range(2, MOST_FILES)),
    )
    return next(other for other in others if other.casefold() not in there)


def _settings(found: _Import, task: Task) -> tuple[str, dict[str, Any]]:
    """The connection as it is written, and the settings of the export by the names that `sync_keys` knows."""
    key = "result_settings" if "result_connection" in task.keys else "result_url"
    given = task.keys.get(key, {})
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = None
    if not isinstance(given, dict):
        raise _NotTakenError("its settings are not a mapping, so it is not known what is exported", task.key_at(key))
    if not is_of_braze(given):
        names = ", ".join(str(name) for name in given if spelled(name) not in SECRETS) or "none"
        where = task.key_at(key) if key in task.keys else task.at
        raise _NotTakenError(f"its settings are not those of an export to Braze: {names}", where)
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if spelled(name) in SECRETS:
            why = "keys and endpoints are read from the environment, and are in no file"
            found.note(task.key_at(key, name), str(name), Outcome.DIFFERENT, why)
            continue
        known = setting(name)
        if known is None:
            what = f'"{name}" is not a setting of the Braze export that is known'
            raise ProjectError(what, task.key_at(key, name), f"one of: {', '.join((*KEYS, TYPE))}", code="P115")
        if known in settings:
            what = f'"{name}" says what another setting says, too: {known}'
            raise ProjectError(what, task.key_at(key, name), "remove one of them", code="P115")
        settings[known] = value
    if key == "result_url" and TYPE not in settings:
        raise _NotTakenError("it is not an export to Braze", task.key_at(key))
    connection, variables = _filled(str(task.keys.get("result_connection", BRAZE)), Scope("UTC", task.exports))
    if variables and "{{" in connection:
        raise _NotTakenError("its connection is a variable", task.key_at("result_connection"))
    return connection, settings


def _filled(text: str, scope: Scope) -> tuple[str, list[str]]:
    try:
        return to_jinja(text, scope)
    except UnknownVariable as unknown:
        raise _NotTakenError(f"${{{unknown.name}}} is not known when it is imported") from unknown


def _query(found: _Import, export: _Export) -> tuple[str, str]:
    """The text of the model, and its dialect."""
    task = export.query
    if task is None:
        raise _NotTakenError("no query is before it")
    job = export.task.keys.get("job_id")
    if export.task is not task and job is not None and "last_job_id" not in str(job):
        raise _NotTakenError("the query of a job by its number is not in these files")
    command, where = task.command, task.at
    text = command.get("data") if isinstance(command, dict) else task.keys.get("query")
    file = where.file
    if text is None and isinstance(command, str) and command.strip():
        file = _path(task, _filled(command, Scope(export.zone, task.exports))[0])
        if "{{" in file:
            raise _NotTakenError("the name of its query depends on the time", where)
        text = found.read(file)
        if text is None:
            raise ProjectError(f"{file} not found, which this task runs", where, code="P115")
        found.used.add(file)
    if not isinstance(text, str):
        raise _NotTakenError("it has no query")
    defaults = task.exports.get("td")
    engine = task.keys.get("engine") or (defaults.get("engine") if isinstance(defaults, dict) else None) or "presto"
    dialect = _DIALECTS.get(spelled(engine))
    if dialect is None:
        raise ProjectError(
            f'unknown engine "{engine}"', task.key_at("engine"), "one of: presto, trino, hive", code="P115"
        )
    text = "\n".join(line for line in text.splitlines() if line.strip() != "-- DIGDAG_INSERT_LINE").strip()
    scope = Scope(export.zone, task.exports, export.every)
    try:
        translated, variables = to_jinja(text, scope)
    except UnknownVariable as unknown:
        line = text.count("\n", 0, unknown.at) + 1
        at = Location(file, line) if file != where.file else where
        raise _NotTakenError(why_unknown(unknown.name), at) from unknown
    for variable in dict.fromkeys(variables):
        filled = (Outcome.TAKEN, "the constant of `_export` is in the model")
        outcome, why = filled if is_constant(variable, scope) else (Outcome.DIFFERENT, "Jinja in the model")
        found.note(Location(file), f"${{{variable}}}", outcome, why)
    return f"{{{{ config(dialect='{dialect}') }}}}\n{translated.rstrip().rstrip(';')}\n", dialect


def _path(task: Task, command: str) -> str:
    return normpath(PurePosixPath(task.folder) / command.strip())


def _tables(text: str, dialect: str) -> set[str]:
    """The tables that a query reads, as far as it can be read."""
    import sqlglot
    from sqlglot import exp

    try:
        tree = sqlglot.parse_one(re.sub(r"\{\{.*?\}\}|\{%.*?%\}", " ", text), read=dialect)
    except (sqlglot.errors.SqlglotError, RecursionError):
        return set()
    own = {one.alias_or_name for one in tree.find_all(exp.CTE)}
    tables = (".".join(part for part in (table.db, table.name) if part) for table in tree.find_all(exp.Table))
    return {table for table in tables if table and table not in own}


# --- the project -----------------------------------------------------------------------------------------------------


_HEAD = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"


def _project(found: _Import) -> dict[str, str]:
    targets: dict[str, Any] = {SANDBOX: _target({"endpoint": SANDBOX})}
    for name in found.connections.values():
        secrets = {key: f"{{{{ env_var('{_variable(name, key)}') }}}}" for key in ("endpoint", "api_key")}
        targets[name] = _target(secrets)
    syncs = [{"name": name, **_in_order(keys)} for name, keys in found.syncs.items()]
    spec = {"version": 1, "default_target": SANDBOX, "targets": targets, "syncs": syncs}
    text = _HEAD + yaml.dump(spec, sort_keys=False, allow_unicode=True, width=1000)
    return {
        SPEC_FILE: text,
        **{f"models/{name}.sql": text for name, text in found.models.items()},
        REPORT_FILE: as_markdown(found.entries, list(_next(found))),
    }


def _target(destination: Mapping[str, str]) -> dict[str, Any]:
    return {
        "warehouse": {"type": "duckdb", "path": "warehouse.duckdb"},
        "destination": {"type": "braze", **destination},
    }


def _variable(target: str, key: str) -> str:
    """An environment variable, which begins with a letter."""
    return re.sub(r"^(?=\d)", "_", f"{target}_{key}".upper())


def _in_order(keys: Mapping[str, Any]) -> dict[str, Any]:
    last = ("after", "schedule", "timezone", "delay", "tags")
    return {
        key: keys[key] for key in (*(key for key in keys if key not in last), *(key for key in last if key in keys))
    }


def _next(found: _Import) -> Iterator[str]:
    if found.tables:
        tables = ", ".join(f"`{table}`" for table in sorted(found.tables))
        yield f"Load these tables into `warehouse.duckdb`, or name another warehouse in `{SPEC_FILE}`: {tables}."
    yield "`retl plan` shows what each sync would send to the sandbox; `retl sync --all` sends it there."
    for name in found.connections.values():
        variables = " and ".join(f"`{_variable(name, key)}`" for key in ("endpoint", "api_key"))
        yield f"Set {variables} for target `{name}`; what was exported to it has the tag `{name}`."
    yield "Switch the schedule in Treasure Data off; Braze has what it exported last."
    yield "`retl state baseline NAME --target TARGET` records that, and the next `retl plan` has no changes."
