"""Consent: which records opt users out or in, what is withheld of them, and the records that only opt out. Pure.

    changes ── weighed() ──> changes, with what they do to consent; a column whose opt-in is withheld is as it was
       │                       │
       │                       └── outbox_sql() ──> records; those that opt out, and nobody in, are sent first
       └── reduced() ──> the opt-outs of rows whose record is not sent, or opts somebody in too
                               └── outbox_sql() of `reduced_layout` ──> one more record each, sent first

A channel is what a user opts out of: `email_subscribe`, `push_subscribe`, or `subscription_groups:<id>`. The state
knows who has opted out of which channel, since when, and whether Braze has said so, by the identifier of the user
(table OPT_OUTS).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from reverse_etl.braze.modes import OPT_OUT, Shape
from reverse_etl.braze.subscriptions import GROUPS
from reverse_etl.records.expressions import changed, is_fallback, new, old, present, value_text
from reverse_etl.records.identity import WHO, who_of_outbox
from reverse_etl.records.layout import ALIAS_PARTS, Column, Layout, Role
from reverse_etl.records.rules import rules
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType

# Phases of a run: no record of one is sent before each of those before it has been answered. CANARY comes between.
OPT_OUTS_FIRST, AFTER_OPT_OUTS, CANARY = 0, 1, 2
PHASES = (OPT_OUTS_FIRST, CANARY, AFTER_OPT_OUTS)  # in their order
ONLY_OPTS_OUT = "opt_out"  # the kind of a record that is only the opt-outs of a row

# Columns of a record, where a sync has columns of consent.
PERSON = "consent.person"  # its user, as OPT_OUTS has it
OUTS, INS = "consent.outs", "consent.ins"  # channels that it opts its user out of, and in to
FRESH = "consent.fresh"  # how many channels its row opts out of; 0 if Braze has acknowledged all of it
WITHHELD_FOR = "consent.withheld"  # why something is withheld of its row: numbers, as of rules; NULL if nothing is
LEFT = "consent.left"  # whether anything of its row is left to be sent
ROW = "consent.row"  # of CHANGES, from which it is
CARRIED = (PERSON, OUTS, INS, FRESH, WITHHELD_FOR, LEFT, ROW)
CARRIED_REDUCED = (PERSON, OUTS, INS, ROW)
ENDS = "would end an opt-out that Braze has acknowledged"  # reasons why a column is withheld
IS_NULL = "is NULL after an opt-out that Braze has acknowledged"
_KNOWN = "consent.known"  # when the user opted out, by channel
_UNCLEAR = "consent.unclear"  # channels among them that Braze may have otherwise


@dataclass(frozen=True)
class Consent:
    """How consent is treated in a run.

    `opt_outs` is the table of those that the state knows. `lifts`: opt-ins after an opt-out are sent. `opts_out_only`:
    no opt-in is sent, as in a full refresh. `is_unknown`: nobody knows who has opted out, so opt-ins block the run.
    """

    opt_outs: str
    lifts: bool = False
    opts_out_only: bool = False
    is_unknown: bool = False


def consent_columns(layout: Layout) -> tuple[Column, ...]:
    """The columns of a model that opt users out or in."""
    return tuple(column for column in layout.sent if column.field and column.field.consent)


def withheld_reasons(layout: Layout) -> list[tuple[str, str, str]]:
    """What may be withheld of a row: column, reason and hint, two for each column of consent."""
    evidence = layout.sync.consent.evidence
    later = f"set {evidence} to when the user agreed again" if evidence else "name a column with the time of agreement"
    hint = later if evidence else f"{later}: `consent: {{evidence: COLUMN}}`"
    found = []
    for column in consent_columns(layout):
        found += [(column.name, ENDS, hint), (column.name, IS_NULL, f"keep {OPT_OUT!r} there")]
    return found


# --- what a row says -------------------------------------------------------------------------------------------------


def _out(name: str) -> str:
    return identifier(f"out.{name}")


def _in(name: str) -> str:
    return identifier(f"in.{name}")


def _channels(layout: Layout, column: Column, opts_out: bool) -> str:
    """SQL for the channels that a column opts the user of a changed row out of, or in to."""
    value, sign = new(column.name), "=" if opts_out else "<>"
    if column.field and column.field.shape is Shape.ARRAY:
        items = f"json_extract(TRY_CAST({value_text(layout, column.name, value)} AS JSON), '$[*]')"
        state, group = (f"json_extract_string(item, '$.subscription_{name}')" for name in ("state", "group_id"))
        fits = f"coalesce({state} {sign} {literal(OPT_OUT)} AND retl_is_group({group}), false)"
        channels = f"list_filter({items}, lambda item: {fits})"
        found = f"list_transform({channels}, lambda item: {literal(f'{GROUPS}:')} || {group})"
    else:
        channel = literal(column.name)
        if layout.mode.group:
            channel = f"{literal(f'{GROUPS}:')} || CAST({new('subscription_group_id')} AS VARCHAR)"
        found = f"CASE WHEN CAST({value} AS VARCHAR) {sign} {literal(OPT_OUT)} THEN [{channel}] END"
    goes = changed(column.name) if column.name in layout.tracked else "kind = 'added'"
    return f"CASE WHEN kind <> 'removed' AND {goes} THEN {found} END"


def person(layout: Layout) -> str:
    """SQL for the user of a row, as a JSON object of strings: the first identifier that it has; NULL if it has none."""
    cases = []
    for name in layout.identifiers:
        parts = {name: f"CAST({new(name)} AS VARCHAR)"}
        if name == "user_alias":
            parts = {part: f"CAST({new(part)} AS VARCHAR)" for part in ALIAS_PARTS}
            if not layout.flat_alias:
                text = f"TRY_CAST({value_text(layout, name, new(name))} AS JSON)"
                parts = {part: f"json_extract_string({text}, '$.{part}')" for part in ALIAS_PARTS}
        members = ", ".join(f"{literal(part)}, {value}" for part, value in parts.items())
        cases.append(f"WHEN {present(layout, name)} THEN CAST(json_object({members}) AS VARCHAR)")
    return f"CASE {' '.join(cases)} END" if cases else "CAST(NULL AS VARCHAR)"


def known_person(columns: Mapping[str, SqlType]) -> str:
    """The same over the columns of an acknowledged row of a sync that is not known."""
    cases = []
    for name in ("external_id", "user_alias", "alias_name", "braze_id", "email", "phone"):
        if name not in columns:
            continue
        parts = {name: f"CAST({identifier(name)} AS VARCHAR)"}
        if name == "user_alias":
            of = columns[name]
            text = f"TRY_CAST({identifier(name)} AS JSON)" if of.family == "varchar" else f"to_json({identifier(name)})"
            parts = {part: f"json_extract_string({text}, '$.{part}')" for part in ALIAS_PARTS}
        elif name == "alias_name":
            parts = {part: f"CAST({identifier(part)} AS VARCHAR)" for part in ALIAS_PARTS if part in columns}
        members = ", ".join(f"{literal(part)}, {value}" for part, value in parts.items())
        cases.append(f"WHEN {identifier(name)} IS NOT NULL THEN CAST(json_object({members}) AS VARCHAR)")
    return f"CASE {' '.join(cases)} END" if cases else "CAST(NULL AS VARCHAR)"


def opted_in(layout: Layout, changes: str, columns: Collection[Column]) -> str:
    """A SELECT of the users whom `changes` would opt in by these columns: `person`, the `kind` of its identifier, and
    who that is to the erasures (`about`)."""
    ins = " || ".join(f"coalesce({_channels(layout, column, opts_out=False)}, [])" for column in columns)
    kinds = " ".join(f"WHEN {present(layout, name)} THEN {literal(name)}" for name in layout.identifiers)
    shown = {"person": person(layout), "kind": f"CASE {kinds} END", WHO: who_of_outbox(layout)}
    return f"""SELECT person, any_value(kind) AS kind, any_value({WHO}) AS {WHO}
