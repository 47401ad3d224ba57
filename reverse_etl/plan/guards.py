"""What stops a run before its first request. Pure: counts in, reasons out."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from reverse_etl.braze.modes import Kind
from reverse_etl.errors import Location, Problem, ProjectError, nearest
from reverse_etl.project.spec import Guards, Sync

GUARDS = ("max_removed", "max_changes", "max_requests", "max_data_points", "empty_model")
DATA_TESTS = "data_tests"  # what --skip-guard calls all data tests of a sync together
SKIPPABLE = (*GUARDS, DATA_TESTS)


@dataclass(frozen=True)
class Counts:
    """What guards look at: rows of the model, of the state, to be sent, that on_removed acts on; and what they cost."""

    rows: int
    in_state: int
    to_send: int
    removed: int
    requests: int
    data_points: int


def tripped(sync: Sync, counts: Counts, skipped: Collection[str]) -> list[Problem]:
    """A mistake for each guard that says stop and is not in `skipped`, with the numbers it saw and the way through."""
    return [_stop(sync, name, what) for name, what in _checked(sync, counts) if name not in skipped]


def _stop(sync: Sync, name: str, what: str) -> Problem:
    where = sync.where("guards", name) if "guards" in sync.model_fields_set else sync.where()
    hint = f"if that is meant: --skip-guard {name} lets this one run pass"
    return Problem(f"{sync.name}: guard {name}: {what}", Location(where.file, where.line, where.column), hint)


def _checked(sync: Sync, counts: Counts) -> Iterator[tuple[str, str]]:
    guards = sync.guards
    mirrors = Kind.CHANGED in sync.mode.kinds  # elsewhere an empty model says that nothing new happened
    mirrors = mirrors and not sync.incremental
    if guards.empty_model and mirrors and counts.rows == 0 and counts.in_state:
        yield "empty_model", f"the model returned no rows, and {counts.in_state:,} were there before"
    most = allowed(guards.max_removed, counts.in_state)
    if sync.on_removed != "ignore" and counts.removed > most:
        share = f" ({guards.max_removed} of {counts.in_state:,})" if guards.max_removed.endswith("%") else ""
        acts = f"on_removed: {sync.on_removed} would act on {counts.removed:,} rows"
        yield "max_removed", f"{acts}; at most {most:,} are allowed{share}"
    if guards.max_changes is not None:
        most = allowed(guards.max_changes, counts.rows)
        share = f" ({guards.max_changes} of {counts.rows:,})" if guards.max_changes.endswith("%") else ""
        if counts.to_send > most:
            yield "max_changes", f"{counts.to_send:,} rows would be sent; at most {most:,} are allowed{share}"
    if guards.max_requests is not None and counts.requests > guards.max_requests:
        yield "max_requests", f"{counts.requests:,} requests are needed; at most {guards.max_requests:,} are allowed"
    if guards.max_data_points is not None and counts.data_points > guards.max_data_points:
        cost = f"it would cost {counts.data_points:,} data points"
        yield "max_data_points", f"{cost}; at most {guards.max_data_points:,} are allowed"


def allowed(bound: str, of: int) -> int:
    """How many rows a bound allows: `500`, or `10%` of the rows there are."""
    return int(of * float(bound[:-1]) / 100) if bound.endswith("%") else int(bound)


def bounded(syncs: Sequence[Sync], bounds: Mapping[str, object], spell: Callable[[str], str] = str) -> list[Sync]:
    """The syncs with bounds, by the name of their guard, in place of those of syncs.yml; None leaves a guard as it is.

    `spell` is how the caller writes a guard's name. Raises ProjectError for a bound that is none.
    """
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    if not given:
        return list(syncs)
    try:
        guards = [Guards.model_validate({**sync.guards.model_dump(), **given}) for sync in syncs]
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise ProjectError(f"{spell(str(first['loc'][0]))} {reason}") from error
    return [sync.model_copy(update={"guards": its}) for sync, its in zip(syncs, guards, strict=True)]


def known(names: Iterable[str], asked_by: str) -> list[str]:
    """Names of guards, as they are. Raises ProjectError, which says who asked, for one that is none."""
    found = list(names)
    for name in found:
        if name not in SKIPPABLE:
            raise ProjectError(f'{asked_by}: there is no guard "{name}"', hint=nearest(name, SKIPPABLE))
    return found
