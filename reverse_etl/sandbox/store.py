"""The sandbox file as one request sees it: look users up, change working copies, write all of it at the end.

Nothing outlives a transaction: the next one reads the file again, so another process may write in between.
Rules of Braze live elsewhere.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverse_etl.sandbox.exact import Json, dumps, loads
from reverse_etl.sandbox.http.limits import Used
from reverse_etl.sandbox.schema import connect, write
from reverse_etl.sandbox.users.identifiers import Alias
from reverse_etl.sandbox.users.values import Kind

_USER = "SELECT id, braze_id, external_id, attributes, created_at, touched FROM users"
_INSERT_USER = (
    "INSERT INTO users (id, braze_id, created_at, external_id, email, phone, attributes, touched) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE_USER = "UPDATE users SET external_id = ?, email = ?, phone = ?, attributes = ?, touched = ? WHERE id = ?"
_INSERT_EVENT = (
    "INSERT INTO events (user, name, time, unix_s, app_id, properties, request) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_PURCHASE = (
    "INSERT INTO purchases (user, product_id, currency, price, quantity, time, unix_s, app_id, properties, request) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_SUBSCRIPTION = "INSERT OR REPLACE INTO subscriptions (user, group_id, state, request) VALUES (?, ?, ?, ?)"
_INSERT_DROP = "INSERT INTO silent_drops (request, input_array, position, field, reason) VALUES (?, ?, ?, ?, ?)"
_COUNT = (
    "UPDATE counters SET requests = ?, users = ?, touches = ?, "
    "attributes_written = attributes_written + ?, data_points = data_points + ?, "
    "users_live = users_live + ?, events_live = events_live + ?, purchases_live = purchases_live + ?, "
    "silent_drops_live = silent_drops_live + ?"
)


@dataclass(slots=True, eq=False)
class User:
    """A working copy. `fields` and `custom`: name -> [value, number of the request that wrote it]."""

    id: int
    braze_id: str
    external_id: str | None
    fields: dict[str, list[Json]]
    custom: dict[str, list[Json]]
    created_at: float
    touched: int

    def value(self, name: str) -> Json:
        """A standard field, or None."""
        return self.fields[name][0] if name in self.fields else None


@dataclass
class Transaction:
    """One request's work on the file. Objects it hands out are written when the transaction ends."""

    db: sqlite3.Connection
    now: float
    seed: int
    number: int  # of this request, from 1
    _users: int
    _touches: int
    _attributes_written: int = 0
    _data_points: int = 0
    dropped: int = 0  # silently, in this request
    _live: dict[str, int] = field(default_factory=lambda: {"users": 0, "events": 0, "purchases": 0})
    _by_id: dict[int, User] = field(default_factory=dict)
    _by_external_id: dict[str, User | None] = field(default_factory=dict)
    _new: dict[int, User] = field(default_factory=dict)
    _changed: dict[int, User] = field(default_factory=dict)
    _touched: dict[int, User] = field(default_factory=dict)
    _events: list[tuple[Any, ...]] = field(default_factory=list)
    _purchases: list[tuple[Any, ...]] = field(default_factory=list)
    _subscriptions: list[tuple[Any, ...]] = field(default_factory=list)
    _drops: list[tuple[Any, ...]] = field(default_factory=list)

    # Users: find, make, change

    def prefetch(self, external_ids: Iterable[str]) -> None:
        """Read these users at once; `by_external_id` then finds them without a query of its own."""
        wanted = list({one for one in external_ids if one not in self._by_external_id})
        if not wanted:
            return
        self.flush()
        found = {user.external_id: user for user in self._read(f"WHERE external_id IN ({_marks(wanted)})", wanted)}
        self._by_external_id.update((one, found.get(one)) for one in wanted)
        missing = [one for one in wanted if one not in found]
        query = f"SELECT external_id, user FROM deprecated_ids WHERE external_id IN ({_marks(missing)})"
        for external_id, user in self.db.execute(query, missing).fetchall():
            self._by_external_id[external_id] = self._one("WHERE id = ?", [user])

    def by_external_id(self, external_id: str) -> User | None:
        """The user with this id, be it primary or deprecated."""
        self.prefetch([external_id])
        return self._by_external_id[external_id]

    def by_alias(self, alias: Alias) -> User | None:
        self.flush()
        return self._one("WHERE id = (SELECT user FROM aliases WHERE label = ? AND name = ?)", alias)

    def by_braze_id(self, braze_id: str) -> User | None:
        self.flush()
        return self._one("WHERE braze_id = ?", [braze_id])

    def by_push_token(self, app_id: str, token: str) -> User | None:
        self.flush()
        return self._one("WHERE id = (SELECT user FROM push_tokens WHERE app_id = ? AND token = ?)", [app_id, token])

    def with_device(self, device_id: str) -> list[User]:
        self.flush()
        return self._read("WHERE id IN (SELECT user FROM push_tokens WHERE device_id = ?)", [device_id])

    def with_email(self, email: str) -> list[User]:
        """All users with this email, the most recently updated last."""
        self.flush()
        return self._read("WHERE email = ? ORDER BY touched", [email.lower()])

    def with_phone(self, phone: str) -> list[User]:
        """All users with this phone, the most recently updated last."""
        self.flush()
        return self._read("WHERE phone = ? ORDER BY touched", [phone])

    def create(self, external_id: str | None = None) -> User:
        self._users += 1
        self._live["users"] += 1
        braze_id = hashlib.blake2b(f"{self.seed}/{self._users}".encode(), digest_size=12).hexdigest()
        user = User(self._users, braze_id, external_id, {}, {}, self.now, 0)
        self._by_id[user.id] = self._new[user.id] = user
        if external_id is not None:
            self._by_external_id[external_id] = user
        self.change(user)
        return user

    def touch(self, user: User) -> None:
        """Say that a user did something. The count decides who was updated most recently."""
        self._touches += 1
        user.touched = self._touches
        self._touched[user.id] = user

    def change(self, user: User) -> None:
        """Say that a user's fields, attributes or id changed."""
        self.touch(user)
        if user.id not in self._new:
            self._changed[user.id] = user

    def rename(self, user: User, external_id: str) -> None:
        """Give a user an unused id; the old one, if any, is removed."""
        if user.external_id is not None:
            self._by_external_id[user.external_id] = None
        user.external_id = external_id
        self._by_external_id[external_id] = user
        self.change(user)

    def delete(self, user: User) -> None:
        """Remove a user with all that belongs to it."""
        self.flush()
        self._live["users"] -= 1
        sums = "SELECT (SELECT count(*) FROM events WHERE user = ?1), "
        sums += "(SELECT coalesce(sum(quantity), 0) FROM purchases WHERE user = ?1)"
        for name, gone in zip(("events", "purchases"), self.db.execute(sums, [user.id]).fetchone(), strict=True):
            self._live[name] -= gone
        for table in ("aliases", "deprecated_ids", "push_tokens", "subscriptions", "events", "purchases"):
            self.db.execute(f"DELETE FROM {table} WHERE user = ?", [user.id])
        self.db.execute("DELETE FROM users WHERE id = ?", [user.id])
        del self._by_id[user.id]
        self._by_external_id.clear()

    def move_belongings(self, source: User, target: User) -> None:
        """Hand events, purchases, tokens, and aliases and subscriptions that the target lacks, to the target."""
        self.flush()
        for table in ("events", "purchases", "push_tokens"):
            self.db.execute(f"UPDATE {table} SET user = ? WHERE user = ?", [target.id, source.id])
        for table in ("aliases", "subscriptions"):
            self.db.execute(f"UPDATE OR IGNORE {table} SET user = ? WHERE user = ?", [target.id, source.id])

    # Names of users

    def aliases(self, user: User) -> list[Alias]:
        query = "SELECT label, name FROM aliases WHERE user = ? ORDER BY label"
        return self.db.execute(query, [user.id]).fetchall()

    def add_alias(self, user: User, alias: Alias) -> bool:
        """False if the pair is taken, or the user has an alias with this label."""
        query = "INSERT OR IGNORE INTO aliases (label, name, user) VALUES (?, ?, ?)"
        return self.db.execute(query, [*alias, user.id]).rowcount == 1

    def rename_alias(self, label: str, old: str, new: str) -> bool:
        query = "UPDATE OR IGNORE aliases SET name = ? WHERE label = ? AND name = ?"
        return self.db.execute(query, [new, label, old]).rowcount == 1

    def deprecate(self, external_id: str, user: User) -> None:
        self.db.execute("INSERT INTO deprecated_ids (external_id, user) VALUES (?, ?)", [external_id, user.id])
        self._by_external_id[external_id] = user

    def remove_deprecated(self, external_id: str) -> bool:
        self._by_external_id.pop(external_id, None)
        return self.db.execute("DELETE FROM deprecated_ids WHERE external_id = ?", [external_id]).rowcount == 1

    def push_tokens(self, user: User) -> list[dict[str, str]]:
        query = "SELECT app_id, token, device_id FROM push_tokens WHERE user = ? ORDER BY app_id, token"
        rows = self.db.execute(query, [user.id]).fetchall()
        return [{"app_id": app_id, "token": token, "device_id": device_id} for app_id, token, device_id in rows]

    def add_push_token(self, user: User, app_id: str, token: str, device_id: str | None) -> None:
        """Known tokens stay where they are. Without a device id, one is generated."""
        made_up = hashlib.blake2b(f"{self.seed}/{app_id}/{token}".encode(), digest_size=16).hexdigest()
        query = "INSERT OR IGNORE INTO push_tokens (app_id, token, device_id, user) VALUES (?, ?, ?, ?)"
        self.db.execute(query, [app_id, token, device_id or made_up, user.id])

    # What users did, and what they want

    def add_event(self, user: User, event: Mapping[str, Json], time: str, unix_s: float) -> None:
        self._live["events"] += 1
        properties = dumps(event["properties"]) if "properties" in event else None
        self._events.append((user.id, event["name"], time, unix_s, event.get("app_id"), properties, self.number))

    def add_purchase(self, user: User, purchase: Mapping[str, Json], time: str, unix_s: float) -> None:
        properties = dumps(purchase["properties"]) if "properties" in purchase else None
        price, quantity = dumps(purchase["price"]), purchase.get("quantity") or 1
        self._live["purchases"] += quantity
        what = (purchase["product_id"], purchase["currency"], price, quantity)
        self._purchases.append((user.id, *what, time, unix_s, purchase.get("app_id"), properties, self.number))

    def subscribe(self, user: User, group_id: str, state: str) -> None:
        self._subscriptions.append((user.id, group_id, state, self.number))

    def subscriptions(self, user: User) -> dict[str, str]:
        """group id -> state"""
        self.flush()
        query = "SELECT group_id, state FROM subscriptions WHERE user = ? ORDER BY group_id"
        return dict(self.db.execute(query, [user.id]).fetchall())

    def summary(self, table: str, name: str, user: User, since_s: float) -> list[tuple[str, float, float, int]]:
        """(name, first, last, count) of events or purchases since a time, in unix seconds."""
        count = "count(*)" if table == "events" else "sum(quantity)"
        query = (
            f"SELECT {name}, min(unix_s), max(unix_s), {count} FROM {table} "
            f"WHERE user = ? AND unix_s >= ? GROUP BY {name} ORDER BY min(id)"
        )
        return self.db.execute(query, [user.id, since_s]).fetchall()

    def revenue(self, user: User) -> float:
        query = "SELECT coalesce(sum(quantity * CAST(price AS REAL)), 0.0) FROM purchases WHERE user = ?"
        total: float = self.db.execute(query, [user.id]).fetchone()[0]
        return total

    # The workspace

    def attribute_types(self, names: Collection[str]) -> dict[str, Kind]:
        """First seen type of each known attribute."""
        query = f"SELECT name, kind FROM attribute_types WHERE name IN ({_marks(names)})"
        return dict(self.db.execute(query, list(names)).fetchall())

    def keep_attribute_types(self, kinds: Mapping[str, Kind]) -> None:
        self.db.executemany("INSERT OR IGNORE INTO attribute_types (name, kind) VALUES (?, ?)", kinds.items())

    def known_attributes(self, skip: int, most: int) -> list[tuple[str, Kind]]:
        """Name and first seen type of attributes, in the order of their names."""
        query = "SELECT name, kind FROM attribute_types ORDER BY name LIMIT ? OFFSET ?"
        return self.db.execute(query, [most, skip]).fetchall()

    def longest_arrays(self, names: Collection[str]) -> dict[str, int]:
        """The number of elements of the longest array that a user has, by attribute."""
        query = (
            "SELECT key, max(json_array_length(value, '$[0]')) FROM users, json_each(users.attributes, '$[1]') "
            f"WHERE key IN ({_marks(names)}) GROUP BY key"
        )
        return dict(self.db.execute(query, list(names)).fetchall()) if names else {}

    def known_names(self, table: str, name: str, skip: int, most: int) -> list[str]:
        """The different names of events or products, in order."""
        query = f"SELECT DISTINCT {name} FROM {table} ORDER BY {name} LIMIT ? OFFSET ?"
        return [found for (found,) in self.db.execute(query, [most, skip]).fetchall()]

    def used(self, family: str) -> list[Used]:
        query = "SELECT start, requests FROM windows WHERE family = ? ORDER BY position"
        return [Used(start, requests) for start, requests in self.db.execute(query, [family])]

    def keep_used(self, family: str, used: Sequence[Used]) -> None:
        rows = [(family, position, count.start, count.requests) for position, count in enumerate(used)]
        self.db.executemany("INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?)", rows)

    # Book-keeping

    def count(self, *, attributes: int = 0, data_points: int = 0) -> None:
        self._attributes_written += attributes
        self._data_points += data_points

    def drop(self, input_array: str, index: int, name: str, reason: str) -> None:
        self.dropped += 1
        self._drops.append((self.number, input_array, index, name, reason))

    def flush(self) -> None:
        """Write what was handed out and changed so far, so that queries see it."""
        if self._new:
            rows = [(user.id, user.braze_id, user.created_at, *_row(user)) for user in self._new.values()]
            self.db.executemany(_INSERT_USER, rows)
            self._forget_touched(self._new)
        if self._changed:
            self.db.executemany(_UPDATE_USER, [(*_row(user), user.id) for user in self._changed.values()])
            self._forget_touched(self._changed)
        if self._touched:
            touched = [(user.touched, user.id) for user in self._touched.values()]
            self.db.executemany("UPDATE users SET touched = ? WHERE id = ?", touched)
            self._touched.clear()
        for statement, rows in (
            (_INSERT_EVENT, self._events),
            (_INSERT_PURCHASE, self._purchases),
            (_INSERT_SUBSCRIPTION, self._subscriptions),
            (_INSERT_DROP, self._drops),
        ):
            if rows:
                self.db.executemany(statement, rows)
                rows.clear()

    def finish(self) -> None:
        """The last step of a transaction."""
        self.flush()
        sums = [self.number, self._users, self._touches, self._attributes_written, self._data_points]
        self.db.execute(_COUNT, [*sums, *self._live.values(), self.dropped])

    def _forget_touched(self, written: dict[int, User]) -> None:
        for number in written:
            self._touched.pop(number, None)
        written.clear()

    def _one(self, where: str, values: Sequence[Any]) -> User | None:
        return next(iter(self._read(where, values)), None)

    def _read(self, where: str, values: Sequence[Any]) -> list[User]:
        """Users from the file; one that was read before comes as the same working copy."""
        users = []
        query = f"{_USER} {where}"
        for id, braze_id, external_id, attributes, created_at, touched in self.db.execute(query, values):
            user = self._by_id.get(id)
            if user is None:
                fields, custom = loads(attributes)
                user = User(id, braze_id, external_id, fields, custom, created_at, touched)
                self._by_id[id] = user
            users.append(user)
        return users


