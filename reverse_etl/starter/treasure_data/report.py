"""What became of each key and file of an import. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reverse_etl.errors import Location
from reverse_etl.words import count

REPORT_FILE = "treasure-data-import.md"


class Outcome(StrEnum):
    TAKEN = "taken"
    DIFFERENT = "taken differently"
    NOT_TAKEN = "not taken"


@dataclass(frozen=True)
class Entry:
    """What became of a key or a file, and why, or as what."""

    where: Location
    what: str
    outcome: Outcome
    why: str


def summary(entries: Sequence[Entry]) -> str:
    """How many of each."""
    return ", ".join(
        f"{count(_number(entries, outcome), 'key or file', 'keys and files')} {outcome}" for outcome in Outcome
    )


def as_markdown(entries: Sequence[Entry], notes: Sequence[str]) -> str:
    """The report: what was not taken first, then what works differently."""
    lines = ["# What was imported from Treasure Data", "", summary(entries) + ".", ""]
    lines += ["## Next", "", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), ""]
    for outcome in reversed(Outcome):
        found = [entry for entry in entries if entry.outcome is outcome]
        if found:
            lines += [f"## {outcome.capitalize()}", "", "| where | what | |", "|---|---|---|", *_rows(found), ""]
    return "\n".join(lines)


def _rows(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        cells = (str(entry.where), f"`{entry.what}`", entry.why)
        yield f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def _number(entries: Sequence[Entry], outcome: Outcome) -> int:
    return sum(entry.outcome is outcome for entry in entries)
