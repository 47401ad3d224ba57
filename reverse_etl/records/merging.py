"""What must be true of a row that merges one user into another, beyond what is true of each identifier: rules. Pure."""

from collections.abc import Iterator

from reverse_etl.braze.modes import KEPT, MAX_EXTERNAL_ID_BYTES
from reverse_etl.records.expressions import Rule, json_of, new, present
from reverse_etl.records.identity import kept_of_outbox, may_be_several, who_of_outbox
from reverse_etl.records.layout import ALIAS_PARTS, Layout
from reverse_etl.sql.types import INTEGERS

# Known once all rows are: see `state/deleted.py`.
KEPT_IS_GONE = "is a user who is merged or deleted, too"
_WEAK = ("email", "phone")  # which several profiles may have


def rules_of(layout: Layout) -> Iterator[Rule]:
    names = [name for name in layout.mode.keeps if layout.has(name)]
    if not names:
        return
    there = [f"{new(name)} IS NOT NULL" for name in names]
    others = f"{'is' if len(names) == 2 else 'are'} {', '.join(names[1:])}"
    reason = f"is missing, and so {others}" if names[1:] else "is missing"
    hint = f"exclude these rows: WHERE {' OR '.join(f'{name} IS NOT NULL' for name in names)}"
    yield Rule(f"NOT ({' OR '.join(there)})", names[0], reason, hint)
    if names[1:]:
        number = " + ".join(f"CAST({one} AS INTEGER)" for one in there)
        reason = f"is ambiguous: more than one of {', '.join(names)} is set"
        yield Rule(f"{number} > 1", names[0], reason, "set all but one of them to NULL")
    yield from _rules_of_values(layout)
    kept = kept_of_outbox(layout)
    same = f"{who_of_outbox(layout)} = {kept} AND NOT {may_be_several(kept)}"
    hint = "exclude these rows: a user cannot be merged into themselves"
    yield Rule(f"coalesce({same}, false)", names[0], "is the user that is to be merged", hint)
    yield Rule("false", names[0], KEPT_IS_GONE, "merge into the user who remains in the end")


def _rules_of_values(layout: Layout) -> Iterator[Rule]:
    """Of the identifiers of the user who is kept: what `values.py` says of others."""
    name = f"{KEPT}external_id"
    if layout.has(name) and layout.column(name).type.family not in INTEGERS:
        condition = f"strlen(CAST({new(name)} AS VARCHAR)) > {MAX_EXTERNAL_ID_BYTES}"
        hint = "correct it where it comes from: a part of it may be another user"
        yield Rule(condition, name, f"is longer than {MAX_EXTERNAL_ID_BYTES} bytes", hint)
    name = f"{KEPT}user_alias"
    for part in ALIAS_PARTS if layout.has(name) else ():
        value = f"json_extract_string(TRY_CAST({json_of(name)} AS JSON), '$.{part}')"
        condition = f"{new(name)} IS NOT NULL AND coalesce(trim({value}), '') = ''"
        yield Rule(condition, name, f"has no {part}", "set both alias_name and alias_label")
    for kind, check, reason, hint in (
        ("email", "retl_is_email", "is not a valid email address", "correct it where it comes from"),
        ("phone", "retl_is_phone", "is not a valid phone number", "write it with a + and the code of its country"),
    ):
        name = f"{KEPT}{kind}"
        if layout.has(name):
            yield Rule(f"{new(name)} IS NOT NULL AND NOT {check}(CAST({new(name)} AS VARCHAR))", name, reason, hint)


def is_idempotent(layout: Layout) -> str:
    """SQL for: a second merge does nothing. By an address, it may find the next profile that has it."""
    weak = [present(layout, name) for name in _WEAK if name in layout.identifiers]
    weak += [present(layout, f"{KEPT}{name}") for name in _WEAK if layout.has(f"{KEPT}{name}")]
    return f"NOT ({' OR '.join(weak)})" if weak else "true"