FROM (SELECT {_listed(shown)} FROM ({changes}) WHERE len({ins}) > 0) WHERE person IS NOT NULL GROUP BY person"""


# --- what is withheld ------------------------------------------------------------------------------------------------


def weighed(layout: Layout, changes: str, consent: Consent) -> str:
    """A SELECT of `changes` with PERSON, OUTS, INS, FRESH, WITHHELD_FOR and LEFT.

    A column whose opt-in is not sent has the acknowledged value, and no change: its row is compared again by the next
    run. An opt-out goes along with a changed email, which may end it in Braze (user_guide: email subscriptions).
    """
    columns = consent_columns(layout)
    tracked = [column.name for column in columns if column.name in layout.tracked]
    flags = {name: _flag(layout, name) for name in tracked}
    replaced = {
        f"new.{name}": f"CASE WHEN {_kept(name)} THEN {_before(layout, name)} ELSE {new(name)} END" for name in tracked
    }
    replaced |= {f"changed.{name}": sql for name, sql in flags.items()}
    outs, ins = (
        " || ".join(f"coalesce(CASE WHEN NOT {_kept(c.name)} THEN {of(c.name)} END, [])" for c in columns)
        for of in (_out, _in)
    )
    if "email_subscribe" in flags:  # also one that goes along with an email
        outs += f" || coalesce(CASE WHEN {_goes_along(layout)} THEN ['email_subscribe'] END, [])"
    others = [changed(name) for name in layout.tracked if name not in flags]
    goes = " OR ".join([*others, *flags.values()]) or "false"
    whole = " OR ".join(_kept(column.name) for column in columns if column.name not in tracked) or "false"
    some = " OR ".join(_kept(column.name) for column in columns)
    added = {
        OUTS: outs,
        INS: ins,
        WITHHELD_FOR: _numbers(layout),
        LEFT: f"NOT ({some}) OR kind = 'removed' OR (NOT ({whole}) AND ({goes}))",
    }
    internal = [identifier(f"{kind}.{c.name}") for c in columns for kind in ("out", "in", "withheld", "kept")]
    replace_ = f" REPLACE ({_listed(replaced)})" if replaced else ""
    internal += [identifier(_KNOWN), identifier(_UNCLEAR)]
    return f"""SELECT * EXCLUDE ({", ".join(internal)}){replace_}, {_listed(added)}
