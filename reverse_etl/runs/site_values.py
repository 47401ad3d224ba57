"""The values of columns that the page of a project shows: few, each in many rows, and only where a sync allows it."""

from collections.abc import Iterable

from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.plan.tables import ACKNOWLEDGED, SENT_AT
from reverse_etl.project.spec import Sync
from reverse_etl.sql.quoting import identifier
from reverse_etl.state.copied import Seen

MOST_VALUES = 20  # of a column that are shown
FEWEST_ROWS = 5  # that have a value which is shown
_LONGEST_VALUE = 100  # characters
# Fields of a user whose values are never shown, whatever the sync says.
_PERSONAL = frozenset(
    (
        *("external_id", "braze_id", "user_alias", "alias_name", "alias_label", "email", "phone", "first_name"),
        *("last_name", "dob", "image_url", "current_location", "push_tokens", "name", "product_id"),
    )
)


def values_of(sync: Sync, state: Seen, columns: Iterable[str]) -> dict[str, list[tuple[str, int]]]:
    """The values of columns that may be shown, in acknowledged rows: the most frequent first, with in how many rows.

    Those of few rows could tell of a person, and many values are no list that people read: together they are "".
    """
    if pointer_of(state.meta):
        return {}
    found = dict[str, list[tuple[str, int]]]()
    shown = _may_show(sync, state.key)
    for name in (one for one in columns if one in shown):
        rows = state.connection.execute(
            f"""WITH counted AS (
                SELECT CAST({identifier(name)} AS VARCHAR) AS value, count(*) AS n
                FROM {ACKNOWLEDGED} WHERE {SENT_AT} IS NOT NULL AND {identifier(name)} IS NOT NULL GROUP BY value
            ), kinds AS (
                SELECT *, (SELECT count(*) FROM counted) <= {MOST_VALUES} AND n >= {FEWEST_ROWS}
                    AND length(value) BETWEEN 1 AND {_LONGEST_VALUE} AS is_shown FROM counted
            )
            SELECT if(is_shown, value, '') AS shown, CAST(sum(n) AS BIGINT) AS rows FROM kinds GROUP BY shown
            ORDER BY shown = '', rows DESC, shown"""
        ).fetchall()
        found[name] = [(value, n) for value, n in rows]
    return found


def why_not_shown(sync: Sync, name: str, key: Iterable[str], filled: int | None) -> str:
    """Why the page has no values of a column although its sync allows them, of which so many rows have one; empty if
    the sync does not allow it."""
    if not any(column.show_values and column.name == name for column in sync.columns):
        return ""
    if name in _PERSONAL:
        return "never shown: personal data"
    if name in key:
        return "never shown: part of the primary key"
    return "not known: the state does not have them" if filled is None else "none: no acknowledged row has one"


def _may_show(sync: Sync, key: Iterable[str]) -> set[str]:
    """Columns whose values the sync allows to be shown, without those that name a person or a row."""
    return {column.name for column in sync.columns if column.show_values} - _PERSONAL - set(key)
