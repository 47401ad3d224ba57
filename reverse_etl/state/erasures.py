"""Who was erased on a target: keyed hashes, and no list of persons. Syncs of the target neither send nor keep them.

    .retl/<target>/.erased/               (or <state.path>/<target>/.erased/)
      key                                 32 random bytes in hex; without it, the hashes say nothing
      erased-<when>-<random>.txt          one erasure: a line per identifier, see `records/identity.py`
      allowed-<when>-<random>.txt         who may come back: of several files with a hash, the latest decides
      pending-<when>-<random>.txt         who is erased once Braze has deleted them: not sent, but states keep them

A file is written whole, is on disk before anything relies on it, and is never changed; when there are many, they are
replaced by one that says the same. Of a state in an object store, these are objects, too, and the folder has copies.
"""

import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.errors import StateError
from reverse_etl.records.identity import HASH_DIGITS, TAG_DIGITS, hash_sql, parameters, tag_sql
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.system.platforms import BINARY, flush_folder
from reverse_etl.system.private_files import private_files

FOLDER = ".erased"  # no name of a sync begins with a dot
KEY_FILE = "key"
ERASED, ALLOWED, PENDING = "erased", "allowed", "pending"
HASHES = "retl_erased"  # a temporary table: the lines of who is erased now
NEAR = "retl_near"  # ... of rows whose tag is among them
_KEY_BYTES = 32
_MOST_FILES = 64
_TRIES = 5  # to read files that another process is replacing by one
_NAME = re.compile(r"(erased|allowed|pending)-(\d{8}T\d{12})-[0-9a-f]{8}\.txt")
_LINE_BYTES = TAG_DIGITS + HASH_DIGITS + 1
_IN_LINES = b"0123456789abcdef\n"
_AT_ONCE = 1000  # lines that DuckDB splits: of a million at once it takes six times as long


