"""What `retl collect` has written: names of its files, which of them count, and the SELECT that models read. Pure.

    collected/log/<segment>.jsonl                       acknowledged, and not in Parquet yet
    collected/<source>/<table>/<first>-<last>.parquet   segments first to last of a table, written once
    collected/erased/<...>.json                         whom `retl forget` keeps out of segments that become Parquet

A segment is named by the UTC second of its opening, 20261129T211500, so names are in the order of time. A file whose
segments lie within those of another one is superseded: the other one has its records, too, and only that one is read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reverse_etl.sql.quoting import identifier, literal

LOG, ERASED, LOCK, MAINTENANCE = "log", "erased", ".lock", ".maintenance"
SUFFIX, LOG_SUFFIX = ".parquet", ".jsonl"
_SEGMENT = "%Y%m%dT%H%M%S"
_PART = re.compile(r"(\d{8}T\d{6})-(\d{8}T\d{6})\.parquet")
# Columns of the Parquet files, and their types.
STORED = {"time": "BIGINT", "received_at": "TIMESTAMP WITH TIME ZONE", "record_id": "VARCHAR", "record": "VARCHAR"}
GRACE = timedelta(hours=1)  # how long a file that is over stays on disk: a run that has listed it may read it


@dataclass(frozen=True, order=True)
class Part:
    """A Parquet file, by the first and last segment in it."""

    first: str
    last: str

    @property
    def name(self) -> str:
        return f"{self.first}-{self.last}{SUFFIX}"

    def covers(self, other: "Part") -> bool:
        """Whether it has everything that another one has."""
        return self != other and self.first <= other.first and other.last <= self.last

    def is_over(self, now: datetime, keep: timedelta | None) -> bool:
        """Whether all its records are older than they are kept; not read any more. It can go `GRACE` later."""
        return keep is not None and time_of(self.last) < now - keep


def segment(moment: datetime, after: str | None = None) -> str:
    """The name of a segment that is opened at a time, later than the name before it."""
    name = moment.astimezone(UTC).strftime(_SEGMENT)
    return name if after is None or name > after else (time_of(after) + timedelta(seconds=1)).strftime(_SEGMENT)


def time_of(name: str) -> datetime:
    """The time at which a segment was opened. Raises ValueError if this is not the name of one."""
    return datetime.strptime(name, _SEGMENT).replace(tzinfo=UTC)


def parts_of(names: Iterable[str]) -> list[Part]:
    """The Parquet files among the names in the folder of a table, in their order. Other files are nobody's."""
    found = (_PART.fullmatch(name) for name in names)
    return sorted(Part(match[1], match[2]) for match in found if match and match[1] <= match[2])


def current(parts: Sequence[Part]) -> list[Part]:
    """Those that are not superseded, in their order."""
    found: list[Part] = []
    for part in sorted(parts, key=lambda one: (one.first, [-ord(digit) for digit in one.last])):
        if not found or not any(other.covers(part) for other in found):
            found.append(part)
    return found


def select(files: Sequence[str], columns: Mapping[str, str]) -> str:
    """The SELECT of a table's records: four columns of every table, and the declared ones, which are texts.

    `files` are paths; without any, it returns no rows. `columns` are paths of keys by the name of the column.
    """
    own = [f"{name} AS {identifier(name)}" for name in STORED]
    listed = ",\n  ".join([*own, *(f"found[{n}] AS {identifier(name)}" for n, name in enumerate(columns, 1))])
    paths = ", ".join(literal(pointer(path)) for path in columns.values())
    found = (
        f", json_extract_string(record, [{paths}]) AS found" if paths else ""
    )  # all at once: a record is parsed once
    return f"SELECT\n  {listed}\nFROM (SELECT *{found} FROM (\n{_stored(files)}\n))"


def pointer(path: str) -> str:
    """A dotted path as a JSON pointer, which takes every name of a key: user.id -> /user/id."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path.split("."))


def _stored(files: Sequence[str]) -> str:
    if files:
        listed = ",\n".join(f"    {literal(file)}" for file in files)
        rest = f"FROM read_parquet([\n{listed}\n  ], hive_partitioning = false)"
        columns = ", ".join(name for name in STORED if name != "record")
    else:
        rest = "WHERE false"
        columns = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in STORED.items() if name != "record")
    record = "TRY_CAST(record AS JSON) AS record" if files else "CAST(NULL AS JSON) AS record"
    return f"  SELECT {columns}, {record}\n  {rest}"
