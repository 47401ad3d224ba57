"""Records, and the batches in which they are sent, one batch per request. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from typing import NamedTuple

from reverse_etl.braze.modes import MAX_BODY_BYTES

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
    """The records of one request: of one place, in the order of the outbox."""

    place: Place
    records: Sequence[Record]

    @property
    def is_idempotent(self) -> bool:
        """Whether sending it twice has the same effect as sending it once."""
        return all(map(_IDEMPOTENT, self.records))

    def body(self, closing: str) -> bytes:
        bodies = list(map(_BODY, self.records))
        bodies[0] = self.place.envelope + bodies[0]  # so that the whole is put together once
        bodies[-1] += closing
        return ",".join(bodies).encode()

    def of(self, records: Sequence[Record]) -> "Batch":
        """A batch of other records of the same place."""
        return Batch(self.place, records)

    def halves(self) -> "tuple[Batch, Batch]":
        middle = len(self.records) // 2
        return self.of(self.records[:middle]), self.of(self.records[middle:])


def cut(found: Records, sizes: Mapping[str, int]) -> Iterator[Batch]:
    """Records -> batches of one place each, of at most `sizes[call]` records and MAX_BODY_BYTES."""
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
