"""Records, and the batches in which they are sent, one batch per request. Pure.

Where a request may have several groups (`Group` of a mode), each with an array of records, neighbors of several groups
share one:

    {"subscription_groups":[ {"subscription_group_id":"g1", ... "external_ids":[ "u1","u2" ]},{... "g2" ... [ "u1" ]} ]}
    the envelope of g1 ............................................................ ^       its inner part  ^
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from reverse_etl.braze.modes import MAX_BODY_BYTES, groups_per_request

_MOST_BYTES_OF_A_CHARACTER = 4  # in UTF-8
_PIECE = 1000  # records that are looked at together


class Place(NamedTuple):
    """Where records go: the endpoint, what is written before them in a request, and when.

    None of a `phase` is sent before each one of the phases before has been answered.
    """

    call: str
    envelope: str
    phase: int = 0


class Record(NamedTuple):
    """A record to send. `seq` is its position in the outbox; `place` is the number of its place in `Records.places`."""

    seq: int
    body: str
    idempotent: bool
    place: int = 0


# A Record, or the first two of its values, where all records of a run have the others in common: to make a Record of
# each row takes half as long as to read it from DuckDB.
Row = tuple[Any, ...]
Same = tuple[bool, int] | tuple[()]
_SEQ, _BODY, _IDEMPOTENT, _PLACE = map(itemgetter, range(4))


class Run(NamedTuple):
    """Records in the order in which they are sent, some at a time, as they are read; those of one place are neighbors.

    `same`, if it is not empty, is what all have in common: whether they are idempotent, and the number of their place.
    """

    same: Same
    pieces: Iterable[Sequence[Row]]


class Records(NamedTuple):
    """Records to send, one run after the other, and the places where they go."""

    places: Sequence[Place]
    runs: Iterable[Run]


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one request, in the order of the outbox: of one place, or of several groups, whose `places` are
    those that the numbers of the records mean. `place` is that of the first; `same` is as in a Run."""

    place: Place
    rows: Sequence[Row]
    same: Same = ()
    places: Sequence[Place] = ()

    @property
    def records(self) -> list[Record]:
        return [Record(*row, *self.same) for row in self.rows]

    @property
    def ends(self) -> tuple[int, int]:
        """The `seq` of the first record, and of the last."""
        return _SEQ(self.rows[0]), _SEQ(self.rows[-1])

    @property
    def bodies(self) -> list[str]:
        return list(map(_BODY, self.rows))

    @property
    def is_of_one_place(self) -> bool:
        return not self.places or _PLACE(self.rows[0]) == _PLACE(self.rows[-1])

    @property
    def is_idempotent(self) -> bool:
        """Whether sending it twice has the same effect as sending it once."""
        return self.same[0] if self.same else all(map(_IDEMPOTENT, self.rows))

    def seq(self, index: int) -> int:
        return int(_SEQ(self.rows[index]))

    def body(self, closing: str) -> bytes:
        if not self.is_of_one_place:
            return self._body_of_groups(closing)
        bodies = self.bodies
        bodies[0] = self.place.envelope + bodies[0]  # so that the whole is put together once
        bodies[-1] += closing
        return ",".join(bodies).encode()

    def _body_of_groups(self, closing: str) -> bytes:
        head, end = self.place.envelope.index("[") + 1, len(closing) // 2
        groups = []
        for number, rows in groupby(self.rows, _PLACE):
            inner = self.places[number].envelope[head:]
            groups.append(f"{inner}{','.join(map(_BODY, rows))}{closing[:end]}")
        return f"{self.place.envelope[:head]}{','.join(groups)}{closing[end:]}".encode()

    def of(self, rows: Sequence[Row]) -> "Batch":
        """A batch of other rows of the same places."""
        place = self.places[_PLACE(rows[0])] if self.places else self.place
        return Batch(place, rows, self.same, self.places)

    def halves(self) -> "tuple[Batch, Batch]":
        middle = len(self.rows) // 2
        return self.of(self.rows[:middle]), self.of(self.rows[middle:])


