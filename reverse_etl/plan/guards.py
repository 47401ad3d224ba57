"""Limits that block a run before its first request. Pure: counts in, reasons out."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from reverse_etl.braze.modes import DELETES, MAX_DELETES, MAX_MERGES, USER, Kind
from reverse_etl.errors import Location, Problem, ProjectError, nearest
from reverse_etl.project.spec import Guards, Sync
from reverse_etl.words import count

GUARDS = ("max_removed", MAX_DELETES, MAX_MERGES, "max_changes", "max_requests", "max_data_points", "empty_model")
DATA_TESTS = "data_tests"  # the name of all data tests of a sync for --skip-guard
MAX_RESUBSCRIBED = "max_resubscribed"  # withholds opt-ins after an opt-out, and blocks nothing: see records/consent.py
FINISH_BY = "finish_by"  # of --finish-by: see runs/finish_by.py
SKIPPABLE = (*GUARDS, DATA_TESTS, MAX_RESUBSCRIBED, FINISH_BY)
COUNTING = frozenset({*GUARDS, MAX_RESUBSCRIBED}) - {"empty_model"}  # --skip-guard NAME=N: up to N of what it counts
TYPED = frozenset(
    {MAX_DELETES, MAX_MERGES, MAX_RESUBSCRIBED}
)  # what they stop cannot be undone: skipped with a number only

# Which guards are skipped in a run. A number is an upper bound: the run is blocked if the guard counts more than that.
Skipped = Mapping[str, int | None]


FEW_DELETES, SHARE_OF_DELETES = 50, "0.1%"  # what max_deletes and max_merges allow, whichever is more, unless it is set


@dataclass(frozen=True)
class Counts:
    """What guards check: rows of the model, of the state, to be sent, that on_removed affects; and what they cost.

    `known` are all that may be deleted: users that the states of the target know, or items of this one. See
    `asks_for_users`.
    """

    rows: int
    in_state: int
    to_send: int
    removed: int
    requests: int
    data_points: int
    deletes: int = 0
    known: int = 0


@dataclass(frozen=True)
class Trip:
    """A guard that blocks a run unless it is skipped: the number that it counted, and what it says of it."""

    name: str
    counted: int
    what: str


def tripped(sync: Sync, counts: Counts, skipped: Skipped) -> list[Problem]:
    """An error for every guard that blocks the run and is not skipped, with the numbers it checked and a hint."""
    return [_stop(sync, trip, skipped) for trip in _checked(sync, counts) if not _is_skipped(trip, skipped)]


def _is_skipped(trip: Trip, skipped: Skipped) -> bool:
    if trip.name not in skipped:
        return False
    most = skipped[trip.name]
    return trip.name not in TYPED if most is None else trip.counted <= most


def _stop(sync: Sync, trip: Trip, skipped: Skipped) -> Problem:
    where = sync.where("guards", trip.name) if "guards" in sync.model_fields_set else sync.where()
    most, what = skipped.get(trip.name), trip.what
    if most is not None:
        what += f", and --skip-guard {trip.name}={most} allows {most:,}"
    elif trip.name in skipped:
        what += f", and --skip-guard {trip.name} needs a number"
    return Problem(
        f"{sync.name}: guard {trip.name}: {what}",
        Location(where.file, where.line, where.column),
        to_skip(sync, trip.name, trip.counted if trip.name in COUNTING else None),
        code="X002",
    )


def guard_of(problem: Problem) -> str | None:
    """The guard that an error of `tripped` is about."""
    found = re.match(r"[^:]+: guard (\w+): ", problem.message) if problem.code == "X002" else None
    return found[1] if found else None


def to_skip(sync: Sync, name: str, counted: int | None = None) -> str:
    """The hint about a guard: what to look at first, and how to skip it; where that may delete users, no more than
    what that would do.

    `counted` is the number to type, so that what is skipped is no more than what was looked at.
    """
    typed = f"--skip-guard {name}" if counted is None else f"--skip-guard {name}={counted}"
    ends = sync.ends
    if ends:
        return f"check the model: `retl show {sync.name}`; {typed} may {ends.does} these {ends.of}s, for good"
    if name == DATA_TESTS:
        return f"to run anyway, pass {typed} to `retl sync {sync.name}`"
    return f"find out why: `retl plan {sync.name}`; only if all of it is meant, run `retl sync {sync.name} {typed}`"


def of_saved_plan(problem: Problem, sync: Sync) -> Problem:
    """The error of a guard with the way out for a saved plan: a sync would send what the model returns now, which after
    a revert is what that takes back."""
    if problem.hint is None:
        return problem
    hint = problem.hint.replace(f"find out why: `retl plan {sync.name}`; only", "only")
    hint = hint.replace(
        f"send the rest with `retl sync {sync.name}`", "make the plan again, and apply it: it has the rest"
    )
    return replace(problem, hint=re.sub(rf"`retl sync {re.escape(sync.name)}(?=[ `])", "`retl apply FILE", hint))


def _checked(sync: Sync, counts: Counts) -> Iterator[Trip]:
    guards = sync.guards
    mirrors = Kind.CHANGED in sync.mode.kinds  # elsewhere an empty model means that nothing new happened
    mirrors = mirrors and not sync.incremental
    if guards.empty_model and mirrors and counts.rows == 0 and counts.in_state:
        yield Trip("empty_model", counts.rows, f"the model returned no rows, but the state has {counts.in_state:,}")
    most = allowed(guards.max_removed, counts.in_state)
    if sync.on_removed != "ignore" and counts.removed > most:
        share = f" ({guards.max_removed} of {counts.in_state:,})" if guards.max_removed.endswith("%") else ""
        acts = f"on_removed: {sync.on_removed} would affect {count(counts.removed, 'row')}"
        yield Trip("max_removed", counts.removed, f"{acts}; {_at_most(most)}{share}")
    yield from _deletes(sync, counts)
    if guards.max_changes is not None:
        most = allowed(guards.max_changes, counts.rows)
        share = f" ({guards.max_changes} of {counts.rows:,})" if guards.max_changes.endswith("%") else ""
        if counts.to_send > most:
            sent = f"{count(counts.to_send, 'row')} would be sent"
            yield Trip("max_changes", counts.to_send, f"{sent}; {_at_most(most)}{share}")
    if guards.max_requests is not None and counts.requests > guards.max_requests:
        needed = f"{count(counts.requests, 'request is', 'requests are')} needed"
        yield Trip("max_requests", counts.requests, f"{needed}; {_at_most(guards.max_requests)}")
    if guards.max_data_points is not None and counts.data_points > guards.max_data_points:
        cost = f"it would cost {count(counts.data_points, 'data point')}"
        yield Trip("max_data_points", counts.data_points, f"{cost}; {_at_most(guards.max_data_points)}")


def asks_for_users(sync: Sync, deletes: int) -> bool:
    """Whether the number of users that the target's states know decides about so many deletes."""
    bound = _bound_of_deletes(sync)
    if bound is None:
        return deletes > FEW_DELETES
    return bound.endswith("%") and deletes > 0


