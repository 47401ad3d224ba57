"""What the page of a project shows, from the project, the states and their ledgers. Sends nothing, changes no state.

Models are described, not run. A state is read from a copy: no sync is blocked or waited for. What cannot be read is
said in the notes of its sync, and the rest is shown.

    columns      of the model as it is now, then those that were sent before, and are no longer: `site_past.py`
    counts       runs, rejects, rows with a value: SQL over the state, in which nothing leaves that is of one row
    changes      cells and data points, from the ledger: as `retl flaps` counts them
    texts        descriptions and owners: `columns:` of the sync, then those of the dbt resources that it reads
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing as closed_after
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import USER, Extra, Kind
from reverse_etl.engines.duckdb.named import tables_named as tables_of
from reverse_etl.engines.engine import Engine
from reverse_etl.engines.warehouse import engine_of
from reverse_etl.errors import ProjectError, RetlError
from reverse_etl.masking import all_masked
from reverse_etl.plan.workbench import connect
from reverse_etl.project.graph import dbt_id, model_id, seed_id
from reverse_etl.project.lineage import tables_named, texts_of
from reverse_etl.project.lock_file import Lock
from reverse_etl.project.models import ref_name
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.layout import Layout
from reverse_etl.runs.due import Due, find_due
from reverse_etl.runs.flaps import HowToLook
from reverse_etl.runs.site_facts import Site, SiteColumn, SiteEvent, SiteField, SiteNode, SiteSync
from reverse_etl.runs.site_past import gone_of
from reverse_etl.runs.site_states import MOST_RUNS, Known, all_known, sent_fields, sent_types
from reverse_etl.runs.site_values import why_not_shown
from reverse_etl.runs.writers import writer_of
from reverse_etl.sql import database
from reverse_etl.state.orphans import in_words, orphans

_SENDS = {Extra.CUSTOM_ATTRIBUTE: "attribute", Extra.PROPERTY: "property", Extra.CATALOG_FIELD: "field"}


def collect(project: LoadedProject, how: HowToLook, version: str) -> Site:
    """What there is to show. Raises ProjectError for a braze.lock.yml or a dbt manifest that cannot be read."""
    lock = project.lock() or Lock()
    dues = {due.sync.name: due for due in find_due(project, project.spec.syncs, how.now)}
    with all_known(project, how) as states:
        layouts = _layouts(project)
        nodes = list(_nodes(project))
        syncs, sent_at = [], dict[str, Mapping[str, datetime]]()
        for sync, known in zip(project.spec.syncs, states, strict=True):
            syncs.append(_sync(project, sync, known, how.now, layouts[sync.name], dues.get(sync.name)))
            sent_at[sync.name] = known.sent_at
    return Site(
        project=project.folder.absolute().name,
        target=project.target_name,
        version=version,
        generated_at=how.now,
        days=how.days,
        syncs=syncs,
        events=list(_events(project, lock, syncs, sent_at)),
        nodes=nodes,
        orphans=_orphans(project),
        most_runs=MOST_RUNS,
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
    known: Known,
    now: datetime,
    layout: Layout | None,
    due: Due | None,
) -> SiteSync:
    gone = gone_of(sync, known.past, known.types, layout)
    types = {
        **known.types,
        **(sent_types(layout) if layout else {}),
        **{name: known.types.get(name, "") for name in gone},
    }
    unread = f"the columns of models/{sync.model}.sql cannot be read now: `retl plan {sync.name}` says why"
    if not layout and Kind.CHANGED not in sync.mode.kinds:
        unread += "; its state knows the key of what was sent, and no other column"
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
        ended=sync.mode.ends.done if sync.mode.ends else "",
        schedule=_schedule(sync),
        next_due=sync.cron.following(now) if sync.cron else None,
        due_since=due.since if due else None,
        status=known.status,
        message=known.message,
        tried_at=known.tried_at,
        rows=known.rows,
        rejected=known.rejected,
        in_doubt=known.in_doubt,
        to_send=known.to_send,
        written=known.written,
        columns=[
            replace(
                _column(name, of, known, texts, accepted),
                gone=gone.get(name, ""),
                unshown=why_not_shown(sync, name, layout.key if layout else (), known.filled.get(name)),
            )
            for name, of in types.items()
        ],
        runs=known.runs,
        rejects=known.rejects,
        notes=[*notes, *known.notes],
        tries=known.tries,
        is_overdue=due is not None and due.is_overdue,
        lasts=sync.mode.lasts,
        fields=[_field(name, of, texts) for name, of in (sent_fields(layout) if layout else known.fields).items()],
        lost=known.lost,
    )


def _field(name: str, of: str, texts: Mapping[str, tuple[str, str]]) -> SiteField:
    description, owner = texts.get(name, ("", ""))
    return SiteField(name, of, all_masked(description), all_masked(owner))


def _schedule(sync: Sync) -> str:
    late = f" + {sync.delay}" if sync.delay_time else ""
    return f"{sync.schedule} {sync.timezone}{late}" if sync.schedule else ""


def _column(
    name: str,
    of: str,
    known: Known,
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


# --- project ---------------------------------------------------------------------------------------------------------


def _events(
    project: LoadedProject, lock: Lock, syncs: Iterable[SiteSync], sent_at: Mapping[str, Mapping[str, datetime]]
) -> Iterator[SiteEvent]:
    """The events of braze.lock.yml, and those that models write down. Names of events are values of rows: those in the
    file have been reviewed, those in a model are its text."""
    columns = {sync.name: {column.name: column.type for column in sync.columns if not column.gone} for sync in syncs}
    senders = [sync for sync in project.spec.syncs if sync.mode.record_type == "events"]
    written = {sync.name: _event_names(project, sync) for sync in senders}
    found = {name: {of: str(type_) for of, type_ in properties.items()} for name, properties in lock.events.items()}
    by = {
        name: [sync.name for sync in senders if set(properties) <= columns[sync.name].keys()]
        for name, properties in found.items()
    }
    for one, names in written.items():
        for name in names:
            if name not in lock.events:
                found[name] = {**columns[one], **found.get(name, {})}
                by.setdefault(name, []).append(one)
    for name, properties in found.items():
        times = {one: sent_at[one][name] for one in by[name] if name in sent_at[one]}
        only = [one for one in by[name] if written[one] == [name]]
        yield SiteEvent(all_masked(name), properties, by[name], times, only)


def _event_names(project: LoadedProject, sync: Sync) -> list[str]:
    """The names that a model of events writes down; none if they come from its rows."""
    with suppress(ProjectError):  # a model that cannot be compiled: said elsewhere
        return texts_of(project.compiled(sync.model).own_sql, "name", project.spec.dialect) or []
    return []


def _nodes(project: LoadedProject) -> Iterator[SiteNode]:
    """Models, seeds, sources and dbt resources that syncs are built from, each with its parents."""
    with database.connect() as looking:
        graph, tables = project.graph, _tables(project, looking)
    deleting = {sync.model for sync in project.spec.syncs if sync.ends and sync.mode.about == USER}
    texts = _dbt_texts(project)
    for name, model in project.models.items():
        # A model of a sync that deletes users may list persons.
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
