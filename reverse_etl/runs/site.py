"""What the page of a project shows, from the project, the states and their ledgers. Sends nothing, changes no state.

Models are described, not run. A state is read from a copy: no sync is blocked or waited for. What cannot be read is
said in the notes of its sync, and the rest is shown.

    columns      of the model as it is now, then those that the state knows from before
    counts       runs, rejects, rows with a value: SQL over the state, in which nothing leaves that is of one row
    changes      cells and data points, from the ledger: as `retl flaps` counts them
    texts        descriptions and owners: `columns:` of the sync, then those of the dbt resources that it reads
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing as closed_after
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import Extra
from reverse_etl.engines.duckdb.named import tables_named as tables_of
from reverse_etl.engines.engine import Engine
from reverse_etl.engines.warehouse import engine_of
from reverse_etl.errors import ProjectError, RetlError
from reverse_etl.ledger.flapping import FLAP_RUNS, FLAPS
from reverse_etl.masking import all_masked, of_response, of_warehouse
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.plan.given_up import GIVEN_UP
from reverse_etl.plan.tables import ACKNOWLEDGED, IN_DOUBT, REJECTS, RUNS, SENT_AT
from reverse_etl.plan.workbench import connect
from reverse_etl.project.graph import dbt_id, model_id, seed_id
from reverse_etl.project.lineage import tables_named, texts_of
from reverse_etl.project.lock_file import Lock
from reverse_etl.project.models import ref_name
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.attributes import attributes_of, fields_of, properties_of
from reverse_etl.records.layout import Layout, layout_of_rows
from reverse_etl.runs.due import find_due
from reverse_etl.runs.flaps import HowToLook, changes_of
from reverse_etl.runs.site_facts import Site, SiteColumn, SiteEvent, SiteNode, SiteReject, SiteRun, SiteSync
from reverse_etl.runs.site_values import values_of
from reverse_etl.runs.writers import writer_of
from reverse_etl.sql import database
from reverse_etl.sql.quoting import identifier
from reverse_etl.state.copied import copy_of
from reverse_etl.state.look import NEVER, SyncStatus, is_there, status_in, with_tries
from reverse_etl.state.orphans import in_words, orphans
from reverse_etl.state.state import State
from reverse_etl.state.tries import Failing, failing_syncs
from reverse_etl.words import one_line

MOST_RUNS = 30  # of a sync that the page lists, the last ones
MOST_REASONS = 20  # of rows that are not in Braze
_MOST_COLUMNS = 100_000
_SENDS = {Extra.CUSTOM_ATTRIBUTE: "attribute", Extra.PROPERTY: "property", Extra.CATALOG_FIELD: "field"}
# Errors that name keys: what is before them says what is wrong.
_BEFORE_KEYS = re.compile(r"(is not unique|several rows for the same user \([^)]*\)|NULL[^:]*): .*", re.DOTALL)


@dataclass(frozen=True)
class _Known:
    """What a state knows of a sync."""

    status: str = NEVER
    message: str = ""
    rows: int = 0
    rejected: int = 0
    in_doubt: int = 0
    written: int = 0
    types: Mapping[str, str] = field(default_factory=dict)
    filled: Mapping[str, int] = field(default_factory=dict)
    changes: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)
    changed_at: Mapping[str, datetime] = field(default_factory=dict)
    values: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    runs: Sequence[SiteRun] = ()
    rejects: Sequence[SiteReject] = ()
    notes: Sequence[str] = ()


def collect(project: LoadedProject, how: HowToLook, version: str) -> Site:
    """What there is to show. Raises ProjectError for a braze.lock.yml or a dbt manifest that cannot be read."""
    lock = project.lock() or Lock()
    dues = {due.sync.name: due.scheduled_time for due in find_due(project, project.spec.syncs, how.now)}
    layouts = _layouts(project)
    failing = failing_syncs(project)
    with database.connect() as looking:
        syncs = [
            _sync(
                project,
                sync,
                _known(project, sync, how, failing, looking),
                how.now,
                layouts[sync.name],
                dues.get(sync.name),
            )
            for sync in project.spec.syncs
        ]
        nodes = list(_nodes(project, looking))
    return Site(
        project=project.folder.absolute().name,
        target=project.target_name,
        version=version,
        generated_at=how.now,
        days=how.days,
        syncs=syncs,
        events=_events(project, lock, syncs),
        nodes=nodes,
        orphans=_orphans(project),
    )


def _layouts(project: LoadedProject) -> dict[str, Layout | None]:
    """The columns of each sync's model as it is now; None of one that cannot be read."""
    none = dict[str, Layout | None].fromkeys(project.sync_names)
    with closed_after(connect()) as connection:
        try:
            engine = engine_of(project, connection)
            engine.open()
        except RetlError:
            return none
        return {**none, **{sync.name: _layout(project, engine, sync) for sync in project.spec.syncs}}


