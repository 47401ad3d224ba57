"""What the page shows of the sandbox file. Every list comes in pages by key, from an index: no query reads all rows.

Values are JSON strings inside the JSON: as numbers they would lose digits in a browser.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reverse_etl.sandbox.exact import Json, dumps, loads
from reverse_etl.sandbox.read import Reader
from reverse_etl.sandbox.schema import TROUBLE
from reverse_etl.sandbox.users.times import iso

PAGE = 50
_LAST = "\U0010ffff"  # sorts after every other character
_FOUND = "SELECT {value}, {user} FROM {table} WHERE {value} >= ? AND {value} < ? ORDER BY 1, 2"


@dataclass(frozen=True)
class Hunt:
    """One way to look up users: by values that start with the search text."""

    name: str
    table: str
    value: str
    user: str = "id"


HUNTS = (
    Hunt("external_id", "users", "external_id"),
    Hunt("email", "users", "email"),
    Hunt("phone", "users", "phone"),
    Hunt("braze_id", "users", "braze_id"),
    Hunt("alias", "aliases", "name", "user"),
    Hunt("deprecated_id", "deprecated_ids", "external_id", "user"),
)
_ACTS = {
    "events": "name, time, app_id, properties, request",
    "purchases": "product_id, currency, price, quantity, time, app_id, properties, request",
}
_CATALOGS = (
    "SELECT name, description, fields, updated_at, (SELECT count(*) FROM catalog_items WHERE catalog = catalogs.name) "
    "AS items FROM catalogs"
)
_LINE = (
    "number, at, method, path, query, key, status, answer, records, fault, duration_s, refused AS rejected, dropped, "
    "is_probe"
)


class Watch:
    """Looks at the file through the connection of a `Reader`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    # Users

    def users(self, text: str, after: str) -> dict[str, Json]:
        """Users with a value that starts with `text`; without it all users, newest first. `after` is a `next`."""
        with self._reader.snapshot() as db:
            if text:
                return _found(db, text, after)
            last = int(after) if after else 2**62
            query = "SELECT id FROM users WHERE id < ? ORDER BY id DESC LIMIT ?"
            ids = [id for (id,) in db.execute(query, [last, PAGE])]
            return {"users": [_card(db, id) for id in ids], "next": str(ids[-1]) if len(ids) == PAGE else None}

    def user(self, column: str, value: str) -> dict[str, Json] | None:
        """One user with the request that wrote each value."""
        with self._reader.snapshot() as db:
            query = f"SELECT id, attributes FROM users WHERE {column} = ?"
            row = db.execute(query, [value]).fetchone()
            if row is None and column == "external_id":
                query = "SELECT id, attributes FROM users JOIN deprecated_ids d ON id = user WHERE d.external_id = ?"
                row = db.execute(query, [value]).fetchone()
            if row is None:
                return None
            id, attributes = row
            fields, custom = loads(attributes)
            groups = "SELECT group_id, state, request FROM subscriptions WHERE user = ? ORDER BY group_id"
            tokens = "SELECT app_id, token, device_id FROM push_tokens WHERE user = ? ORDER BY app_id, token"
            old = "SELECT external_id FROM deprecated_ids WHERE user = ? ORDER BY external_id"
            return {
                **_card(db, id),
                "fields": _values(fields),
                "custom_attributes": _values(custom),
                "deprecated_ids": [external_id for (external_id,) in db.execute(old, [id])],
                "subscription_groups": _rows(db.execute(groups, [id])),
                "push_tokens": _rows(db.execute(tokens, [id])),
                "events": _acts(db, "events", id, None),
                "purchases": _acts(db, "purchases", id, None),
            }

    def acts(self, table: str, user: int, before: int | None) -> dict[str, Json]:
        """Events or purchases of a user, the latest first."""
        with self._reader.snapshot() as db:
            return _acts(db, table, user, before)

    # Requests

    def log(self, before: int | None, path: str, status: str, *, only_trouble: bool) -> dict[str, Json]:
        """Requests, latest first, without their bodies. `status`: 201, 4xx, or none (no response)."""
        wanted = ["number < ?"]
        values: list[int | str] = [2**62 if before is None else before]
        if path:
            wanted, values = [*wanted, "path >= ? AND path < ?"], [*values, path, path + _LAST]
        if status == "none":
            wanted.append("status IS NULL")
        elif status.endswith("xx"):
            first = int(status[0]) * 100
            wanted, values = [*wanted, "status BETWEEN ? AND ?"], [*values, first, first + 99]
        elif status:
            wanted, values = [*wanted, "status = ?"], [*values, int(status)]
        if only_trouble:
            wanted.append(TROUBLE)
        query = f"SELECT {_LINE} FROM requests WHERE {' AND '.join(wanted)} ORDER BY number DESC LIMIT ?"
        with self._reader.snapshot() as db:
            rows = [_line(row) for row in _rows(db.execute(query, [*values, PAGE]))]
        return {"requests": rows, "next": rows[-1]["number"] if len(rows) == PAGE else None}

    def request(self, number: int) -> dict[str, Json] | None:
        """A whole request: body (None: no longer stored), response, and what was silently dropped."""
        drops = "SELECT input_array, position AS 'index', field, reason FROM silent_drops WHERE request = ? ORDER BY id"
        with self._reader.snapshot() as db:
            query = f"SELECT {_LINE}, body FROM requests LEFT JOIN bodies USING (number) WHERE number = ?"
            rows = _rows(db.execute(query, [number]))
            if not rows:
                return None
            body = rows[0]["body"]
            text = None if body is None else body.decode("utf-8", "replace")
            return {**rows[0], "records": loads(rows[0]["records"]), "body": text} | {
                "at": iso(rows[0]["at"]),
                "drops": _rows(db.execute(drops, [number])),
            }

    def body(self, number: int) -> bytes | None:
        with self._reader.snapshot() as db:
            row = db.execute("SELECT body FROM bodies WHERE number = ?", [number]).fetchone()
        return None if row is None else bytes(row[0])

    def drops(self, before: int | None) -> dict[str, Json]:
        """Silent drops, the latest first."""
        query = (
            "SELECT id, request, input_array, position AS 'index', field, reason FROM silent_drops "
            "WHERE id < ? ORDER BY id DESC LIMIT ?"
        )
        with self._reader.snapshot() as db:
            rows = _rows(db.execute(query, [2**62 if before is None else before, PAGE]))
        return {"drops": rows, "next": rows[-1]["id"] if len(rows) == PAGE else None}

    # Catalogs

    def how_many_catalogs(self) -> int:
        with self._reader.snapshot() as db:
            return int(db.execute("SELECT count(*) FROM catalogs").fetchone()[0])

    def catalogs(self) -> list[dict[str, Json]]:
        """All of them, in the order they were made: Braze has few of them in a workspace."""
        with self._reader.snapshot() as db:
            return [_catalog(row) for row in _rows(db.execute(f"{_CATALOGS} ORDER BY id"))]

    def catalog(self, name: str, text: str, after: str) -> dict[str, Json] | None:
        """One catalog, with its items whose ids begin with `text`, by id."""
        query = (
            "SELECT id, value AS json, request FROM catalog_items "
            "WHERE catalog = ? AND id >= ? AND id < ? AND id > ? ORDER BY id LIMIT ?"
        )
        with self._reader.snapshot() as db:
            found = _rows(db.execute(f"{_CATALOGS} WHERE name = ?", [name]))
            if not found:
                return None
            rows = _rows(db.execute(query, [name, text, text + _LAST, after, PAGE]))
        return {**_catalog(found[0]), "rows": rows, "next": rows[-1]["id"] if len(rows) == PAGE else None}

    def item(self, catalog: str, id: str) -> dict[str, Json] | None:
        """The values of an item, in the order of its catalog's fields, and the request that wrote it last."""
        query = (
            "SELECT value, request, fields FROM catalog_items i JOIN catalogs c ON c.name = i.catalog "
            "WHERE catalog = ? AND i.id = ?"
        )
        with self._reader.snapshot() as db:
            row = db.execute(query, [catalog, id]).fetchone()
        if row is None:
            return None
        values, fields = {"id": id, **loads(row[0])}, loads(row[2])
        entries = [
            {"name": name, "type": fields[name], "json": dumps(values[name])} for name in fields if name in values
        ]
        return {"request": row[1], "fields": entries, "lacks": [name for name in fields if name not in values]}


