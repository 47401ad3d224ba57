"""Models: Jinja -> SQL, and the graph that `ref()` makes of them. Pure: strings in, one SELECT out.

    models/users_track.sql ── ref('customers') ──> models/customers.sql ── ref('orders') ──> a seed: "main"."orders"
                                                                        ── ref('fct_orders') ──> its relation in dbt

A model that another one refers to becomes a common table expression in it (`__ref__customers`). So the compiled SQL of
a model is complete: it runs in any DuckDB shell, needs nothing created in the warehouse, and DuckDB's `LINE n` always
leads to the file that the line came from.

A source that `retl collect` fills is one more such expression, over the files that there are when a model is compiled.
In a unit test, given rows replace a model, a seed or a source in the same way.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from reverse_etl.errors import Location, ProjectError, closest, nearest
from reverse_etl.project.collected import select
from reverse_etl.project.cron import ScheduleProblem, check_zone
from reverse_etl.project.dbt_manifest import DbtManifest, Relation, Version
from reverse_etl.project.dbt_packages import PACKAGES, package
from reverse_etl.project.dialects.digdag import variable_in
from reverse_etl.project.environment import NO_LIBRARY, Library, TemplateProblem, dispatch_for, return_from_macro
from reverse_etl.project.jinja import environment_variables, render, source_lines, variables
from reverse_etl.project.model_config import configure
from reverse_etl.project.spec import SPEC_FILE, Source
from reverse_etl.project.spec_collect import Collect, CollectTable
from reverse_etl.project.spec_targets import WAREHOUSES
from reverse_etl.sql.quoting import identifier, quoted, without_end
from reverse_etl.words import count

if TYPE_CHECKING:
    from reverse_etl.project.dialects.translate import Rewrite


# What templates can call or read, which no macro can be called.
FUNCTIONS = (
    *("ref", "source", "config", "var", "env_var", "target", "run_started_at", "scheduled_time", "in_zone"),
    *("is_incremental", "cursor", "return", "adapter", *PACKAGES),
)


@dataclass(frozen=True)
class Model:
    """A file of models/; `file` is its path relative to the project, `name` its name in `ref()` and `model:`."""

    name: str
    file: str
    text: str


@dataclass(frozen=True)
class Given:
    """A SELECT that replaces an input of models, and the location that declares it."""

    sql: str
    where: Location


@dataclass(frozen=True)
class RunValues:
    """The values that models can use, besides other models. Times are aware, in UTC.

    `given` replaces inputs, by name: `customers` for `ref('customers')`, and sources under their `source_name`. If it
    is not None, even if empty, nothing outside the project is read: every seed and source must be given.

    `dialect` is the SQL that models are written in, unless they say otherwise: that of the warehouse. With
    `in_duckdb`, as in unit tests, models of another dialect are translated.
    """

    vars: Mapping[str, Any]
    environ: Mapping[str, str]
    target_name: str
    sources: Mapping[str, Source]
    seeds: Collection[str]
    run_started_at: datetime
    scheduled_time: datetime
    cursor: str | None = None  # SQL of the value that an incremental run reads from
    given: Mapping[str, Given] | None = None
    collect: Collect | None = None
    collected: Callable[[str, str], Given] | None = None  # the records of a table of `collect`
    secrets: Collection[str] = ()  # names in `environ` that models must not read
    dbt: Callable[[], DbtManifest] | None = (
        None  # the dbt project beside this; called when a ref() or source() needs it
    )
    dialect: str = "duckdb"
    in_duckdb: bool = False
    library: Library = NO_LIBRARY  # macros, and files that models include

    @property
    def runs_in(self) -> str:
        """The dialect of compiled models."""
        return "duckdb" if self.in_duckdb else self.dialect


@dataclass(frozen=True)
class _Rendered:
    """One model after Jinja (and sqlglot); `names` are what it could call. Given rows have one `place`.

    `collected` are those of its `refs` that are tables of `collect`.
    """

    model: Model
    sql: str
    refs: tuple[str, ...]
    reads: tuple[Relation, ...]
    names: Mapping[str, Any]
    transpiled: bool = False
    place: Location | None = None
    rewrites: tuple["Rewrite", ...] = ()
    collected: Mapping[str, Given] = field(default_factory=dict)
    library: Library = NO_LIBRARY

    def source_of(self, line: int, word: str = "") -> Location:
        """The line of the model's file, or of a macro's, behind line `line` of its rendered SQL. Transpiled SQL has
        lines of its own: there it is the only line that has `word`, if there is one."""
        if self.place:
            return self.place
        where = Location(self.model.file)
        if self.transpiled:
            whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
            found = [number for number, text in enumerate(self.model.text.splitlines(), 1) if whole.search(text)]
            return replace(where, line=found[0]) if word and len(found) == 1 else where
        lines = source_lines(self.model.text, self.names, where, self.library)
        return lines[line - 1] if 0 < line <= len(lines) else where

    def place_of(self, line: int, column: int) -> Location:
        """The same with a column, if the text there is as it is in the file."""
        where = self.source_of(line)
        texts = [text.splitlines() for text in (self.sql, self.model.text)]
        is_here = where.file == self.model.file and line <= len(texts[0]) and 0 < where.line <= len(texts[1])
        if not (column and is_here):
            return where
        rendered, written = texts[0][line - 1], texts[1][where.line - 1]
        if rendered == written:
            return replace(where, column=column)
        word = re.match(r"\w+|\S+", rendered[column - 1 :])
        found = [one.start() for one in re.finditer(rf"(?<!\w){re.escape(word[0])}(?!\w)", written)] if word else []
        return replace(where, column=found[0] + 1) if len(found) == 1 else where


@dataclass(frozen=True)
class Compiled:
    """A model as one SELECT.

    `refs` are the models inside it, in order of their dependencies, including given and collected inputs, by name.
    `reads` is what
    its ref() and source() resolve to in the warehouse. `compiled_file` is where the project keeps `sql`.
    """

    name: str
    file: str
    sql: str
    refs: tuple[str, ...]
    reads: tuple[Relation, ...]
    compiled_file: str
    _parts: tuple[tuple[int, _Rendered], ...] = field(repr=False)

    def read_by(self, sql: str) -> "Compiled":
        """The same model, its rows read by another SELECT, whose lines are in no file."""
        file = Location(self.file)
        return replace(
            self, sql=sql, _parts=((1, _Rendered(Model(self.name, self.file, ""), sql, (), (), {}, place=file)),)
        )

    def source_of(self, line: int, word: str = "") -> Location:
        """The location in a model's file that line `line` of `sql`, which has `word`, came from; lines count from 1."""
        first, rendered = self._part(line)
        return rendered.source_of(line - first + 1, word)

    def translated_at(self, line: int) -> str | None:
        """The name of the model whose translation from another dialect has line `line` of `sql`; None if it is none."""
        rendered = self._part(line)[1]
        return rendered.model.name if rendered.transpiled else None

    @property
    def own_sql(self) -> str:
        """Its SQL without that of the models that it refers to, which are tables there: `ref_name`."""
        return self._parts[-1][1].sql

    def _part(self, line: int) -> tuple[int, _Rendered]:
        before = [part for part in self._parts if part[0] <= line]
        return before[-1] if before else self._parts[0 if line else -1]

    @property
    def rewrites(self) -> "tuple[Rewrite, ...]":
        """What the translation from other dialects has rewritten, in this model and in those that it refers to."""
        return tuple(rewrite for _, part in self._parts for rewrite in part.rewrites)