def _layout(project: LoadedProject, engine: Engine, sync: Sync) -> Layout | None:
    with engine.interruptible():
        found = writer_of(project, engine, sync)
    return found.layout if found else None


def _sync(
    project: LoadedProject,
    sync: Sync,
    known: _Known,
    now: datetime,
    layout: Layout | None,
    due_since: datetime | None,
) -> SiteSync:
    types = {**known.types, **(_types(layout) if layout else {})}
    unread = f"the columns of models/{sync.model}.sql cannot be read now: `retl plan {sync.name}` says why"
    there = {column.name for column in layout.columns} if layout else {column.name for column in sync.columns}
    unknown = [column.name for column in sync.columns if column.name not in there]
    notes = [*([] if layout else [unread]), *(f'columns: the model does not return "{name}"' for name in unknown)]
    texts = _texts(project, sync)
    accepted = {
        test.accepted_values.column[0]: [str(value) for value in test.accepted_values.values]
        for test in sync.data_tests
        if test.accepted_values
    }
    where = sync.where()
    return SiteSync(
        name=sync.name,
        description=all_masked(sync.description),
        owner=all_masked(sync.owner or ""),
        mode=sync.mode.label,
        about=sync.mode.about,
        sends=_SENDS.get(sync.mode.extra, "column"),
        model=sync.model,
        file=where.file,
        line=where.line,
        tags=sync.tags,
        after=sync.predecessors,
        ends=f"{sync.ends.does}s {sync.ends.of}s" if sync.ends else "",
        schedule=_schedule(sync),
        next_due=sync.cron.following(now) if sync.cron else None,
        due_since=due_since,
        status=known.status,
        message=known.message,
        rows=known.rows,
        rejected=known.rejected,
        in_doubt=known.in_doubt,
        written=known.written,
        columns=[_column(name, of, known, texts, accepted) for name, of in types.items()],
        runs=known.runs,
        rejects=known.rejects,
        notes=[*notes, *known.notes],
    )


def _schedule(sync: Sync) -> str:
    late = f" + {sync.delay}" if sync.delay_time else ""
    return f"{sync.schedule} {sync.timezone}{late}" if sync.schedule else ""


def _column(
    name: str,
    of: str,
    known: _Known,
    texts: Mapping[str, tuple[str, str]],
    accepted: Mapping[str, Sequence[str]],
) -> SiteColumn:
    description, owner = texts.get(name, ("", ""))
    changes, data_points, flaps = known.changes.get(name, (0, 0, ""))
    return SiteColumn(
        name=name,
        type=of,
        description=all_masked(description),
        owner=all_masked(owner),
        filled=known.filled.get(name),
        changes=changes,
        data_points=data_points,
        changed_at=known.changed_at.get(name),
        flaps=flaps,
        accepted=all_masked(list(accepted.get(name, ()))),
        values=[(all_masked(value), rows) for value, rows in known.values.get(name, ())],
    )