FROM (SELECT *, {_listed(_withheld(layout, consent))} FROM (
{_said(layout, changes, consent)}
))"""


def _before(layout: Layout, name: str) -> str:
    """SQL for the acknowledged value; of a row that is not sent, as its required one is kept, rather the new one than
    none: it would be missing."""
    field = layout.column(name).field
    return f"coalesce({old(name)}, {new(name)})" if field and field.required else old(name)


def _numbers(layout: Layout) -> str:
    """SQL for the numbers of what is withheld of a row, as in `withheld_reasons`, after those of the rules."""
    first = len(rules(layout))
    kinds = [identifier(f"withheld.{column.name}") for column in consent_columns(layout)]
    cases = ", ".join(f"CASE WHEN {kind} > 0 THEN {first + 2 * place} + {kind} END" for place, kind in enumerate(kinds))
    return f"nullif(list_filter([{cases}], lambda number: number IS NOT NULL), CAST([] AS INTEGER[]))"


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())


def _said(layout: Layout, changes: str, consent: Consent) -> str:
    """A SELECT of `changes` with their users, the channels that they opt out of and in to, and known opt-outs."""
    columns = {PERSON: person(layout)}
    for column in consent_columns(layout):
        columns[f"out.{column.name}"] = _channels(layout, column, opts_out=True)
        columns[f"in.{column.name}"] = _channels(layout, column, opts_out=False)
    of_known = {
        PERSON: "identifier",
        _KNOWN: "map_from_entries(list((channel, opted_out_at)))",
        _UNCLEAR: "coalesce(list(channel) FILTER (is_unclear), [])",
    }
    known = f"SELECT {_listed(of_known)} FROM {consent.opt_outs} GROUP BY identifier"
    outs = " || ".join(f"coalesce({_out(column.name)}, [])" for column in consent_columns(layout))
    is_clear = f"map_contains({identifier(_KNOWN)}, channel) AND NOT list_contains({identifier(_UNCLEAR)}, channel)"
    is_fresh = "true" if consent.opts_out_only else f"NOT coalesce({is_clear}, false)"
    fresh = f"CASE WHEN len(list_filter({outs}, lambda channel: {is_fresh})) > 0 THEN len({outs}) ELSE 0 END"
    return f"""SELECT said.*, {fresh} AS {identifier(FRESH)}, {identifier(_KNOWN)}, {identifier(_UNCLEAR)}
