"""Records that do nothing unless their user exists: Braze responds success all the same. SQL. Pure.

Which modes and rows they are of is in `braze/modes.py`: a new alias of an external id, an alias that is to be
identified, a user into whom another one is merged, attributes with `_update_existing_only`. `state/uncertain.py` finds
out whether the user is known.
"""

from collections.abc import Callable, Mapping

from reverse_etl.braze.modes import Mode
from reverse_etl.records.expressions import chosen, new
from reverse_etl.records.identity import kept_of_outbox, who_sql
from reverse_etl.records.layout import ALIAS_PARTS, Layout

NEEDS = "needs"  # of the outbox, where records may need one: the user that must exist, as `identity.py` writes it
_SWITCH = "_update_existing_only"


def needed_user(layout: Layout) -> str | None:
    """SQL over the changes for the user that must exist, NULL where Braze creates it; None if no record needs one."""
    if layout.mode.keeps:
        return kept_of_outbox(layout)
    columns = {column.name: column.type.family for column in layout.sent}
    user = needed_of_row(layout.mode, columns, new)
    if layout.mode.needs or user is None:
        return f"CASE WHEN kind <> 'removed' THEN {user} END" if user else None
    if not layout.mode.field(_SWITCH):
        return None
    updates_only = [f"TRY_CAST({new(_SWITCH)} AS BOOLEAN)"] if layout.has(_SWITCH) else []
    if layout.mode.alias_updates_only and "user_alias" in layout.identifiers:
        updates_only.append(chosen(layout, "user_alias"))
    if not updates_only:
        return None
    return f"CASE WHEN kind <> 'removed' AND coalesce({', '.join(updates_only)}, false) THEN {user} END"


def needed_of_row(mode: Mode, columns: Mapping[str, str], value: Callable[[str], str]) -> str | None:
    """SQL for the user that a row needs, if it needs one; None if the columns do not say. `columns` are the families of
    their types; `value` is SQL for the value of one."""
    kinds = mode.needs or mode.identifiers
    names = {*kinds, *(ALIAS_PARTS if "user_alias" in kinds else ())}
    found = {name: family for name, family in columns.items() if name in names}
    return who_sql(found, value) if found else None