def _types(layout: Layout) -> dict[str, str]:
    """What a sync sends, and its types: those of Braze, or of the column where Braze fixes its own."""
    if layout.mode.extra is Extra.CUSTOM_ATTRIBUTE:
        of_braze = "standard field"
        return {name: str(one.type or f"{of_braze}, {one.sql_type}") for name, one in attributes_of(layout).items()}
    if layout.mode.extra in (Extra.PROPERTY, Extra.CATALOG_FIELD):
        found = properties_of(layout) if layout.mode.extra is Extra.PROPERTY else fields_of(layout)
        return {name: str(of) for name, of in found.items()}
    return {column.name: column.type.text for column in layout.sent}


def _texts(project: LoadedProject, sync: Sync) -> dict[str, tuple[str, str]]:
    """Description and owner of columns. What the sync says counts; then dbt, of what its models read there."""
    found = dict[str, tuple[str, str]]()
    if project.spec.dbt:
        with suppress(ProjectError):  # a model that cannot be compiled: said elsewhere
            found = project.dbt.texts_of(relation.unique_id for relation in project.reads(sync))
    for column in sync.columns:
        before = found.get(column.name, ("", ""))
        found[column.name] = (column.description or before[0], column.owner or before[1])
    return found


# --- state -----------------------------------------------------------------------------------------------------------


def _known(
    project: LoadedProject, sync: Sync, how: HowToLook, failing: Mapping[str, Failing], looking: DuckDBPyConnection
) -> _Known:
    """What is known of a sync; it has failed if its last try did, of which its state may know nothing."""
    known = _stored(project, sync, how, looking)
    on_record = known.runs[0].started_at if known.runs else None
    now = with_tries(project, sync, failing, SyncStatus(sync.name, known.status, on_record, message=known.message))
    return replace(known, status=now.last_run, message=_safe(sync, now.message or "")) if now.failures else known


def _stored(project: LoadedProject, sync: Sync, how: HowToLook, looking: DuckDBPyConnection) -> _Known:
    try:
        if not is_there(project, sync):
            return _Known()
        with copy_of(project, sync, looking) as state:
            return _of_state(project, sync, state, how)
    except (RetlError, duckdb.Error) as error:
        return _Known("unknown", notes=[f"its state cannot be read: {_safe(sync, str(error).splitlines()[0])}"])


def _of_state(project: LoadedProject, sync: Sync, state: State, how: HowToLook) -> _Known:
    connection = state.connection
    changes, notes = changes_of(state, project, sync, replace(how, limit=_MOST_COLUMNS))
    types = state.rows.types()
    layout = layout_of_rows(sync, list(types.items()), state.rows.key()) if types else None
    sent = _types(layout) if layout else {}
    now = status_in(connection, sync)
    return _Known(
        status=now.last_run,
        message=_safe(sync, now.message or ""),
        rows=now.rows,
        rejected=now.rejected,
        in_doubt=now.in_doubt,
        written=_written(connection, how.since),
        types=sent,
        filled=_filled(state, [name for name in sent if name in types]),
        values=values_of(sync, state, [name for name in sent if name in types]),
        changes={one.column: (one.changes, one.data_points, one.what or "") for one in changes},
        changed_at=_changed_at(connection),
        runs=_runs(connection, sync),
        rejects=list(_rejects(connection)),
        notes=[note.removeprefix(f"{sync.name}: ") for note in notes],
    )


def _filled(state: State, columns: Sequence[str]) -> dict[str, int]:
    """In how many acknowledged rows each column has a value; nothing if the rows are in the warehouse."""
    if not columns or pointer_of(state.rows.meta()):
        return {}
    counts = ", ".join(f"count({identifier(name)})" for name in columns)
    found = state.connection.execute(f"SELECT {counts} FROM {ACKNOWLEDGED} WHERE {SENT_AT} IS NOT NULL").fetchall()[0]
    return dict(zip(columns, found, strict=True))


def _written(connection: DuckDBPyConnection, since: datetime) -> int:
    """Attributes that Braze has accepted in the runs since then."""
    accepted = "TRY_CAST(json_extract_string(counts, '$.delivery.attributes') AS BIGINT)"
    sql = f"SELECT CAST(coalesce(sum({accepted}), 0) AS BIGINT) FROM {RUNS} WHERE finished_at >= $since"
    return int(connection.execute(sql, {"since": since}).fetchall()[0][0])


