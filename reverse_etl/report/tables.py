"""Tables and messages as lines that fit a terminal."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest


def table_lines(table: Sequence[Sequence[object]], width: int | None = None) -> Iterator[str]:
    """Rows of cells as lines with aligned columns; the first row is the heading, a cell that is None is empty.

    No line is longer than `width`: where the columns need more, the widest are wrapped. A cell is broken between words,
    and one without spaces only if it alone is longer than `_WHOLE`. Where that is not enough, each row is a list of its
    cells, one below the other, each after its heading.
    """
    cells = [["" if cell is None else str(cell) for cell in row] for row in table]
    if width is not None and not _fits(cells, width):
        yield from _listed(cells, width)
        return
    needs = [max(map(_length, column)) for column in zip(*cells, strict=True)]
    if width is None or sum(needs) + len(needs) * len(_GAP) <= width:
        widths = [min(60, need) for need in needs]
        parts: Iterable[Sequence[Sequence[str]]] = ([[cell] for cell in row] for row in cells)
    else:
        widths = _narrowed(needs, _least(cells), width - len(needs) * len(_GAP))
        parts = ([_broken(cell, room) for cell, room in zip(row, widths, strict=True)] for row in cells)
    for row in parts:
        for line in zip_longest(*row, fillvalue=""):
            padded = (cell + " " * (room - _length(cell)) for cell, room in zip(line, widths, strict=True))
            yield (_GAP + _GAP.join(padded)).rstrip()


def without_spare(
    table: Sequence[Sequence[object]], spare: Iterable[str], width: int | None
) -> tuple[Sequence[Sequence[object]], list[str]]:
    """A table without columns that it can spare, until it fits into `width`; and those that were left out, but for
    columns without a single cell. The first of `spare` are left out first. Whole if it does not fit without them."""
    left_out = list[str]()
    if width is None or _fits(table, width):
        return table, left_out
    shown = [n for n, name in enumerate(table[0]) if any(row[n] not in (None, "") for row in table[1:])]
    rows = [[row[n] for n in shown] for row in table]
    for name in spare:
        if not _fits(rows, width) and name in rows[0]:
            at = rows[0].index(name)
            rows = [[*row[:at], *row[at + 1 :]] for row in rows]
            left_out.append(name)
    return (rows, left_out) if _fits(rows, width) else (table, [])


_GAP = "  "
_WHOLE = 40  # characters of a cell without spaces that are never broken: an identifier, a run
_NARROWEST = 16  # characters that a column of words can be narrowed to


def _listed(cells: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Rows as lists of the cells that they have: the first one, and those below it, further in."""
    heading, *rows = cells
    for row in rows:
        named = [f"{name}: {cell}" for name, cell in zip(heading, row, strict=True) if cell]
        for at, text in enumerate(named):
            yield from folded(f"{_GAP if at == 0 else 2 * _GAP}{text}", width).split("\n")


def _fits(table: Sequence[Sequence[object]], width: int) -> bool:
    least = _least([["" if cell is None else str(cell) for cell in row] for row in table])
    return sum(least) + len(least) * len(_GAP) <= width


def _least(cells: Sequence[Sequence[str]]) -> list[int]:
    """The least width of each column: that of its longest word."""
    columns = zip(*cells, strict=True)
    return [max(min(_NARROWEST, max(map(_length, column))), min(_WHOLE, _word(column))) for column in columns]


def _word(cells: Iterable[str]) -> int:
    return max((_length(word) for cell in cells for word in cell.split()), default=0)


def _narrowed(needs: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths of columns that have `room` together: the widest are narrowed to the same width, none below its least."""
    widest = max(needs)
    while widest > 1 and sum(_capped(needs, least, widest)) > room:
        widest -= 1
    return _capped(needs, least, widest)


def _capped(needs: Sequence[int], least: Sequence[int], widest: int) -> list[int]:
    return [max(low, min(need, widest)) for need, low in zip(needs, least, strict=True)]


def _broken(cell: str, room: int) -> list[str]:
    """A cell, line by line."""
    if _length(cell) <= room:
        return [cell]
    from rich.console import Console
    from rich.text import Text

    return [line.plain.rstrip() for line in Text(cell).wrap(Console(width=room), room)]


def _length(text: str) -> int:
    """How many columns of a terminal a text needs."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def folded(text: str, width: int) -> str:
    """A text whose lines are broken between words at `width`, and indented as the line was. A command between
    backticks is never broken: it can be copied."""
    return "\n".join(_folded(line, width) for line in text.split("\n"))


_SIGNS = ("+", "~", "-")  # before the key of a row: the two are one word
_WORDS = re.compile(r"( *)((?:`[^`]*`|\S)+)")
_LABEL = re.compile(r"\S+ {2,}(?=\S)")  # such as that of a check: what it is of goes on beside it


def _folded(line: str, width: int) -> str:
    if _length(line) <= width:
        return line
    label = _LABEL.match(line)
    indent = " " * (label.end() if label else len(line) - len(line.lstrip()) + len(_GAP))
    lines, now = list[str](), ""
    for gap, word in _WORDS.findall(line.expandtabs()):
        if now.strip() and now.strip() not in _SIGNS and _length(now) + len(gap) + _length(word) > width:
            lines.append(now)
            now = indent + word
        else:
            now += gap + word
    return "\n".join([*lines, now])
