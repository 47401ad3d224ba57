"""Records, and the batches in which they are sent, one batch per request. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reverse_etl.braze.modes import MAX_BODY_BYTES


@dataclass(frozen=True)
class Record:
    """A record to send; `seq` is its position in the outbox.

    None of a `phase` is sent before each one of the phases before it has been answered.
    """

    seq: int
    call: str
    envelope: str
    body: str
    idempotent: bool
    phase: int = 0


@dataclass(frozen=True)
class Batch:
    """The records of one request: one phase, one endpoint, one envelope, in the order of the outbox."""

    records: tuple[Record, ...]

    @property
    def call(self) -> str:
        return self.records[0].call

    @property
    def phase(self) -> int:
        return self.records[0].phase

    @property
    def is_idempotent(self) -> bool:
        """Whether sending it twice has the same effect as sending it once."""
        return all(record.idempotent for record in self.records)

    def body(self, closing: str) -> bytes:
        return f"{self.records[0].envelope}{','.join(record.body for record in self.records)}{closing}".encode()

    def halves(self) -> "tuple[Batch, Batch]":
        middle = len(self.records) // 2
        return Batch(self.records[:middle]), Batch(self.records[middle:])


def cut(records: Iterable[Record], sizes: Mapping[str, int]) -> Iterator[Batch]:
    """Records -> batches of at most `sizes[call]` records and MAX_BODY_BYTES, with one envelope and phase each."""
    batch, weight = list[Record](), 0
    for record in records:
        added = len(record.body.encode()) + 1
        if batch and (
            len(batch) == sizes[record.call]
            or weight + added > MAX_BODY_BYTES
            or record.envelope != batch[0].envelope
            or record.call != batch[0].call
            or record.phase != batch[0].phase
        ):
            yield Batch(tuple(batch))
            batch, weight = [], 0
        batch.append(record)
        weight += added
    if batch:
        yield Batch(tuple(batch))
