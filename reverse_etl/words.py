"""How numbers, times, durations and tables are written for people, everywhere. Pure."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def moment(time: datetime) -> str:
    """A time with a zone, as every message writes it: `2026-11-25 08:15 UTC`."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """`0.2 s`, `3 min 20 s`, `1 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"


def rate(per_second: float) -> str:
    """A number per second: `795`, `0.8`."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def one_line(text: str) -> str:
    """What others have said, in one line that every file and terminal can take."""
    return _UNPRINTABLE.sub(" ", text).strip()


# Line breaks, control characters of terminals, marks that turn the direction of writing, and halves of characters.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def table_lines(table: Sequence[Sequence[object]]) -> Iterator[str]:
    """Rows of cells as lines with aligned columns; the first row is the heading, a cell that is None is empty."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in table]
    widths = [min(60, max(len(row[n]) for row in cells)) for n in range(len(cells[0]))] if cells else []
    for row in cells:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
