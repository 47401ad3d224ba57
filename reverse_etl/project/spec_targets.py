"""The keys of a target in syncs.yml: the warehouse, the workspace of Braze, and where states are stored."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from reverse_etl.braze.modes import families
from reverse_etl.network.proxies import LOOPBACK
from reverse_etl.project.fields import NAME, OneOf, Part
from reverse_etl.project.fields import Strict as _Strict

SANDBOX = "sandbox"

Family = Annotated[str, OneOf(families)]


def _windows(value: Any) -> Any:
    """One window, or a list of them, as a list."""
    return [value] if isinstance(value, dict) else value


class RateLimit(_Strict):
    """A rate limit: a number of requests per number of seconds."""

    requests: int = Field(gt=0, description="number of requests")
    per_seconds: float = Field(gt=0, description="length of the window in seconds")


RateLimits = Annotated[
    tuple[RateLimit, ...],
    BeforeValidator(_windows, json_schema_input_type=RateLimit | tuple[RateLimit, ...]),
]


# The extension of DuckDB that reads a URL, by scheme.
EXTENSIONS = {
    **dict.fromkeys(("s3", "gs", "gcs", "r2", "https"), "httpfs"),
    **dict.fromkeys(("az", "azure", "abfss"), "azure"),
}


def _split(value: str) -> SplitResult | None:
    """The parts of a URL; None if it is not one."""
    try:
        return urlsplit(value)
    except ValueError:
        return None


_CREDENTIALS = re.compile(r"(?i)(?:password|passwd|token|secret|signature|[?&]sig)\s*=|//[^/@\s]*:[^/@\s]*@")


class DuckDB(_Strict):
    """A DuckDB file, what DuckDB attaches with an extension, or none: models are queried in the same process."""

    type: Literal["duckdb"] = Field(description="warehouse engine")
    path: str | None = Field(
        None,
        min_length=1,
        description="the DuckDB file, relative to the project, or what DuckDB attaches: ducklake:...; "
        "without one, models read files",
    )
    files: tuple[str, ...] = Field(
        (),
        description="files, folders and prefixes of URLs (s3://bucket/path) that models may read besides the project's",
    )

    @field_validator("path")
    @classmethod
    def _no_file(cls, value: str | None) -> str | None:
        if value and _CREDENTIALS.search(value):
            raise ValueError("must not contain credentials: DuckDB takes them from its own secrets, or the environment")
        return None if value == ":memory:" else value

    @field_validator("files")
    @classmethod
    def _places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place in value:
            url = _split(place)
            if not place.strip() or any(mark in place for mark in "*?["):
                raise ValueError("must name files and folders, not patterns: a folder is listed with all that is in it")
            if is_url(place) and (url is None or url.scheme not in EXTENSIONS or not url.hostname):
                raise ValueError(f"must contain paths, or URLs of {', '.join(EXTENSIONS)} with a host or bucket")
            if is_url(place) and url and (url.username or url.password or url.fragment):
                raise ValueError("must not contain credentials: DuckDB takes those of URLs from its own secrets")
        return value


PORT = r"(?::(?:6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]\d{4}|[1-9]\d{0,3}))?"
HOST = rf"(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]){PORT}"


class Postgres(_Strict):
    """A Postgres database, which is only read."""

    type: Literal["postgres"] = Field(description="warehouse engine")
    uri: str | None = Field(
        None,
        repr=False,
        description="postgresql://..., from the environment: {{ env_var('WAREHOUSE_URI') }}; "
        "without it, libpq's variables, such as PGHOST",
    )
    statement_timeout_s: int = Field(
        3600, ge=0, le=86400, description="seconds after which Postgres ends a query of a model; 0: never"
    )


_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,2}")


class Spark(_Strict):
    """Spark, through Spark Connect. It is only read, but for the tables of acknowledged rows in `state_schema`."""

    type: Literal["spark"] = Field(description="warehouse engine")
    remote: str = Field(description="address of Spark Connect: sc://host:15002")
    token: str | None = Field(
        None, repr=False, description="token, from the environment: {{ env_var('WAREHOUSE_TOKEN') }}; it needs TLS"
    )
    diff: Literal["local", "engine"] = Field(
        "local",
        description="where rows are compared. local: in retl; engine: in Spark, which has the acknowledged rows, too",
    )
    state_schema: str | None = Field(
        None, description="schema that exists, for the tables of acknowledged rows; with diff: engine"
    )

    @property
    def compares(self) -> bool:
        return self.diff == "engine"

    @field_validator("state_schema")
    @classmethod
    def _a_schema(cls, value: str | None) -> str | None:
        if value is not None and not _SCHEMA.fullmatch(value):
            raise ValueError("must be the name of a schema, such as retl or main.retl")
        return value

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if self.compares and self.state_schema is None:
            raise ValueError("needs state_schema with diff: engine: the schema for the tables of acknowledged rows")
        if self.state_schema is not None and not self.compares:
            raise ValueError("has a state_schema, which is for diff: engine alone")
        return self

    @field_validator("remote")
    @classmethod
    def _usable(cls, value: str) -> str:
        url = _split(value)
        if url is None or url.scheme != "sc" or not url.hostname or not re.fullmatch(HOST, url.netloc):
            raise ValueError("must be an address such as sc://host:15002")
        if url.path.strip("/") or url.query or url.fragment:
            raise ValueError("must not have parameters: a token has a key of its own")
        return value.rstrip("/")


WAREHOUSES = {
    "duckdb": "DuckDB",
    "postgres": "Postgres",
    "spark": "Spark",
}  # by `type`, which is also the name of dbt's adapter
WAREHOUSE_SECRETS = ("uri", "token")  # keys whose values come from the environment
Warehouse = Annotated[
    DuckDB | Postgres | Spark, Field(discriminator="type", description="where the models are queried")
]

_OTHER_ADDRESSES = {"sdk.": "an SDK endpoint", "dashboard.": "the dashboard", "dashboard-": "the dashboard"}


class BrazeConfig(_Strict):
    """The Braze workspace to sync to."""

    type: Literal["braze"] = Field(description="destination type; only braze is supported")
    endpoint: str = Field(
        description="REST endpoint, such as https://rest.iad-01.braze.com, or sandbox for the local emulator"
    )
    api_key: str | None = Field(
        None,
        repr=False,
        description="API key, from the environment: {{ env_var('BRAZE_API_KEY') }}; never the key itself",
    )
    max_objects_per_request: int = Field(
        75, ge=1, le=75, description="maximum objects per request; 50 on some contracts"
    )
    rate_limits: dict[Family, RateLimits] = Field(
        {},
        description="rate limits of your contract, where they differ from the defaults: {requests, per_seconds}, "
        "or a list of them",
    )
    keep_free: Part = Field(
        "0%", description="percentage of every rate limit that is kept free for apps and other tools: 20%"
    )
    timeout_s: float = Field(30, gt=0, le=600, description="seconds to wait for a response")

    @property
    def free_fraction(self) -> float:
        """The fraction of every rate limit that is kept free."""
        return float(self.keep_free.removesuffix("%")) / 100

    @field_validator("endpoint")
    @classmethod
    def _usable(cls, value: str) -> str:
        if value == SANDBOX:
            return value
        url = _split(value)
        if url is None or url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("must be a URL such as https://rest.iad-01.braze.com, or sandbox")
        if "@" in url.netloc:
            raise ValueError("must not contain a user or password: only api_key tells Braze who sends")
        if not re.fullmatch(HOST, url.netloc) or value != value.strip():
            raise ValueError("must contain only a host, and a port from 1 to 65535 if it needs one: no blanks")
        if url.path.strip("/") or url.query or url.fragment:
            raise ValueError("must not have a path or query: retl adds the path of each endpoint")
        for beginning, other in _OTHER_ADDRESSES.items():
            if url.hostname.startswith(beginning):
                raise ValueError(f"is {other}: use the REST endpoint, rest.<instance>.braze.com")
        if url.scheme == "http" and url.hostname not in LOOPBACK:
            raise ValueError("must start with https:// (http is allowed for loopback addresses only)")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _key_goes_with_endpoint(self) -> Self:
        if self.endpoint == SANDBOX and self.api_key is not None:
            raise ValueError('"api_key" is not used with "endpoint: sandbox"; remove it')
        if self.endpoint != SANDBOX and self.api_key is None:
            raise ValueError('"api_key" is missing: add api_key: "{{ env_var(\'BRAZE_API_KEY\') }}"')
        return self


STORES = ("s3", "gs", "az")


def is_url(place: str) -> bool:
    """Whether a place is a URL, such as that of an object store; a path otherwise."""
    return "://" in place


def is_loopback(endpoint: str) -> bool:
    """Whether an endpoint is on this machine."""
    return endpoint == SANDBOX or urlsplit(endpoint).hostname in LOOPBACK


class StatePlace(_Strict):
    """Where the state of a target's syncs is stored."""

    path: str | None = Field(
        None,
        min_length=1,
        description="folder, relative to the project (default: .retl), or an object store that machines share: "
        "s3://bucket/path, gs://, az://",
    )

    @field_validator("path")
    @classmethod
    def _usable(cls, value: str | None) -> str | None:
        if value is None or not is_url(value):
            return value
        url = _split(value)
        if url is None or url.scheme not in STORES or not url.hostname:
            raise ValueError("must be a folder, or start with s3://bucket, gs://bucket or az://container")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("must contain only a bucket and a path: credentials come from the environment")
        return value.rstrip("/")


class Target(_Strict):
    """Where a sync runs: a warehouse and a destination. Each target has its own state."""

    warehouse: Warehouse
    destination: BrazeConfig
    state: StatePlace = Field(StatePlace(), description="where the state is stored")
    renamed_from: str | None = Field(
        None, pattern=NAME, description="the target's previous name: the states of its syncs are moved from there"
    )

    @property
    def rows_in(self) -> str | None:
        """The schema of the warehouse that has the acknowledged rows; None if the states have them."""
        return self.warehouse.state_schema if isinstance(self.warehouse, Spark) else None
