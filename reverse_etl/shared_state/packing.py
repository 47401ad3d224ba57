"""Files as they are uploaded: packed as gzip does, so that everybody can unpack them, a part in memory at a time."""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

PART_BYTES = 8 * 1024 * 1024
_GZIP = 31  # the window, and the format
# Of a small file the bytes count, and of a large one the time; most of it are zeros, or packed by DuckDB.
_LEVEL, _LEVEL_OF_LARGE, _LARGE_BYTES = 6, 1, 4_000_000


def pack(path: Path, to: Path, start: int = 0) -> None:
    """Write what a file has from the byte `start` on, packed, to another one."""
    is_large = path.stat().st_size - start > _LARGE_BYTES
    packer = zlib.compressobj(_LEVEL_OF_LARGE if is_large else _LEVEL, wbits=_GZIP)
    with path.open("rb") as file, to.open("wb") as packed:
        file.seek(start)
        while part := file.read(PART_BYTES):
            packed.write(packer.compress(part))
        packed.write(packer.flush())


def packed(data: bytes) -> bytes:
    """A few bytes, packed."""
    return zlib.compress(data, _LEVEL, wbits=_GZIP)


def unpacked(parts: Iterable[bytes]) -> Iterator[bytes]:
    """What was packed, given and returned in parts. Raises ValueError if it is not that, or not whole."""
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        for part in parts:
            while part:
                yield unpacker.decompress(part, PART_BYTES)
                part = unpacker.unconsumed_tail
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not unpacker.eof:
        raise ValueError("it breaks off")