FROM (SELECT *, {_listed(columns)} FROM (
{changes}
)) AS said LEFT JOIN ({known}) AS known USING ({identifier(PERSON)})"""


def _kept(name: str) -> str:
    return identifier(f"kept.{name}")


def _withheld(layout: Layout, consent: Consent) -> dict[str, str]:
    """For each column of consent: 1 if it would end an opt-out, 2 if it is NULL after one, 0 if nothing of it is
    withheld; and whether its value is not sent, for this or another reason."""
    found, evidence = dict[str, str](), layout.sync.consent.evidence
    for column in consent_columns(layout):
        known, name = identifier(_KNOWN), column.name
        since = f"{known}[channel]"
        agreed = f"coalesce({_moment(layout, evidence)} > {since}, false)" if evidence else "false"
        ends = f"map_contains({known}, channel) AND NOT {agreed}"
        again = f"coalesce(len(list_filter({_in(name)}, lambda channel: {ends})) > 0, false)"
        prefix = f"{GROUPS}:" if column.field and column.field.shape is Shape.ARRAY else name
        of_column = f"len(list_filter(map_keys({known}), lambda channel: starts_with(channel, {literal(prefix)}))) > 0"
        goes = changed(name) if name in layout.tracked else "false"
        gone = f"coalesce({goes} AND {new(name)} IS NULL AND {of_column}, false)"
        removed = f"coalesce(kind = 'removed' AND {goes} AND {of_column}, false)"
        kind = f"CASE WHEN kind = 'removed' THEN 0 WHEN {again} THEN 1 WHEN {gone} THEN 2 ELSE 0 END"
        found[f"withheld.{name}"] = "0" if consent.lifts else kind
        found[f"kept.{name}"] = f"{found[f'withheld.{name}']} > 0 OR {removed}"
        if consent.opts_out_only:
            found[f"kept.{name}"] += f" OR coalesce(len({_in(name)}) > 0, false)"
    return found


def _moment(layout: Layout, name: str) -> str:
    """SQL for the time of agreement, if it is one."""
    value = f"CAST({new(name)} AS TIMESTAMPTZ)"
    return f"CASE WHEN isfinite({new(name)}) THEN {value} END"


def _flag(layout: Layout, name: str) -> str:
    """SQL for: the column is sent with its record."""
    flag = f"({changed(name)} AND NOT {_kept(name)})"
    if name != "email_subscribe" or "email" not in layout.tracked:
        return flag
    return f"({flag} OR {_goes_along(layout)})"


def moves_email(layout: Layout) -> str:
    """SQL for: a known user gets another email, which may end an opt-out in Braze."""
    if "email" not in layout.tracked:
        return "false"
    is_moved = f"kind = 'changed' AND {changed('email')}"
    return f"{is_moved} AND NOT ({is_fallback(layout, 'email')})" if "email" in layout.identifiers else is_moved


def _goes_along(layout: Layout) -> str:
    """SQL for: the acknowledged opt-out is sent again, with another email."""
    name = "email_subscribe"
    is_same = f"({_kept(name)} OR NOT {changed(name)})"
    is_out = f"coalesce(CAST({old(name)} AS VARCHAR) = {literal(OPT_OUT)}, false)"
    return f"({moves_email(layout)} AND {is_same} AND {is_out})"


# --- records that only opt out ---------------------------------------------------------------------------------------


def reduced_layout(layout: Layout) -> Layout:
    """The layout of records that identify their user, and opt them out: no other column can make them invalid."""
    needed = {part for name in layout.identifiers for part in layout.columns_of(name)}
    needed |= {"_update_existing_only", *layout.mode.key_fields}
    consents = consent_columns(layout)
    kept = [c for c in layout.columns if c.role is not Role.UNSENT and (c.name in needed or c in consents)]
    tracked = [c.name for c in kept if c.name in layout.tracked]
    options = {"skip_on_invalid_records": False, "send": "changed_columns", "on_removed": "ignore", "incremental": None}
    sync = layout.sync.model_copy(update={**options, "strict": True})
    return replace(layout, sync=sync, columns=tuple(kept), tracked=tuple(tracked))


def reduced(layout: Layout, changes: str, consent: Consent) -> str:
    """A SELECT of `changes` as rows of `reduced_layout`: their opt-outs and nothing else, with PERSON, OUTS and INS."""
    consents, outs = {column.name for column in consent_columns(layout)}, []
    replaced = {"kind": literal(ONLY_OPTS_OUT), "known": "false"}
    for name in reduced_layout(layout).tracked:
        replaced[f"changed.{name}"] = f"coalesce(len({_out(name)}) > 0, false)" if name in consents else "false"
    for column in consent_columns(layout):
        replaced[f"new.{column.name}"] = _only_opt_outs(layout, column)
        outs.append(f"coalesce({_out(column.name)}, [])")
    if layout.has("_update_existing_only"):
        value = new("_update_existing_only")
        replaced["new._update_existing_only"] = f"CASE WHEN TRY_CAST({value} AS BOOLEAN) IS NOT NULL THEN {value} END"
    added = {OUTS: " || ".join(outs), INS: "CAST([] AS VARCHAR[])"}
    return f"""SELECT * REPLACE ({_listed(replaced)}), {_listed(added)}
FROM (
{_said(layout, changes, consent)}
)"""


def _only_opt_outs(layout: Layout, column: Column) -> str:
    """SQL for the value of a column of consent without its opt-ins, in the type of the column."""
    value = new(column.name)
    if not (column.field and column.field.shape is Shape.ARRAY):
        return f"CASE WHEN CAST({value} AS VARCHAR) = {literal(OPT_OUT)} THEN {value} END"
    items = f"json_extract(TRY_CAST({value_text(layout, column.name, value)} AS JSON), '$[*]')"
    state, group = (f"json_extract_string(item, '$.subscription_{name}')" for name in ("state", "group_id"))
    fits = f"coalesce({state} = {literal(OPT_OUT)} AND retl_is_group({group}), false)"
    kept = f"to_json(list_filter({items}, lambda item: {fits}))"
    return f"CASE WHEN len({_out(column.name)}) > 0 THEN TRY_CAST({kept} AS {column.type.text}) END"