class Erasures:
    """The erasures of one target: in `folder`; or in `objects`, and then the folder has copies.

    `version` is a string that changes whenever they do, as of the last `look`; empty if nobody was ever erased.
    Those of `formers`, which are of the target's former names, are copied here.
    """

    def __init__(self, folder: Path, objects: ObjectStore | None = None, formers: "Sequence[Erasures]" = ()) -> None:
        self.folder, self.objects, self.formers = folder, objects, formers
        self._names: list[str] | None = None

    # --- the key -----------------------------------------------------------------------------------------------------

    @cached_property
    def parameters(self) -> Mapping[str, object]:
        """The parameters of `hash_sql` and `tag_sql`. Creates the key if nobody was erased yet."""
        return parameters(self.key)

    @cached_property
    def key(self) -> bytes:
        path = self.folder / KEY_FILE
        self._make_folder()
        has_files = not path.exists() and bool(self.names())  # which copies the key of a store
        if not path.exists():
            if has_files:
                hint = (
                    "restore it from a backup: without it nobody can tell who was erased, and they would be sent again"
                )
                raise StateError(f"{self._where(KEY_FILE)} is missing", hint=hint, code="S026")
            text = f"{secrets.token_hex(_KEY_BYTES)}\n".encode()
            if self.objects and self.objects.create(KEY_FILE, text) is None:  # another machine has created one
                found = self.objects.read(KEY_FILE)
                text = found[0] if found else text
            _write_once(path, text)
        try:
            key = bytes.fromhex(path.read_text())
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise StateError(f"{path} is damaged", hint="restore it from a backup", code="S026")
        return key

    def _make_folder(self) -> None:
        for path in (self.folder, self.folder / KEY_FILE):
            if path.is_symlink():
                hint = "remove it: retl does not write its state through links, which a pull request may bring"
                raise StateError(f"{path} is a symbolic link", hint=hint, code="S026")
        with private_files():
            self.folder.mkdir(parents=True, exist_ok=True)

    # --- reading -----------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The names of all files, those of a store after they are copied here."""
        for former in self.formers:
            self._take_over(former)
        if self.objects is None:
            return self._local()
        for _ in range(_TRIES):
            there = [name for name in self.objects.names() if _NAME.fullmatch(name) or name == KEY_FILE]
            copied = [self._copied(name) for name in there]
            if all(copied):
                break
        for name in set(self._local()) - set(there):  # replaced by one that says the same
            (self.folder / name).unlink(missing_ok=True)
        return [name for name in sorted(there) if name != KEY_FILE]

    def _take_over(self, former: "Erasures") -> None:
        """Copy what a former name of the target has: the key first, as it gives hashes a meaning."""
        names = former.names()
        if not names:
            return
        key = former.folder / KEY_FILE
        if not key.exists():
            raise StateError(f"{key} is missing", hint="restore it from a backup", code="S026")
        there = self.objects.names() if self.objects else []
        for name in (KEY_FILE, *names):
            data = (former.folder / name).read_bytes()
            if self.objects and name not in there:
                self.objects.create(name, data)
            self._make_folder()
            _write_once(self.folder / name, data)
        if (self.folder / KEY_FILE).read_bytes() != key.read_bytes():
            what = f"{self._where(KEY_FILE)} is not the key of the target's former name: users were erased under both"
            hint = "remove `renamed_from` from the target, and erase again who was erased under its former name"
            raise StateError(what, hint=hint, code="S026")

    def _local(self) -> list[str]:
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self.folder) if _NAME.fullmatch(name))
        return []

    def _copied(self, name: str) -> bool:
        """Copy an object here, unless it is; whether it was there."""
        path = self.folder / name
        if not path.exists():
            found = self.objects.read(name) if self.objects else None
            if found is None:
                return False
            self._make_folder()
            _write_once(path, found[0])
        return True

    @property
    def version(self) -> str:
        names = self.look() if self._names is None else self._names
        return sha256("\n".join(names).encode()).hexdigest()[:32] if names else ""

    def look(self) -> list[str]:
        """See which files there are now."""
        self._names = self.names()
        return self._names

    def load(self, connection: DuckDBPyConnection, pending: bool = True) -> None:
        """Fill the table HASHES from the files that there were at the last look; with those who are `pending`, or not.

        A model that runs on the connection may read the table: it learns hashes, and no key.
        """
        for _ in range(_TRIES):
            names = self.look() if self._names is None else self._names
            try:
                taken = [name for name in names if pending or not name.startswith(PENDING)]
                _fill(connection, [(name, self._read(name)) for name in taken])
                return
            except FileNotFoundError:
                self._names = None
        raise StateError(f"{self.folder} is being changed", hint="run this again", code="S026")

    def _read(self, name: str) -> bytes:
        data = (self.folder / name).read_bytes()
        if not _is_whole(data):
            raise self._damaged(name)
        return data

    def _damaged(self, name: str) -> StateError:
        hint = "restore it from a backup: who is in it would be sent again"
        return StateError(f"{self._where(name)} is damaged", hint=hint, code="S026")

    def _where(self, name: str) -> str:
        return f"{self.objects.url}/{name}" if self.objects else str(self.folder / name)

    # --- writing -----------------------------------------------------------------------------------------------------

    def record(self, lines: Iterable[str], at: datetime, kind: str = ERASED) -> str | None:
        """Write down who was erased, or may come back; on disk, and in the store, when this returns.

        `lines` are tags with hashes, as `hashed` returns them. Returns the name of the file; None if there is no line.
        """
        text = "".join(f"{line}\n" for line in sorted(set(lines)))
        if not text:
            return None
        name = f"{kind}-{at:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.txt"
        self._store(name, text.encode())
        self._join_files(self.names())
        return name

    def settle(self, lines: Collection[str], at: datetime) -> None:
        """Write down who was erased; of them, nobody is pending any more."""
        self.record(lines, at)
        settled = set(lines)
        with suppress(FileNotFoundError):  # another process has just done it
            pending = [name for name in self.names() if name.startswith(PENDING)]
            self._remove([name for name in pending if settled.issuperset(self._read(name).decode().splitlines())])

    def _store(self, name: str, data: bytes) -> None:
        self._make_folder()
        if self.objects:
            self.objects.write(name, data)
        _write_once(self.folder / name, data)

    def _join_files(self, names: list[str]) -> None:
        """Replace many files by one of each kind that says the same."""
        if len(names) < _MOST_FILES:
            return
        with suppress(FileNotFoundError):  # another process has just done it
            self._join(names)

    def _join(self, names: list[str]) -> None:
        files = [(name, self._read(name)) for name in names]
        pending = {line for line, name in _latest(files).items() if name.startswith(PENDING)}
        if not (names := [name for name in names if not name.startswith(PENDING)]):
            return
        latest = _latest([(name, data) for name, data in files if name in names])
        when = max(name.split("-")[1] for name in names)
        for kind, but in ((ERASED, set[str]()), (ALLOWED, pending)):
            lines = sorted(line for line, name in latest.items() if name.startswith(kind) and line not in but)
            if lines:
                text = "".join(f"{line}\n" for line in lines)
                self._store(f"{kind}-{when}-{secrets.token_hex(4)}.txt", text.encode())
        self._remove(names)

    def _remove(self, names: list[str]) -> None:
        if self.objects:
            self.objects.delete(names)
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def hashed(self, connection: DuckDBPyConnection, texts: str, values: Mapping[str, Any] | None = None) -> list[str]:
        """The tags with the hashes of texts, which a SELECT returns as its column `who`."""
        line = f"{tag_sql('who')} || {hash_sql('who')}"
        rows = connection.execute(
            f"SELECT DISTINCT {line} FROM ({texts}) WHERE who IS NOT NULL", {**self.parameters, **(values or {})}
        )
        return [line for (line,) in rows.fetchall()]


