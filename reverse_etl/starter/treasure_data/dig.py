"""Workflows of Treasure Data (digdag, *.dig): their tasks in order. Pure: `read` gives the text of a file.

digdag reads YAML with its own rules: 10:30:00, dates, yes and no are texts (core/config/YamlTagResolver). A task may
stand in groups; what `_export` defines is in force for the task and for all tasks in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

from reverse_etl.errors import Location, ProjectError
from reverse_etl.project.yaml_places import Positions, YamlPath, parse_yaml
from reverse_etl.starter.treasure_data.variables import Scope, UnknownVariable, to_jinja

Read = Callable[[str], str | None]  # the text of a file of the import; None if it is not there
# Operators whose tasks run more than once, or only sometimes.
CONDITIONAL = ("td_for_each>", "for_each>", "for_range>", "loop>", "if>")
_BODIES = ("_do", "_else_do", "+tasks")
_DEFAULTS = ("result_connection", "result_settings", "result_url")  # of tasks, in `td` of `_export`
_MOST_CALLS = 20  # of workflows within workflows


@dataclass(frozen=True)
class Task:
    """A task: `operator` with its `command` and other `keys`; `name` is that of its groups and its own.

    `before` are the tasks that have to be done before it. `within` is the loop or condition that it stands in.
    """

    name: str
    operator: str
    command: Any
    keys: Mapping[str, Any]
    exports: Mapping[str, Any]
    folder: str
    path: YamlPath
    positions: Positions
    within: str | None = None
    before: tuple[str, ...] = ()

    def key_at(self, *path: str | int) -> Location:
        return self.positions.of_key((*self.path, *path))

    @property
    def at(self) -> Location:
        return self.positions.of_key((*self.path, self.operator))


@dataclass(frozen=True)
class Workflow:
    """A file with a workflow: `keys` are those at its top that are no tasks."""

    file: str
    name: str
    keys: Mapping[str, Any]
    tasks: tuple[Task, ...]
    positions: Positions


@dataclass(frozen=True)
class _Around:
    """Where a task stands: the names of the groups around it, what they export, and the file that it is in."""

    folder: str
    positions: Positions
    names: tuple[str, ...] = ()
    exports: Mapping[str, Any] = field(default_factory=dict)
    within: str | None = None
    calls: tuple[str, ...] = ()


def read_workflow(file: str, read: Read) -> Workflow:
    """A workflow with all tasks of the files that it calls. Raises ProjectError for files that are not such YAML."""
    data, positions = _mapping(file, read)
    around = _Around(str(PurePosixPath(file).parent), positions, calls=(file,))
    around = replace(around, exports=_exports(around, data))
    tasks, _ = _tasks(data, (), around, (), read)
    keys = {key: value for key, value in data.items() if not key.startswith("+")}
    return Workflow(file, PurePosixPath(file).stem, keys, tuple(tasks), positions)


def _mapping(file: str, read: Read) -> tuple[dict[str, Any], Positions]:
    text = read(file)
    if text is None:
        raise ProjectError(f"{file} not found", code="P115")
    data, positions, problems = parse_yaml(text, file, digdag=read)
    if problems:
        raise ProjectError(problems)
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ProjectError("a workflow is a mapping of keys and tasks", Location(file, 1), code="P115")
    return data, positions


def _exports(around: _Around, data: Mapping[str, Any]) -> Mapping[str, Any]:
    own = data.get("_export")
    return _merged(around.exports, own) if isinstance(own, dict) else around.exports


def _merged(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are joined at all levels; else the inner value holds."""
    found = dict(outer)
    for key, value in inner.items():
        before = found.get(key)
        found[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return found


def _tasks(
    data: Mapping[str, Any], path: YamlPath, around: _Around, before: tuple[str, ...], read: Read
) -> tuple[list[Task], tuple[str, ...]]:
    """The tasks of a group in order, and which of them have to be done before what comes after the group."""
    found: list[Task] = []
    is_parallel, done, last = bool(data.get("_parallel")), list[str](), before
    for key, value in data.items():
        if not key.startswith("+") or not isinstance(value, dict):
            continue
        inner = replace(around, names=(*around.names, key[1:]))
        inner = replace(inner, exports=_exports(inner, value))
        own, ends = _task(value, (*path, key), inner, before if is_parallel else last, read)
        found.extend(own)
        if own:
            done.extend(ends)
            last = ends
    return found, tuple(done) if is_parallel and done else last


def _task(
    data: Mapping[str, Any], path: YamlPath, around: _Around, before: tuple[str, ...], read: Read
) -> tuple[list[Task], tuple[str, ...]]:
    operator = next((key for key in data if key.endswith(">")), None)
    if operator is None:
        return _tasks(data, path, around, before, read)
    if operator == "call>":
        called = _name_of_called(data[operator], around)
        if called is not None:
            return _called(called, path, around, before, read)
    name = "+".join(around.names)
    keys = {key: value for key, value in data.items() if key != operator and not key.startswith("+")}
    defaults = around.exports.get("td")
    if operator in ("td>", "td_result_export>") and isinstance(defaults, dict):
        keys = {**{key: defaults[key] for key in _DEFAULTS if key in defaults}, **keys}
    task = Task(
        name,
        operator,
        data[operator],
        keys,
        around.exports,
        around.folder,
        path,
        around.positions,
        around.within,
        before,
    )
    found = [task]
    for body in _BODIES:
        if isinstance(data.get(body), dict):
            inside = replace(around, within=around.within or f"{operator} {name}")
            found += _tasks(data[body], (*path, body), inside, before, read)[0]
    return found, (name,)


def _name_of_called(said: Any, around: _Around) -> str | None:
    """With constants filled in; None if it is not known before a run."""
    try:
        text, _ = to_jinja(str(said), Scope("UTC", around.exports))
    except UnknownVariable:
        return None
    return None if "{{" in text else text


def _called(
    name: str, path: YamlPath, around: _Around, before: tuple[str, ...], read: Read
) -> tuple[list[Task], tuple[str, ...]]:
    where = around.positions.of_value((*path, "call>"))
    file = normpath(PurePosixPath(around.folder) / name)
    file = file if file.endswith(".dig") else f"{file}.dig"
    if file in around.calls or len(around.calls) > _MOST_CALLS:
        raise ProjectError(f"{file} calls itself", where, "remove one of the calls", code="P115")
    if read(file) is None:
        raise ProjectError(f"{file} not found, which this task calls", where, code="P115")
    data, positions = _mapping(file, read)
    inner = replace(around, folder=str(PurePosixPath(file).parent), positions=positions, calls=(*around.calls, file))
    return _tasks(data, (), replace(inner, exports=_exports(inner, data)), before, read)


def called_files(workflows: Sequence[Workflow]) -> set[str]:
    """The files whose tasks or keys are in another workflow: they are no workflows of their own."""
    called = {(workflow.file, task.positions.file) for workflow in workflows for task in workflow.tasks}
    return {file for by, file in called if file != by} | included_files(workflows)


def included_files(workflows: Sequence[Workflow]) -> set[str]:
    """The files that others include."""
    places = [task.positions for workflow in workflows for task in workflow.tasks]
    places += [workflow.positions for workflow in workflows]
    return {file for positions in places for file in positions.included}
