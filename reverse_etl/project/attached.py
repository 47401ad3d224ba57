"""What `path` of a DuckDB warehouse names, if it is no DuckDB file of this machine: a lake, a service, a URL.

DuckDB attaches it with an extension, which it downloads from its own repository, signed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reverse_etl.project.spec_targets import EXTENSIONS
from reverse_etl.sql.quoting import catalog

# The extension of DuckDB that attaches a path, by how that begins (duckdb.org, "Core Extensions").
ATTACHED_BY: Mapping[str, str] = {
    "ducklake": "ducklake",
    "md": "motherduck",
    "motherduck": "motherduck",
    "sqlite": "sqlite_scanner",
    "mysql": "mysql_scanner",
    **EXTENSIONS,
}
# ... and what the catalog of a lake may be in: ducklake:postgres:dbname=lake.
_CATALOGS = {"duckdb": "", "sqlite": "sqlite_scanner", "mysql": "mysql_scanner", "postgres": "postgres_scanner"}
_OF_FILES = ("ducklake", "duckdb", "sqlite")  # what follows these is a file, unless it begins in one of these ways, too
_BEGINS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # not the letter of a disk
_SECRET = re.compile(r"\w*")  # ducklake:NAME is a secret of DuckDB's, which says where the lake is
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Attached:
    """`address` is what ATTACH takes, with the extensions that it needs, and `name` what models find its tables under;
    `file` is what is on this machine of it, such as the catalog of a lake."""

    address: str
    extensions: tuple[str, ...]
    name: str
    file: Path | None

    @property
    def is_lake(self) -> bool:
        return "ducklake" in self.extensions


def attached_at(path: str, folder: Path) -> Attached | None:
    """What DuckDB attaches for a path of a project in `folder`; None if that is a file, or nothing that it attaches."""
    begins = begin_of(path)
    if begins not in ATTACHED_BY:
        return None
    within = begin_of(path.removeprefix(f"{begins}:")) if begins == "ducklake" else ""
    start = f"{begins}:{within}:" if within in _CATALOGS else f"{begins}:"
    rest, last = path.removeprefix(start), within if within in _CATALOGS else begins
    is_file = last in _OF_FILES and not begin_of(rest) and not (last == "ducklake" and _SECRET.fullmatch(rest))
    file = (folder / Path(rest).expanduser()).resolve() if is_file else None
    extensions = filter(None, (ATTACHED_BY[begins], _CATALOGS.get(within)))
    name = catalog(re.split(r"[/\\]", rest.partition("?")[0])[-1])
    return Attached(f"{start}{file or rest}", tuple(extensions), name if _NAME.fullmatch(name) else begins, file)


def begin_of(path: str) -> str:
    """How a path begins that is no file, such as "md" of md:shop; empty for a file."""
    begins = _BEGINS.match(path)
    return begins[1] if begins else ""