def _changed_at(connection: DuckDBPyConnection) -> dict[str, datetime]:
    sql = f"SELECT column_name, epoch(max(finished_at)) FROM {FLAPS} JOIN {FLAP_RUNS} USING (n) GROUP BY column_name"
    return {name: datetime.fromtimestamp(at, UTC) for name, at in connection.execute(sql).fetchall()}


def _runs(connection: DuckDBPyConnection, sync: Sync) -> list[SiteRun]:
    """The last runs, the latest first."""
    changed = dict[str, dict[str, int]]()
    by_run = f"""SELECT run_id, column_name, count(*) AS cells FROM {FLAPS} JOIN {FLAP_RUNS} USING (n)
        GROUP BY ALL ORDER BY cells DESC, column_name"""
    for run_id, column, cells in connection.execute(by_run).fetchall():
        changed.setdefault(run_id, {})[column] = cells
    rows = connection.execute(
        f"""SELECT run_id, epoch(started_at), epoch(finished_at), status, message, counts, git_commit, git_dirty,
            started_by
        FROM {RUNS} ORDER BY started_at DESC, run_id DESC LIMIT {MOST_RUNS}"""
    ).fetchall()
    return [_run(sync, row, changed.get(row[0], {})) for row in rows]


def _run(sync: Sync, row: Sequence[Any], changed: Mapping[str, int]) -> SiteRun:
    run_id, started_s, finished_s, status, message, counts, commit, is_dirty, started_by = row
    planned: dict[str, Any] = json.loads(counts)
    delivery = planned.get("delivery", {})
    names = ("accepted", "rejected", "in_doubt", "unsent", "requests", "attributes")
    return SiteRun(
        run_id,
        datetime.fromtimestamp(started_s, UTC),
        round(finished_s - started_s, 1),
        status,
        rows=planned.get("rows", 0),
        planned=planned.get("to_send", 0),
        invalid=planned.get("invalid", 0),
        **{name: delivery.get(name, 0) for name in names},
        message=_safe(sync, message or ""),
        commit=commit or "",
        is_dirty=bool(is_dirty),
        started_by=all_masked((started_by or "").replace("@", " on ")),
        changed=changed,
    )


def _safe(sync: Sync, message: str) -> str:
    """A message without the keys that it names, and without what looks personal."""
    said = one_line(message).removeprefix(f"{sync.name}: ").replace(f"; {sync.name}: ", "; ")
    return of_warehouse(_BEFORE_KEYS.sub(r"\1", said))


_STATUSES = {"retl": "invalid", "braze": "rejected", "left_out": "left out", "given_up": "given up"}


def _rejects(connection: DuckDBPyConnection) -> Iterator[SiteReject]:
    """Why rows are not in Braze, the most frequent reasons first; of what Braze says, without values that it quotes."""
    rows = connection.execute(
        f"""SELECT rejected_by, column_name, reason, hint, count(DISTINCT key), any_value(body) FROM {REJECTS}
        GROUP BY ALL
        UNION ALL SELECT 'in_doubt', NULL, 'sent, and it is not known whether it arrived', NULL, count(*), NULL
        FROM {IN_DOUBT} WHERE resolution IS NULL HAVING count(*) > 0
        ORDER BY 5 DESC, 1, 2, 3 LIMIT 1000"""
    ).fetchall()
    found = dict[tuple[str, str, str, str], int]()
    for by, column, reason, hint, count, body in rows:
        said = of_response(reason, [body] if body else []) if by in ("braze", GIVEN_UP) else all_masked(reason)
        status = _STATUSES.get(by, by.replace("_", " "))
        one = (status, column or "", said, all_masked(hint or "") if by != "braze" else "")
        found[one] = found.get(one, 0) + count
    for one in sorted(found, key=lambda one: (-found[one], one))[:MOST_REASONS]:
        yield SiteReject(*one, found[one])


