"""The log of a shared state: what runs and commands have added to its base, as DuckDB wrote it down. Pure.

A change of a state is first written to DuckDB's write-ahead log, `state.duckdb.wal`. As long as nothing is merged into
`state.duckdb`, the two files are the base, byte for byte as it was uploaded, and all that was added to it since. So it
is enough to upload what is new in the log; a machine that appends it to its own log has the same state.

    base    pieces of the log, each an object                             tail, in head.json
    ├────┤ ├───────── level 1 ──────────┤├ level 0 ┤├ level 0 ┤├ level 0 ┤├──┤

With the eighth piece of a level, they become one of the next level, so that there are few of them, and each byte is
uploaded a few times only. When the log is a quarter of the base, both as uploaded, it is merged, and the whole is the
next base.
"""

import base64
import zlib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from reverse_etl.shared_state.packing import packed, unpacked

TAIL_BYTES = 3_000  # packed; a longer one becomes a piece, so that the head stays small
SHARE_OF_BASE = 0.25
MOST_BYTES = 1_000_000  # of a log, unless a quarter of its base is more: DuckDB reads all of it whenever it is opened
_AT_A_LEVEL = 8
_NO_TAIL = 20 * TAIL_BYTES  # not packed: what is longer does not get so short


class Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class StoredObject(Part):
    """An object that is never overwritten: its name is used only once.

    `unpacked` is the size of the file that is packed in it; None if it is the file itself, as an older retl uploaded
    it. `users` is how many users the state in it knows, of states that an older retl uploaded.
    """

    name: str
    size: int
    sha256: str
    unpacked: int | None = None
    users: int | None = None


class Piece(Part):
    """The bytes of the log from `start` to `end`, as an object."""

    stored: StoredObject
    start: int
    end: int
    level: int = 0


class Log(Part):
    """All `size` bytes of a log, and their CRC-32. The tail is packed, in base64."""

    size: int = 0
    crc: int = 0
    pieces: tuple[Piece, ...] = ()
    tail: str = ""

    @property
    def tail_start(self) -> int:
        """Where the pieces end."""
        return self.pieces[-1].end if self.pieces else 0

    def with_tail(self, data: Iterable[bytes], size: int, crc: int) -> "Log | None":
        """The log with all that comes after its pieces as its tail; None if that is too long for one."""
        if size == self.tail_start:
            return Log(size=size, crc=crc, pieces=self.pieces)
        if size - self.tail_start > _NO_TAIL:
            return None
        tail = packed(b"".join(data))
        if len(tail) > TAIL_BYTES:
            return None
        return Log(size=size, crc=crc, pieces=self.pieces, tail=base64.b64encode(tail).decode())

    def tail_bytes(self) -> bytes:
        """Raises ValueError if it is damaged."""
        return b"".join(unpacked([base64.b64decode(self.tail, validate=True)])) if self.tail else b""

    def next_piece(self) -> tuple[int, int]:
        """Where the next piece starts, and its level: it takes the place of all pieces from there on."""
        pieces, level = list(self.pieces), 0
        while len(pieces) >= _AT_A_LEVEL - 1 and {one.level for one in pieces[1 - _AT_A_LEVEL :]} == {level}:
            del pieces[1 - _AT_A_LEVEL :]
            level += 1
        return (pieces[-1].end if pieces else 0), level

    def with_piece(self, piece: Piece, crc: int) -> "Log":
        kept = tuple(one for one in self.pieces if one.end <= piece.start)
        return Log(size=piece.end, crc=crc, pieces=(*kept, piece))

    def objects(self) -> list[StoredObject]:
        return [piece.stored for piece in self.pieces]


def is_long(log: Log, size: int, base: StoredObject) -> bool:
    """Whether a log, which has that many bytes by now, is to be merged into its base."""
    uploaded = sum(stored.size for stored in log.objects()) + len(log.tail)
    most = SHARE_OF_BASE * (base.unpacked or base.size)
    return uploaded > SHARE_OF_BASE * base.size or size - log.size > most or size > max(MOST_BYTES, most)


def crc_of(parts: Iterable[bytes], before: int = 0) -> int:
    """The CRC-32 of bytes that follow those with the one `before`."""
    for part in parts:
        before = zlib.crc32(part, before)
    return before