def _found(db: Any, text: str, after: str) -> dict[str, Json]:
    """A page of hits, hunt by hunt. A user is shown at the first hunt that finds it."""
    start, skip_value, skip_user = loads(after) if after else (0, None, 0)
    cards: list[dict[str, Json]] = []
    for number in range(start, len(HUNTS)):
        for value, id in _hits(db, HUNTS[number], text, skip_value if number == start else None, skip_user):
            card = _card(db, id)
            if any(_begins(card, hunt.name, text) for hunt in HUNTS[:number]):
                continue
            cards.append({**card, "found_by": HUNTS[number].name, "found": value})
            if len(cards) == PAGE:
                return {"users": cards, "next": dumps([number, value, id])}
    return {"users": cards, "next": None}


def _hits(db: Any, hunt: Hunt, text: str, value: str | None, user: int) -> Iterator[tuple[str, int]]:
    text = text.lower() if hunt.name in ("email", "braze_id") else text
    query = _FOUND.format(**vars(hunt))
    for hit in db.execute(query, [text if value is None else value, text + _LAST]):
        if value is None or hit > (value, user):
            yield hit


def _begins(card: dict[str, Json], name: str, text: str) -> bool:
    if name == "alias":
        return any(alias["alias_name"].startswith(text) for alias in card["user_aliases"])
    text = text.lower() if name in ("email", "braze_id") else text
    return (card[name] or "").startswith(text)


