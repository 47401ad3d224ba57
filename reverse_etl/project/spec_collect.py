"""The keys of `collect` in syncs.yml: what `retl collect` accepts, and how models see it. Pure.

    collect: path, keep
      sources: postback                   {database} of the URL, and the name in source('postback', ...)
        keys, key_in_url, rate_limit
        tables: unsubscribes              {table} of the URL
          columns: [external_id, user.external_user_id]      or {id: user.external_user_id}
          keep

Keys stay templates: they are read from the environment when the collector starts, and by nothing else.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from reverse_etl.project.fields import Strict

COLLECT_KEYS = "keys"  # must come from the environment
OWN_COLUMNS = ("time", "received_at", "record_id", "record")  # that every table has
FOREVER = "forever"
NAME_PATTERN = r"^[A-Za-z0-9_]{1,255}$"
_NAMED: dict[str, Any] = {"propertyNames": {"pattern": NAME_PATTERN}}
FOLDERS = ("log", "erased")  # of the collector's own, where those of sources are
_KEEP = rf"^([1-9]\d{{0,3}} (hour|day|week|month|year)s?|{FOREVER})$"
V = TypeVar("V", bound=Mapping[str, Any])
_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}


def _keep(value: Any) -> Any:
    text = str(value).strip()
    number, _, unit = text.partition(" ")
    is_number = number.isascii() and number.isdigit() and number[0] != "0" and len(number) <= 4
    if text != FOREVER and not (is_number and unit.removesuffix("s") in ("hour", *_DAYS)):
        raise ValueError('must be a time such as "30 days", or forever')
    return text


def _mapped(value: Any) -> Any:
    """A list of keys, or of dotted paths to keys, as columns with their names; a mapping as it is."""
    if not isinstance(value, list | tuple):
        return value
    columns: dict[str, str] = {}
    for path in value:
        if not isinstance(path, str):
            raise ValueError("must be a list of keys, or a mapping of columns to keys")
        name = path.replace(".", "_")
        if name in columns:
            raise ValueError(f'lists the column "{name}" twice')
        columns[name] = path
    return columns


def _usable(columns: Mapping[str, str]) -> Mapping[str, str]:
    for name, path in columns.items():
        if not name.strip() or not name.isprintable() or not path.isprintable() or "" in path.split("."):
            raise ValueError("must contain names of keys, with dots between a key and one of the object in it")
        if name.casefold() in OWN_COLUMNS:
            hint = f"such as {{record_{name.casefold()}: {path}}}"
            raise ValueError(f'must not name a column "{name}", as every table has one: give it another name, {hint}')
    twins = next(
        (pair for pair in pairwise(sorted(columns, key=str.casefold)) if len({*map(str.casefold, pair)}) == 1), ()
    )
    if twins:
        raise ValueError(f"must not differ in upper and lower case only: {' and '.join(sorted(twins))}")
    return columns


def _named(value: V) -> V:
    """Names are parts of URLs and of paths, and those of the collector's own folders are no sources."""
    for name in value:
        if not re.fullmatch(NAME_PATTERN, name) or name in FOLDERS:
            raise ValueError(f'contains "{name}": use letters, digits and _, and neither {" nor ".join(FOLDERS)}')
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Keep = Annotated[str, BeforeValidator(_keep), WithJsonSchema({"type": "string", "pattern": _KEEP})]
Columns = Annotated[
    dict[str, str],
    BeforeValidator(_mapped, json_schema_input_type=dict[str, str] | tuple[str, ...]),
    AfterValidator(_usable),
]


class CollectTable(Strict):
    """A table of records that are collected."""

    columns: Columns = Field(
        {},
        description="keys of a record that become columns: a list, dotted paths reach into objects; "
        "or a mapping of columns to keys",
    )
    keep: Keep | None = Field(None, description="how long its records are kept; default: that of collect")


class CollectSource(Strict):
    """Who may send records, and to which tables."""

    keys: Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])] = Field(
        min_length=1,
        repr=False,
        description="keys that a request may have, from the environment: [\"{{ env_var('POSTBACK_KEY') }}\"]",
    )
    key_in_url: bool = Field(False, description="accept a key in the URL as well: ?td_write_key=")
    rate_limit: int = Field(1000, ge=1, description="maximum requests per second and key")
    tables: Annotated[dict[str, CollectTable], AfterValidator(_named)] = Field(
        min_length=1,
        json_schema_extra=_NAMED,
        description="tables by name, as in the URL and in source(); no other table is accepted",
    )


class Collect(Strict):
    """What `retl collect` accepts and keeps."""

    path: str = Field("collected", min_length=1, description="folder of what was collected, relative to the project")
    keep: Keep = Field("30 days", description="how long records are kept: a time such as `30 days`, or `forever`")
    sources: Annotated[dict[str, CollectSource], AfterValidator(_named)] = Field(
        min_length=1, json_schema_extra=_NAMED, description="sources by name, as in the URL and in source()"
    )

    def table(self, source: str, table: str) -> CollectTable | None:
        """A table, if it is declared."""
        found = self.sources.get(source)
        return found.tables.get(table) if found else None

    def keep_of(self, source: str, table: str) -> timedelta | None:
        """How long the records of a table are kept; None if for ever."""
        found = self.table(source, table)
        text = (found and found.keep) or self.keep
        if text == FOREVER:
            return None
        number, _, unit = text.partition(" ")
        name = unit.removesuffix("s")
        return timedelta(hours=int(number)) if name == "hour" else timedelta(days=int(number) * _DAYS[name])
