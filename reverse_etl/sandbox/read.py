"""The sandbox file as people and tests look at it. Runs beside a server that writes."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverse_etl.sandbox.exact import Json, loads
from reverse_etl.sandbox.schema import EMPTY, connect, write
from reverse_etl.sandbox.users.times import iso

_PAGE = 500


@dataclass(frozen=True)
class LoggedRequest:
    """A request and its response, in the order of arrival; `number` counts from 1.

    `key` is a fingerprint of the API key. `answer` is the body of the response; if a fault cut the connection after
    the request was processed, the body that was not delivered. `status` is None if no response was intended.
    `records` counts the objects per array. `fault` names the kinds of faults that hit the request. `body` is empty
    once it is no longer stored.
    """

    number: int
    at: float
    method: str
    path: str
    query: str
    key: str | None
    body: str
    status: int | None
    answer: str
    records: Mapping[str, int]
    fault: str | None


@dataclass(frozen=True)
class SilentDrop:
    """Something that was not stored, or not stored as sent, although the response was a success.

    `index` is the position in `input_array`; `field` is empty if the whole object had no effect.
    """

    request: int
    input_array: str
    index: int
    field: str
    reason: str


@dataclass(frozen=True)
class DropCount:
    """How many silent drops there were of one kind."""

    input_array: str
    field: str
    reason: str
    count: int


class Reader:
    """A connection beside the server's. Any thread may use it."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path)
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def user_ids(
        self, *, external_id: str | None = None, alias: tuple[str, str] | None = None, email: str | None = None
    ) -> list[int]:
        """Users with this identifier; an alias is (name, label). The one that Braze picks comes first."""
        if (external_id is not None) + (alias is not None) + (email is not None) != 1:
            raise ValueError("pass one of external_id, alias and email")
        if external_id is not None:
            where = "external_id = ?1 OR id IN (SELECT user FROM deprecated_ids WHERE external_id = ?1)"
            values: tuple[str, ...] = (external_id,)
        elif alias is not None:
            where, values = "id IN (SELECT user FROM aliases WHERE name = ? AND label = ?)", tuple(alias)
        else:
            where, values = "email = ?", ((email or "").lower(),)
        query = f"SELECT id FROM users WHERE {where} ORDER BY external_id IS NULL, touched DESC"
        with self.snapshot() as db:
            return [row[0] for row in db.execute(query, values)]

    def profile(self, user_id: int) -> dict[str, Json] | None:
        """All that is known of a user: identifiers, standard fields, custom attributes, aliases, subscriptions."""
        with self.snapshot() as db:
            return next(_profiles(db, "WHERE id = ?", [user_id]), None)

    def profiles(self) -> Iterator[dict[str, Json]]:
        """All users, in the order in which they were created. Users may change while this runs."""
        last = 0
        while True:
            with self.snapshot() as db:
                ids = [row[0] for row in db.execute(f"SELECT id FROM users WHERE id > ? LIMIT {_PAGE}", [last])]
                page = list(_profiles(db, f"WHERE id IN ({','.join(map(str, ids))})", []))
            if not ids:
                return
            yield from page
            last = ids[-1]

    def events(self, user_ids: list[int] | None) -> list[dict[str, Json]]:
        """Events of these users, or of all, in the order they came."""
        return self._acts("events", ("name", "time"), user_ids)

    def purchases(self, user_ids: list[int] | None) -> list[dict[str, Json]]:
        """Purchases as they were sent: one of quantity 3 is one entry here."""
        return self._acts("purchases", ("product_id", "currency", "price", "quantity", "time"), user_ids)

    def _acts(self, table: str, columns: tuple[str, ...], user_ids: list[int] | None) -> list[dict[str, Json]]:
        where = "" if user_ids is None else f"WHERE user IN ({','.join(map(str, user_ids))})"
        query = (
            f"SELECT external_id, {', '.join(columns)}, app_id, properties FROM {table} "
            f"JOIN users ON users.id = {table}.user {where} ORDER BY {table}.id"
        )
        with self.snapshot() as db:
            return [_act(columns, row) for row in db.execute(query)]

    def catalog(self, name: str) -> list[dict[str, Json]] | None:
        """Items in the order in which they were created; None if the catalog does not exist."""
        with self.snapshot() as db:
            if db.execute("SELECT 1 FROM catalogs WHERE name = ?", [name]).fetchone() is None:
                return None
            query = "SELECT id, value FROM catalog_items WHERE catalog = ? ORDER BY number"
            return [{"id": id, **loads(value)} for id, value in db.execute(query, [name])]

    def requests(self, after: int = 0, most: int = -1) -> list[LoggedRequest]:
        query = (
            "SELECT number, at, method, path, query, key, coalesce(body, x''), status, answer, records, fault "
            "FROM requests LEFT JOIN bodies USING (number) WHERE number > ? ORDER BY number LIMIT ?"
        )
        with self.snapshot() as db:
            return [_logged(row) for row in db.execute(query, [after, most])]

    def silent_drops(self) -> list[SilentDrop]:
        query = "SELECT request, input_array, position, field, reason FROM silent_drops ORDER BY id"
        with self.snapshot() as db:
            return [SilentDrop(*row) for row in db.execute(query)]

    def drop_counts(self, after: int, paths: Collection[str] = ()) -> list[DropCount]:
        """Silent drops of the requests after number `after`, by kind, the most frequent first; of those to `paths`, if
        there are any."""
        to = f"JOIN requests ON number = request AND path IN ({', '.join('?' * len(paths))})" if paths else ""
        query = (
            f"SELECT input_array, field, reason, count(*) FROM silent_drops {to} WHERE request > ? GROUP BY 1, 2, 3 "
            f"ORDER BY 4 DESC, 1, 2, 3 LIMIT {_PAGE}"
        )
        with self.snapshot() as db:
            return [DropCount(*row) for row in db.execute(query, [*paths, after])]

    def file_id(self) -> str:
        """The id of the file, however often it is emptied."""
        with self.snapshot() as db:
            return str(db.execute("SELECT file_id FROM counters").fetchone()[0])

    def last_request(self) -> int:
        """The number of the last request; 0 if there was none."""
        with self.snapshot() as db:
            return int(db.execute("SELECT requests FROM counters").fetchone()[0])

    def errors(self) -> int:
        """How many requests were in trouble: rejected in whole or in part, hit by a fault, not answered."""
        with self.snapshot() as db:
            return int(db.execute("SELECT errors_live FROM counters").fetchone()[0])

    def counts(self) -> dict[str, int]:
        """Totals. A purchase of quantity 3 counts as 3 (purch), and a request with an empty body apart from others."""
        query = (
            "SELECT users_live AS users, events_live AS events, purchases_live AS purchases, "
            "requests - empty_requests AS requests, empty_requests, attributes_written, data_points, "
            "silent_drops_live AS silent_drops FROM counters"
        )
        with self.snapshot() as db:
            cursor = db.execute(query)
            return dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))

    def empty(self) -> None:
        """Clear everything."""
        with self._lock, write(self._db):
            for statement in EMPTY:
                self._db.execute(statement)

    def copy_to(self, path: Path) -> None:
        """Copy the file as it is at one moment, readable by its owner only. Requests go on meanwhile."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._lock, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")
            self._db.backup(copy)

    def restore_from(self, path: Path) -> None:
        """Make the file what a copy holds, in one transaction."""
        with self._lock, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
            copy.backup(self._db)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """One state of the file for several queries."""
        with self._lock:
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._db.execute("COMMIT")


def _profiles(db: sqlite3.Connection, where: str, values: list[Any]) -> Iterator[dict[str, Json]]:
    query = f"SELECT id, external_id, braze_id, created_at, attributes FROM users {where} ORDER BY id"
    for user, external_id, braze_id, created_at, attributes in db.execute(query, values).fetchall():
        fields, custom = loads(attributes)
        aliases = db.execute("SELECT name, label FROM aliases WHERE user = ? ORDER BY label", [user])
        groups = db.execute("SELECT group_id, state FROM subscriptions WHERE user = ? ORDER BY group_id", [user])
        tokens = db.execute("SELECT app_id, token, device_id FROM push_tokens WHERE user = ? ORDER BY 1, 2", [user])
        push_tokens = [{"app_id": app, "token": token, "device_id": device} for app, token, device in tokens]
        yield {
            **({"external_id": external_id} if external_id is not None else {}),
            "braze_id": braze_id,
            "created_at": iso(created_at),
            **{name: value for name, (value, _) in fields.items()},
            "custom_attributes": {name: value for name, (value, _) in custom.items()},
            "user_aliases": [{"alias_name": name, "alias_label": label} for name, label in aliases],
            "subscription_groups": dict(groups.fetchall()),
            **({"push_tokens": push_tokens} if push_tokens else {}),
        }


def _act(columns: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Json]:
    external_id, *values, app_id, properties = row
    act = {"external_id": external_id, **dict(zip(columns, values, strict=True))}
    if "price" in act:
        act["price"] = loads(act["price"])
    return {
        **act,
        **({"app_id": app_id} if app_id is not None else {}),
        **({"properties": loads(properties)} if properties is not None else {}),
    }


def _logged(row: tuple[Any, ...]) -> LoggedRequest:
    number, at, method, path, query, key, body, status, answer, records, fault = row
    text = body.decode("utf-8", "surrogateescape")
    return LoggedRequest(number, at, method, path, query, key, text, status, answer, loads(records), fault)
