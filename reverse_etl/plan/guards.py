"""Limits that block a run before its first request. Pure: counts in, reasons out."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from reverse_etl.braze.modes import Kind
from reverse_etl.errors import Location, Problem, ProjectError, nearest
from reverse_etl.project.spec import Guards, Sync
from reverse_etl.words import count

GUARDS = ("max_removed", "max_changes", "max_requests", "max_data_points", "empty_model")
DATA_TESTS = "data_tests"  # the name of all data tests of a sync for --skip-guard
SKIPPABLE = (*GUARDS, DATA_TESTS)


@dataclass(frozen=True)
class Counts:
    """What guards check: rows of the model, of the state, to be sent, that on_removed affects; and what they cost."""

    rows: int
    in_state: int
    to_send: int
    removed: int
    requests: int
    data_points: int


def tripped(sync: Sync, counts: Counts, skipped: Collection[str]) -> list[Problem]:
    """An error for every guard that blocks the run and is not in `skipped`, with the numbers it checked and a hint."""
    return [_stop(sync, name, what) for name, what in _checked(sync, counts) if name not in skipped]


def _stop(sync: Sync, name: str, what: str) -> Problem:
    where = sync.where("guards", name) if "guards" in sync.model_fields_set else sync.where()
    hint = to_skip(sync, name)
    return Problem(
        f"{sync.name}: guard {name}: {what}", Location(where.file, where.line, where.column), hint, code="X002"
    )


def to_skip(sync: Sync, name: str) -> str:
    """The hint to skip a guard; where that may delete users, it is no more than what it would do."""
    if "delete" in (sync.mode.call.path.rpartition("/")[2], sync.on_removed):
        return f"check the model: `retl show {sync.name}`; --skip-guard {name} may delete these users, for good"
    return f"to run anyway, pass --skip-guard {name} to `retl sync {sync.name}`"


def _checked(sync: Sync, counts: Counts) -> Iterator[tuple[str, str]]:
    guards = sync.guards
    mirrors = Kind.CHANGED in sync.mode.kinds  # elsewhere an empty model means that nothing new happened
    mirrors = mirrors and not sync.incremental
    if guards.empty_model and mirrors and counts.rows == 0 and counts.in_state:
        yield "empty_model", f"the model returned no rows, but the state has {counts.in_state:,}"
    most = allowed(guards.max_removed, counts.in_state)
    if sync.on_removed != "ignore" and counts.removed > most:
        share = f" ({guards.max_removed} of {counts.in_state:,})" if guards.max_removed.endswith("%") else ""
        acts = f"on_removed: {sync.on_removed} would affect {count(counts.removed, 'row')}"
        yield "max_removed", f"{acts}; {_at_most(most)}{share}"
    if guards.max_changes is not None:
        most = allowed(guards.max_changes, counts.rows)
        share = f" ({guards.max_changes} of {counts.rows:,})" if guards.max_changes.endswith("%") else ""
        if counts.to_send > most:
            yield "max_changes", f"{count(counts.to_send, 'row')} would be sent; {_at_most(most)}{share}"
    if guards.max_requests is not None and counts.requests > guards.max_requests:
        needed = f"{count(counts.requests, 'request is', 'requests are')} needed"
        yield "max_requests", f"{needed}; {_at_most(guards.max_requests)}"
    if guards.max_data_points is not None and counts.data_points > guards.max_data_points:
        cost = f"it would cost {count(counts.data_points, 'data point')}"
        yield "max_data_points", f"{cost}; {_at_most(guards.max_data_points)}"


def _at_most(bound: int) -> str:
    return f"at most {count(bound, 'is', 'are')} allowed"


def allowed(bound: str, of: int) -> int:
    """How many rows a bound allows: `500`, or `10%` of `of` rows."""
    return int(of * float(bound[:-1]) / 100) if bound.endswith("%") else int(bound)


def bounded(syncs: Sequence[Sync], bounds: Mapping[str, object], spell: Callable[[str], str] = str) -> list[Sync]:
    """The syncs with these bounds, by guard, instead of those of syncs.yml; None keeps the bound of syncs.yml.

    `spell` returns how the caller writes a guard's name. Raises ProjectError for an invalid bound.
    """
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    if not given:
        return list(syncs)
    try:
        guards = [Guards.model_validate({**sync.guards.model_dump(), **given}) for sync in syncs]
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise ProjectError(f"{spell(str(first['loc'][0]))} {reason}", code="P073") from error
    return [sync.model_copy(update={"guards": its}) for sync, its in zip(syncs, guards, strict=True)]


def known(names: Iterable[str], asked_by: str) -> list[str]:
    """The same names, as a list. Raises ProjectError, with `asked_by`, for one that is not a guard."""
    found = list(names)
    for name in found:
        if name not in SKIPPABLE:
            raise ProjectError(f'{asked_by}: unknown guard "{name}"', hint=nearest(name, SKIPPABLE), code="P074")
    return found
