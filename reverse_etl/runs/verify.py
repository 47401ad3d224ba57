"""`retl verify`: a random sample of acknowledged rows, read back from Braze and compared with what was sent of them."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

from reverse_etl.braze.catalogs import READ_ITEM
from reverse_etl.braze.comparing import USER_IS_MISSING, Difference, Expected, expected, operator_of, shown
from reverse_etl.braze.modes import USER, Extra
from reverse_etl.delivery.reading import HowToRead
from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.session import Session
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.runs.canary import LAG_S
from reverse_etl.runs.outcome import Untaken
from reverse_etl.runs.read_back import Items, Profiles, refuse_unreadable
from reverse_etl.state.opening import state_of
from reverse_etl.state.sample import Draw, Row, Sample, attached, doubt, draw
from reverse_etl.system.clock import Clock
from reverse_etl.words import count, duration

_AGAIN = "run it again: nothing was changed"
_SHOWN, _AT_ONCE = 5, 5_000
_LONG_S = 20.0
_Z = 1.96  # of 95 %


@dataclass(frozen=True)
class Verified:
    """What came of it: `sampled` of the `rows` that Braze has acknowledged were compared, by this `seed`; Braze has
    `as_sent` of them as they were sent, and of `missing` of them no user.

    `not_rendered` rows are not compared, as they break a rule by now; `first` are some of the rows that differ, with
    key and column. `repaired` rows are sent again by the next run, as far as they differ.
    """

    sync: str
    target: str
    seed: int
    rows: int
    sampled: int
    as_sent: int
    missing: int
    not_rendered: int
    differences: Sequence[Untaken]
    not_compared: Sequence[str]
    first: Sequence[str]
    repaired: int = 0
    about: str = USER

    @property
    def differing(self) -> int:
        return self.sampled - self.as_sent

    @property
    def share(self) -> tuple[float, float]:
        """Between which shares of all rows differ, with 95 %. See `share_of`."""
        return share_of(self.differing, self.sampled, self.rows)

    @property
    def finds_one_percent(self) -> float:
        """The probability that a fault of 1 % of the rows is found by a sample of this size."""
        return 1.0 if self.sampled >= self.rows else 1 - 0.99**self.sampled


def share_of(differing: int, sampled: int, rows: int) -> tuple[float, float]:
    """Between which shares of `rows` differ, with 95 %, if so many of a sample do (by Wilson); exactly, of all rows."""
    if sampled == 0:
        return 0.0, 1.0
    if sampled >= rows:
        return differing / rows, differing / rows
    if differing == 0:
        return 0.0, 1 - 0.05 ** (1 / sampled)
    found = differing / sampled
    middle = found + _Z**2 / (2 * sampled)
    around = _Z * sqrt(found * (1 - found) / sampled + _Z**2 / (4 * sampled**2))
    below, above = ((middle + sign * around) / (1 + _Z**2 / sampled) for sign in (-1, 1))
    return max(below, 0.0), min(above, 1.0)


@dataclass(frozen=True)
class HowToVerify:
    """`sample` rows at most. `repair`: columns that differ are sent by the next run; the state is locked meanwhile.
    `say` is told if it takes long."""

    sample: int
    seed: int
    repair: bool = False
    show_values: bool = False
    threads: int = 40
    clock: Clock = field(default_factory=Clock)
    say: Callable[[str], None] = lambda _: None


def verify(project: LoadedProject, sync: Sync, session: Session, how: HowToVerify) -> Verified:
    """Compare a sample of the acknowledged rows of a sync with Braze.

    Raises ProjectError for a mode that cannot be compared, StateError if state or Braze cannot be read, DataError if
    there are no rows.
    """
    refuse_unreadable(sync, "retl verify")
    to, which = session.destination(), Draw(how.sample, how.seed, how.show_values)
    if not how.repair:
        with attached(project, sync) as connection:
            sample = draw(connection, project, sync, to, which)
        return _verified(project, sync, sample, how, _compare(session, sync, sample, how))
    with state_of(project, sync, clock=how.clock) as state:
        sample = draw(state.connection, project, sync, to, which)
        found = _compare(session, sync, sample, how)
        creates = sync.mode.about != USER  # a user who is gone is not to be created again; an item is
        differing = {row: of_row for row, of_row in found.differing.items() if creates or not _is_missing(of_row)}
        unsure = {row: _columns(of_row, sample) for row, of_row in differing.items()}
        if unsure := {row: names for row, names in unsure.items() if names}:
            doubt(state, unsure)
        return _verified(project, sync, sample, how, found, len(unsure))


@dataclass(frozen=True)
class _Found:
    differing: Mapping[str, Sequence[Difference]]
    left: Sequence[str]


def _compare(session: Session, sync: Sync, sample: Sample, how: HowToVerify) -> _Found:
    wanted, left = dict[str, tuple[Row, Expected]](), set[str]()
    for row in sample.rows:
        of = expected(row.path, json.loads(row.request))
        if of is not None:
            operations = {name for name, value in of.attributes.items() if operator_of(value)}
            left |= operations
            values = {name: value for name, value in of.attributes.items() if name not in operations}
            wanted[row.key] = row, Expected(of.person, values, of.merges, of.is_gone)
    reading = HowToRead(how.threads, how.clock, RetryPolicy(), _AGAIN)
    profiles = _reader(session, sync, sample, how, reading, [of for _, of in wanted.values()])
    found = _differing(profiles, {key: of for key, (_, of) in wanted.items()})
    now = how.clock.utc().timestamp()
    fresh = {key: wanted[key][1] for key in found if now - wanted[key][0].sent_at.timestamp() < LAG_S}
    if fresh:  # Braze may not show them yet
        how.clock.wait(LAG_S, threading.Event())
        found = {key: of for key, of in found.items() if key not in fresh} | _differing(profiles, fresh)
    columns = {name for _, of in wanted.values() for name in of.attributes}
    return _Found(found, sorted({*profiles.not_compared(columns), *left}))


def _reader(
    session: Session, sync: Sync, sample: Sample, how: HowToVerify, reading: HowToRead, of: Sequence[Expected]
) -> Profiles | Items:
    """What reads back what is expected."""
    if sync.mode.extra is not Extra.CATALOG_FIELD:
        return Profiles(session, reading, of)
    items = Items(session, reading, str(sync.catalog), sample.of)
    limit = session.windows(READ_ITEM.family)[0]
    takes_s = items.requests(len(of)) * limit.per_seconds / limit.requests
    if takes_s > _LONG_S:
        how.say(f"reading {count(len(of), 'item')} takes {duration(takes_s)}, as Braze limits it")
    return items


def _differing(profiles: Profiles | Items, wanted: Mapping[str, Expected]) -> dict[str, list[Difference]]:
    keys, found = list(wanted), dict[str, list[Difference]]()
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        users = profiles.of(list(dict.fromkeys(wanted[key].person for key in part)))
        for key in part:
            if of_row := profiles.differences(wanted[key], users[wanted[key].person]):
                found[key] = of_row
    return found


def _columns(of_row: Sequence[Difference], sample: Sample) -> list[str]:
    """The columns to send again: all of a row whose difference is in none of them."""
    return [one.column for one in of_row if one.column in sample.tracked] or list(sample.tracked)


def _is_missing(of_row: Sequence[Difference]) -> bool:
    return any(one.what == USER_IS_MISSING for one in of_row)


def _verified(
    project: LoadedProject, sync: Sync, sample: Sample, how: HowToVerify, found: _Found, repaired: int = 0
) -> Verified:
    times = Counter((one.column or None, one.what) for of_row in found.differing.values() for one in of_row)
    first = [
        f"{one.column or sync.mode.about} of {sample.keys.shown(key)}: {one.what}" + _values(one, how.show_values)
        for key, of_row in list(found.differing.items())[:_SHOWN]
        for one in of_row
    ]
    return Verified(
        sync.name,
        project.target_name,
        how.seed,
        sample.of,
        len(sample.rows),
        len(sample.rows) - len(found.differing),
        sum(map(_is_missing, found.differing.values())),
        sample.not_rendered,
        [Untaken(column, what, rows) for (column, what), rows in times.most_common()],
        found.left,
        first,
        repaired,
        sync.mode.about,
    )


def _values(one: Difference, are_shown: bool) -> str:
    return f": {shown(one.sent)} became {shown(one.read)}" if are_shown and one.column else ""