@dataclass(frozen=True)
class Entry:
    """A line of the request log."""

    at: float
    method: str
    path: str
    query: str
    key: str | None
    status: int | None
    answer: str
    records: Mapping[str, int]
    fault: str | None
    duration_s: float
    refused: int
    dropped: int
    body: bytes
    is_empty: bool  # the body is an empty object
    is_probe: bool  # it is, and the response says that the key may use the endpoint

    @property
    def is_in_trouble(self) -> bool:
        """As TROUBLE of schema.py says."""
        is_well = self.status is not None and self.status < 400 and not self.refused and self.fault is None
        return not self.is_probe and not is_well


class Store:
    """A sandbox file that is open for writing."""

    def __init__(self, path: Path, *, seed: int, log_bodies: int) -> None:
        self._db = connect(path)
        self._seed = seed
        self._log_bodies = log_bodies

    def close(self) -> None:
        self._db.close()

    def copy_to(self, other: sqlite3.Connection) -> None:
        self._db.backup(other)

    @contextlib.contextmanager
    def transaction(self, clock: Callable[[], float]) -> Iterator[Transaction]:
        """All of one request, or nothing. Waits for other processes that write, then looks at the clock."""
        with write(self._db):
            number, users, touches = self._db.execute("SELECT requests + 1, users, touches FROM counters").fetchone()
            work = Transaction(self._db, clock(), self._seed, number, users, touches)
            yield work
            work.finish()

    def log(self, number: int, entry: Entry) -> None:
        """Write a request down. Within its transaction."""
        self._db.execute(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                number,
                entry.at,
                entry.method,
                entry.path,
                entry.query,
                entry.key,
                entry.status,
                entry.answer,
                dumps(dict(entry.records)),
                entry.fault,
                entry.duration_s,
                entry.refused,
                entry.dropped,
                entry.is_probe,
            ],
        )
        if entry.is_in_trouble:
            self._db.execute("UPDATE counters SET errors_live = errors_live + 1")
        if entry.is_empty:
            self._db.execute("UPDATE counters SET empty_requests = empty_requests + 1")
        if self._log_bodies > 0:
            self._db.execute("INSERT INTO bodies VALUES (?, ?)", [number, entry.body])
            self._db.execute("DELETE FROM bodies WHERE number <= ?", [number - self._log_bodies])


def _row(user: User) -> tuple[Any, ...]:
    attributes = dumps([user.fields, user.custom])
    return user.external_id, user.value("email"), user.value("phone"), attributes, user.touched


def _marks(values: Collection[Any]) -> str:
    return ",".join("?" * len(values))