def cut(found: Records, sizes: Mapping[str, int]) -> Iterator[Batch]:
    """Records -> batches of at most `sizes[call]` records and MAX_BODY_BYTES, of one place each, unless it is one of
    several groups: these are for requests of more than one record."""
    single = _cut(found, sizes)
    if not any(may_share(place, sizes) for place in found.places):
        yield from single
        return
    for batches in together(single, sizes, lambda one: one.place, _weight):
        records = [record for batch in batches for record in batch.records]
        yield Batch(batches[0].place, records, places=found.places)


def _weight(batch: Batch) -> int:
    return sum(len(body.encode()) + 1 for body in batch.bodies)


def may_share(place: Place, sizes: Mapping[str, int]) -> bool:
    """Whether records that go there may be in a request with those of other groups."""
    return sizes[place.call] > 1 and groups_per_request().get(place.call, 1) > 1


_GROUP = re.compile(r'\{"\w+":\[\{"\w+":("(?:[^"\\]|\\.)*").*"(\w+)":\[', re.DOTALL)
_Part = TypeVar("_Part")


def together(
    parts: Iterable[_Part], sizes: Mapping[str, int], place_of: Callable[[_Part], Place], weight: Callable[[_Part], int]
) -> Iterator[list[_Part]]:
    """The parts of each request, of neighbors: of one phase, with identifiers of one kind, and no group twice. The
    `weight` of a part is in bytes."""
    most, now, before, total = groups_per_request(), dict[str, _Part](), None, 0
    for part in parts:
        place = place_of(part)
        found = _GROUP.match(place.envelope) if may_share(place, sizes) else None
        group, kind = found.groups() if found else ("", "")
        fits = before == (place.call, place.phase, kind) and bool(group) and group not in now
        if now and not (fits and len(now) < most[place.call] and total + weight(part) <= MAX_BODY_BYTES):
            yield list(now.values())
            now, total = {}, 0
        now[group] = part
        before, total = (place.call, place.phase, kind), total + weight(part)
    if now:
        yield list(now.values())


def _cut(found: Records, sizes: Mapping[str, int]) -> Iterator[Batch]:
    """Records -> batches of one place each."""
    for run in found.runs:
        if run.same:
            yield from _cut_one(found.places[run.same[1]], run, sizes)
            continue
        for number, rows in groupby(chain.from_iterable(run.pieces), _PLACE):
            yield from _cut_one(found.places[number], Run((), _in_pieces(rows)), sizes)


def _in_pieces(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while piece := list(islice(rows, _PIECE)):
        yield piece


def _cut_one(place: Place, run: Run, sizes: Mapping[str, int]) -> Iterator[Batch]:
    """The records of a run, all of which go to one place -> batches."""
    most, left = sizes[place.call], list[Row]()
    for piece in run.pieces:
        left.extend(piece)
        begin = 0
        while len(left) - begin >= most:
            rows = left[begin : begin + most]
            fit = _how_many_fit(rows)
            yield Batch(place, rows[:fit] if fit < most else rows, run.same)
            begin += fit
        del left[:begin]
    while left:
        fit = _how_many_fit(left)
        yield Batch(place, left[:fit], run.same)
        left = left[fit:]


def _how_many_fit(rows: Sequence[Row]) -> int:
    """How many of the rows, from the first on, weigh no more than a request may; one at least."""
    longest = sum(map(len, map(_BODY, rows))) + len(rows)
    if longest * _MOST_BYTES_OF_A_CHARACTER <= MAX_BODY_BYTES:
        return len(rows)
    weight = 0
    for number, row in enumerate(rows):
        weight += len(_BODY(row).encode()) + 1
        if weight > MAX_BODY_BYTES and number:
            return number
    return len(rows)
