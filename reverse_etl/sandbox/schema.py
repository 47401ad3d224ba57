"""The sandbox file: one SQLite database in WAL mode, readable by its owner only.

    users ──┬── aliases, deprecated_ids      other names of a user
            ├── push_tokens, subscriptions
            └── events, purchases            never de-duplicated
    attribute_types                          first seen type of each custom attribute
    catalogs ── catalog_items                what no user owns
    requests ── bodies                       what came in, and what was answered
    silent_drops                             what was not stored though the answer was a success
    windows, counters                        rate limits; numbers handed out and sums

`users.attributes` is a JSON array of two objects, standard fields and custom attributes. Both are
name -> [value, number of the request that wrote it].
`users.email` and `users.phone` repeat two of the fields, to find users by them.
"""

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

APPLICATION_ID = 0x52_45_54_4C  # "RETL"
BUSY_TIMEOUT_S = 30.0
_FIRST_TROUBLE = "(status IS NULL OR status >= 400 OR refused > 0 OR fault IS NOT NULL)"
TROUBLE = f"(is_probe = 0 AND {_FIRST_TROUBLE})"  # an index has these words
_FIRST_SUMS = ("users_live", "events_live", "purchases_live", "silent_drops_live")
LIVE_SUMS = (*_FIRST_SUMS, "errors_live")