def compile_model(
    name: str, models: Mapping[str, Model], values: RunValues, compiled_file: str | None = None
) -> Compiled:
    """The SQL of a model with everything it refers to. Raises ProjectError with the model's file and line."""
    *others, model = _with_refs(name, models, values, ())
    parts, text = [], ""
    for position, other in enumerate(others):
        text += "WITH " if position == 0 else ", "
        text += f"{quoted(ref_name(other.model.name), values.runs_in)} AS (\n"
        parts.append((text.count("\n") + 1, other))
        text += f"{other.sql}\n)"
    text += "\nSELECT * FROM (\n" if others else ""
    parts.append((text.count("\n") + 1, model))
    text += f"{model.sql}\n) AS __model" if others else model.sql  # Postgres 15 wants a name
    refs = tuple(other.model.name for other in others)
    reads = tuple(dict.fromkeys(relation for part in (*others, model) for relation in part.reads))
    file = compiled_file or f"target/compiled/{name}.sql"
    return Compiled(name, model.model.file, f"{text}\n", refs, reads, file, tuple(parts))


def compile_given(name: str, given: Given, compiled_file: str) -> Compiled:
    """Given rows as if a model had returned them."""
    rendered = _given(name, given)
    return Compiled(name, given.where.file, f"{given.sql}\n", (), (), compiled_file, ((1, rendered),))


def source_name(name: str, table: str) -> str:
    """The name of a source among the inputs of models."""
    return f"source('{name}', '{table}')"


def _given(name: str, given: Given) -> _Rendered:
    return _Rendered(Model(name, given.where.file, ""), given.sql, (), (), {}, place=given.where)


def ref_name(name: str) -> str:
    return f"__ref__{name}"


