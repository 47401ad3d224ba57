"""Who has opted out: kept apart from the acknowledged rows, so that it outlives the rows and columns that said it."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import CONSENT_FIELDS, OPT_OUT
from reverse_etl.braze.subscriptions import GROUPS
from reverse_etl.engines.duckdb.model import sql_type
from reverse_etl.plan.tables import ACKNOWLEDGED, META, OPT_OUTS, OUTBOX, SENT_AT, UNSURE
from reverse_etl.records.consent import INS, ONLY_OPTS_OUT, OUTS, PERSON, ROW, known_person
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType

KNOWN = "consent"  # in `meta`: the columns of which the state knows who has opted out, as a JSON list


def known_columns(meta: Mapping[str, str]) -> frozenset[str]:
    """The columns of which the state knows who has opted out, as far as its syncs and its user can know."""
    return frozenset(json.loads(meta.get(KNOWN, "[]")))


def with_known(meta: Mapping[str, str], consent: str | None) -> Mapping[str, str]:
    """For `meta`: the columns that are known, and those of `consent`, which the run has learned, too."""
    more = json.loads(consent or "[]")
    return {KNOWN: json.dumps(sorted({*known_columns(meta), *more}))} if more else {}


def remember(connection: DuckDBPyConnection, with_outcomes: str, values: Mapping[str, Any]) -> None:
    """Record the opt-outs that Braze has acknowledged, or may have received, since the first of them; and forget those
    that an acknowledged opt-in has ended. `with_outcomes` is the outbox with the outcome of every record.

    One is unclear from when it, or an opt-in after it, was sent without a clear response, until it is acknowledged.
    """
    if OUTS not in connection.sql(f"FROM {OUTBOX}").columns:
        return
    connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_said AS {_said(with_outcomes)}")
    same = "opt_outs.identifier = said.identifier AND opt_outs.channel = said.channel"
    connection.execute(f"DELETE FROM {OPT_OUTS} USING retl_said AS said WHERE {same} AND said.in_is_acknowledged")
    connection.execute(
        f"""INSERT INTO {OPT_OUTS} SELECT identifier, channel, CAST($now AS TIMESTAMPTZ), true
        FROM retl_said ANTI JOIN {OPT_OUTS} AS known USING (identifier, channel) WHERE opts_out""",
        {"now": values["now"]},
    )
    connection.execute(
        f"""UPDATE {OPT_OUTS} SET is_unclear = said.opts_in FROM retl_said AS said
        WHERE {same} AND (said.opts_in OR said.out_is_acknowledged)"""
    )


def unsettle_rows(connection: DuckDBPyConnection, with_outcomes: str, keys: Mapping[str, str]) -> None:
    """Mark the columns of acknowledged rows of which Braze may have an opt-out instead, as it was sent without its row.

    Otherwise a row that returns to what was acknowledged would look unchanged. `keys` is SQL for the key of a record
    `o` as the state has it, by column.
    """
    alone = f"kind = {literal(ONLY_OPTS_OUT)}"
    if not connection.execute(f"SELECT 1 FROM {OUTBOX} WHERE {alone} LIMIT 1").fetchall():
        return
    columns = connection.sql(f"FROM {OUTBOX}").columns
    flags = {name: identifier(f"changed.{name}") for name in CONSENT_FIELDS if f"changed.{name}" in columns}
    if not flags:
        return
    names = ", ".join(f"CASE WHEN {flag} THEN {literal(name)} END" for name, flag in flags.items())
    row, outs = identifier(ROW), identifier(OUTS)
    of_key = ", ".join(f"{value} AS {identifier(name)}" for name, value in keys.items())
    said = " || ".join(f"coalesce({channels}, [])" for channels in _channels(_acknowledged(connection))) or "[]"
    same = " AND ".join(f"state.{identifier(name)} IS NOT DISTINCT FROM their.{identifier(name)}" for name in keys)
    connection.execute(
        f"""WITH sent AS (
            SELECT {row}, {outs} AS retl_outs, list_filter([{names}], lambda name: name IS NOT NULL) AS retl_names
            FROM {with_outcomes} WHERE {alone} AND (outcome = 'accepted' OR may_have_arrived)
        ), their AS (
            SELECT {of_key}, sent.retl_outs, retl_names FROM {with_outcomes} JOIN sent USING ({row})
            WHERE known AND NOT {alone} AND outcome IS DISTINCT FROM 'accepted'
        ), unsure AS (
            SELECT retl_row, flatten(list(retl_names)) AS names
            FROM (SELECT *, rowid AS retl_row, {said} AS retl_said FROM {ACKNOWLEDGED}) AS state JOIN their ON {same}
            WHERE NOT list_has_all(retl_said, retl_outs) GROUP BY ALL
        )
        UPDATE {ACKNOWLEDGED} SET {UNSURE} = list_distinct(list_concat({UNSURE}, unsure.names))
        FROM unsure WHERE state.rowid = unsure.retl_row"""
    )


def _said(with_outcomes: str) -> str:
    """A SELECT of what Braze may have received of each user and channel; an opt-in after the opt-outs of its run."""
    arrived = "(outcome = 'accepted' OR action IN ('baseline', 'mark_accepted'))"
    kinds = " UNION ALL ".join(
        f"""SELECT {identifier(PERSON)} AS identifier, unnest({identifier(name)}) AS channel, {is_out} AS is_out,
            coalesce({arrived}, false) AS is_acknowledged
        FROM {with_outcomes} WHERE {arrived} OR may_have_arrived"""
        for name, is_out in ((OUTS, "true"), (INS, "false"))
    )
    return f"""SELECT identifier, channel, bool_or(is_out) AS opts_out, bool_or(NOT is_out) AS opts_in,
        bool_or(is_out AND is_acknowledged) AS out_is_acknowledged,
        bool_or(NOT is_out AND is_acknowledged) AS in_is_acknowledged
    FROM ({kinds}) WHERE identifier IS NOT NULL GROUP BY ALL"""


def learn(connection: DuckDBPyConnection, found: Sequence[tuple[str, str]], now: datetime) -> int:
    """Record opt-outs that Braze tells of, by user and channel; those that are known stay as they are. Returns how many
    are new."""
    values = {"people": [person for person, _ in found], "channels": [channel for _, channel in found], "now": now}
    (new,) = connection.execute(
        f"""INSERT INTO {OPT_OUTS} SELECT DISTINCT identifier, channel, CAST($now AS TIMESTAMPTZ), false FROM
        (SELECT unnest($people::VARCHAR[]) AS identifier, unnest($channels::VARCHAR[]) AS channel)
        ANTI JOIN {OPT_OUTS} AS known USING (identifier, channel)""",
        values,
    ).fetchall()[0]
    return int(new)


def know(connection: DuckDBPyConnection) -> None:
    """Take the opt-outs of a state that did not keep them from its acknowledged rows."""
    try:
        columns = _acknowledged(connection)
    except duckdb.CatalogException:
        return
    known = json.dumps(sorted(columns.keys() & CONSENT_FIELDS))
    sent = f"SELECT 1 FROM {ACKNOWLEDGED} WHERE {SENT_AT} IS NOT NULL LIMIT 1"
    connection.execute(f"INSERT OR REPLACE INTO {META} SELECT ?, ? WHERE EXISTS ({sent})", [KNOWN, known])
    for channels in _channels(columns):
        connection.execute(
            f"""INSERT INTO {OPT_OUTS} SELECT identifier, channel, max({SENT_AT}) FROM (
            SELECT {known_person(columns)} AS identifier, unnest({channels}) AS channel, {SENT_AT} FROM {ACKNOWLEDGED}
            ) WHERE identifier IS NOT NULL AND channel IS NOT NULL AND {SENT_AT} IS NOT NULL GROUP BY ALL"""
        )


def _acknowledged(connection: DuckDBPyConnection) -> dict[str, SqlType]:
    rows = connection.sql(f"FROM {ACKNOWLEDGED}")
    return {name: sql_type(of) for name, of in zip(rows.columns, rows.types, strict=True)}


def _channels(columns: Mapping[str, SqlType]) -> list[str]:
    """SQL for the channels of which an acknowledged row says that its user has opted out, one for each column."""
    found = []
    for name in ("email_subscribe", "push_subscribe", "subscription_state"):
        if name in columns and (name != "subscription_state" or "subscription_group_id" in columns):
            group = f"{literal(f'{GROUPS}:')} || CAST(subscription_group_id AS VARCHAR)"
            channel = group if name == "subscription_state" else literal(name)
            found.append(f"CASE WHEN CAST({name} AS VARCHAR) = {literal(OPT_OUT)} THEN [{channel}] END")
    if GROUPS in columns:
        text = f"TRY_CAST({GROUPS} AS JSON)" if columns[GROUPS].family == "varchar" else f"to_json({GROUPS})"
        state, group = (f"json_extract_string(item, '$.subscription_{name}')" for name in ("state", "group_id"))
        items = f"list_filter(json_extract({text}, '$[*]'), lambda item: coalesce({state} = {literal(OPT_OUT)}, false))"
        found.append(f"list_transform({items}, lambda item: {literal(f'{GROUPS}:')} || {group})")
    return found
