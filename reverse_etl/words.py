"""Words for people that the whole house uses: counts, times, durations, tables. Pure."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def moment(time: datetime) -> str:
    """A time that a schedule names: `2026-11-25 08:15 UTC`."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"


def table_lines(table: Sequence[Sequence[object]]) -> Iterator[str]:
    """Rows of cells as lines with aligned columns; the first row is the heading."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in table]
    widths = [min(60, max(len(row[n]) for row in cells)) for n in range(len(cells[0]))] if cells else []
    for row in cells:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
