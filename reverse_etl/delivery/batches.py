"""Records, and the batches in which they are sent, one batch per request. Pure.

Where a request may have several groups (`Group` of a mode), each with an array of records, neighbors of several groups
share one:

    {"subscription_groups":[ {"subscription_group_id":"g1", ... "external_ids":[ "u1","u2" ]},{... "g2" ... [ "u1" ]} ]}
    the envelope of g1 ............................................................ ^       its inner part  ^
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from typing import NamedTuple, TypeVar

from reverse_etl.braze.modes import MAX_BODY_BYTES, groups_per_request

_MOST_BYTES_OF_A_CHARACTER = 4  # in UTF-8


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


_BODY, _IDEMPOTENT = attrgetter("body"), attrgetter("idempotent")


class Records(NamedTuple):
    """Records in the order in which they are sent, and the places where they go; those of one place are neighbors."""

    places: Sequence[Place]
    records: Iterable[Record]


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one request, in the order of the outbox: of one place, or of several groups, whose `places` are
    those that the numbers of the records mean. `place` is that of the first."""

    place: Place
    records: Sequence[Record]
    places: Sequence[Place] = ()

    @property
    def is_of_one_place(self) -> bool:
        return not self.places or self.records[0].place == self.records[-1].place

    @property
    def is_idempotent(self) -> bool:
        """Whether sending it twice has the same effect as sending it once."""
        return all(map(_IDEMPOTENT, self.records))

    def body(self, closing: str) -> bytes:
        if not self.is_of_one_place:
            return self._body_of_groups(closing)
        bodies = list(map(_BODY, self.records))
        bodies[0] = self.place.envelope + bodies[0]  # so that the whole is put together once
        bodies[-1] += closing
        return ",".join(bodies).encode()

    def _body_of_groups(self, closing: str) -> bytes:
        head, end = self.place.envelope.index("[") + 1, len(closing) // 2
        groups = []
        for number, records in groupby(self.records, attrgetter("place")):
            inner = self.places[number].envelope[head:]
            groups.append(f"{inner}{','.join(map(_BODY, records))}{closing[:end]}")
        return f"{self.place.envelope[:head]}{','.join(groups)}{closing[end:]}".encode()

    def of(self, records: Sequence[Record]) -> "Batch":
        """A batch of other records of the same places."""
        return Batch(self.places[records[0].place] if self.places else self.place, records, self.places)

    def halves(self) -> "tuple[Batch, Batch]":
        middle = len(self.records) // 2
        return self.of(self.records[:middle]), self.of(self.records[middle:])


def cut(found: Records, sizes: Mapping[str, int]) -> Iterator[Batch]:
    """Records -> batches of at most `sizes[call]` records and MAX_BODY_BYTES, of one place each, unless it is one of
    several groups: these are for requests of more than one record."""
    single = _cut(found, sizes)
    if not any(may_share(place, sizes) for place in found.places):
        yield from single
        return
    for batches in together(single, sizes, lambda one: one.place, _weight):
        records = [record for batch in batches for record in batch.records]
        yield Batch(batches[0].place, records, found.places)


def _weight(batch: Batch) -> int:
    return sum(len(body.encode()) + 1 for body in map(_BODY, batch.records))


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
    for number, run in _by_place(found):
        place, rest = found.places[number], list[Record]()
        while records := [*rest, *islice(run, sizes[place.call] - len(rest))]:
            fit = _how_many_fit(records)
            yield Batch(place, records[:fit])
            rest = records[fit:]


def _by_place(found: Records) -> Iterator[tuple[int, Iterator[Record]]]:
    """Neighbors of one place, with its number; where there is one place, no record is asked for its own."""
    if len(found.places) == 1:
        yield 0, iter(found.records)
    else:
        yield from groupby(found.records, attrgetter("place"))


def _how_many_fit(records: Sequence[Record]) -> int:
    """How many of the records, from the first on, weigh no more than a request may; one at least."""
    longest = sum(map(len, map(_BODY, records))) + len(records)
    if longest * _MOST_BYTES_OF_A_CHARACTER <= MAX_BODY_BYTES:
        return len(records)
    weight = 0
    for number, record in enumerate(records):
        weight += len(record.body.encode()) + 1
        if weight > MAX_BODY_BYTES and number:
            return number
    return len(records)