def _with_refs(name: str, models: Mapping[str, Model], values: RunValues, path: tuple[str, ...]) -> list[_Rendered]:
    """The model last, preceded by everything it refers to, once each and after its own dependencies."""
    if name in path:
        circle = " -> ".join([*path[path.index(name) :], name])
        hint = "a model cannot depend on itself: remove one ref()"
        raise ProjectError(f"ref() cycle: {circle}", Location(models[path[-1]].file), hint, code="P039")
    model = _render(models[name], models, values)
    before: dict[str, _Rendered] = {}
    for other in model.refs:
        given = (values.given or {}).get(other) or model.collected.get(other)
        for rendered in [_given(other, given)] if given else _with_refs(other, models, values, (*path, name)):
            before.setdefault(rendered.model.name, rendered)
    return [*before.values(), model]


def _render(model: Model, models: Mapping[str, Model], values: RunValues) -> _Rendered:
    refs: dict[str, None] = {}
    reads: dict[Relation, None] = {}
    settings: dict[str, str] = {}
    collected: dict[str, Given] = {}
    given = values.given or {}

    def refer(name: str) -> str:
        refs[name] = None
        return quoted(ref_name(name), values.dialect)

    def refuse_unless_read(text: str) -> None:
        if values.given is not None:
            hint = f'unit tests read no tables: add `- input: {text}` with its rows to "given"'
            raise TemplateProblem(f"no rows are given for {text}", hint, code="P040")

    def ref(*names: str, version: Version | None = None, v: Version | None = None) -> str:
        asked = version if v is None else v
        if names and names[-1] in given:
            return refer(names[-1])
        is_own = len(names) == 1 and asked is None and names[0] in models
        if names and not is_own and (values.dbt or names[-1] in values.seeds):
            refuse_unless_read(f"ref('{names[-1]}')")
        found = models[names[0]] if is_own and values.given is not None else _find_ref(names, asked, models, values)
        if isinstance(found, Model):
            return refer(found.name)
        reads[found] = None
        return found.sql

    def source(name: str, table: str) -> str:
        text = source_name(name, table)
        if text in given:
            return refer(text)
        refuse_unless_read(text)
        if values.collect and values.collected and name in values.collect.sources:
            reads[_find_collected(name, table, values)] = None
            collected.setdefault(text, values.collected(name, table))
            return refer(text)
        found = _find_source(name, table, values)
        reads[found] = None
        return found.sql

    def cursor() -> str:
        if values.cursor is None:
            hint = "use it inside {% if is_incremental() %} ... {% endif %}, in a model of a sync with `incremental:`"
            raise TemplateProblem("cursor() has no value in a full run", hint, code="P042")
        return values.cursor

    names = {
        "ref": ref,
        "source": source,
        "config": lambda *given, **options: configure(settings, values.dialect, *given, **options),
        "var": variables(values.vars),
        "env_var": environment_variables(values.environ, values.secrets),
        "target": {"name": values.target_name},
        "run_started_at": values.run_started_at,
        "scheduled_time": values.scheduled_time,
        "in_zone": _in_zone,
        "is_incremental": lambda: values.cursor is not None,
        "cursor": cursor,
        "return": return_from_macro,
        "adapter": {"dispatch": dispatch_for(values.dialect)},
        **{name: package(name, values.dialect) for name in PACKAGES},
    }
    where = Location(model.file)
    sql = without_end(render(model.text, names, where, values.library))
    rendered = _Rendered(model, sql, tuple(refs), tuple(reads), names, collected=collected, library=values.library)
    _refuse_variables_of_digdag(rendered)
    dialect = settings.get("dialect") or (values.dialect if values.in_duckdb else "duckdb")
    if dialect == "duckdb":
        return rendered
    from reverse_etl.project.dialects.translate import translate  # sqlglot takes its time to load

    made = translate(sql, dialect, rendered.place_of, values.scheduled_time)
    return replace(rendered, sql=made.sql, transpiled=True, rewrites=made.rewrites)


def _refuse_variables_of_digdag(rendered: _Rendered) -> None:
    found = variable_in(rendered.sql) if "${" in rendered.sql else None
    if found is None:
        return
    before = rendered.sql[: found.at]
    where = rendered.place_of(before.count("\n") + 1, found.at - before.rfind("\n"))
    raise ProjectError(
        f"{found.text} is a variable of digdag, which retl does not fill in", where, found.instead, code="P113"
    )