FIRST_TABLES = (
    """CREATE TABLE users (
        id INTEGER PRIMARY KEY,
        braze_id TEXT NOT NULL UNIQUE,
        external_id TEXT UNIQUE,
        email TEXT,
        phone TEXT,
        attributes TEXT NOT NULL,
        created_at REAL NOT NULL,
        touched INTEGER NOT NULL
    )""",
    "CREATE INDEX users_by_email ON users (email) WHERE email IS NOT NULL",
    "CREATE INDEX users_by_phone ON users (phone) WHERE phone IS NOT NULL",
    """CREATE TABLE aliases (
        label TEXT NOT NULL,
        name TEXT NOT NULL,
        user INTEGER NOT NULL,
        PRIMARY KEY (label, name)
    ) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX aliases_of_user ON aliases (user, label)",
    "CREATE TABLE deprecated_ids (external_id TEXT PRIMARY KEY, user INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX deprecated_ids_of_user ON deprecated_ids (user)",
    """CREATE TABLE push_tokens (
        app_id TEXT NOT NULL,
        token TEXT NOT NULL,
        device_id TEXT NOT NULL,
        user INTEGER NOT NULL,
        PRIMARY KEY (app_id, token)
    ) WITHOUT ROWID""",
    "CREATE INDEX push_tokens_of_user ON push_tokens (user)",
    "CREATE INDEX push_tokens_by_device ON push_tokens (device_id)",
    """CREATE TABLE subscriptions (
        user INTEGER NOT NULL,
        group_id TEXT NOT NULL,
        state TEXT NOT NULL,
        request INTEGER NOT NULL,
        PRIMARY KEY (user, group_id)
    ) WITHOUT ROWID""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        user INTEGER NOT NULL,
        name TEXT NOT NULL,
        time TEXT NOT NULL,
        unix_s REAL NOT NULL,
        app_id TEXT,
        properties TEXT,
        request INTEGER NOT NULL
    )""",
    "CREATE INDEX events_of_user ON events (user)",
    """CREATE TABLE purchases (
        id INTEGER PRIMARY KEY,
        user INTEGER NOT NULL,
        product_id TEXT NOT NULL,
        currency TEXT NOT NULL,
        price TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        time TEXT NOT NULL,
        unix_s REAL NOT NULL,
        app_id TEXT,
        properties TEXT,
        request INTEGER NOT NULL
    )""",
    "CREATE INDEX purchases_of_user ON purchases (user)",
    "CREATE TABLE attribute_types (name TEXT PRIMARY KEY, kind TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE requests (
        number INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        method TEXT NOT NULL,
        path TEXT NOT NULL,
        query TEXT NOT NULL,
        key TEXT,
        status INTEGER,
        answer TEXT NOT NULL,
        records TEXT NOT NULL,
        fault TEXT
    )""",
    "CREATE TABLE bodies (number INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    """CREATE TABLE silent_drops (
        id INTEGER PRIMARY KEY,
        request INTEGER NOT NULL,
        input_array TEXT NOT NULL,
        position INTEGER NOT NULL,
        field TEXT NOT NULL,
        reason TEXT NOT NULL
    )""",
    """CREATE TABLE windows (
        family TEXT NOT NULL,
        position INTEGER NOT NULL,
        start REAL NOT NULL,
        requests INTEGER NOT NULL,
        PRIMARY KEY (family, position)
    ) WITHOUT ROWID""",
    """CREATE TABLE counters (
        requests INTEGER NOT NULL,
        users INTEGER NOT NULL,
        touches INTEGER NOT NULL,
        attributes_written INTEGER NOT NULL,
        data_points INTEGER NOT NULL
    )""",
    "INSERT INTO counters VALUES (0, 0, 0, 0, 0)",
)
CATALOG_TABLES = (
    """CREATE TABLE catalogs (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL,
        fields TEXT NOT NULL,
        updated_at REAL NOT NULL
    )""",
    """CREATE TABLE catalog_items (
        number INTEGER PRIMARY KEY,
        catalog TEXT NOT NULL,
        id TEXT NOT NULL,
        value TEXT NOT NULL,
        request INTEGER NOT NULL,
        UNIQUE (catalog, id)
    )""",
)
WATCHED = (  # what a person looks for, and sums that need no counting
    "ALTER TABLE requests ADD COLUMN duration_s REAL",
    "ALTER TABLE requests ADD COLUMN refused INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE requests ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX requests_by_path ON requests (path, number)",
    "CREATE INDEX requests_by_status ON requests (status, number)",
    f"CREATE INDEX requests_in_trouble ON requests (number) WHERE {_FIRST_TROUBLE}",
    "CREATE INDEX silent_drops_of_request ON silent_drops (request)",
    "CREATE INDEX aliases_by_name ON aliases (name, label)",
    *(f"ALTER TABLE counters ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0" for name in _FIRST_SUMS),
    """UPDATE counters SET
        users_live = (SELECT count(*) FROM users),
        events_live = (SELECT count(*) FROM events),
        purchases_live = (SELECT coalesce(sum(p.quantity), 0) FROM purchases p),
        silent_drops_live = (SELECT count(*) FROM silent_drops)""",
)
NAMED = (  # who keeps a state knows by it whether this is still the file it has sent to
    "ALTER TABLE counters ADD COLUMN file_id TEXT",
    "UPDATE counters SET file_id = lower(hex(randomblob(8)))",
)
EMPTY_REQUESTS = (  # an empty object changes nothing: it asks whether a key may use the endpoint
    "ALTER TABLE counters ADD COLUMN empty_requests INTEGER NOT NULL DEFAULT 0",
    "UPDATE counters SET empty_requests = (SELECT count(*) FROM bodies WHERE body = x'7b7d')",
)
PROBES = (  # such a request is not in trouble: what it asks was answered
    "ALTER TABLE requests ADD COLUMN is_probe INTEGER NOT NULL DEFAULT 0",
    """UPDATE requests SET is_probe = 1
        WHERE (status = 400 OR status = 404 AND path LIKE '/catalogs/%') AND fault IS NULL
        AND number IN (SELECT b.number FROM bodies b WHERE body = x'7b7d')""",
    "DROP INDEX requests_in_trouble",
    f"CREATE INDEX requests_in_trouble ON requests (number) WHERE {TROUBLE}",
    "ALTER TABLE counters ADD COLUMN errors_live INTEGER NOT NULL DEFAULT 0",
    f"UPDATE counters SET errors_live = (SELECT count(*) FROM requests WHERE {TROUBLE})",
)
STEPS = (
    FIRST_TABLES,
    CATALOG_TABLES,
    WATCHED,
    NAMED,
    EMPTY_REQUESTS,
    PROBES,
)  # what each format adds to the one before
FORMAT = len(STEPS)
EMPTY = (
    *(
        f"DELETE FROM {table}"
        for table in (
            "users",
            "aliases",
            "deprecated_ids",
            "push_tokens",
            "subscriptions",
            "events",
            "purchases",
            "attribute_types",
            "requests",
            "bodies",
            "silent_drops",
            "windows",
            "catalogs",
            "catalog_items",
        )
    ),
    "UPDATE counters SET requests = 0, empty_requests = 0, users = 0, touches = 0, attributes_written = 0, "
    "data_points = 0, " + ", ".join(f"{name} = 0" for name in LIVE_SUMS),
)


# What SQLite says of a disk, as the system says it.
_BY_CODE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}


class FileRefusedError(ValueError):
    """The file is not the sandbox's, or of a version that this one does not know."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, or create it. Transactions are begun explicitly; the connection may change threads, one at a time.

    A file of an older version gets what it lacks. Raises FileRefusedError if the file is something else, or of a
    newer version, and leaves that as it was; and OSError if the disk is full, or cannot be written.
    """
    try:
        return _opened(path)
    except sqlite3.OperationalError as error:
        number = _BY_CODE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # to open and close it would drop the locks of SQLite in this process
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    try:
        _format_of(db, path)
        path.chmod(0o600)  # SQLite gives its -wal and -shm files the same rights
        _write_ahead(db)
        db.execute("PRAGMA synchronous = OFF")  # survives a killed process; a power cut may cost the file
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        with write(db):
            _bring_up_to_date(db, _format_of(db, path))
    except BaseException:
        db.close()
        raise
    return db


@dataclass(frozen=True)
class FileMark:
    """The id that a sandbox file gets when it is created, and keeps, and the number of its last request."""

    file_id: str
    requests: int


def file_mark(path: Path) -> FileMark | None:
    """Which sandbox file this is; None if there is no such file yet.

    Neither creates nor changes anything. A file of an older version has no id until it is opened.
    """
    if not path.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            found, requests = db.execute("SELECT file_id, requests FROM counters").fetchone()
            return FileMark(str(found), int(requests))
    except sqlite3.Error:
        return None


def _format_of(db: sqlite3.Connection, path: Path) -> int:
    """The file's format, 0 if it is empty, all read at one moment: another process may be filling it."""
    query = (
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) "
        "FROM pragma_application_id, pragma_user_version"
    )
    try:
        application_id, version, tables = db.execute(query).fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise FileRefusedError(f"{path} is not a sandbox file") from error
    if not tables:
        return 0
    if application_id != APPLICATION_ID:
        raise FileRefusedError(f"{path} is not a sandbox file")
    if version > FORMAT:
        raise FileRefusedError(f"{path} was written by a newer version of the sandbox")
    return int(version)


def _bring_up_to_date(db: sqlite3.Connection, version: int) -> None:
    if version == FORMAT:
        return
    for tables in STEPS[version:]:
        for statement in tables:
            db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT}")


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait for another process here, so ask again for a while."""
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def write(db: sqlite3.Connection) -> Iterator[None]:
    """One write transaction, alone on the file from its first statement on."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
