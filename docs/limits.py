"""The tables of docs/limits.md: every limit of Braze that retl knows, and every one of retl's own, each once."""

from collections.abc import Mapping

from pydantic import BaseModel

from reverse_etl.braze import ecommerce, modes
from reverse_etl.braze.catalogs import CREATE_CATALOG, CREATE_FIELDS, READ_CATALOGS, READ_ITEM, READ_ITEMS
from reverse_etl.braze.client import CONNECT_TIMEOUT_S, MAX_RESPONSE_BYTES
from reverse_etl.braze.modes import MODES, RATE_LIMITS
from reverse_etl.braze.subscriptions import USERS_PER_REQUEST, Read
from reverse_etl.collect import contract
from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.sender import MAX_CONSECUTIVE_DOUBTS
from reverse_etl.project import environment, yaml_places
from reverse_etl.project.spec import Ledger, Sync
from reverse_etl.project.spec_collect import CollectSource
from reverse_etl.project.spec_targets import BrazeConfig
from reverse_etl.runs.lock import MOST_EVENTS
from reverse_etl.runs.outcome import Options
from reverse_etl.state.commit import RUNS_KEPT

_TYPES, _TRACK = "user_guide: data types", "post_user_track"
_ITEMS, _CATALOG = "post_create_catalog_items", "post_create_catalog"
# What Braze accepts, by the name of the constant: what it is about, how it is counted, what retl does, Braze's page.
OF_BRAZE: Mapping[str, tuple[str, str, str, str]] = {
    "MAX_TEXT": ("a string: custom attribute, property, key in nested data", "characters", "left out", _TYPES),
    "MAX_JSON_BYTES": (
        "an array or object attribute; the properties of one event or purchase",
        "bytes",
        "left out",
        _TYPES,
    ),
    "MAX_ARRAY_ITEMS": ("an array attribute", "elements", "left out", _TYPES),
    "MAX_PROPERTIES": ("one event or purchase", "properties", "invalid", "user_guide: custom events"),
    "MAX_BODY_BYTES": ("a request; Braze rejects more than 4 MB", "bytes", "smaller requests", "api_limits"),
    "MAX_EXTERNAL_ID_BYTES": ("an external id", "bytes", "invalid", _TRACK),
    "MAX_IMAGE_URL": ("`image_url`", "characters", "left out", "user_guide: standard attributes"),
    "LAST_YEAR": (
        "a time: its year",
        "",
        "sent, with a warning; left out inside nested data",
        "user attributes object, nested attributes",
    ),
    "MAX_ITEM_TEXT": ("a string of a catalog item", "characters", "invalid", _ITEMS),
    "MAX_ITEM_DEPTH": ("an object of a catalog item", "levels", "invalid", _ITEMS),
    "MAX_ITEM_ARRAY": ("an array of a catalog item", "strings", "invalid", "user_guide: catalogs"),
    "MAX_CATALOG_FIELDS": ("a catalog, with `id`", "fields", "an error", _CATALOG),
    "MAX_NEW_FIELDS": (
        "fields that are created in one request",
        "fields",
        "several requests",
        "post_create_catalog_fields",
    ),
    "MAX_DESCRIPTION": ("the description of a catalog", "characters", "shortened", _CATALOG),
    "MAX_CATALOG_NAME": (
        "the name of a catalog, of a field, an item's id",
        "characters",
        "an error; an item is invalid",
        _CATALOG,
    ),
}
ARE_NAMES = ("MAX_DELETES", "MAX_MERGES")  # of guards


def of_braze() -> str:
    lines = ["| | at most | beyond it | page of Braze |", "|---|---|---|---|"]
    for name, (what, unit, outcome, page) in OF_BRAZE.items():
        lines.append(f"| {what} | {getattr(modes, name):,} {unit} | {outcome} | {page} |".replace("3,000 ", "3000"))
    most = f"{ecommerce.MAX_PROPERTIES_BYTES:,} bytes"
    lines.append(f"| the properties of an e-commerce event | {most} | invalid | [e-commerce events](ecommerce.md) |")
    return "\n".join(lines)