def _bound_of_deletes(sync: Sync) -> str | None:
    ends = sync.ends or DELETES
    return sync.guards.max_merges if ends.guard == MAX_MERGES else sync.guards.max_deletes


def _deletes(sync: Sync, counts: Counts) -> Iterator[Trip]:
    given, ends, about = _bound_of_deletes(sync), sync.ends or DELETES, sync.mode.about
    where = "the target's states" if about == USER else "the state"
    bound, known = given or SHARE_OF_DELETES, f"{count(counts.known, about)} in {where}"
    most, share = allowed(bound, counts.known), f" ({bound} of {known})" if bound.endswith("%") else ""
    if given is None and most <= FEW_DELETES:
        most, share = FEW_DELETES, f" ({FEW_DELETES}, or {bound} of {known})"
    if counts.deletes > most:
        deleted = f"{count(counts.deletes, ends.of)} would be {ends.done}"
        yield Trip(ends.guard, counts.deletes, f"{deleted}; {_at_most(most)}{share}")


def not_resubscribed(sync: Sync, withheld: int) -> str:
    """What is said where MAX_RESUBSCRIBED is skipped without a number, or with one that is too low."""
    rows, typed = count(withheld, "row"), f"--skip-guard {MAX_RESUBSCRIBED}=N"
    check = f"check them first: `retl rejects {sync.name}`"
    return f"guard {MAX_RESUBSCRIBED}: {rows} would end opt-outs, and {typed} needs their number; {check}"


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


def skipped_guards(given: Iterable[str] | Skipped, asked_by: str) -> Skipped:
    """The guards to skip, from `NAME` or `NAME=N` each, or from numbers by name.

    Raises ProjectError, with `asked_by`, for one that is not a guard, and for a number that it cannot have.
    """
    pairs = given.items() if isinstance(given, Mapping) else [_pair(text) for text in given]
    found: dict[str, int | None] = {}
    for name, number in pairs:
        if name not in SKIPPABLE:
            raise ProjectError(f'{asked_by}: unknown guard "{name}"', hint=nearest(name, SKIPPABLE), code="P074")
        if number is not None and name not in COUNTING:
            hint = f"leave the number out: {name}"
            raise ProjectError(f"{asked_by}: guard {name} counts nothing, so it has no number", hint=hint, code="P073")
        if number is not None and not re.fullmatch(r"[0-9]+", str(number)):
            what = f'{asked_by}: the number of guard {name} must be an integer, not "{number}"'
            raise ProjectError(what, hint=f"write it as {name}=500", code="P073")
        most = None if number is None else int(number)
        if found.setdefault(name, most) != most:
            raise ProjectError(f"{asked_by}: guard {name} is given twice", hint="give it once", code="P073")
    return found


def _pair(text: str) -> tuple[str, str | None]:
    name, sign, number = text.partition("=")
    return name, number if sign else None