def _card(db: Any, id: int) -> dict[str, Json]:
    query = "SELECT id, external_id, braze_id, email, phone, created_at, attributes FROM users WHERE id = ?"
    card: dict[str, Json] = _rows(db.execute(query, [id]))[0]
    fields, custom = loads(card.pop("attributes"))
    aliases = "SELECT name AS alias_name, label AS alias_label FROM aliases WHERE user = ? ORDER BY label"
    names = [str(fields[part][0]) for part in ("first_name", "last_name") if part in fields]
    return {
        **card,
        "created_at": iso(card["created_at"]),
        "name": " ".join(names),
        "attributes": len(fields) + len(custom),
        "user_aliases": _rows(db.execute(aliases, [id])),
    }


def _catalog(row: dict[str, Json]) -> dict[str, Json]:
    fields = [{"name": name, "type": of} for name, of in loads(row["fields"]).items()]
    return {**row, "fields": fields, "updated_at": iso(row["updated_at"])}


def _values(entries: dict[str, list[Json]]) -> list[dict[str, Json]]:
    return [{"name": name, "json": dumps(value), "request": request} for name, (value, request) in entries.items()]


def _acts(db: Any, table: str, user: int, before: int | None) -> dict[str, Json]:
    query = f"SELECT id, {_ACTS[table]} FROM {table} WHERE user = ? AND id < ? ORDER BY id DESC LIMIT ?"
    rows = _rows(db.execute(query, [user, 2**62 if before is None else before, PAGE]))
    return {"rows": rows, "next": rows[-1]["id"] if len(rows) == PAGE else None}


def _line(row: dict[str, Json]) -> dict[str, Json]:
    """A row of the list, with only the errors of the response."""
    answer = row.pop("answer")
    said = _said(answer) if row["rejected"] or (row["status"] or 0) >= 400 else []
    return {**row, "at": iso(row["at"]), "records": loads(row["records"]), "said": said}


def _said(answer: str) -> list[str]:
    try:
        value = loads(answer)
    except ValueError:
        return [answer[:200]]
    if not isinstance(value, dict):
        return []
    errors = [error for error in value.get("errors") or [] if isinstance(error, dict)]
    texts = [str(error.get("type") or error.get("message") or error.get("id")) for error in errors]
    return list(dict.fromkeys(texts or [str(value.get("message", ""))]))[:5]


def _rows(cursor: Any) -> list[dict[str, Json]]:
    names: Sequence[str] = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