def erasures_of(place: StatePlace) -> Erasures:
    """The erasures of the target that a state is on."""
    targets = dict.fromkeys(target for _, target in place.formers if target != place.target)
    formers = [_of_target(place, target) for target in targets]
    return _of_target(place, place.target, formers)


def _of_target(place: StatePlace, target: str, formers: Sequence[Erasures] = ()) -> Erasures:
    objects = place.objects.of_target(target, FOLDER) if place.objects else None
    return Erasures(place.folder.parent.parent / target / FOLDER, objects, formers)


def is_erased(connection: DuckDBPyConnection, erasures: Erasures, rows: str) -> None:
    """Fill the table NEAR with the `row` of those rows whose `who` is in HASHES. `rows` is a SELECT of both."""
    near = f"SELECT row, who FROM ({rows}) WHERE {tag_sql('who')} IN (SELECT left(line, {TAG_DIGITS}) FROM {HASHES})"
    values = dict(erasures.parameters)
    tags = {"tags": values.pop("tags")}
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {NEAR}_tags AS {near}", tags)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {NEAR} AS SELECT row FROM {NEAR}_tags "
        f"WHERE {hash_sql('who')} IN (SELECT right(line, {HASH_DIGITS}) FROM {HASHES})",
        values,
    )
    connection.execute(f"DROP TABLE {NEAR}_tags")


def _latest(files: Iterable[tuple[str, bytes]], among: Collection[str] | None = None) -> dict[str, str]:
    """The latest file with each line, or with each of those `among` them; of two of one time, that of an erasure."""
    found: dict[str, str] = {}
    for name, data in sorted(files, key=lambda one: (one[0].split("-")[1], not one[0].startswith(ALLOWED))):
        lines = data.decode().splitlines()
        found |= dict.fromkeys(lines if among is None else filter(among.__contains__, lines), name)
    return found


def _is_whole(data: bytes) -> bool:
    lines, rest = divmod(len(data), _LINE_BYTES)
    ends = data[_LINE_BYTES - 1 :: _LINE_BYTES].count(b"\n")
    return rest == 0 and ends == data.count(b"\n") == lines and not data.translate(None, _IN_LINES)


def _fill(connection: DuckDBPyConnection, files: list[tuple[str, bytes]]) -> None:
    """A million lines take a fifth of a CPU second; one, if DuckDB has to split them at once."""
    parts = [part for name, data in files if not name.startswith(ALLOWED) for part in _parts(memoryview(data))]
    split = "SELECT unnest(string_split(part, chr(10))) AS line FROM (SELECT unnest($parts::VARCHAR[]) AS part)"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {HASHES} AS {split}", {"parts": parts})
    allowed = {line for name, data in files if name.startswith(ALLOWED) for line in data.decode().splitlines()}
    back = [line for line, name in _latest(files, allowed).items() if name.startswith(ALLOWED)] if allowed else []
    if back:
        connection.execute(f"DELETE FROM {HASHES} WHERE list_contains($back::VARCHAR[], line)", {"back": back})


def _parts(data: memoryview) -> Iterator[str]:
    size = _AT_ONCE * _LINE_BYTES
    for at in range(0, len(data), size):
        yield str(data[at : at + size - 1], "ascii")


def _write_once(path: Path, data: bytes) -> None:
    """Create a file, whole and on disk; one that is there stays as it is."""
    if path.exists():
        return
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(unfinished, path)  # of two that create the key, one does
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    flush_folder(path.parent)
