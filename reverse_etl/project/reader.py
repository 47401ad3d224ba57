"""Reads syncs.yml: YAML -> Jinja in its values -> pydantic -> checks across keys and syncs -> `Spec`. Pure.

All errors of the file are collected and raised together, each with its line and column.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from reverse_etl.errors import Location, Problem, ProjectError, nearest
from reverse_etl.project.jinja import (
    environment_variables,
    is_template,
    render,
    to_set,
    variables,
    variables_read,
)
from reverse_etl.project.labels import KEYS, VALUES, meant
from reverse_etl.project.spec import SPEC_FILE, Dbt, File, Source, Spec, Sync
from reverse_etl.project.spec_alerts import ALERTS, SECRETS, Alert, Heartbeat, is_for
from reverse_etl.project.spec_checks import Given, Unrendered, problems_between, problems_in, seen_from
from reverse_etl.project.spec_collect import COLLECT_KEYS, Collect
from reverse_etl.project.spec_files import DEFAULT_KEYS, Defaults, applied, borrow, completed, parse_files
from reverse_etl.project.spec_mistakes import problem_of
from reverse_etl.project.spec_secrets import (
    collect_keys,
    fault_of_secret,
    is_target,
    names_of_secrets,
    secrets_in,
    warehouse_of,
)
from reverse_etl.project.spec_targets import WAREHOUSE_SECRETS, WAREHOUSES, Target
from reverse_etl.project.spec_tests import UnitTest
from reverse_etl.project.yaml_places import Positions, YamlPath, parse_yaml

M = TypeVar("M", bound=BaseModel)
NO_FILES: Mapping[str, str] = {}


@dataclass(frozen=True)
class Surroundings:
    """What a file is read with: the environment, --vars, and the target that is chosen, if one is needed."""

    environ: Mapping[str, str]
    cli_vars: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    needs_target: bool = True


def read_spec(text: str, models: Collection[str], given: Surroundings, others: Mapping[str, str] = NO_FILES) -> Spec:
    """The project's syncs, for the target that is chosen, or else the default one.

    `others` are the texts of syncs/*.yml, by file; `models` are the names of the files in models/. Raises ProjectError
    with every error of the files, in their order. Values under targets that are not chosen are never rendered, so their
    secrets do not have to be set; without `needs_target`, neither are those of the chosen one.
    """
    data, positions, problems = parse_files(text, others)
    reader = _Reader(positions, problems, given.environ, given.cli_vars)
    top = reader.check(File, data, ())
    if top is None:
        raise ProjectError(reader.errors())
    reader.secrets = names_of_secrets(top)
    reader.vars = {**reader.rendered(top.vars, ("vars",)), **reader.vars}
    default = reader.default_target(top)
    name = reader.target_name(top, given.target or default, is_asked=given.target is not None)
    chosen = reader.targets(top, name if given.needs_target else None)
    sources = {
        key: source
        for key, value in top.sources.items()
        if (source := reader.check(Source, reader.rendered(value, ("sources", key)), ("sources", key)))
    }
    dbt = reader.dbt(top)
    collect = reader.collect(top)
    reader.read_defaults(top)
    alerts, heartbeat = reader.alerts(top, name if given.needs_target else None), reader.heartbeat(top)
    syncs = reader.syncs(top.syncs, models)
    unit_tests = reader.unit_tests(top.unit_tests, top.syncs)
    if problems or name is None or (given.needs_target and chosen is None):
        raise ProjectError(reader.errors())
    return Spec(
        target_name=name,
        is_default_target=name == default,
        chosen=chosen,
        targets=tuple(top.targets),
        vars=reader.vars,
        sources=sources,
        syncs=tuple(syncs),
        unit_tests=tuple(unit_tests),
        positions=positions,
        dialect=_dialect(
            reader.rendered(warehouse_of(top.targets[name]).get("type"), ("targets", name, "warehouse", "type"))
        ),
        dbt=dbt,
        secrets=reader.secrets,
        warnings=tuple(misread(positions)),
        notes=tuple(reader.notes.values()),
        alerts=tuple(alerts),
        alert_places=reader.alert_places,
        heartbeat=heartbeat if heartbeat and given.needs_target and is_for(heartbeat, name) else None,
        collect=collect,
    )


def read_mapping(model: type[M], text: str, file: str) -> M:
    """Another YAML file as a `model`, as it is written: no Jinja. Raises ProjectError with every error of the file."""
    data, positions, problems = parse_yaml(text, file)
    if not isinstance(data, dict):
        raise ProjectError("must be a mapping", Location(file), code="P004")
    odd = [Problem("control characters in a string", positions.of_key(path), code="P010") for path in _odd(data)]
    problems = odd or problems  # no message repeats them: they would reach the terminal
    found = None if odd else _Reader(positions, problems, {}, {}).check(model, data, ())
    if problems or found is None:
        raise ProjectError(sorted(problems, key=_place))
    return found


def _odd(value: Any, path: YamlPath = ()) -> Iterator[YamlPath]:
    """Where keys and strings have characters that cannot be printed."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str) and not key.isprintable():
                yield (*path, key)
            yield from _odd(inner, (*path, key))
    elif isinstance(value, str) and not value.isprintable():
        yield path


def _is_free(path: YamlPath) -> bool:
    """Whether the value at `path` may be of any type: a variable, a value of a row or of an accepted one."""
    if path[0] == "unit_tests":
        return not {"rows", "records", "vars", "env_vars", "key"}.isdisjoint(path)
    return path[0] == "vars" or {"accepted_values", "values"} <= set(path)


def misread(positions: Positions, is_free: Callable[[YamlPath], bool] = _is_free) -> Iterator[Problem]:
    """A warning for each value that YAML takes for something else than it looks like, where any value is valid."""
    for path, written, read in positions.misread():
        if is_free(path):
            what = f'"{written}" is read as {read}, because it has no quotes'
            hint = f'write "{written}" in quotes if it is meant as a string, or {read}'
            yield Problem(what, positions.of_value(path), hint, code="P094")


def _dialect(of: Any) -> str:
    return of if isinstance(of, str) and of in WAREHOUSES else "duckdb"


def _place(problem: Problem) -> Location:
    return problem.location or Location("")


def _of_variable(problem: Problem, empty: Sequence[str]) -> Problem:
    """The error of a value, said of the environment variables that it reads and that are `empty`, if any are."""
    if not empty:
        return problem
    said = " and ".join(f'"{name}"' for name in empty)
    what = f"environment variable {said} is empty" if len(empty) == 1 else f"environment variables {said} are empty"
    hint = f"{to_set(empty)}: {problem.message}"
    return replace(problem, message=what, hint=hint, code="P035")


class _Reader:
    """The parts of one file, checked one after the other; all errors go to the same list."""

    def __init__(
        self, positions: Positions, problems: list[Problem], environ: Mapping[str, str], cli_vars: Mapping[str, Any]
    ) -> None:
        self.positions, self.problems, self.environ = positions, problems, environ
        self.vars: Mapping[str, Any] = cli_vars
        self.secrets: frozenset[str] = frozenset()
        self.empty = dict[Location, list[str]]()  # the variables that are empty, by the value that reads them
        self.alert_places = dict[str, Location]()
        self.notes = dict[str, Problem]()
        self.defaults: Mapping[str, Any] = {}  # of all syncs, rendered; and as they are written
        self.defaults_as_written: Mapping[str, Any] = {}

    def problem(self, what: str, where: Location, hint: str | None = None, *, code: str) -> None:
        self.problems.append(Problem(what, where, hint, code))

    def errors(self) -> list[Problem]:
        """All errors, in their order. One of a value that reads an empty variable is about the variable."""
        return sorted((_of_variable(one, self.empty.get(_place(one), ())) for one in self.problems), key=_place)

    def rendered(self, value: Any, path: YamlPath, keep: Collection[str] = ()) -> Any:
        """`value` with the Jinja in its strings rendered; values of the keys in `keep` stay unchanged."""
        if isinstance(value, dict):
            return {
                key: item if key in keep else self.rendered(item, (*path, key), keep) for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.rendered(item, (*path, index), keep) for index, item in enumerate(value)]
        if not is_template(value):
            return value
        names = {"var": variables(self.vars), "env_var": environment_variables(self.environ, self.secrets)}
        empty = sorted(name for name in variables_read(value).names if self.environ.get(name) == "")
        if empty:
            self.empty[self.positions.of_value(path)] = empty
        try:
            return render(value, names, self.positions.of_value(path))
        except ProjectError as error:
            self.problems.extend(error.problems)
            return Unrendered(value)

    def check(self, model: type[M], value: Any, path: YamlPath, inside: str = "", unrendered: bool = False) -> M | None:
        """`value` as a `model`, or None and its errors. `unrendered`: any value may still be Jinja."""
        try:
            return model.model_validate(value)
        except ValidationError as error:
            seen = set[YamlPath]()
            for detail in error.errors():
                loc = tuple(detail["loc"])
                given = detail.get("ctx", {}).get("tag") or detail["input"]
                unsaid = isinstance(given, Unrendered) or (unrendered and is_template(given))
                if loc in seen or (unsaid and detail["type"] != "extra_forbidden"):
                    continue
                seen.add(loc)
                self.problems.append(problem_of(model, detail, path, inside, self.positions))
            return None

    def default_target(self, top: File) -> str | None:
        """The target to use without --target: the only one, unless `default_target` says which."""
        only = next(iter(top.targets)) if len(top.targets) == 1 else None
        return self.rendered(top.default_target, ("default_target",)) or only

    def target_name(self, top: File, name: str | None, is_asked: bool) -> str | None:
        if name in top.targets or isinstance(name, Unrendered):
            return name
        if name is None:
            self.problem('"default_target" is missing', Location(SPEC_FILE), nearest("", top.targets), code="P008")
        else:
            where = Location(SPEC_FILE) if is_asked else self.positions.of_value(("default_target",))
            self.problem(f'unknown target "{name}"', where, nearest(name, top.targets), code="P011")
        return None

    def targets(self, top: File, chosen: str | None) -> Target | None:
        found = None
        for name, raw in top.targets.items():
            path, inside = ("targets", name), f' in target "{name}"'
            key = raw.get("destination", {}).get("api_key") if is_target(raw) else None
            if key is not None:
                hint = (
                    "use api_key: \"{{ env_var('BRAZE_API_KEY') }}\", and create a new key: "
                    "this one has been written to a file"
                )
                place = self.positions.of_value((*path, "destination", "api_key"))
                for fault, way_out in fault_of_secret(key, hint):
                    self.problem(f'"api_key"{inside} {fault}', place, way_out, code="P012")
            self._secrets_of_warehouse(warehouse_of(raw), path, inside)
            value = self.rendered(raw, path, keep=("api_key", *WAREHOUSE_SECRETS)) if name == chosen else raw
            target = self.check(Target, value, path, inside, unrendered=name != chosen)
            if target and target.renamed_from in top.targets:
                hint = "remove it: the states of a target move only if no target has its name any more"
                what = f'"renamed_from"{inside} is the name of a target: "{target.renamed_from}"'
                self.problem(what, self.positions.of_value((*path, "renamed_from")), hint, code="P013")
            found = target if name == chosen else found
        return found

    def _secrets_of_warehouse(self, raw: Mapping[str, Any], path: YamlPath, inside: str) -> None:
        for key in WAREHOUSE_SECRETS:
            value = raw.get(key)
            if value is not None:
                hint = f"write {key}: \"{{{{ env_var('WAREHOUSE_{key.upper()}') }}}}\"; change a password that is in it"
                for fault, way_out in fault_of_secret(value, hint):
                    place = self.positions.of_value((*path, "warehouse", key))
                    self.problem(f'"{key}"{inside} {fault}', place, way_out, code="P012")

    def alerts(self, top: File, target: str | None) -> list[Alert]:
        """The alerts for a target; all are checked, and only those for it are rendered."""
        found, lines = list[Alert](), dict[str, int]()
        for index, raw in enumerate(top.alerts):
            path: YamlPath = ("alerts", index)
            kind = raw.get("type") if isinstance(raw, dict) else None
            name = raw.get("name", kind) if isinstance(raw, dict) else None
            inside = f' in alert "{name}"' if isinstance(name, str) else f" in alert {index + 1}"
            if not isinstance(raw, dict):
                self.problem(f"alert {index + 1} must be a mapping", self.positions.of_value(path), code="P010")
                continue
            if not isinstance(kind, str) or kind not in ALERTS:
                place, hint = self.positions.of_value((*path, "type")), nearest(str(kind or ""), ALERTS)
                if kind is None:
                    self.problem(f'"type" is missing{inside}', place, hint, code="P008")
                else:
                    self.problem(f'"{kind}" is not a valid value for "type"{inside}', place, hint, code="P009")
                continue
            if name in lines:
                what = f'duplicate alert "{name}", first defined on line {lines[str(name)]}'
                hint = "give each of them a name of its own: name: on_call"
                self.problem(what, self.positions.of_value((*path, "name")), hint, code="P014")
            lines.setdefault(str(name), self.positions.of_value(path).line)
            self.alert_places.setdefault(str(name), self.positions.of_value(path))
            names = self._targets_of(raw, path, inside, top)
            is_needed = target is not None and (not names or target in names)
            one = self._told(ALERTS[kind], raw, path, inside, is_needed)
            if one and target and is_for(one, target):
                found.append(one)
        return found

    def heartbeat(self, top: File) -> Heartbeat | None:
        if top.heartbeat is None:
            return None
        inside = ' in "heartbeat"' if isinstance(top.heartbeat, dict) else ""
        return self._told(Heartbeat, top.heartbeat, ("heartbeat",), inside, is_needed=False)

    def _targets_of(self, raw: dict[str, Any], path: YamlPath, inside: str, top: File) -> list[str]:
        """The targets that an alert names; none if it is for all."""
        given = raw.get("targets", ())
        names = [given] if isinstance(given, str) else [word for word in given if isinstance(word, str)]
        for index, name in enumerate(names):
            if name not in top.targets:
                place = self.positions.of_value((*path, "targets", index))
                self.problem(f'unknown target "{name}"{inside}', place, nearest(name, top.targets), code="P011")
        return names

    def _told(self, model: type[M], raw: Any, path: YamlPath, inside: str, is_needed: bool) -> M | None:
        """An alert or a heartbeat, rendered if it `is_needed`. Its secrets stay templates."""
        for at, value in secrets_in(raw) if isinstance(raw, dict) else ():
            hint = f"write {at[-1]}: \"{{{{ env_var('NAME') }}}}\", and put the value into .env or the environment"
            for fault, way_out in fault_of_secret(value, hint):
                self.problem(f'"{at[-1]}"{inside} {fault}', self.positions.of_value((*path, *at)), way_out, code="P110")
        value = self.rendered(raw, path, keep=SECRETS) if is_needed else raw
        return self.check(model, value, path, inside, unrendered=not is_needed)

    def collect(self, top: File) -> Collect | None:
        """What is collected. The keys stay templates: only `retl collect` needs them."""
        if top.collect is None:
            return None
        for path, key in collect_keys(top.collect):
            hint = "write keys: [\"{{ env_var('POSTBACK_KEY') }}\"], and put a new key into .env or the environment"
            for fault, way_out in fault_of_secret(key, hint):
                what = f'a key of source "{path[2]}" in "collect" {fault}'
                self.problem(what, self.positions.of_value(path), way_out, code="P110")
        inside = ' in "collect"' if isinstance(top.collect, dict) else ""
        found = self.check(
            Collect, self.rendered(top.collect, ("collect",), keep=(COLLECT_KEYS,)), ("collect",), inside
        )
        for name in found.sources if found else ():
            if name in top.sources:
                what = f'"{name}" is both under "sources" and under "sources" of "collect"'
                place = self.positions.of_key(("collect", "sources", name))
                self.problem(what, place, "rename one of them: source() would have two meanings", code="P038")
        return found

    def dbt(self, top: File) -> Dbt | None:
        if "dbt" not in top.model_fields_set:
            return None
        inside = ' in "dbt"' if isinstance(top.dbt, dict) else ""
        return self.check(Dbt, self.rendered(top.dbt, ("dbt",)), ("dbt",), inside)

    def read_defaults(self, top: File) -> None:
        """Keep the defaults of syncs. If there is an error in one, none applies: no sync is to repeat it."""
        path: YamlPath = ("defaults",)
        written = self.in_words_of_retl(top.defaults, path)
        if not isinstance(written, dict):
            self.check(Defaults, written, path)
            return
        for key in written.keys() & (Sync.model_fields.keys() | {"mode"}) - set(DEFAULT_KEYS):
            what = f'"{key}" in "defaults": every sync has its own'
            hint = f"write it in the syncs; defaults are {', '.join(DEFAULT_KEYS)}"
            self.problem(what, self.positions.of_key((*path, key)), hint, code="P141")
        known = {key: value for key, value in written.items() if key not in Sync.model_fields or key in DEFAULT_KEYS}
        rendered = self.rendered({key: value for key, value in known.items() if key != "mode"}, path)
        if self.check(Defaults, rendered, path, ' in "defaults"') is not None:
            self.defaults, self.defaults_as_written = rendered, written

    def syncs(self, raw: list[Any], models: Collection[str]) -> list[Sync]:
        given, syncs = list[Given](), list[Sync]()
        for index, item in enumerate(raw):
            path: YamlPath = ("syncs", index)
            item = self.in_words_of_retl(item, path)
            values = self.in_words_of_retl(self.rendered(item, path), path)
            if isinstance(values, dict):
                defaults = applied(self.defaults, values)
                borrow(self.positions, path, values, defaults)
                values = completed(values, defaults)
                item = completed(item, {key: self.defaults_as_written[key] for key in defaults})
            name = values.get("name") if isinstance(values, dict) else None
            inside = f' in sync "{name}"' if isinstance(name, str) else f" in sync {index + 1}"
            if isinstance(values, dict):
                given.append(Given(values, inside, path, self.positions))
                self.problems.extend(problems_in(given[-1], models))
            sync = self.check(Sync, values, path, inside)
            if sync is not None:
                sync._positions, sync._path, sync._as_written = self.positions, path, item
                syncs.append(sync)
        self.problems.extend(problems_between(given))
        return syncs

    def in_words_of_retl(self, sync: Any, path: YamlPath) -> Any:
        """A sync with the labels of Treasure Data replaced by retl's words for them. Notes each label once."""
        if not isinstance(sync, dict):
            return sync
        found, first = dict[Any, Any](), dict[Any, Any]()  # the latter: keys as written, by retl's word
        places = {key: self.positions.of_key((*path, key)) for key in sync}
        for key, value in sync.items():
            word = meant(key, KEYS) or key
            if word in first:
                what = f'"{key}" means the same as "{first[word]}" on line {places[first[word]].line}'
                self.problem(what, places[key], "remove one of them", code="P005")
                continue
            first[word] = key
            found[word] = (isinstance(value, str) and meant(value, VALUES.get(word, {}))) or value
            if (word, found[word]) != (key, value):
                self._note_label(key, value, word, found[word], places[key])
            if word != key:
                self.positions.rename((*path, key), word)
        return found

    def _note_label(self, key: str, value: Any, word: str, said: Any, at: Location) -> None:
        is_value = said != value
        label, of_retl = (f"{key}: {value}", f"{word}: {said}") if is_value else (key, word)
        what = f'"{label}" is read as "{of_retl}", as retl spells it'
        self.notes.setdefault(label, Problem(what, at, f"write {of_retl}", code="P117"))

    def unit_tests(self, raw: list[Any], raw_syncs: list[Any]) -> list[UnitTest]:
        """The unit tests. Jinja is not rendered in them: their rows are used as written."""
        syncs = [item["name"] for item in raw_syncs if isinstance(item, dict) and isinstance(item.get("name"), str)]
        tests, places = list[UnitTest](), dict[str, Location]()
        for index, item in enumerate(raw):
            path: YamlPath = ("unit_tests", index)
            name = item.get("name") if isinstance(item, dict) else None
            inside = f' in unit test "{name}"' if isinstance(name, str) else f" in unit test {index + 1}"
            sync, place = item.get("sync") if isinstance(item, dict) else None, self.positions.of_value
            if isinstance(item, dict) and {"model", "mode"} <= item.keys():  # added at the end of the file
                hint = 'move it above "unit_tests:", to the end of "syncs:"'
                self.problem(f'"{name}" in unit_tests is a sync', place((*path, "name")), hint, code="P006")
                continue
            if isinstance(sync, str) and sync not in syncs and len(syncs) == len(raw_syncs):
                self.problem(
                    f'unknown sync "{sync}"{inside}', place((*path, "sync")), nearest(sync, syncs), code="P015"
                )
            at = place((*path, "name"))
            if isinstance(name, str) and name in places:
                what = f'duplicate unit test "{name}", first defined {seen_from(at, places[name])}'
                self.problem(what, at, "rename one of them", code="P014")
            places.setdefault(str(name), at)
            test = self.check(UnitTest, item, path, inside)
            if test is not None:
                test._positions, test._path = self.positions, path
                tests.append(test)
                self.problems.extend(_inputs_again(test))
        return tests


def _inputs_again(test: UnitTest) -> Iterator[Problem]:
    seen = set[object]()
    for index, given in enumerate(test.given):
        name = given.ref or given.source or "this"
        if name in seen:
            what = f'duplicate input {given.input} in "given" of unit test "{test.name}"'
            yield Problem(what, test.where("given", index, "input"), "combine the rows under one input", code="P021")
        seen.add(name)
