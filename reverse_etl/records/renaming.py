"""What must be true of a row that gives a user another external id or alias: rules. Pure."""

from collections.abc import Iterator

from reverse_etl.braze.modes import Field
from reverse_etl.records.expressions import Rule, new
from reverse_etl.records.layout import Layout

# Known once all rows are: see `state/renamed.py`.
IN_A_CHAIN = "is in several rows that are to be renamed: in one run, Braze promises no order"


def fields_of(layout: Layout) -> tuple[Field, Field] | None:
    """The field with the present id or name, and the one with the new; None of a mode that renames nothing."""
    now = next((field for field in layout.mode.fields if field.names), None)
    becomes = next((field for field in layout.mode.fields if field.becomes), None)
    return (now, becomes) if now and becomes else None


def rules_of(layout: Layout) -> Iterator[Rule]:
    found = fields_of(layout)
    if found is None:
        return
    now, becomes = (field.name for field in found)
    texts = (f"CAST({new(name)} AS VARCHAR)" for name in (now, becomes))
    yield Rule(f"{next(texts)} = {next(texts)}", becomes, f"is equal to {now}", "exclude these rows")
    hint = f"return the present one as {now}, in another row"
    yield Rule("kind = 'changed'", becomes, f"has changed: this {now} was renamed before", hint)
    yield Rule("false", becomes, IN_A_CHAIN, "return one of these rows, and the others in a later run")