# --- project ---------------------------------------------------------------------------------------------------------


def _events(project: LoadedProject, lock: Lock, syncs: Iterable[SiteSync]) -> list[SiteEvent]:
    """The events of braze.lock.yml, and those that models write down. Names of events are values of rows: those in the
    file have been reviewed, those in a model are its text."""
    columns = {sync.name: {column.name: column.type for column in sync.columns} for sync in syncs}
    senders = [sync for sync in project.spec.syncs if sync.mode.record_type == "events"]
    found = [
        SiteEvent(
            all_masked(name),
            {of: str(type_) for of, type_ in properties.items()},
            [sync.name for sync in senders if set(properties) <= columns[sync.name].keys()],
        )
        for name, properties in lock.events.items()
    ]
    for sync in senders:
        for name in _event_names(project, sync):
            if name not in lock.events:
                found.append(SiteEvent(all_masked(name), columns[sync.name], [sync.name]))
    return found


def _event_names(project: LoadedProject, sync: Sync) -> list[str]:
    """The names that a model of events writes down; none if they come from its rows."""
    with suppress(ProjectError):  # a model that cannot be compiled: said elsewhere
        return texts_of(project.compiled(sync.model).sql, "name", project.spec.dialect) or []
    return []


def _nodes(project: LoadedProject, looking: DuckDBPyConnection) -> Iterator[SiteNode]:
    """Models, seeds, sources and dbt resources that syncs are built from, each with its parents."""
    graph, tables = project.graph, _tables(project, looking)
    deleting = {sync.model for sync in project.spec.syncs if sync.ends}
    texts = _dbt_texts(project)
    for name, model in project.models.items():
        # A model of a sync that deletes may list persons.
        sql = "" if name in deleting else all_masked(model.text)
        parents = [*graph.parents[model_id(name)], *tables.get(name, ())]
        yield SiteNode(model_id(name), parents, model.file, sql=sql)
    known = {model_id(name) for name in project.models}
    for node in sorted({parent for model in known for parent in graph.parents[model]} - known):
        path = project.seeds.get(node.removeprefix(seed_id("")))
        file = path.relative_to(project.folder).as_posix() if path and node.startswith(seed_id("")) else ""
        yield SiteNode(node, (), file, texts.get(node, ""))
    for table in sorted({table for named in tables.values() for table in named}):
        yield SiteNode(table, ())


def _tables(project: LoadedProject, looking: DuckDBPyConnection) -> dict[str, list[str]]:
    """The tables that models name without ref() and source(), as ids of nodes, by model."""
    found = dict[str, list[str]]()
    for name in project.models:
        with suppress(ProjectError):  # a model that cannot be compiled: said elsewhere
            compiled, dialect = project.compiled(name), project.spec.dialect
            named = tables_of(looking, compiled.own_sql) if dialect == "duckdb" else None
            tables = tables_named(compiled.own_sql, dialect) if named is None else named
            read = {relation.plain for relation in compiled.reads} | {
                ref_name(other).casefold() for other in compiled.refs
            }
            found[name] = sorted(f"table.{table}" for table in tables if table.casefold() not in read)
    return found


def _orphans(project: LoadedProject) -> list[str]:
    """The states that no sync claims, in words."""
    try:
        return [all_masked(in_words(project, place)) for place in orphans(project)]
    except RetlError as error:  # a store that cannot be reached: the rest is shown
        return [all_masked(f"states that no sync claims are not known: {error.problems[0].message}")]


def _dbt_texts(project: LoadedProject) -> dict[str, str]:
    """Descriptions of dbt resources, by id of their node here."""
    if not project.spec.dbt:
        return {}
    manifest = project.dbt
    of_nodes = {dbt_id(node.name): node.description for node in manifest.nodes}
    of_sources = {f"source.{one.source_name}.{one.name}": one.description for one in manifest.sources}
    return {name: all_masked(text) for name, text in {**of_nodes, **of_sources}.items() if isinstance(text, str)}