def requests() -> str:
    """How many rows a request may have, by mode."""
    lines = ["| mode | rows per request |", "|---|---|"]
    most = {mode.name: mode.call.rows_per_request for mode in MODES.values()}
    lines += [f"| `{name}` | {rows} |" for name, rows in most.items()]
    lines.append(f"| users that are read back (`--canary`, `verify`, `--read-first`) | {USERS_PER_REQUEST} |")
    return "\n".join(lines)


def rates() -> str:
    lines = ["| `rate_limits:` | Braze's default | endpoints that share it |", "|---|---|---|"]
    for family, window in RATE_LIMITS.items():
        most = f"{window.requests:,} requests in {window.per_seconds:,g} s"
        lines.append(f"| `{family}` | {most} | {', '.join(_paths(family))} |")
    return "\n".join(lines)


def _paths(family: str) -> dict[str, None]:
    controls = (READ_CATALOGS, CREATE_CATALOG, CREATE_FIELDS, READ_ITEMS, READ_ITEM)
    calls = [call for mode in MODES.values() for call in (mode.call, *mode.calls)]
    paths = dict.fromkeys(call.label for call in (*calls, *controls) if call.family == family)
    return paths | dict.fromkeys(f"{read.path} (`--read-first`)" for read in Read if read.family == family)


def of_retl() -> str:
    """What retl bounds itself, and how each bound is moved."""
    policy = RetryPolicy()
    tried = f"{policy.tries} within {policy.give_up_after_s / 60:g} minutes"
    throttled = f"within {policy.throttled_give_up_after_s / 60:g} minutes"
    rows = [
        ("requests in flight, of a command", f"{Options().threads}", "`--threads`"),
        ("memory of DuckDB, of a command", "2,000 MB", "`--memory-limit`"),
        ("seconds to connect", f"{CONNECT_TIMEOUT_S:g}", ""),
        ("seconds to wait for a response", _default(BrazeConfig, "timeout_s"), "`timeout_s` of the destination"),
        ("a response of Braze, decompressed", f"{MAX_RESPONSE_BYTES // 1024 // 1024} MiB", ""),
        ("attempts to send a request", tried, ""),
        ("attempts after status 429", throttled, ""),
        ("batches in doubt in a row before a run stops", f"{MAX_CONSECUTIVE_DOUBTS}", ""),
        ("users or items deleted, users merged, by a run", "50, or 0.1 %", "`max_deletes`, `max_merges`"),
        ("age of a saved plan", "24 hours", "`retl apply --max-age`"),
        ("a row that left the model stays in the state", _default(Sync, "keep_removed"), "`keep_removed`"),
        ("what runs have changed (`retl why`, `retl revert`)", _default(Ledger, "keep"), "`ledger: {keep: ...}`"),
        ("runs in `retl history`, per sync", f"{RUNS_KEPT:,}", ""),
        ("name of a sync", "100 characters", ""),
        ("a YAML file", f"{yaml_places.MOST_CHARACTERS:,} characters, {yaml_places.MOST_LEVELS} levels", ""),
        ("values that the aliases of a YAML file copy", f"{yaml_places.MOST_COPIES:,}", ""),
        ("a rendered template", f"{environment.MOST_CHARACTERS:,} characters", ""),
        ("names of events that one model returns, for `braze.lock.yml`", f"{MOST_EVENTS:,}", ""),
        ("a request to `retl collect`", f"{contract.MAX_BODY_BYTES:,} bytes, {contract.MAX_RECORDS:,} records", ""),
        (
            "requests to `retl collect`, per second and key",
            _default(CollectSource, "rate_limit"),
            "`rate_limit`",
        ),
    ]
    return "\n".join(["| | at most | set by |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def _default(model: type[BaseModel], key: str) -> str:
    """The default of a key in syncs.yml."""
    value = model.model_fields[key].default
    return f"{value:,}" if isinstance(value, int | float) else str(value)