def _in_zone(moment: datetime, zone: str, days: int = 0, hours: int = 0, minutes: int = 0) -> datetime:
    """A time on the clock of a time zone; moved by whole days of that clock, and by hours and minutes."""
    try:
        check_zone(zone)
        local = moment.astimezone(ZoneInfo(zone)) + timedelta(days=days)
        return (local.astimezone(UTC) + timedelta(hours=hours, minutes=minutes)).astimezone(ZoneInfo(zone))
    except ScheduleProblem as problem:
        raise TemplateProblem(f"in_zone(): {problem}", problem.hint, code=problem.code) from problem
    except (OverflowError, TypeError, AttributeError, ValueError) as error:
        hint = "use it as in_zone(scheduled_time, 'Asia/Seoul', days=-1)"
        raise TemplateProblem(f"in_zone(): {error}", hint, code="P116") from error


def _find_ref(
    names: tuple[str, ...], version: Version | None, models: Mapping[str, Model], values: RunValues
) -> Model | Relation:
    """What `ref(...)` resolves to. Packages and versions are of dbt; a name both here and in dbt is an error."""
    if len(names) not in (1, 2):
        what = f"ref() accepts a name, or a dbt package and a name, not {count(len(names), 'argument')}"
        raise TemplateProblem(what, code="P037")
    package, name = (None, names[0]) if len(names) == 1 else names
    here = [model.file for model in models.values() if model.name == name]
    if values.dialect == "duckdb":
        here += [f"seeds/{seed}.csv" for seed in values.seeds if seed == name]
    own = [*models, *values.seeds]
    is_of_dbt = package is not None or version is not None
    if values.dbt is None and is_of_dbt:
        what = f"ref(): packages and versions require a dbt project, but {SPEC_FILE} does not define one"
        raise TemplateProblem(what, "add dbt: {project_dir: ...}", code="P043")
    if values.dbt and is_of_dbt:
        return values.dbt().ref(name, package, version)
    namesakes = values.dbt().called(name) if values.dbt else []
    if here and namesakes:
        there = namesakes[0]
        what = f'ref(): "{name}" is ambiguous: {here[0]} in this project, {there.unique_id} in dbt'
        hint = f"use ref('{there.package_name}', '{name}') for the one in dbt, or rename {here[0]}"
        raise TemplateProblem(what, hint, code="P038")
    if name in models:
        return models[name]
    if name in values.seeds and values.dialect == "duckdb":
        return Relation(f'"main".{identifier(name)}')
    if values.dbt:
        return values.dbt().ref(name, others=own)
    if name in values.seeds:
        what = f'ref(): "{name}" is a seed, and retl does not load seeds into {WAREHOUSES[values.dialect]}'
        hint = "load it with `dbt seed`, and add dbt: {project_dir: ...}; or use source() for its table"
        raise TemplateProblem(what, hint, code="P037")
    raise TemplateProblem(f'ref(): unknown model or seed "{name}"', nearest(str(name), own), code="P037")


def _find_collected(name: str, table: str, values: RunValues) -> Relation:
    """What a table of `collect` is for those who compare: its SELECT without files, whichever are there."""
    assert values.collect
    if values.runs_in != "duckdb":
        what = f'source(): "{name}" is in files of `retl collect`, which {WAREHOUSES[values.dialect]} does not read'
        raise TemplateProblem(what, "use it in models of a target with warehouse: {type: duckdb}", code="P118")
    if values.dbt and name in values.dbt().source_names:
        what = f'source(): "{name}" is defined both under "collect" in {SPEC_FILE} and in dbt'
        raise TemplateProblem(what, "remove one of them, or rename it", code="P038")
    found = values.collect.table(name, table)
    if found is None:
        meant = closest(table, values.collect.sources[name].tables)
        hint = f'did you mean "{meant}"?' if meant else f'add it to the tables of "{name}", and restart `retl collect`'
        raise TemplateProblem(f'source(): "{name}" of "collect" has no table "{table}"', hint, code="P118")
    return Relation(without_rows(found))


def without_rows(table: CollectTable) -> str:
    """The SELECT of a table of `collect` with its columns, and no rows."""
    return select((), table.columns)


def _find_source(name: str, table: str, values: RunValues) -> Relation:
    """What `source(name, table)` resolves to. Without dbt, a source that is not declared is the schema of its name."""
    if values.dbt:
        if name not in values.sources:
            collected = values.collect.sources if values.collect else ()
            return values.dbt().source(name, table, others=[*values.sources, *collected])
        if name in values.dbt().source_names:
            what = f'source(): "{name}" is defined both under "sources:" in {SPEC_FILE} and in dbt'
            raise TemplateProblem(what, "remove one of them, or rename it", code="P038")
    place = values.sources.get(name, Source())
    parts = (place.database, place.schema_name or name, table)
    return Relation(".".join(quoted(part, values.dialect) for part in parts if part))
