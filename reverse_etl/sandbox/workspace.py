"""One Braze workspace without its HTTP: a call in, a reply out, everything in one transaction of the file.

The order of checks is a guess where Braze does not say:
404 path -> 401 key -> 403 permission -> 429 rate limit -> 413 size -> 400 JSON -> the endpoint's own rules.
"""

import hashlib
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from urllib.parse import parse_qs

from reverse_etl.sandbox.catalogs import catalogs, items
from reverse_etl.sandbox.exact import Json, dumps, parse
from reverse_etl.sandbox.http.answers import Answer, PagedAnswer, RefusedError, Settings
from reverse_etl.sandbox.http.faults import NOT_TAKEN, Fault, Faults, Hit
from reverse_etl.sandbox.http.limits import EXPORT, Windows, take
from reverse_etl.sandbox.lag import Lag
from reverse_etl.sandbox.store import Entry, Store, Transaction
from reverse_etl.sandbox.users import export, identities, names, subscriptions, track
from reverse_etl.sandbox.users.identifiers import identifier_text, identifiers

MAX_BODY_BYTES = 4_000_000  # "4 MB" (limits, userdata); the smaller reading of MB, a guess
ALL_SCOPES = "*"


@dataclass(frozen=True)
class Endpoint:
    """What one path takes: the permission it needs, the rate limit it shares, and the function that does it.

    `run` gets the transaction, the body (of a GET the query, of an endpoint without `has_body` whatever came), the
    settings, and by name what stands in the path for each {name}. `lags`: what it reads may be some seconds old.
    """

    scope: str
    family: str | Callable[[Json], str]
    run: Callable[..., Answer | PagedAnswer]
    has_body: bool = True
    lags: bool = False


ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {  # scopes: (track, alias, identify, ... as the table of permissions)
    ("POST", "/users/track"): Endpoint("users.track", "users_track", track.track),
    ("POST", "/users/alias/new"): Endpoint("users.alias.new", "users", identities.alias_new),
    ("POST", "/users/alias/update"): Endpoint("users.alias.update", "users", identities.alias_update),
    ("POST", "/users/identify"): Endpoint("users.identify", "users", identities.identify),
    ("POST", "/users/merge"): Endpoint("users.merge", "users", identities.merge_users),
    ("POST", "/users/delete"): Endpoint("users.delete", "users", identities.delete),
    ("POST", "/users/external_ids/rename"): Endpoint(
        "users.external_ids.rename", "external_ids_rename", identities.rename_ids
    ),
    ("POST", "/users/external_ids/remove"): Endpoint(
        "users.external_ids.remove", "external_ids_remove", identities.remove_ids
    ),
    ("POST", "/users/export/ids"): Endpoint("users.export.ids", export.family, export.export_ids, lags=True),
    ("POST", "/subscription/status/set"): Endpoint(
        "subscription.status.set", "subscription_status_set", subscriptions.set_v1
    ),
    ("POST", "/v2/subscription/status/set"): Endpoint(
        "subscription.status.set", "subscription_status_set", subscriptions.set_v2
    ),
    ("GET", "/subscription/status/get"): Endpoint(
        "subscription.status.get", "general", subscriptions.status, lags=True
    ),
    ("GET", "/subscription/user/status"): Endpoint(
        "subscription.groups.get", "general", subscriptions.of_users, lags=True
    ),
    ("GET", "/custom_attributes"): Endpoint("custom_attributes.get", "names", names.custom_attributes),
    ("GET", "/events/list"): Endpoint("events.list", "names", names.events_list),
    ("GET", "/purchases/product_list"): Endpoint("purchases.product_list", "names", names.product_list),
    ("POST", "/catalogs"): Endpoint("catalogs.create", "catalogs", catalogs.create),
    ("GET", "/catalogs"): Endpoint("catalogs.get", "catalogs", catalogs.listed),
    ("DELETE", "/catalogs/{catalog_name}"): Endpoint("catalogs.delete", "catalogs", catalogs.delete, has_body=False),
    ("POST", "/catalogs/{catalog_name}/fields"): Endpoint(
        "catalogs.create_fields", "catalog_fields", catalogs.create_fields
    ),
    ("DELETE", "/catalogs/{catalog_name}/fields/{field_name}"): Endpoint(
        "catalogs.delete_fields", "catalog_fields", catalogs.delete_field, has_body=False
    ),
    **{
        (method, "/catalogs/{catalog_name}/items"): Endpoint(f"catalogs.{action}_items", "catalog_items", run)
        for method, action, run in (
            ("POST", "add", items.create_many),
            ("PATCH", "update", items.update_many),
            ("PUT", "replace", items.replace_many),
            ("DELETE", "delete", items.delete_many),
        )
    },
    ("GET", "/catalogs/{catalog_name}/items"): Endpoint("catalogs.get_items", "catalog_item", items.get_many),
    **{
        (method, "/catalogs/{catalog_name}/items/{item_id}"): Endpoint(
            f"catalogs.{action}_item", "catalog_item", run, has_body=method != "DELETE"
        )
        for method, action, run in (
            ("POST", "create", items.create_one),
            ("PATCH", "update", items.update_one),
            ("PUT", "replace", items.replace_one),
            ("DELETE", "delete", items.delete_one),
            ("GET", "get", items.get_one),
        )
    },
}
_PATTERNS = {  # paths with names in them
    key: re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", key[1])) for key in ENDPOINTS if "{" in key[1]
}


def find_endpoint(method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
    """The endpoint of a path, and the values of the names in it."""
    exact = ENDPOINTS.get((method, path))
    if exact is not None:
        return exact, {}
    matches = ((key, pattern.fullmatch(path)) for key, pattern in _PATTERNS.items() if key[0] == method)
    return next(((ENDPOINTS[key], found.groupdict()) for key, found in matches if found), None)


@dataclass(frozen=True)
class Call:
    """A request as it came in; without its body if that `is_oversize`."""

    method: str
    path: str
    query: str = ""
    authorization: str | None = field(default=None, repr=False)
    body: bytes = field(default=b"", repr=False)
    is_oversize: bool = False

    @property
    def key(self) -> str | None:
        """The API key, or whatever was sent in its place."""
        return None if self.authorization is None else self.authorization.removeprefix("Bearer ")

    @property
    def is_bearer(self) -> bool:
        return self.authorization is not None and self.authorization.startswith("Bearer ")


@dataclass(frozen=True)
class Reply:
    """A finished response. `date` is the workspace's own time, unix seconds, as the rate limit headers use it.

    `log_text` stands in the log if `text` is not fit for it. `refused` counts objects that its `errors` name.
    """

    status: int
    text: str
    date: float
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    log_text: str | None = None
    refused: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of a call: its reply (None: there is none, by a fault), and the faults that it met."""

    reply: Reply | None
    hit: Hit


def fingerprint(key: str) -> str:
    """A name for a key that does not tell it."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Access:
    """Who may call what, by API key, and how often, by family of endpoints; and what others use of that per second."""

    keys: Mapping[str, Collection[str]]
    limits: Mapping[str, Windows]
    others: Mapping[str, float]


@dataclass(frozen=True)
class _Received:
    """A call that has come, what its body says, the faults that hit it, and when it came."""

    call: Call
    body: Json
    hit: Hit
    began_s: float


class Workspace:
    """Answers calls from a file, one at a time."""

    def __init__(
        self, store: Store, faults: Faults, access: Access, settings: Settings, clock: Callable[[], float], lag: Lag
    ) -> None:
        self._store, self._lag = store, lag
        self._faults = faults
        self._keys = {key: frozenset(scopes) for key, scopes in access.keys.items()}
        self._limits, self._others = access.limits, access.others
        self._settings = settings
        self._clock = clock

    def take(self, call: Call) -> Outcome:
        """Answer a call, and write it down with what it changed: both or nothing."""
        began_s = time.perf_counter()
        body = _body(call)
        hit = self._faults.strike(call.path, lambda: list(identifiers(body)))
        received = _Received(call, body, hit, began_s)
        found = find_endpoint(call.method, call.path)
        if found and not found[0].lags:
            self._lag.keep(self._clock())
        try:
            reply = self._written(received, lambda work: self._reply(work, call, body, hit))
        except RecursionError:  # what it changed so far is undone
            reply = self._written(received, lambda work: _reply(400, {"message": _BAD_JSON}, work.now))
        return Outcome(reply, hit)

    def _written(self, received: _Received, decide: Callable[[Transaction], Reply | None]) -> Reply | None:
        with self._store.transaction(self._clock) as work:
            reply = decide(work)
            self._log(work, received, reply)
        return reply

    def _reply(self, work: Transaction, call: Call, body: Json, hit: Hit) -> Reply | None:
        if hit.ending is not None and hit.ending.kind in NOT_TAKEN:
            return _fault_reply(hit.ending, work.now)
        return self._decide(work, call, body, hit)

    def _decide(self, work: Transaction, call: Call, body: Json, hit: Hit) -> Reply:
        found = find_endpoint(call.method, call.path)
        scopes = self._keys.get(call.key or "") if call.is_bearer else None
        if found is None and scopes is not None and find_endpoint(call.method, call.path.rstrip("/")):
            return _reply(403, {"message": "Access Denied"}, work.now)  # (errors) names a slash at the end as a cause
        if found is None:
            return _reply(404, {"message": "Not Found"}, work.now)  # the text is a guess
        endpoint, in_path = found
        is_allowed = scopes is not None and not scopes.isdisjoint({endpoint.scope, ALL_SCOPES})
        headers, has_room = self._count(work, endpoint, body, cost=int(is_allowed))
        if scopes is None:
            return _unknown_key(call.key or "", work.now, headers)
        if not is_allowed:
            return _reply(403, {"message": "Access Denied"}, work.now, headers)  # (errors)
        if not has_room:
            return _reply(429, {"message": "Too Many Requests"}, work.now, headers)  # the text is a guess
        try:
            if call.is_oversize:
                raise RefusedError("Payload Too Large", status=413)  # the text is a guess
            if endpoint.has_body and not isinstance(body, dict):
                raise RefusedError(_BAD_JSON)
            seen = self._lag.seen(work) if endpoint.lags else work
            status, answer, *paging = endpoint.run(seen, body, self._settings_for(hit), **in_path)
        except RefusedError as refused:
            status, answer, paging = refused.status, refused.answer, []
        return _reply(status, answer, work.now, {**headers, **(paging[0] if paging else {})})

    def _settings_for(self, hit: Hit) -> Settings:
        if not hit.object_errors:
            return self._settings
        return replace(self._settings, refusal=lambda sent: hit.refusal(identifier_text(sent)))

    def _count(self, work: Transaction, endpoint: Endpoint, body: Json, cost: int) -> tuple[Mapping[str, str], bool]:
        """Rate limit headers, and whether the request may pass. Refused keys are not counted: a guess."""
        family = endpoint.family if isinstance(endpoint.family, str) else endpoint.family(body)
        family = family if family in self._limits else EXPORT
        is_mau = self._settings.contract == "mau" and family == "users_track"
        others = self._others.get(family, 0.0)
        verdict = take(self._limits[family], work.used(family), work.now, cost, others=others, is_mau=is_mau)
        work.keep_used(family, verdict.used)
        return verdict.headers, verdict.allowed

    def _log(self, work: Transaction, received: _Received, reply: Reply | None) -> None:
        call, body, hit = received.call, received.body, received.hit
        key = None if call.key is None else fingerprint(call.key)
        answer = "" if reply is None else reply.text if reply.log_text is None else reply.log_text
        arrays = body.items() if isinstance(body, dict) and call.method != "GET" else ()
        is_empty = call.method != "GET" and body == {}
        self._store.log(
            work.number,
            Entry(
                at=work.now,
                method=call.method,
                path=call.path,
                query=call.query,
                key=key,
                status=None if reply is None else reply.status,
                answer=answer,
                records={name: len(objects) for name, objects in arrays if isinstance(objects, list)},
                fault=hit.name,
                duration_s=time.perf_counter() - received.began_s + hit.wait_s,
                refused=0 if reply is None else reply.refused,
                dropped=work.dropped,
                body=call.body,
                is_empty=is_empty,
                is_probe=is_empty and reply is not None and hit.name is None and _says_only_what_lacks(call, reply),
            ),
        )


_BAD_JSON = "Invalid JSON"  # a guess


def _says_only_what_lacks(call: Call, reply: Reply) -> bool:
    """Whether key and endpoint were right: the body lacks all, or the catalog is not there."""
    return reply.status == 400 or (reply.status == 404 and find_endpoint(call.method, call.path) is not None)


def _body(call: Call) -> Json:
    """The JSON of a body, or a query as name -> values. None if it is neither."""
    if call.method == "GET":
        return parse_qs(call.query)
    try:
        return None if call.is_oversize else parse(call.body.decode())
    except ValueError:
        return None


def _reply(status: int, answer: Json, now: float, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, dumps(answer), now, headers or {}, refused=_refused(answer))


def _refused(answer: Json) -> int:
    errors = answer.get("errors", ()) if isinstance(answer, dict) else ()
    return sum(isinstance(error, dict) and "index" in error for error in errors)


def _unknown_key(key: str, now: float, headers: Mapping[str, str]) -> Reply:
    """401; its body echoes the key (meas26)."""
    logged = dumps({"message": f"Invalid API key: {fingerprint(key) if key else ''}"})
    return Reply(401, dumps({"message": f"Invalid API key: {key}"}), now, headers, log_text=logged)


def _fault_reply(fault: Fault, now: float) -> Reply | None:
    match fault.kind:
        case "drop_before":
            return None
        case "html":
            page = fault.body or "<!doctype html><title>Sign in</title><p>Please sign in to use this network.</p>"
            return Reply(200, page, now, fault.headers, "text/html; charset=utf-8")
    if fault.status in (204, 304):
        return Reply(fault.status, "", now, fault.headers)  # these have no body
    text = fault.body if fault.body is not None else dumps({"message": _phrase(fault.status)})
    return Reply(fault.status, text, now, fault.headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
