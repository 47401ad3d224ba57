"""What is said of a plan beside its counts: what Braze keeps, changes or may not use."""

from collections.abc import Iterator, Sequence

from reverse_etl.braze.modes import USER
from reverse_etl.codes import code_of_reason
from reverse_etl.plan.outbox import moved_emails
from reverse_etl.plan.outbox import warnings as value_warnings
from reverse_etl.plan.plan import Plan
from reverse_etl.project.project import LoadedProject
from reverse_etl.records.layout import ALIAS_PARTS, Layout
from reverse_etl.records.warnings import IS_JSON, names_cut_off
from reverse_etl.runs.writers import reviewed
from reverse_etl.state.state import State
from reverse_etl.words import count


def dropped_columns(state: State, layout: Layout) -> tuple[str, ...]:
    """The columns that were sent, and that the model does not return any more, or that are not sent any more: nothing
    clears them in Braze. Of modes that write values which stay."""
    if not (layout.mode.clears or layout.mode.about != USER):
        return ()
    beside = {*layout.stored, *layout.mode.identifiers, *ALIAS_PARTS}
    return tuple(name for name in state.rows.columns() if name not in beside)


def new_columns(state: State, layout: Layout) -> tuple[str, ...]:
    """The columns that are sent, and that no run before has sent; none before the first run. Of the same modes."""
    known = state.rows.columns()
    if not known or not (layout.mode.clears or layout.mode.about != USER):
        return ()
    return tuple(name for name in layout.tracked if name not in known)


def about_dropped(names: Sequence[str]) -> str:
    which = "column" if len(names) == 1 else "columns"
    said = f"{which} no longer sent: {', '.join(names)}"
    return f"{said}; Braze keeps the values. To clear them, return NULL instead, and drop the {which} after that run"


def sent_again(rows: int) -> str:
    which = (
        "row is sent again: another sync has sent its user"
        if rows == 1
        else ("rows are sent again: other syncs have sent their users")
    )
    return f"{rows:,} {which} since"


def about_emails(state: State, layout: Layout) -> Iterator[str]:
    """What is said about users who get another email: Braze may subscribe them again (user_guide: email subscriptions).

    Where the sync knows an opt-out, it goes along; elsewhere nobody can tell.
    """
    moved, opted_out = moved_emails(state.connection, layout)
    if opted_out:
        said = count(opted_out, "opt-out is", "opt-outs are")
        yield f"{said} sent along with a changed email, which may end it in Braze"
    if moved and not layout.has("email_subscribe"):
        users = f"{count(moved, 'user')} who may have opted out"
        yield f"warning: a changed email may subscribe {users}: add a column email_subscribe, which is sent along"


def about_values(project: LoadedProject, state: State, layout: Layout, plan: Plan) -> Iterator[str]:
    """What is said about values that are sent, and that Braze changes or may not use."""
    for rule in names_cut_off(layout):
        yield f'warning: column "{rule.column}" {rule.reason}: {rule.hint} [{code_of_reason(rule.reason)}]'
    for warning in value_warnings(state.connection, layout) if plan.to_send else ():
        if warning.reason == IS_JSON and warning.column in reviewed(project).strings(layout.mode.record_type):
            continue
        yield f"warning: {warning.column} of {count(warning.rows, 'row')} {warning.reason} [{warning.code}]"
