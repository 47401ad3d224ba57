"""Columns that a sync has sent, and does not send any more. Braze keeps what it has of them.

The state has a column until the next run. From then on, it is known by the text of the model that earlier runs ran, if
that names it, and by the ledger, if a value of it changed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import Extra
from reverse_etl.errors import ProjectError
from reverse_etl.plan.tables import RUNS, SQLS
from reverse_etl.project.lineage import columns_named
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.layout import ALIAS_PARTS, Layout

_MOST_TEXTS = 5  # of models that are parsed: a tenth of a second each, if they are long
# What Braze does with a column that is no longer sent; of what is not here, there is nothing to keep.
_KEEPS = {
    Extra.CUSTOM_ATTRIBUTE: "Braze keeps the values that it has",
    Extra.PROPERTY: "Braze keeps it in what was sent",
    Extra.CATALOG_FIELD: "the catalog keeps the field",
}


def past_columns(
    connection: DuckDBPyConnection, project: LoadedProject, sync: Sync, changed: Collection[str], there: Collection[str]
) -> dict[str, str]:
    """The columns that earlier runs have sent and that are not `there`, in the state, each with since when, as far as
    that is known. `changed` are those that have changes in the ledger."""
    if sync.mode.extra not in _KEEPS or not there:
        return {}
    runs = _runs(connection)
    named = _names(connection, project, sync, [md5 for _, md5, _ in reversed(runs) if md5])
    last = {name: number for number, (_, md5, _) in enumerate(runs) for name in named.get(md5 or "", ())}
    sent = {name for _, md5, has_sent in runs if has_sent for name in named.get(md5 or "", ())}
    is_there = {name.casefold() for name in there}
    gone = {*changed, *(name for name in sent if _may_be_sent(sync, name))}
    return {name: _since(runs, last.get(name)) for name in sorted(gone) if name.casefold() not in is_there}


def gone_of(sync: Sync, past: Mapping[str, str], of_state: Iterable[str], layout: Layout | None) -> dict[str, str]:
    """The columns that are no longer sent, with what there is to say of each. `layout` is that of the model as it is
    now; `of_state` are the columns that the state has."""
    is_unknown = layout is None and sync.mode.extra is Extra.PROPERTY  # the state of events does not store all of them
    if sync.mode.extra not in _KEEPS or is_unknown:
        return {}
    now = {column.name.casefold() for column in layout.sent} if layout else set[str]()
    past = {**(dict.fromkeys(of_state, ": the model does not return it") if layout else {}), **past}
    return {
        name: f"no longer sent{since}; {_KEEPS[sync.mode.extra]}"
        for name, since in past.items()
        if name.casefold() not in now
    }


def _names(
    connection: DuckDBPyConnection, project: LoadedProject, sync: Sync, latest_first: Iterable[str]
) -> dict[str, set[str]]:
    """The columns that the SQL of runs names, by its MD5; of the last texts, without that of the model as it is now."""
    now = ""
    with suppress(ProjectError):  # a model that cannot be compiled: said elsewhere
        now = project.compiled(sync.model).sql
    chosen = list(islice(dict.fromkeys(latest_first), _MOST_TEXTS + 1))
    sql = f"SELECT md5, sql FROM {SQLS} WHERE md5 IN (SELECT unnest($chosen)) AND sql <> $now"
    texts = connection.execute(sql, {"chosen": chosen, "now": now}).fetchall() if chosen else []
    return {md5: columns_named(text, project.spec.dialect) for md5, text in texts}


def _runs(connection: DuckDBPyConnection) -> list[tuple[float, str | None, bool]]:
    """The runs, the earliest first: when each began, its SQL, and whether Braze accepted anything. One that changed
    nothing has no SQL."""
    accepted = "coalesce(TRY_CAST(json_extract_string(counts, '$.delivery.accepted') AS BIGINT), 0) > 0"
    return connection.execute(
        f"SELECT epoch(started_at), sql_md5, {accepted} FROM {RUNS} ORDER BY started_at"
    ).fetchall()


def _since(runs: Sequence[tuple[float, str | None, bool]], last: int | None) -> str:
    """Since when a column is not sent which the SQL of this run is the last to name."""
    if last is None:
        return ""
    is_next = last + 1 < len(runs) and runs[last + 1][1] is not None
    at = datetime.fromtimestamp(runs[last + 1 if is_next else last][0], UTC)
    return f" since {'' if is_next else 'some time after '}{at:%Y-%m-%d}"


def _may_be_sent(sync: Sync, name: str) -> bool:
    """Whether a column of this name is none that identifies a row or a user, and none that Braze knows otherwise."""
    mode = sync.mode
    field = mode.field(name)
    is_other = field is not None and (field.switch or mode.extra is not Extra.CUSTOM_ATTRIBUTE)
    named = {*mode.identifiers, *mode.key_fields, *ALIAS_PARTS, *(sync.primary_key or ())}
    return not is_other and name not in {*named, *sync.exclude_columns, sync.consent.evidence}
